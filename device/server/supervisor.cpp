// Region file, worker, restarts.
#include "device/server/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "device/server/log.h"
#include "ring/access.h"
#include "ring/wait.h"

namespace vgpu::device {
namespace {

using ring::UniqueFd;

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kQuickDeathNs = 10 * kSecondNs;  // a worker that lived shorter is restarted with a delay
constexpr uint64_t kFirstDelayNs = 100'000'000;
constexpr uint64_t kLongestDelayNs = 5 * kSecondNs;
constexpr uint64_t kHangNs = 10 * kSecondNs;  // a worker whose main thread stands still for so long is killed
constexpr uint64_t kStopNs = 3 * kSecondNs;
constexpr int kLookMs = 1000;

std::unexpected<Error> system_failure(std::string_view what, int error_number) {
  return std::unexpected(
      Error{protocol::Status::kOperatingSystem, fmt::format("{}: {}", what, std::strerror(error_number))});
}

std::string end_text(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return fmt::format("signal {} ({})", WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
  }
  return fmt::format("exit status {}", WEXITSTATUS(wait_status));
}

}  // namespace

std::expected<std::unique_ptr<Supervisor>, Error> Supervisor::create(const SupervisorOptions& options) {
  auto bar =
      pci::Bar::create_file(options.worker.region_path, options.region_bytes, sizeof(ring::RegionHeader));
  if (!bar) return std::unexpected(Error{protocol::Status::kOperatingSystem, bar.error().text});
  void* shared =
      ::mmap(nullptr, sizeof(WorkerReport), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    bar->unlink_file();
    return system_failure("mapping the worker's report", errno);
  }
  auto* report = new (shared) WorkerReport;

  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH}) {
    sigaddset(&signals, signal);
  }
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &signals, &before);
  UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  std::unique_ptr<Supervisor> supervisor(
      new Supervisor(options, std::move(*bar), std::move(signal_fd), report));
  supervisor->caller_mask_ = before;
  if (!supervisor->signals_) return system_failure("signalfd", errno);
  if (auto started = supervisor->start_worker(); !started) return std::unexpected(std::move(started.error()));
  return supervisor;
}

Supervisor::Supervisor(const SupervisorOptions& options, pci::Bar bar, UniqueFd signals, WorkerReport* report)
    : options_(options), bar_(std::move(bar)), signals_(std::move(signals)), report_(report) {
  options_.worker.server.geometry.region_bytes = options.region_bytes;
}

Supervisor::~Supervisor() {
  stop();
  ::munmap(report_, sizeof(WorkerReport));
}

void Supervisor::restore_in_child() const noexcept {
  ::pthread_sigmask(SIG_SETMASK, &caller_mask_, nullptr);
}

Result<void> Supervisor::start_worker() {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return system_failure("pipe2", errno);
  UniqueFd read_end(pipe_ends[0]);
  UniqueFd write_end(pipe_ends[1]);
  new (report_) WorkerReport;
  seen_ticks_ = 0;
  worker_ready_ = false;
  restart_at_ns_ = 0;
  const pid_t self = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return system_failure("starting the worker: fork", errno);
  // _exit: destructors and exit handlers are the supervisor's.
  if (child == 0) ::_exit(worker_main(options_.worker, *report_, self, write_end.get()));
  worker_pid_ = child;
  worker_started_ns_ = seen_ticks_ns_ = ring::monotonic_ns();
  ready_ = std::move(read_end);
  return {};
}

void Supervisor::collect_report() noexcept {
  add_counters(past_.totals, report_->totals);
  auto& block = past_.totals.block;
  block.memory_peak_bytes =
      std::max(block.memory_peak_bytes, ring::load_relaxed(report_->totals.block.memory_peak_bytes));
  past_.kernels_from_cache += ring::load_relaxed(report_->kernels_from_cache);
  past_.statistics = ring::load_text(report_->statistics, sizeof report_->statistics);
}

void Supervisor::worker_ended(int wait_status) {
  const pid_t pid = std::exchange(worker_pid_, -1);
  ready_.reset();
  collect_report();
  if (stopped_) return;
  const auto failure = ring::load_text(report_->failure, sizeof report_->failure);
  const std::string reason = failure.empty() ? fmt::format("the worker ended: {}", end_text(wait_status))
                                             : fmt::format("the worker cannot start: {}", failure);
  auto& header = *reinterpret_cast<ring::RegionHeader*>(bar_.bytes().data());
  ring::store_relaxed(header.status.worker_pid, 0U);
  ring::set_device_state(header, ring::DeviceState::kDead, reason);
  last_failure_ = reason;
  ++past_.worker_deaths;
  const uint64_t now = ring::monotonic_ns();
  quick_deaths_ = now - worker_started_ns_ < kQuickDeathNs ? quick_deaths_ + 1 : 0;
  uint64_t delay = 0;
  if (quick_deaths_ > 1) delay = std::min(kFirstDelayNs << std::min(quick_deaths_ - 2, 8U), kLongestDelayNs);
  restart_at_ns_ = now + delay;
  if (ever_ready_) {
    log_error("worker {}: {}; a new one starts in {} ms", pid, reason, delay / 1'000'000);
  }
}

