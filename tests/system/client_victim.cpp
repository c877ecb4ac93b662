// Programs to be killed, or whose device is: they hold memory, say "ready" when they are where the test wants
// them, and tell how a call ended that the device did not survive.
#include <time.h>

#include <thread>

#include "tests/system/client.h"

namespace vgpu::system_tests {
namespace {

constexpr size_t kHeld = 300u << 20;

double seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// The word in pinned memory that a kernel spins on: whoever holds it knows that the kernel runs when it says
// so.
void enter_long_kernel() {
  CUdeviceptr flag = allocate(16);
  MUST(cuMemsetD8_v2(flag, 0, 16));
  MUST(cuCtxSynchronize());
  MUST(launch(function("spin"), {&flag}));
}

// The first error, within 3 s of the moment the test was told "ready"; then every call says the same, at
// once.
int lost(CUresult result, double began) {
  const double took = seconds() - began;
  const double after = seconds();
  CUdeviceptr memory = 0;
  MUST_GIVE(result, cuCtxSynchronize());
  MUST_GIVE(result, cuMemAlloc_v2(&memory, 16));
  MUST_BE(seconds() - after < 1);
  say(std::to_string(static_cast<int>(result)) + " " + std::to_string(took));
  return 0;
}

}  // namespace

int victim(const std::string& what) {
  start();
  works();
  const CUdeviceptr held = allocate(kHeld);
  if (what == "idle") {
    MUST(cuCtxSynchronize());
    say("ready");
    const bool told = wait_for_test();
    MUST_BE(told);  // the device is dead by now
    const double began = seconds();
    // A killed process may live for a moment.
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS && seconds() - began < 10) {
      CUdeviceptr memory = 0;
      result = cuMemAlloc_v2(&memory, 16);
    }
    return lost(result, began);
  }
  if (what == "kernel") {
    enter_long_kernel();
    say("ready");
    const double began = seconds();
    return lost(cuCtxSynchronize(), began);
  }
  if (what == "copy") {
    std::vector<char> bytes(64u << 20, 'x');
    MUST(cuMemcpyHtoD_v2(held, bytes.data(), bytes.size()));
    say("ready");
    const double began = seconds();
    for (;;) {
      if (const CUresult result = cuMemcpyHtoD_v2(held, bytes.data(), bytes.size()); result != CUDA_SUCCESS) {
        return lost(result, began);
      }
      if (const CUresult result = cuMemcpyDtoH_v2(bytes.data(), held, bytes.size()); result != CUDA_SUCCESS) {
        return lost(result, began);
      }
    }
  }
  // Leaves in the ordinary way with a kernel that would never end.
  if (what == "leaves_in_kernel") {
    enter_long_kernel();
    say("ready");
    return 0;
  }
  return 2;
}

}  // namespace vgpu::system_tests
