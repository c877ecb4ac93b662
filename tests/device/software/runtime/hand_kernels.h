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
  bool waits = false;  // at barriers, by what is below
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
// A kernel that ends without waiting.
template <void (*kernel)(BlockState*, uint32_t warp)>
uint32_t at_once(BlockState* state, uint32_t warp, WarpFrame*) {
  kernel(state, warp);
  return kWarpEnded;
}
// A kernel that waits returns what these give back, and is called again with `point` in its frame.
struct HandFrame {
  WarpFrame head;
  uint32_t kept[16];
};
inline uint32_t& kept(WarpFrame* frame, std::size_t index = 0) {
  return reinterpret_cast<HandFrame*>(frame)->kept[index];
}
inline uint32_t wait_at(WarpFrame* frame, uint32_t point, BarrierKind kind, uint32_t id, uint32_t threads,
                        uint32_t predicate, uint32_t active) {
  frame->point = point;
  frame->id = id;
  frame->threads = threads;
  frame->kind = kind;
  frame->predicate = predicate;
  frame->active = active;
  return kWarpAtBarrier;
}
inline uint32_t sync(WarpFrame* frame, uint32_t point, uint32_t id = 0) {
  frame->point = point;
  return kWarpAtSync + id;
}
inline uint32_t sync_some(WarpFrame* frame, uint32_t point, uint32_t id, uint32_t threads) {
  return wait_at(frame, point, BarrierKind::kSync, id, threads, 0, 0xFFFF'FFFF);
}
inline uint32_t reduce(const BlockState* state, uint32_t warp, WarpFrame* frame, uint32_t point,
                       BarrierKind kind, uint32_t predicate) {
  return wait_at(frame, point, kind, 0, 0, predicate, full_mask(state, warp));
}
// What compiled code does at a loop's back edge.
inline void back_edge(BlockState* state, uint32_t warp) {
  if (__atomic_load_n(state->cancel, __ATOMIC_RELAXED) != 0)
    state->hooks->trap(state, warp, TrapReason::kCancelled, 1);
}

}  // namespace vgpu::software::testing
