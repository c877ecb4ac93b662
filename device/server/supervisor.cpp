// The event loop over all guests.
#include "device/server/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "device/server/log.h"
#include "ring/region.h"
#include "ring/wait.h"

namespace vgpu::device {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kStopNs = 3 * kSecondNs;
constexpr uint64_t kTakeUpNs = 2 * kSecondNs;

Error from_ring(const ring::Error& error) {
  return {protocol::Status::kOperatingSystem, error.text};
}

// The worker of a device that was killed lives a moment longer, and with it the lock on the region.
std::expected<pci::Bar, ring::Error> take_up(const std::string& path, uint64_t bytes,
                                             std::optional<gid_t> group) {
  const uint64_t deadline = ring::monotonic_ns() + kTakeUpNs;
  for (;;) {
    auto bar = pci::Bar::adopt_file(path, bytes, group);
    if (bar || bar.error().code != ring::ErrorCode::kBusy || ring::monotonic_ns() >= deadline) return bar;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

}  // namespace

std::expected<std::unique_ptr<Supervisor>, Error> Supervisor::create(const SupervisorOptions& options) {
  std::unique_ptr<Supervisor> supervisor(new Supervisor);
  if (options.guests.empty()) {
    if (auto added = supervisor->add_local(options); !added) return std::unexpected(std::move(added.error()));
  }
  for (const auto& guest : options.guests) {
    if (auto added = supervisor->add_vm(guest, options.region_bytes); !added) {
      return std::unexpected(std::move(added.error()));
    }
  }
  if (auto taken = supervisor->take_over_signals(); !taken) return std::unexpected(std::move(taken.error()));
  for (auto& guest : supervisor->guests_) {
    if (auto started = guest.worker->start(); !started) return std::unexpected(std::move(started.error()));
  }
  return supervisor;
}

Supervisor::~Supervisor() {
  stop();
}

Result<void> Supervisor::add_local(const SupervisorOptions& options) {
  auto bar =
      pci::Bar::create_file(options.worker.region_path, options.region_bytes, sizeof(ring::RegionHeader));
  if (!bar) return std::unexpected(from_ring(bar.error()));
  WorkerOptions worker = options.worker;
  worker.server.geometry.region_bytes = options.region_bytes;
  auto keeper = WorkerKeeper::create(worker, std::move(*bar));
  if (!keeper) return std::unexpected(std::move(keeper.error()));
  guests_.push_back({.worker = std::move(*keeper), .vm = nullptr, .look_at_ns = 0});
  return {};
}

Result<void> Supervisor::add_vm(const VmGuestOptions& options, uint64_t region_bytes) {
  WorkerOptions worker = options.worker;
  auto bar = take_up(worker.region_path, region_bytes, options.group);
  if (!bar) return std::unexpected(from_ring(bar.error()));
  if (look_for_others(*bar) == Others::kNone) {
    // What a VM of earlier left there.
    if (const auto discarded = bar->discard(0, region_bytes); !discarded) {
      return std::unexpected(from_ring(discarded.error()));
    }
  }
  worker.server.geometry.region_bytes = region_bytes;
  const auto geometry = ring::RegionGeometry::compute(worker.server.geometry);
  if (!geometry) return std::unexpected(from_ring(geometry.error()));
  auto vm = VmLink::create(worker.name, options.socket_path, options.group, *geometry);
  if (!vm) return std::unexpected(std::move(vm.error()));
  worker.region_file = bar->probe_fd();
  worker.doorbells = (*vm)->doorbells();
  worker.doorbell_peer = IvshmemServer::kDevicePeer;
  auto keeper = WorkerKeeper::create(worker, std::move(*bar));
  if (!keeper) return std::unexpected(std::move(keeper.error()));
  guests_.push_back({.worker = std::move(*keeper), .vm = std::move(*vm), .look_at_ns = 0});
  return {};
}

Result<void> Supervisor::take_over_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH}) {
    sigaddset(&signals, signal);
  }
  ::pthread_sigmask(SIG_BLOCK, &signals, &caller_mask_);
  signals_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (signals_) return {};
  return std::unexpected(
      Error{protocol::Status::kOperatingSystem, fmt::format("signalfd: {}", std::strerror(errno))});
}

void Supervisor::restore_in_child() const noexcept {
  ::pthread_sigmask(SIG_SETMASK, &caller_mask_, nullptr);
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (std::ranges::any_of(guests_, [&](auto& guest) { return guest.worker->ended(pid, status); })) continue;
    events_.push_back({.kind = Event::Kind::kChildExited,
                       .signal = 0,
                       .from_user = false,
                       .pid = pid,
                       .wait_status = status});
  }
}

