// Runs blocks of a launch on the calling thread: shared and local memory, the block's state, its warps one
// after another or, where they meet at barriers, each on a fiber. One per thread; what a context left in the
// shared and local memory is gone before another's block runs.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "device/error.h"
#include "device/software/kernel_abi.h"
#include "device/software/runtime/barrier.h"
#include "device/software/runtime/device_window.h"
#include "device/software/runtime/fiber_stacks.h"
#include "device/software/runtime/launch_plan.h"
#include "device/software/runtime/sanitizer_fibers.h"

namespace vgpu::software {

inline constexpr uint32_t kMaxThreadsPerBlock = 1024;
inline constexpr uint32_t kMaxWarpsPerBlock = kMaxThreadsPerBlock / kWarpSize;
inline constexpr uint32_t kMaxSharedBytes = 48 * 1024;
inline constexpr uint32_t kMaxLocalBytes = 512 * 1024;  // per thread, as CUDA's compute capabilities have it

class BlockRunner {
 public:
  explicit BlockRunner(DeviceWindow& window) : window_(window) {}
  BlockRunner(const BlockRunner&) = delete;
  BlockRunner& operator=(const BlockRunner&) = delete;

  // Makes ready for blocks of `plan`, which must outlive them.
  Result<void> prepare(const LaunchPlan& plan);
  // Runs blocks [first, last) in order. An error is what ended the kernel: the block it happened in did not
  // finish, and the kernel must not go on.
  Result<void> run(uint64_t first, uint64_t last);

 private:
  enum class Failure : uint8_t { kNone, kTrap, kCancelled, kUnsupportedCall, kNoCode, kDeadlock, kBadPrint };

  struct Hooks;  // the RuntimeHooks table and what it calls
  friend struct Hooks;

  void run_blocks(uint64_t first, uint64_t last);
  void run_warps_on_fibers();
  uint32_t wait_at_barrier(uint32_t warp, uint32_t id, uint32_t threads, BarrierKind kind, uint32_t predicate,
                           uint32_t active);
  void release(const Barriers::Completion& completion);
  void finish_warp(uint32_t warp);
  [[noreturn]] void fail(Failure failure, uint32_t warp, uint32_t line);
  [[nodiscard]] std::string where() const;
  [[nodiscard]] Error explain() const;

  DeviceWindow& window_;
  WindowRange shared_;
  WindowRange local_;
  uint64_t local_committed_ = 0;
  uint64_t owner_ = 0;  // context whose data may lie in shared and local memory
  FiberStacks stacks_;

  const LaunchPlan* plan_ = nullptr;
  BlockState state_{};
  Barriers barriers_;

  // Fibers: a warp that may go on is in ready_; one that waits at a barrier is in none.
  using FiberHandle = void*;
  FiberHandle scheduler_ = nullptr;
  std::array<FiberHandle, kMaxWarpsPerBlock> fibers_{};
  std::array<uint32_t, kMaxWarpsPerBlock> barrier_result_{};
  std::array<uint8_t, kMaxWarpsPerBlock> ready_{};  // a queue: at most all warps are in it
  uint32_t ready_head_ = 0;
  uint32_t ready_count_ = 0;
  uint32_t current_ = 0;
  bool on_fiber_ = false;
  bool inside_fiber_ = false;
  StackBounds host_stack_;  // this and the next: known when AddressSanitizer asks for them
  void* host_fake_stack_ = nullptr;

  Failure failure_ = Failure::kNone;
  uint32_t failure_warp_ = 0;
  uint32_t failure_line_ = 0;
};

}  // namespace vgpu::software
