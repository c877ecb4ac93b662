// Runs blocks of a launch on the calling thread: shared and local memory, the block's state, its warps one
// after another or, where they meet at barriers, on fibers. One per thread; what a context left in the
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

  Result<void> run_by(const KernelCodes::Code& code, uint64_t first, uint64_t last);
  Result<void> run_measured(uint64_t first, uint64_t last);
  void run_blocks();
  void start_block();
  [[nodiscard]] bool next_block();
  void run_warp(uint32_t warp);
  void run_on_fibers();
  void run_as_fiber();
  uint32_t make_fiber();
  void switch_to(uint32_t fiber);
  void switch_away();
  void end_fibers();
  uint32_t wait_at_barrier(uint32_t warp, uint32_t id, uint32_t threads, BarrierKind kind, uint32_t predicate,
                           uint32_t active);
  void wait(uint32_t warp);
  void release(const Barriers::Completion& completion);
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

  uint64_t block_ = 0;  // the one that runs, and the end of those to run
  uint64_t last_ = 0;
  const KernelCodes::Code* code_ = nullptr;  // for several blocks, where there are as many side by side
  uint32_t at_a_time_ = 1;                   // blocks that `entry_` runs
  WarpFunction entry_ = nullptr;
  uint32_t turn_ = 0;  // which code is measured first
  uint32_t warps_ = 0;
  uint32_t next_warp_ = 0;  // of the block: those before it have started
  uint32_t current_ = 0;    // warp
  bool on_fibers_ = false;

  // Fibers take the block's warps one after another and then those of the next block, so a fiber is not a
  // warp's. They live as long as one run(): a run that is left by a jump leaves nothing that has to be
  // repaired. The last entry is the thread's own stack.
  static constexpr uint32_t kHost = kMaxWarpsPerBlock;
  std::array<void*, kMaxWarpsPerBlock + 1> fibers_{};  // where each was left
  uint32_t made_ = 0;                                  // fibers [0, made_) exist
  uint32_t running_ = kHost;
  uint32_t previous_ = kHost;                      // the one that switched to the running one
  std::array<uint8_t, kMaxWarpsPerBlock> idle_{};  // fibers without a warp, the last one first
  uint32_t idle_count_ = 0;
  bool ending_ = false;
  // One bit per warp: waits at a barrier; waits on a fiber that was left; of those, may go on.
  uint32_t waiting_ = 0;
  uint32_t left_ = 0;
  uint32_t ready_ = 0;
  std::array<uint8_t, kMaxWarpsPerBlock> fiber_of_{};  // of warps in left_
  std::array<uint32_t, kMaxWarpsPerBlock> barrier_result_{};
  StackBounds host_stack_;  // this and the next: known when AddressSanitizer asks for them
  void* host_fake_stack_ = nullptr;

  Failure failure_ = Failure::kNone;
  uint32_t failure_warp_ = 0;
  uint32_t failure_line_ = 0;
};

}  // namespace vgpu::software
