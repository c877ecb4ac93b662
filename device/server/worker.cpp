// The worker's life.
#include "device/server/worker.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <exception>

#include "device/server/log.h"
#include "device/server/sandbox.h"
#include "ring/access.h"

namespace vgpu::device {
namespace {

constexpr long kTickNs = 90'000'000;

void publish(WorkerReport& report, const DeviceServer& server, const Backend& backend) {
  const Counters totals = server.totals();
  const auto copy = [](uint64_t* to, const uint64_t* from, std::size_t words) {
    for (std::size_t i = 0; i < words; ++i) ring::store_relaxed(to[i], from[i]);
  };
  copy(reinterpret_cast<uint64_t*>(&report.totals.block), reinterpret_cast<const uint64_t*>(&totals.block),
       offsetof(ring::CounterBlock, reserved) / sizeof(uint64_t));
  copy(report.totals.by_command, totals.by_command, protocol::kCommandCount);
  ring::store_relaxed(report.kernels_from_cache, backend.counts().kernels_from_cache);
}

Result<void> serve(const WorkerOptions& options, WorkerReport& report, int parent_pid, int ready_fd) {
  if (auto dropped = drop_privileges(parent_pid); !dropped) return dropped;
  move_log_to_stderr();  // or it would be closed with the rest, and its number given to another file
  close_descriptors(ready_fd, options.keep_output);
  if (options.sandbox) {
    SandboxOptions sandbox{.writable = options.writable};
    sandbox.writable.push_back(options.region_path);
    auto confined = confine_files(sandbox);
    if (!confined) return std::unexpected(std::move(confined.error()));
    if (!*confined) log_info("this kernel has no Landlock: the worker reaches the files its user can reach");
  }
  auto bar = pci::Bar::open_path(options.region_path, pci::Access::kReadWrite);
  if (!bar) return std::unexpected(Error{protocol::Status::kOperatingSystem, bar.error().text});
  auto backend = options.make_backend();
  if (!backend) return std::unexpected(std::move(backend.error()));
  auto server = DeviceServer::create(*bar, **backend, options.server);
  if (!server) return std::unexpected(std::move(server.error()));
  if (options.sandbox) {
    if (auto confined = confine_system_calls(); !confined) return confined;
  }
  (*server)->start();
  const auto& properties = (*backend)->properties();
  log_info("ready: {} with {} MiB, compute capability {}.{}, at {}", properties.name,
           properties.total_memory_bytes >> 20, properties.compute_major, properties.compute_minor,
           options.region_path);
  publish(report, **server, **backend);
  [[maybe_unused]] const auto told = ::write(ready_fd, "R", 1);
  ::close(ready_fd);

  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  const timespec tick{.tv_sec = 0, .tv_nsec = kTickNs};
  while (sigtimedwait(&stop_signals, nullptr, &tick) != SIGTERM) {
    if ((*server)->tick()) publish(report, **server, **backend);
    count(report.ticks);
  }
  (*server)->stop("vgpu-device was stopped");
  publish(report, **server, **backend);
  ring::store_text(report.statistics, sizeof report.statistics, (*backend)->statistics());
  return {};
}

}  // namespace

int worker_main(const WorkerOptions& options, WorkerReport& report, int parent_pid, int ready_fd) noexcept {
  // SIGTERM is waited for; SIGINT from a terminal reaches the whole process group and is the supervisor's to
  // judge.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP}) {
    sigaddset(&blocked, signal);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  try {
    if (const auto served = serve(options, report, parent_pid, ready_fd); !served) {
      ring::store_text(report.failure, sizeof report.failure, served.error().reason);
      log_error("the worker cannot serve {}: {}", options.region_path, served.error().reason);
      return kWorkerCannotStart;
    }
    return kWorkerStopped;
  } catch (const std::exception& exception) {
    ring::store_text(report.failure, sizeof report.failure, exception.what());
    log_error("the worker ends: {}", exception.what());
    return kWorkerCannotStart;
  }
}

}  // namespace vgpu::device
