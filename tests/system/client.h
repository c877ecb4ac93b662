// What the client programs share: the driver API started, checks that end the program, images put together by
// hand, and the talk with the test. No sanitizer and nothing of ours but the shim library.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "shim/cuda/cuda_abi.h"

namespace vgpu::system_tests {

// A call that must give this result; another one ends the program with status 1.
#define MUST_GIVE(expected, call)                                                                \
  do {                                                                                           \
    const CUresult must_result = (call);                                                         \
    if (must_result != (expected)) {                                                             \
      std::fprintf(stderr, "%s:%d: %s gives %d, must give %s (%d)\n", __FILE__, __LINE__, #call, \
                   static_cast<int>(must_result), #expected, static_cast<int>(expected));        \
      std::_Exit(1);                                                                             \
    }                                                                                            \
  } while (false)
#define MUST(call) MUST_GIVE(CUDA_SUCCESS, call)
#define MUST_BE(condition)                                                         \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                               \
    }                                                                              \
  } while (false)

// write(2), so that it works whatever became of the program's memory.
inline void say(const std::string& text) {
  const std::string line = text + "\n";
  MUST_BE(::write(STDOUT_FILENO, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
}
// Until the test sends a byte; false when it has closed the pipe.
inline bool wait_for_test() {
  char byte = 0;
  return ::read(STDIN_FILENO, &byte, 1) == 1;
}

inline void start() {
  CUcontext context = nullptr;
  MUST(cuInit(0));
  MUST(cuDevicePrimaryCtxRetain(&context, 0));
  MUST(cuCtxSetCurrent(context));
}

inline CUdeviceptr allocate(size_t bytes) {
  CUdeviceptr address = 0;
  MUST(cuMemAlloc_v2(&address, bytes));
  return address;
}

// Lines 1 to 3 of every PTX text here.
inline std::string ptx(const std::string& body, const std::string& target = "sm_61") {
  return ".version 6.4\n.target " + target + "\n.address_size 64\n" + body;
}

// store: *address = value; spin: until *address is not 0; add_one: each of the block's words, plus one.
inline std::string good_ptx() {
  return ptx(R"(
.visible .entry store(.param .u64 address, .param .u32 value)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [address];
  ld.param.u32 %r1, [value];
  st.global.u32 [%rd1], %r1;
  ret;
}
.visible .entry spin(.param .u64 address)
{
  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [address];
AGAIN:
  ld.volatile.global.u32 %r1, [%rd1];
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra AGAIN;
  ret;
}
.visible .entry add_one(.param .u64 address)
{
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [address];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %rd2, %r4, 4;
  add.s64 %rd3, %rd1, %rd2;
  ld.global.u32 %r5, [%rd3];
  add.s32 %r5, %r5, 1;
  st.global.u32 [%rd3], %r5;
  ret;
}
)");
}

// A fat binary of one PTX entry.
inline std::vector<char> fatbin(const std::string& text, uint32_t capability) {
  const uint64_t stored = (text.size() + 1 + 7) / 8 * 8;
  std::vector<char> image(16 + 64 + stored);
  const auto put = [&image](std::size_t at, auto value) {
    std::memcpy(image.data() + at, &value, sizeof value);
  };
  put(0, uint32_t{0xba55ed50});
  put(4, uint16_t{1});
  put(6, uint16_t{16});
  put(8, uint64_t{64 + stored});
  put(16, uint16_t{1});  // PTX
  put(18, uint16_t{0x101});
  put(20, uint32_t{64});
  put(24, stored);
  put(40, uint16_t{4});
  put(42, uint16_t{6});
  put(44, capability);
  std::memcpy(image.data() + 80, text.data(), text.size());
  return image;
}

inline CUfunction function(const char* name) {
  CUmodule module = nullptr;
  CUfunction found = nullptr;
  MUST(cuModuleLoadData(&module, good_ptx().c_str()));
  MUST(cuModuleGetFunction(&found, module, name));
  return found;
}

inline CUresult launch(CUfunction kernel, std::vector<void*> parameters, unsigned threads = 1,
                       unsigned shared = 0, unsigned blocks = 1) {
  return cuLaunchKernel(kernel, blocks, 1, 1, threads, 1, 1, shared, nullptr, parameters.data(), nullptr);
}

// The device does for this process what it should.
void works();

int bad_input(const std::string& what);
int victim(const std::string& what);

}  // namespace vgpu::system_tests
