// Spreads the blocks of launches over the machine's cores. Blocks start in order of their index, so that a
// block may wait for an earlier one; the calling thread works along, and small grids never leave it.
// Thread-safe: launches of several contexts share the workers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "device/error.h"
#include "device/software/runtime/block_runner.h"
#include "device/software/runtime/launch_plan.h"

namespace vgpu::software {

class Launcher {
 public:
  // `threads`: that work on one launch, the caller among them; at least 1.
  Launcher(DeviceWindow& window, uint32_t threads);
  ~Launcher();
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  [[nodiscard]] uint32_t threads() const { return static_cast<uint32_t>(workers_.size()) + 1; }

  // Returns when all blocks ran, or with what ended the kernel; no thread runs the plan's code any more then.
  Result<void> run(const LaunchPlan& plan, BlockRunner& caller);
  // All blocks at the same time, each on a thread of its own.
  Result<void> run_cooperative(const LaunchPlan& plan, BlockRunner& caller);

 private:
  struct Job {
    explicit Job(const LaunchPlan& launch) : plan(launch) {}
    const LaunchPlan& plan;
    std::atomic<uint64_t> next{0};  // first block nobody took
    uint64_t chunk = 1;             // blocks a thread takes at a time while many are left
    uint64_t least = 1;             // and when few are
    // Workers in this job: grows under mutex_ while the job is in jobs_, shrinks as the last thing that a
    // worker does with the job.
    std::atomic<uint32_t> helpers{0};
    bool failed = false;  // under mutex_
    Error error;
  };

  void work();
  Job* pick();  // with mutex_ held
  // The next blocks of the job for one thread, from `first` on; none are left if that is plan.blocks or more.
  [[nodiscard]] uint64_t take(Job& job, uint64_t& first) const;
  void help(Job& job, BlockRunner& runner);
  void leave(Job& job);
  void publish(Job& job);
  void withdraw(Job& job);
  void record(Job& job, const Error& error);
  Result<void> outcome(const Job& job) const;

  DeviceWindow& window_;
  std::mutex mutex_;
  std::condition_variable left_;       // a worker left a job for which somebody sleeps
  uint32_t sleepers_ = 0;              // on left_; under mutex_
  std::vector<Job*> jobs_;             // published ones
  std::atomic<uint32_t> epoch_{0};     // grows with every publication; idle workers wait on it
  std::atomic<uint32_t> spinning_{0};  // workers that look at epoch_ without sleeping
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace vgpu::software
