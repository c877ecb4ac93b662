// One worker's life, again and again.
#include "device/server/worker_keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <utility>

#include "device/server/log.h"
#include "ring/access.h"
#include "ring/region.h"
#include "ring/wait.h"

namespace vgpu::device {
namespace {

using ring::UniqueFd;

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kQuickDeathNs = 10 * kSecondNs;  // a worker that lived shorter is restarted with a delay
constexpr uint64_t kFirstDelayNs = 100'000'000;
constexpr uint64_t kLongestDelayNs = 5 * kSecondNs;
constexpr uint64_t kHangNs = 10 * kSecondNs;  // a worker whose main thread stands still for so long is killed
constexpr uint64_t kLookNs = kSecondNs;
constexpr uint64_t kReplaceNs = kSecondNs / 2;  // a worker whose VM is gone has so long to end by itself

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

Result<std::unique_ptr<WorkerKeeper>> WorkerKeeper::create(const WorkerOptions& options, pci::Bar bar) {
  void* shared =
      ::mmap(nullptr, sizeof(WorkerPage), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    bar.unlink_file();
    return system_failure("mapping the worker's report", errno);
  }
  std::unique_ptr<WorkerKeeper> keeper(new WorkerKeeper(options, std::move(bar), new (shared) WorkerPage));
  // No worker inherits another guest's region or report; its own region it maps itself.
  for (const auto& [data, bytes] :
       {std::pair{static_cast<void*>(keeper->bar_.bytes().data()), keeper->bar_.bytes().size()},
        std::pair{shared, sizeof(WorkerPage)}}) {
    if (::madvise(data, bytes, MADV_DONTFORK) != 0) {
      keeper->bar_.unlink_file();
      return system_failure("keeping a region from other guests' workers: madvise", errno);
    }
  }
  return keeper;
}

WorkerKeeper::WorkerKeeper(const WorkerOptions& options, pci::Bar bar, WorkerPage* page)
    : options_(options), bar_(std::move(bar)), page_(page) {}

WorkerKeeper::~WorkerKeeper() {
  ::munmap(page_, sizeof(WorkerPage));
}

ring::RegionHeader& WorkerKeeper::header() const noexcept {
  return *reinterpret_cast<ring::RegionHeader*>(bar_.bytes().data());
}

std::string WorkerKeeper::who() const {
  return options_.name.empty() ? std::string() : fmt::format("guest {}: ", options_.name);
}

Result<void> WorkerKeeper::start() {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return system_failure("pipe2", errno);
  UniqueFd read_end(pipe_ends[0]);
  UniqueFd write_end(pipe_ends[1]);
  new (page_) WorkerPage;
  set_doorbell_connected(doorbell_connected_);
  seen_ticks_ = 0;
  is_ready_ = false;
  restart_at_ns_ = kill_at_ns_ = 0;
  const pid_t self = ::getpid();
  if (::madvise(page_, sizeof(WorkerPage), MADV_DOFORK) != 0) return system_failure("madvise", errno);
  const pid_t child = ::fork();
  const int fork_error = errno;
  // _exit: destructors and exit handlers are the supervisor's.
  if (child == 0) ::_exit(worker_main(options_, *page_, self, write_end.get()));
  ::madvise(page_, sizeof(WorkerPage), MADV_DONTFORK);
  if (child < 0) return system_failure("starting the worker: fork", fork_error);
  pid_ = child;
  started_ns_ = seen_ticks_ns_ = ring::monotonic_ns();
  ready_ = std::move(read_end);
  return {};
}

void WorkerKeeper::take_ready() noexcept {
  char byte = 0;
  if (::read(ready_.get(), &byte, 1) == 1) is_ready_ = ever_ready_ = true;
  ready_.reset();  // nothing else comes; its death comes as a signal
}

bool WorkerKeeper::has_served() const noexcept {
  return pid_ > 0 && ring::load_relaxed(page_->report.has_served) != 0;
}

void WorkerKeeper::set_doorbell_connected(bool connected) noexcept {
  doorbell_connected_ = connected;
  ring::store_relaxed(page_->doorbell_connected, connected ? 1U : 0U);
}

void WorkerKeeper::collect_report() noexcept {
  const auto& report = page_->report;
  add_counters(past_.totals, report.totals);
  auto& block = past_.totals.block;
  block.memory_peak_bytes =
      std::max(block.memory_peak_bytes, ring::load_relaxed(report.totals.block.memory_peak_bytes));
  past_.kernels_from_cache += ring::load_relaxed(report.kernels_from_cache);
  past_.statistics = ring::load_text(report.statistics, sizeof report.statistics);
}

bool WorkerKeeper::ended(pid_t pid, int wait_status) {
  if (pid != pid_) return false;
  const bool served = has_served();
  pid_ = -1;
  is_ready_ = false;
  ready_.reset();
  collect_report();
  if (stopped_) return true;
  const auto failure = ring::load_text(page_->report.failure, sizeof page_->report.failure);
  const bool replaced = !replace_reason_.empty();
  const std::string reason = replaced          ? std::exchange(replace_reason_, {})
                             : failure.empty() ? fmt::format("the worker ended: {}", end_text(wait_status))
                                               : fmt::format("the worker cannot start: {}", failure);
  ring::store_relaxed(header().status.worker_pid, 0U);
  ring::set_device_state(header(), ring::DeviceState::kDead, reason);
  last_failure_ = reason;
  if (!replaced) ++past_.worker_deaths;
  // A VM that comes and goes without using the device is no reason for ever new workers either.
  const uint64_t now = ring::monotonic_ns();
  const bool quick = now - started_ns_ < kQuickDeathNs && !(replaced && served);
  quick_deaths_ = quick ? quick_deaths_ + 1 : 0;
  uint64_t delay = 0;
  if (quick_deaths_ > 1) delay = std::min(kFirstDelayNs << std::min(quick_deaths_ - 2, 8U), kLongestDelayNs);
  restart_at_ns_ = now + delay;
  if (replaced) {
    log_info("{}{}: what it held is freed", who(), reason);
  } else if (ever_ready_) {
    log_error("{}worker {}: {}; a new one starts in {} ms", who(), pid, reason, delay / 1'000'000);
  }
  return true;
}

uint64_t WorkerKeeper::look_after(uint64_t now) {
  if (stopped_) return now + kLookNs;
  if (pid_ < 0) {
    if (restart_at_ns_ == 0 || held_) return now + kLookNs;
    if (now < restart_at_ns_) return restart_at_ns_;
    if (const auto started = start(); !started) {
      log_error("{}{}", who(), started.error().reason);
      restart_at_ns_ = now + kLongestDelayNs;
    }
    return now + kLookNs;
  }
  if (kill_at_ns_ != 0) {
    if (now < kill_at_ns_) return kill_at_ns_;
    ::kill(pid_, SIGKILL);
    kill_at_ns_ = 0;
  }
  if (!is_ready_) return now + kLookNs;
  if (const uint64_t ticks = ring::load_relaxed(page_->report.ticks); ticks != seen_ticks_) {
    seen_ticks_ = ticks;
    seen_ticks_ns_ = now;
  } else if (now - seen_ticks_ns_ > kHangNs) {
    log_error("{}worker {} has not moved for {} s: killing it", who(), pid_, kHangNs / kSecondNs);
    ::kill(pid_, SIGKILL);
    seen_ticks_ns_ = now;
  }
  return now + kLookNs;
}

void WorkerKeeper::replace(const std::string& reason) {
  held_ = true;
  if (pid_ < 0 || stopped_) return;  // already on its way
  replace_reason_ = reason;
  // A worker that is not ready yet does not listen.
  ::kill(pid_, is_ready_ ? SIGTERM : SIGKILL);
  kill_at_ns_ = ring::monotonic_ns() + kReplaceNs;
}

void WorkerKeeper::ask_to_stop() noexcept {
  stopped_ = true;
  if (pid_ > 0) ::kill(pid_, SIGTERM);
}

void WorkerKeeper::kill_and_reap() noexcept {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  ended(pid_, status);
}

void WorkerKeeper::close() noexcept {
  ring::set_device_state(header(), ring::DeviceState::kStopped, "vgpu-device was stopped");
  bar_.unlink_file();
}

DeviceSummary WorkerKeeper::summary() const {
  DeviceSummary summary = past_;
  if (pid_ > 0) {
    const auto& report = page_->report;
    add_counters(summary.totals, report.totals);
    auto& block = summary.totals.block;
    block.memory_peak_bytes =
        std::max(block.memory_peak_bytes, ring::load_relaxed(report.totals.block.memory_peak_bytes));
    summary.kernels_from_cache += ring::load_relaxed(report.kernels_from_cache);
  }
  return summary;
}

}  // namespace vgpu::device
