// A compiler for tests that need no LLVM: it knows kernels by name and gives back C++ written for
// device/software/kernel_abi.h, with its memory accesses confined as compiled code confines them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "device/software/kernel_abi.h"
#include "device/software/runtime/kernel_compiler.h"

namespace vgpu::software::testing {

struct HandKernel {
  WarpFunction entry = nullptr;
  bool uses_barriers = false;
  uint32_t static_shared_bytes = 0;
  uint32_t local_bytes = 0;
};

class HandCompiler final : public KernelCompiler {
 public:
  Outcome compile(const ptx::Module& module, std::string_view kernel, const jit::LaunchShape& shape) override;
  [[nodiscard]] jit::Counters counters() const override {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

 private:
  mutable std::mutex mutex_;
  jit::Counters counters_;
};

// Null if there is no such kernel.
const HandKernel* find_hand_kernel(std::string_view name);

// What compiled code does with every address.
template <typename T>
volatile T& device(uint64_t address) {
  return *reinterpret_cast<volatile T*>(kDeviceWindowBase +
                                        std::min(address - kDeviceWindowBase, kDeviceWindowBytes));
}
template <typename T>
T parameter(const BlockState* state, std::size_t offset) {
  T value;
  __builtin_memcpy(&value, state->params + offset, sizeof value);
  return value;
}

// Calls lane(linear thread index) for the threads of a warp.
template <typename Lane>
void for_lanes(const BlockState* state, uint32_t warp, Lane&& lane) {
  const uint32_t threads = state->ntid[0] * state->ntid[1] * state->ntid[2];
  for (uint32_t thread = warp * kWarpSize; thread < std::min(threads, (warp + 1) * kWarpSize); ++thread)
    lane(thread);
}
inline uint32_t full_mask(const BlockState* state, uint32_t warp) {
  uint32_t mask = 0;
  for_lanes(state, warp, [&](uint32_t thread) { mask |= uint32_t{1} << (thread % kWarpSize); });
  return mask;
}
inline void sync(BlockState* state, uint32_t warp, uint32_t id = 0, uint32_t threads = 0) {
  state->hooks->barrier(state, warp, id, threads, BarrierKind::kSync, 0, full_mask(state, warp));
}
inline uint32_t reduce(BlockState* state, uint32_t warp, BarrierKind kind, uint32_t predicate) {
  return state->hooks->barrier(state, warp, 0, 0, kind, predicate, full_mask(state, warp));
}
// What compiled code does at a loop's back edge.
inline void back_edge(BlockState* state, uint32_t warp) {
  if (__atomic_load_n(state->cancel, __ATOMIC_RELAXED) != 0)
    state->hooks->trap(state, warp, TrapReason::kCancelled, 1);
}

}  // namespace vgpu::software::testing
