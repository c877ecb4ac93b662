// The supervisor: one process and one event loop that looks after the regions and workers of all guests
// (device/server/worker_keeper.h, device/server/vm_link.h). It must be the process's only thread, since it
// forks without exec. It blocks the signals it waits for (SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1,
// SIGUSR2, SIGWINCH).
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <csignal>
#include <cstdint>
#include <deque>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "device/error.h"
#include "device/server/vm_link.h"
#include "device/server/worker.h"
#include "device/server/worker_keeper.h"
#include "ring/unique_fd.h"

namespace vgpu::device {

// A guest that is a VM. Its region's file, WorkerOptions::region_path, is taken up where it is there already
// and stays when the device ends.
struct VmGuestOptions {
  WorkerOptions worker;  // with a name; region_file and the doorbells are the supervisor's to give
  std::string socket_path;
  std::optional<gid_t> group;  // may open both
};

struct SupervisorOptions {
  uint64_t region_bytes = 256ull << 20;  // of each region
  WorkerOptions worker;  // the one region of processes of this machine, when there are no guests
  std::vector<VmGuestOptions> guests;
};

class Supervisor {
 public:
  // Creates or takes up the region files and starts the workers. Refuses a path whose device lives.
  static std::expected<std::unique_ptr<Supervisor>, Error> create(const SupervisorOptions& options);
  // Stops, if stop() was not called.
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // Waits until all channels are served. A first worker's failure to start is an error; SIGTERM and SIGINT
  // end the wait with one, too.
  std::expected<void, Error> wait_ready();

  struct Event {
    enum class Kind : uint32_t { kSignal, kChildExited } kind = Kind::kSignal;
    int signal = 0;          // kSignal
    bool from_user = false;  // by kill(2), not by a terminal
    pid_t pid = 0;           // kChildExited: a child that is no worker
    int wait_status = 0;
  };
  // Waits for something that concerns the caller; looks after the guests meanwhile.
  Event wait_event();

  // Stops the workers, says so to the guests, removes the region's file if it is no VM's.
  void stop();
  // Of each guest, by name (empty for the one that has none).
  std::vector<std::pair<std::string, DeviceSummary>> summaries() const;

  // Where there is one region, of processes of this machine.
  DeviceSummary summary() const { return guests_.front().worker->summary(); }
  pid_t worker_pid() const noexcept { return guests_.front().worker->pid(); }

  // For a child the caller forks: the signal mask and descriptors as they were before.
  void restore_in_child() const noexcept;

 private:
  struct Guest {
    std::unique_ptr<WorkerKeeper> worker;
    std::unique_ptr<VmLink> vm;  // null: processes of this machine
    uint64_t look_at_ns = 0;     // when either wants to be looked after
  };

  Supervisor() = default;
  Result<void> add_local(const SupervisorOptions& options);
  Result<void> add_vm(const VmGuestOptions& options, uint64_t region_bytes);
  Result<void> take_over_signals();
  void reap();
  void take_signals();
  void wait_for_news(uint64_t until_ns);
  bool any_worker() const noexcept;

  std::vector<Guest> guests_;
  ring::UniqueFd signals_;
  std::deque<Event> events_;
  std::vector<pollfd> polls_;
  sigset_t caller_mask_{};
  bool stopped_ = false;
};

}  // namespace vgpu::device