void Supervisor::reap() {
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == worker_pid_) {
      worker_ended(status);
    } else {
      events_.push_back({.kind = Event::Kind::kChildExited,
                         .signal = 0,
                         .from_user = false,
                         .pid = pid,
                         .wait_status = status});
    }
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

void Supervisor::wait_for_news(int timeout_ms) {
  pollfd waits[2] = {{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                     {.fd = ready_.get(), .events = POLLIN, .revents = 0}};
  if (::poll(waits, ready_ ? 2 : 1, timeout_ms) <= 0) return;
  if (waits[1].revents != 0) {
    char byte = 0;
    if (::read(ready_.get(), &byte, 1) == 1) worker_ready_ = ever_ready_ = true;
    ready_.reset();  // nothing else comes; its death comes as a signal
  }
  if (waits[0].revents != 0) take_signals();
}

int Supervisor::timeout_ms() const noexcept {
  if (restart_at_ns_ == 0) return kLookMs;
  const uint64_t now = ring::monotonic_ns();
  return restart_at_ns_ <= now ? 0 : static_cast<int>((restart_at_ns_ - now) / 1'000'000 + 1);
}

void Supervisor::look_after_worker() {
  const uint64_t now = ring::monotonic_ns();
  if (worker_pid_ < 0 && restart_at_ns_ != 0 && now >= restart_at_ns_) {
    if (const auto started = start_worker(); !started) {
      log_error("{}", started.error().reason);
      restart_at_ns_ = now + kLongestDelayNs;
    }
    return;
  }
  if (worker_pid_ < 0 || !worker_ready_) return;
  if (const uint64_t ticks = ring::load_relaxed(report_->ticks); ticks != seen_ticks_) {
    seen_ticks_ = ticks;
    seen_ticks_ns_ = now;
  } else if (now - seen_ticks_ns_ > kHangNs) {
    log_error("worker {} has not moved for {} s: killing it", worker_pid_, kHangNs / kSecondNs);
    ::kill(worker_pid_, SIGKILL);
    seen_ticks_ns_ = now;
  }
}

std::expected<void, Error> Supervisor::wait_ready() {
  while (!worker_ready_) {
    wait_for_news(kLookMs);
    if (!ever_ready_ && worker_pid_ < 0) {
      return std::unexpected(Error{protocol::Status::kDeviceUnavailable, last_failure_});
    }
    for (const auto& event : events_) {
      if (event.kind == Event::Kind::kSignal && (event.signal == SIGTERM || event.signal == SIGINT)) {
        return std::unexpected(Error{protocol::Status::kDeviceUnavailable, "stopped while it started"});
      }
    }
    look_after_worker();
  }
  return {};
}

Supervisor::Event Supervisor::wait_event() {
  while (events_.empty()) {
    wait_for_news(timeout_ms());
    look_after_worker();
  }
  const Event event = events_.front();
  events_.pop_front();
  return event;
}

void Supervisor::stop() {
  if (std::exchange(stopped_, true)) return;
  auto& header = *reinterpret_cast<ring::RegionHeader*>(bar_.bytes().data());
  if (worker_pid_ > 0) {
    ::kill(worker_pid_, SIGTERM);
    const uint64_t deadline = ring::monotonic_ns() + kStopNs;
    while (worker_pid_ > 0) {
      const uint64_t now = ring::monotonic_ns();
      if (now >= deadline) {
        log_warning("worker {} did not stop within {} s: killing it", worker_pid_, kStopNs / kSecondNs);
        ::kill(worker_pid_, SIGKILL);
        int status = 0;
        ::waitpid(worker_pid_, &status, 0);
        worker_ended(status);
        break;
      }
      wait_for_news(static_cast<int>((deadline - now) / 1'000'000 + 1));
    }
  }
  ring::set_device_state(header, ring::DeviceState::kStopped, "vgpu-device was stopped");
  bar_.unlink_file();
}

DeviceSummary Supervisor::summary() const {
  DeviceSummary summary = past_;
  if (worker_pid_ > 0) {
    add_counters(summary.totals, report_->totals);
    auto& block = summary.totals.block;
    block.memory_peak_bytes =
        std::max(block.memory_peak_bytes, ring::load_relaxed(report_->totals.block.memory_peak_bytes));
    summary.kernels_from_cache += ring::load_relaxed(report_->kernels_from_cache);
  }
  return summary;
}

}  // namespace vgpu::device
