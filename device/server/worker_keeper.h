// Keeps one worker alive behind one region: starts it, restarts it when it died (later and later if it keeps
// dying), kills one that hangs, replaces it when its VM is gone, tells the guests when there is none, and
// adds up what all its workers did. For the supervisor's only thread, which waits for ready_fd() and SIGCHLD.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "device/error.h"
#include "device/server/worker.h"
#include "pci/bar.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

// What the device did, over all workers it had.
struct DeviceSummary {
  Counters totals;
  uint64_t kernels_from_cache = 0;
  uint32_t worker_deaths = 0;
  std::string statistics;  // the backend's own line
};

class WorkerKeeper {
 public:
  // Takes the region's file over. Nothing is started.
  static Result<std::unique_ptr<WorkerKeeper>> create(const WorkerOptions& options, pci::Bar bar);
  ~WorkerKeeper();  // the worker must have ended
  WorkerKeeper(const WorkerKeeper&) = delete;
  WorkerKeeper& operator=(const WorkerKeeper&) = delete;

  Result<void> start();
  // Whether `pid` was the worker: then it has ended, with waitpid's `wait_status`.
  bool ended(pid_t pid, int wait_status);
  // What the worker says "ready" through: poll it for input, then call take_ready(). -1: nothing to wait for.
  int ready_fd() const noexcept { return ready_.get(); }
  void take_ready() noexcept;
  // Restarts and kills as it is due. Returns the monotonic time at which it wants to be called again.
  uint64_t look_after(uint64_t now);

  // The VM is gone: ends the worker, which frees everything it held, and starts another one after
  // allow_restart().
  void replace(const std::string& reason);
  void allow_restart() noexcept { held_ = false; }
  // While a VM's doorbell reaches the worker. Of this and later workers.
  void set_doorbell_connected(bool connected) noexcept;

  // The end: no worker is started any more; the running one gets SIGTERM.
  void ask_to_stop() noexcept;
  // The one that did not heed it.
  void kill_and_reap() noexcept;
  // Says to the guests that the device was stopped; removes the region's file if it is not a VM's.
  void close() noexcept;

  bool running() const noexcept { return pid_ > 0; }
  bool ready() const noexcept { return is_ready_; }
  bool ever_ready() const noexcept { return ever_ready_; }
  bool has_served() const noexcept;
  pid_t pid() const noexcept { return pid_; }
  const std::string& name() const noexcept { return options_.name; }
  const std::string& last_failure() const noexcept { return last_failure_; }
  const pci::Bar& bar() const noexcept { return bar_; }
  DeviceSummary summary() const;

 private:
  WorkerKeeper(const WorkerOptions& options, pci::Bar bar, WorkerPage* page);
  void collect_report() noexcept;
  ring::RegionHeader& header() const noexcept;
  // "guest NAME: ", or nothing.
  std::string who() const;

  WorkerOptions options_;
  pci::Bar bar_;
  WorkerPage* page_;  // shared mapping, unmapped in the destructor
  ring::UniqueFd ready_;
  std::string last_failure_;
  std::string replace_reason_;
  DeviceSummary past_;  // of workers that ended
  pid_t pid_ = -1;
  bool is_ready_ = false;
  bool ever_ready_ = false;
  bool stopped_ = false;
  bool held_ = false;
  bool doorbell_connected_ = false;
  uint64_t started_ns_ = 0;
  uint64_t restart_at_ns_ = 0;
  uint64_t kill_at_ns_ = 0;
  uint32_t quick_deaths_ = 0;
  uint64_t seen_ticks_ = 0;
  uint64_t seen_ticks_ns_ = 0;
};

}  // namespace vgpu::device
