// The worker's life.
#include "device/server/worker.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "device/server/log.h"
#include "device/server/sandbox.h"
#include "ring/access.h"

namespace vgpu::device {
namespace {

constexpr long kTickNs = 90'000'000;
constexpr long kListenNs = 15'000'000;  // between two looks for what no doorbell announces
constexpr int kLooksPerTick = kTickNs / kListenNs;

void publish(WorkerReport& report, const DeviceServer& server, const Backend& backend) {
  const Counters totals = server.totals();
  const auto copy = [](uint64_t* to, const uint64_t* from, std::size_t words) {
    for (std::size_t i = 0; i < words; ++i) ring::store_relaxed(to[i], from[i]);
  };
  copy(reinterpret_cast<uint64_t*>(&report.totals.block), reinterpret_cast<const uint64_t*>(&totals.block),
       offsetof(ring::CounterBlock, reserved) / sizeof(uint64_t));
  copy(report.totals.by_command, totals.by_command, protocol::kCommandCount);
  ring::store_relaxed(report.kernels_from_cache, backend.counts().kernels_from_cache);
  if (server.has_served()) ring::store_relaxed(report.has_served, 1U);
}

std::expected<pci::Bar, ring::Error> map_region(const WorkerOptions& options) {
  if (options.region_file >= 0) {
    return pci::Bar::map_adopted(ring::UniqueFd(options.region_file), options.region_path);
  }
  return pci::Bar::open_path(options.region_path, pci::Access::kReadWrite);
}

// Ticks until it is told to stop. Where a guest's doorbell is not heard it looks at its words in between.
void tick_until_stopped(DeviceServer& server, const Backend& backend, WorkerPage& page, bool vm) {
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGTERM);
  for (int looks = 1;; ++looks) {
    const bool silent = vm && ring::load_relaxed(page.doorbell_connected) == 0;
    const timespec pause{.tv_sec = 0, .tv_nsec = silent ? kListenNs : kTickNs};
    if (sigtimedwait(&stop_signals, nullptr, &pause) == SIGTERM) return;
    if (vm) server.listen();
    if (silent && looks % kLooksPerTick != 0) continue;
    if (server.tick()) publish(page.report, server, backend);
    count(page.report.ticks);
  }
}

Result<void> serve(const WorkerOptions& options, WorkerPage& page, int parent_pid, int ready_fd) {
  WorkerReport& report = page.report;
  if (auto dropped = drop_privileges(parent_pid); !dropped) return dropped;
  move_log_to_stderr();  // or it would be closed with the rest, and its number given to another file
  std::vector<int> kept = options.doorbells;
  kept.push_back(ready_fd);
  if (options.region_file >= 0) kept.push_back(options.region_file);
  close_descriptors(std::move(kept), options.keep_output);
  if (options.sandbox) {
    SandboxOptions sandbox{.writable = options.writable};
    if (options.region_file < 0) sandbox.writable.push_back(options.region_path);
    auto confined = confine_files(sandbox);
    if (!confined) return std::unexpected(std::move(confined.error()));
    if (!*confined) log_info("this kernel has no Landlock: the worker reaches the files its user can reach");
  }
  auto bar = map_region(options);
  if (!bar) return std::unexpected(Error{protocol::Status::kOperatingSystem, bar.error().text});
  auto backend = options.make_backend();
  if (!backend) return std::unexpected(std::move(backend.error()));
  DeviceServerOptions server_options = options.server;
  if (options.region_file >= 0) {
    server_options.vm = VmOptions{
        .doorbells = options.doorbells, .connected = &page.doorbell_connected, .peer = options.doorbell_peer};
  }
  auto server = DeviceServer::create(*bar, **backend, server_options);
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

  tick_until_stopped(**server, **backend, page, server_options.vm.has_value());
  (*server)->stop("vgpu-device was stopped");
  publish(report, **server, **backend);
  std::istringstream kernels((*backend)->kernels());
  for (std::string line; std::getline(kernels, line);) log_debug("{}", line);
  ring::store_text(report.statistics, sizeof report.statistics, (*backend)->statistics());
  return {};
}

}  // namespace

int worker_main(const WorkerOptions& options, WorkerPage& page, int parent_pid, int ready_fd) noexcept {
  WorkerReport& report = page.report;
  // SIGTERM is waited for; SIGINT from a terminal reaches the whole process group and is the supervisor's to
  // judge.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGPIPE, SIGTSTP}) {
    sigaddset(&blocked, signal);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, nullptr);
  try {
    if (!options.name.empty()) set_log_prefix("guest " + options.name + ": ");
    if (const auto served = serve(options, page, parent_pid, ready_fd); !served) {
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
