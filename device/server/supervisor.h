// The supervisor: owns the region's file, keeps one worker alive behind it, and tells the guests when there
// is none. It must be the process's only thread, since it forks without exec. It blocks the signals it waits
// for (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH).
#pragma once

#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <string>

#include "device/error.h"
#include "device/server/worker.h"
#include "pci/bar.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

struct SupervisorOptions {
  uint64_t region_bytes = 256ull << 20;
  WorkerOptions worker;
};

// What the device did, over all workers it had.
struct DeviceSummary {
  Counters totals;
  uint64_t kernels_from_cache = 0;
  uint32_t worker_deaths = 0;
  std::string statistics;  // the backend's own line
};

class Supervisor {
 public:
  // Creates the region file and starts the worker. Refuses a path whose device lives.
  static std::expected<std::unique_ptr<Supervisor>, Error> create(const SupervisorOptions& options);
  // Stops, if stop() was not called.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Waits until the channels are served. The first worker's failure to start is an error; SIGTERM and SIGINT
  // end the wait with one, too.
  std::expected<void, Error> wait_ready();

  struct Event {
    enum class Kind : uint32_t { kSignal, kChildExited } kind = Kind::kSignal;
    int signal = 0;          // kSignal
    bool from_user = false;  // by kill(2), not by a terminal
    pid_t pid = 0;           // kChildExited: a child that is not the worker
    int wait_status = 0;
  };
  // Waits for something that concerns the caller; looks after the worker meanwhile (restarts it when it
  // died).
  Event wait_event();

  // Stops the worker, says so to the guests, removes the region's file.
  void stop();
  DeviceSummary summary() const;

  const std::string& path() const noexcept { return options_.worker.region_path; }
  pid_t worker_pid() const noexcept { return worker_pid_; }

  // For a child the caller forks: the signal mask and descriptors as they were before.
  void restore_in_child() const noexcept;

 private:
  Supervisor(const SupervisorOptions& options, pci::Bar bar, ring::UniqueFd signals, WorkerReport* report);
  Result<void> start_worker();
  void worker_ended(int wait_status);
  void collect_report() noexcept;
  void reap();
  void take_signals();
  void wait_for_news(int timeout_ms);
  int timeout_ms() const noexcept;
  void look_after_worker();

  SupervisorOptions options_;
  pci::Bar bar_;
  ring::UniqueFd signals_;
  ring::UniqueFd ready_;
  WorkerReport* report_;  // shared mapping, unmapped in the destructor
  std::string last_failure_;
  DeviceSummary past_;  // of workers that ended
  std::deque<Event> events_;
  sigset_t caller_mask_{};
  pid_t worker_pid_ = -1;
  bool worker_ready_ = false;
  bool ever_ready_ = false;
  bool stopped_ = false;
  uint64_t worker_started_ns_ = 0;
  uint64_t restart_at_ns_ = 0;
  uint32_t quick_deaths_ = 0;
  uint64_t seen_ticks_ = 0;
  uint64_t seen_ticks_ns_ = 0;
};

}  // namespace vgpu::device
