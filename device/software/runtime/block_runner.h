// Runs blocks of a launch on the calling thread: shared and local memory, the block's state, its warps one
// after another, and those that meet at barriers again when they may go on. One per thread; what a context
// left in the shared and local memory is gone before another's block runs.
#pragma once

#include <cstdint>
#include <string>

#include "device/error.h"
#include "device/software/kernel_abi.h"
#include "device/software/runtime/barrier.h"
#include "device/software/runtime/device_window.h"
#include "device/software/runtime/launch_plan.h"
#include "device/software/runtime/warp_frames.h"

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
  enum class Failure : uint8_t {
    kNone,
    kTrap,
    kCancelled,
    kUnsupportedCall,
    kNoCode,
    kNoFrames,
    kDeadlock,
    kBadPrint
  };

  struct Hooks;  // the RuntimeHooks table and what it calls
  friend struct Hooks;

  Result<void> run_and_measure(uint32_t index, uint64_t first, uint64_t last);
  Result<void> run_by(const jit::CompiledKernel& code, uint64_t first, uint64_t last);
  Result<void> run_measured(uint64_t first, uint64_t last);
  void run_blocks();
  void start_block();
  [[nodiscard]] bool next_block();
  void run_meeting_warps();
  void run_round(uint32_t warps);
  uint32_t run_while_alike(uint32_t warps);
  uint32_t run_warp(uint32_t warp);
  void stopped(uint32_t warp, uint32_t stop);
  void release(const Barriers::Completion& completion);
  [[noreturn]] void fail(Failure failure, uint32_t warp, uint32_t line);
  [[nodiscard]] std::string where() const;
  [[nodiscard]] Error explain() const;

  DeviceWindow& window_;
  WindowRange shared_;
  WindowRange local_;
  uint64_t local_committed_ = 0;
  uint64_t owner_ = 0;  // context whose data may lie in shared and local memory
  WarpFrames frames_;

  const LaunchPlan* plan_ = nullptr;
  BlockState state_{};
  Barriers barriers_;

  uint64_t block_ = 0;  // the one that runs, and the end of those to run
  uint64_t last_ = 0;
  const jit::CompiledKernel* code_ = nullptr;  // for several blocks, where there are as many side by side
  uint32_t at_a_time_ = 1;                     // blocks that `entry_` runs
  WarpFunction entry_ = nullptr;
  uint32_t turn_ = 0;     // which code is measured first
  uint32_t warps_ = 0;    // or groups of warps, of this block for this entry
  uint32_t current_ = 0;  // warp
  bool may_wait_ = false;
  // One bit per warp: has not ended; of those, may go on.
  uint32_t alive_ = 0;
  uint32_t ready_ = 0;

  Failure failure_ = Failure::kNone;
  uint32_t failure_warp_ = 0;
  uint32_t failure_line_ = 0;
};

}  // namespace vgpu::software