void Supervisor::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    const auto signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGCHLD) {
      reap();
    } else {
      events_.push_back({.kind = Event::Kind::kSignal,
                         .signal = signal,
                         .from_user = info.ssi_code <= 0,
                         .pid = static_cast<pid_t>(info.ssi_pid),
                         .wait_status = 0});
    }
  }
}

// Waits once, at most until `until_ns`, and looks after every guest.
void Supervisor::wait_for_news(uint64_t until_ns) {
  uint64_t now = ring::monotonic_ns();
  polls_.clear();
  polls_.push_back({.fd = signals_.get(), .events = POLLIN, .revents = 0});
  for (const auto& guest : guests_) {
    until_ns = std::min(until_ns, guest.look_at_ns);
    // A descriptor of -1 is none to poll().
    polls_.push_back({.fd = guest.worker->ready_fd(), .events = POLLIN, .revents = 0});
  }
  for (const auto& guest : guests_) {
    if (guest.vm) guest.vm->add_polls(polls_, now);
  }
  const uint64_t wait_ns = until_ns > now ? until_ns - now : 0;
  const int news = ::poll(polls_.data(), polls_.size(),
                          static_cast<int>(std::min(wait_ns, kSecondNs) / 1'000'000 + (wait_ns != 0)));
  if (news > 0) {
    for (std::size_t i = 0; i < guests_.size(); ++i) {
      if (polls_[i + 1].revents != 0) guests_[i].worker->take_ready();
    }
    take_signals();
  }
  now = ring::monotonic_ns();
  for (auto& guest : guests_) {
    // The VM first: it may want its worker ended or started.
    const bool has_vm = guest.vm && !stopped_;
    guest.look_at_ns = has_vm ? guest.vm->look_after(*guest.worker, now) : ~uint64_t{0};
    guest.look_at_ns = std::min(guest.look_at_ns, guest.worker->look_after(now));
  }
}

std::expected<void, Error> Supervisor::wait_ready() {
  const auto ready = [](const Guest& guest) { return guest.worker->ready(); };
  while (!std::ranges::all_of(guests_, ready)) {
    wait_for_news(ring::monotonic_ns() + kSecondNs);
    for (const auto& guest : guests_) {
      const auto& worker = *guest.worker;
      if (worker.ever_ready() || worker.running() || worker.last_failure().empty()) continue;
      return std::unexpected(Error{protocol::Status::kDeviceUnavailable, worker.last_failure()});
    }
    for (const auto& event : events_) {
      if (event.kind == Event::Kind::kSignal && (event.signal == SIGTERM || event.signal == SIGINT)) {
        return std::unexpected(Error{protocol::Status::kDeviceUnavailable, "stopped while it started"});
      }
    }
  }
  return {};
}

Supervisor::Event Supervisor::wait_event() {
  while (events_.empty()) wait_for_news(ring::monotonic_ns() + kSecondNs);
  const Event event = events_.front();
  events_.pop_front();
  return event;
}

bool Supervisor::any_worker() const noexcept {
  return std::ranges::any_of(guests_, [](const Guest& guest) { return guest.worker->running(); });
}

void Supervisor::stop() {
  if (std::exchange(stopped_, true)) return;
  for (auto& guest : guests_) guest.worker->ask_to_stop();
  const uint64_t deadline = ring::monotonic_ns() + kStopNs;
  while (any_worker()) {
    if (ring::monotonic_ns() >= deadline) {
      log_warning("workers did not stop within {} s: killing them", kStopNs / kSecondNs);
      for (auto& guest : guests_) guest.worker->kill_and_reap();
      break;
    }
    wait_for_news(deadline);
  }
  for (auto& guest : guests_) {
    guest.worker->close();
    // Where no VM has it any more, nothing but the word that the device was stopped stays of the region.
    const auto& bar = guest.worker->bar();
    if (guest.vm && look_for_others(bar) == Others::kNone) {
      [[maybe_unused]] const auto discarded =
          bar.discard(sizeof(ring::RegionHeader), bar.bytes().size() - sizeof(ring::RegionHeader));
    }
    guest.vm.reset();
  }
}

std::vector<std::pair<std::string, DeviceSummary>> Supervisor::summaries() const {
  std::vector<std::pair<std::string, DeviceSummary>> summaries;
  for (const auto& guest : guests_) summaries.emplace_back(guest.worker->name(), guest.worker->summary());
  return summaries;
}

}  // namespace vgpu::device
