// A VM's coming and going.
#include "device/server/vm_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "device/server/log.h"
#include "ring/wait.h"

namespace vgpu::device {
namespace {

using ring::UniqueFd;

constexpr uint64_t kMillisecondNs = 1'000'000;
constexpr uint64_t kLookNs = 500 * kMillisecondNs;       // for others, while nothing happens
constexpr uint64_t kLookSoonNs = 20 * kMillisecondNs;    // while something is about to
constexpr uint64_t kLeaveNs = 1000 * kMillisecondNs;     // a process that was killed has let go by then
constexpr uint64_t kPatienceNs = 2000 * kMillisecondNs;  // of one who waits for a region that is taken

// The region's file opened anew: an open file that ends with the VM it is given to.
UniqueFd open_again(const pci::Bar& bar) {
  UniqueFd fd(::open(bar.path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat ours{};
  struct stat now{};
  if (!fd || ::fstat(bar.probe_fd(), &ours) != 0 || ::fstat(fd.get(), &now) != 0) return {};
  if (ours.st_dev != now.st_dev || ours.st_ino != now.st_ino) {
    errno = ESTALE;
    return {};
  }
  return fd;
}

}  // namespace

Others look_for_others(const pci::Bar& bar) noexcept {
  const int fd = bar.probe_fd();
  // Whoever opens the file while the lease stands makes the kernel send its holder a signal; by default one
  // that kills.
  if (::fcntl(fd, F_SETSIG, SIGURG) != 0) return Others::kUnknown;
  if (::fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
    ::fcntl(fd, F_SETLEASE, F_UNLCK);
    return Others::kNone;
  }
  return errno == EAGAIN ? Others::kSome : Others::kUnknown;
}

Result<std::unique_ptr<VmLink>> VmLink::create(const std::string& name, const std::string& socket_path,
                                               std::optional<gid_t> group,
                                               const ring::RegionGeometry& geometry) {
  std::vector<UniqueFd> doorbells;
  for (uint32_t i = 0; i < geometry.channel_count; ++i) {
    doorbells.emplace_back(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (!doorbells.back()) {
      return std::unexpected(
          Error{protocol::Status::kOperatingSystem,
                fmt::format("guest {}: making a doorbell: eventfd: {}", name, std::strerror(errno))});
    }
  }
  auto server = IvshmemServer::listen(socket_path, group, name);
  if (!server) return std::unexpected(std::move(server.error()));
  return std::unique_ptr<VmLink>(new VmLink(name, geometry, std::move(doorbells), std::move(*server)));
}

std::vector<int> VmLink::doorbells() const {
  std::vector<int> fds;
  for (const auto& doorbell : doorbells_) fds.push_back(doorbell.get());
  return fds;
}

uint64_t VmLink::look_after(WorkerKeeper& worker, uint64_t now) {
  server_->handle(now);
  if (server_->take_hang_up()) gone(worker, now, "its VM has hung up");
  const bool due = now >= look_at_ns_;
  if (due) look_at_ns_ = now + kLookNs;
  switch (state_) {
    case State::kAlone:
      if (!due) break;
      look_alone(worker, now);
      break;
    case State::kMapped:
      if (due && look_for_others(worker.bar()) == Others::kNone) {
        gone(worker, now, "nobody has the region open any more");
      }
      break;
    case State::kConnected:
      break;
    case State::kLeaving:
      if (due) finish_leaving(worker, now);
      break;
  }
  if (server_->waiting_since()) answer_waiting(worker, now);
  if (state_ == State::kLeaving || server_->waiting_since()) {
    look_at_ns_ = std::min(look_at_ns_, now + kLookSoonNs);
  }
  return look_at_ns_;
}

void VmLink::look_alone(WorkerKeeper& worker, uint64_t now) {
  switch (look_for_others(worker.bar())) {
    case Others::kSome:
      state_ = State::kMapped;
      log_info("guest {}: somebody has opened the region", name_);
      break;
    case Others::kNone:
      if (worker.has_served()) gone(worker, now, "its VM came and went");
      break;
    case Others::kUnknown:
      if (!std::exchange(said_unknown_, true)) {
        log_warning(
            "guest {}: this file system does not say who has {} open ({}): of an ivshmem-plain device that "
            "is "
            "gone nothing is freed before vgpu-device restarts; use ivshmem-doorbell",
            name_, worker.bar().path(), std::strerror(errno));
      }
      break;
  }
}

void VmLink::gone(WorkerKeeper& worker, uint64_t now, const std::string& reason) {
  tell_worker(worker, false);
  // A worker that no process used has nothing to free: somebody only looked.
  replacing_ = worker.has_served() || !worker.running();
  if (replacing_) worker.replace(reason);
  state_ = State::kLeaving;
  leave_by_ns_ = now + kLeaveNs;
  look_at_ns_ = now;
}

// Once the old worker has ended and nobody has the region any more, its memory goes back to the host and the
// next VM finds nothing of this one's.
void VmLink::finish_leaving(WorkerKeeper& worker, uint64_t now) {
  if (replacing_ && worker.running()) return;
  const auto others = look_for_others(worker.bar());
  if (others == Others::kSome && now < leave_by_ns_) return;
  if (others == Others::kSome) {
    log_warning("guest {}: somebody still has the region open", name_);
    state_ = State::kMapped;
  } else {
    state_ = State::kAlone;
    discard(worker);
  }
  worker.allow_restart();
}

void VmLink::discard(const WorkerKeeper& worker) {
  const auto& bar = worker.bar();
  const auto drop = [&](uint64_t offset, uint64_t bytes) {
    if (const auto discarded = bar.discard(offset, bytes); !discarded) {
      log_warning("guest {}: {}", name_, discarded.error().text);
    }
  };
  if (replacing_) {
    drop(0, bar.bytes().size());
    return;
  }
  // A worker goes on behind it: the rest it clears for every owner.
  for (uint32_t i = 0; i < geometry_.channel_count; ++i) drop(geometry_.bulk_start(i), geometry_.bulk_bytes);
}

void VmLink::answer_waiting(WorkerKeeper& worker, uint64_t now) {
  // Only once the region is nobody's: what a VM finds in it must not be another's.
  if (state_ == State::kAlone && look_for_others(worker.bar()) != Others::kSome) {
    admit(worker);
    return;
  }
  if (state_ == State::kLeaving) return;
  if (state_ == State::kConnected) {
    server_->refuse("another VM is connected");
  } else if (now - *server_->waiting_since() >= kPatienceNs) {
    server_->refuse(fmt::format("somebody else has {} open (see: fuser -v {})", worker.bar().path(),
                                worker.bar().path()));
  }
}

void VmLink::admit(WorkerKeeper& worker) {
  auto region = open_again(worker.bar());
  if (!region) {
    server_->refuse(fmt::format("opening {}: {}", worker.bar().path(), std::strerror(errno)));
    return;
  }
  server_->admit(std::move(region), doorbells_);
  if (!server_->connected()) return;
  state_ = State::kConnected;
  tell_worker(worker, true);
}

// Threads that sleep by the old answer are woken to the new one.
void VmLink::tell_worker(WorkerKeeper& worker, bool connected) noexcept {
  worker.set_doorbell_connected(connected);
  const uint64_t one = 1;
  for (const auto& doorbell : doorbells_) {
    [[maybe_unused]] const auto written = ::write(doorbell.get(), &one, sizeof one);
  }
}

}  // namespace vgpu::device
