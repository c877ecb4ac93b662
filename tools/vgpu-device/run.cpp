// The device around one command, or by itself.
#include "tools/vgpu-device/run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "device/server/log.h"
#include "device/server/supervisor.h"
#include "pci/locate.h"
#include "ring/region.h"
#include "tools/vgpu-device/guests.h"
#include "tools/vgpu-device/libraries.h"
#include "tools/vgpu-device/summary.h"
#include "tools/vgpu-device/worker_places.h"

namespace vgpu::tools {
namespace {

namespace fs = std::filesystem;
using device::Supervisor;

constexpr int kFailed = 1;
constexpr int kCannotExecute = 126;  // as shells say it
constexpr int kNotFound = 127;
constexpr int kSignalBase = 128;
constexpr std::string_view kPrivatePrefix = "vgpu-run-";
constexpr std::string_view kSharedMemory = "/dev/shm";

// Of one region, but for its path.
device::Result<device::WorkerOptions> worker_options(const DeviceOptions& options, WorkerPlaces& places,
                                                     bool for_command) {
  auto factory = places.place(options, for_command);
  if (!factory) return std::unexpected(std::move(factory.error()));
  device::WorkerOptions worker;
  worker.server.geometry = device::default_geometry(options.region_bytes, options.channels);
  worker.make_backend = std::move(*factory);
  worker.sandbox = options.sandbox;
  worker.keep_output = for_command;
  if (!options.cache_directory.empty()) {
    std::error_code error;
    fs::create_directories(options.cache_directory, error);
    if (error) {
      return std::unexpected(
          device::Error{protocol::Status::kOperatingSystem,
                        fmt::format("cache directory {}: {}", options.cache_directory, error.message())});
    }
    worker.writable.push_back(options.cache_directory);
  }
  return worker;
}

std::expected<std::unique_ptr<Supervisor>, device::Error> start(
    const device::SupervisorOptions& supervisor_options) {
  auto supervisor = Supervisor::create(supervisor_options);
  if (!supervisor) return supervisor;
  if (auto ready = (*supervisor)->wait_ready(); !ready) return std::unexpected(std::move(ready.error()));
  return supervisor;
}

std::expected<std::unique_ptr<Supervisor>, device::Error> start(const DeviceOptions& options,
                                                                const std::string& path, bool for_command) {
  auto places = WorkerPlaces::create(options);
  if (!places) return std::unexpected(std::move(places.error()));
  auto worker = worker_options(options, *places, for_command);
  if (!worker) return std::unexpected(std::move(worker.error()));
  device::SupervisorOptions supervisor_options;
  supervisor_options.region_bytes = options.region_bytes;
  supervisor_options.worker = std::move(*worker);
  supervisor_options.worker.region_path = path;
  return start(supervisor_options);
}

std::expected<std::unique_ptr<Supervisor>, device::Error> start_guests(const DeviceOptions& options) {
  const auto fail = [](std::string reason) {
    return std::unexpected(device::Error{protocol::Status::kInvalidValue, std::move(reason)});
  };
  if (auto prepared = prepare_guests_directory(options.guests_directory); !prepared) {
    return fail(std::move(prepared.error()));
  }
  const auto group = guest_group(options);
  if (!group) return fail(group.error());
  auto places = WorkerPlaces::create(options);
  if (!places) return std::unexpected(std::move(places.error()));
  device::SupervisorOptions supervisor_options;
  supervisor_options.region_bytes = options.region_bytes;
  for (const auto& name : options.guests) {
    DeviceOptions own = options;
    // What a worker that its guest took over leaves there is no other guest's to run.
    if (!own.cache_directory.empty()) own.cache_directory += "/guests/" + name;
    auto worker = worker_options(own, *places, false);
    if (!worker) return std::unexpected(std::move(worker.error()));
    const auto files = guest_files(options, name);
    worker->name = name;
    worker->region_path = files.region;
    supervisor_options.guests.push_back(
        {.worker = std::move(*worker), .socket_path = files.socket, .group = *group});
  }
  return start(supervisor_options);
}

bool set_up_log(const DeviceOptions& options) {
  device::LogLevel level{};
  if (device::parse_log_level(options.log_level, level)) device::set_log_level(level);
  if (options.log_file.empty()) return true;
  const int fd = ::open(options.log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) {
    fmt::print(stderr, "vgpu-device: cannot open the log {}: {}\n", options.log_file, std::strerror(errno));
    return false;
  }
  device::set_log_file(fd);
  return true;
}

// Private regions of runs that were killed before they could clean up. A living one holds its lock.
void remove_stale_regions() {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(kSharedMemory, error)) {
    if (!entry.path().filename().string().starts_with(kPrivatePrefix)) continue;
    ring::UniqueFd fd(::open(entry.path().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat status{};
    // A file of length 0 is being created by another run this very moment.
    if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_uid != ::geteuid() || status.st_size == 0)
      continue;
    if (const auto lock = ring::ByteLock::take(std::move(fd), ring::kDeviceLockByte))
      ::unlink(entry.path().c_str());
  }
}

void prepend(const char* variable, const std::string& value, char separator) {
  const char* before = std::getenv(variable);
  ::setenv(variable,
           before == nullptr || *before == '\0' ? value.c_str() : (value + separator + before).c_str(), 1);
}

[[noreturn]] void execute(const RunOptions& run) {
  std::vector<char*> arguments;
  for (const auto& argument : run.command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const int error_number = errno;
  fmt::print(stderr, "vgpu-device: cannot run {}: {}\n", run.command[0], std::strerror(error_number));
  ::_exit(error_number == ENOENT ? kNotFound : kCannotExecute);
}

// The command's end as a shell reports it.
int wait_for_command(Supervisor& supervisor, pid_t command) {
  for (;;) {
    const auto event = supervisor.wait_event();
    if (event.kind == Supervisor::Event::Kind::kChildExited) {
      if (event.pid != command) continue;
      return WIFSIGNALED(event.wait_status) ? kSignalBase + WTERMSIG(event.wait_status)
                                            : WEXITSTATUS(event.wait_status);
    }
    // What a terminal sends reaches the command by itself: it is in the same process group.
    if (event.from_user) ::kill(command, event.signal);
  }
}

}  // namespace

int serve_device(const DeviceOptions& options) {
  if (!set_up_log(options)) return kFailed;
  auto supervisor =
      options.guests.empty()
          ? start(options,
                  options.path.empty() ? pci::default_region_path(pci::LocateOptions{}, ::geteuid())
                                       : options.path,
                  false)
          : start_guests(options);
  if (!supervisor) {
    fmt::print(stderr, "vgpu-device: {}\n", supervisor.error().reason);
    return kFailed;
  }
  for (const auto& name : options.guests) {
    device::log_info("guest {}: QEMU takes {} or, with a doorbell, {}", name,
                     plain_qemu_options(options, name), doorbell_qemu_options(options, name));
  }
  for (;;) {
    const auto event = (*supervisor)->wait_event();
    if (event.kind != Supervisor::Event::Kind::kSignal) continue;
    if (event.signal == SIGTERM || event.signal == SIGINT) {
      device::log_info("stopping: {}", strsignal(event.signal));
      break;
    }
  }
  (*supervisor)->stop();
  for (const auto& [name, summary] : (*supervisor)->summaries()) {
    device::log_info("{}{}", name.empty() ? std::string() : fmt::format("guest {}: ", name),
                     summary_line(summary));
  }
  return 0;
}

int run_command(const DeviceOptions& options, const RunOptions& run) {
  DeviceOptions device_options = options;
  // Beside a program's own output only what went wrong is worth a line.
  if (device_options.log_level.empty()) device_options.log_level = "warning";
  if (!set_up_log(device_options)) return kFailed;
  const std::string source = run.libraries.empty() ? default_library_source() : run.libraries;
  if (source.empty()) {
    fmt::print(
        stderr,
        "vgpu-device: the shim libraries are not beside this program; say where they are with --libs\n");
    return kFailed;
  }
  auto folder = LibraryFolder::create(source, run.cuda);
  if (!folder) {
    fmt::print(stderr, "vgpu-device: {}\n", folder.error());
    return kFailed;
  }
  remove_stale_regions();
  const std::string path =
      options.path.empty()
          ? fmt::format("{}/{}{}-{:016x}", kSharedMemory, kPrivatePrefix, ::getpid(), ring::random_nonzero())
          : options.path;
  auto supervisor = start(device_options, path, true);
  if (!supervisor) {
    fmt::print(stderr, "vgpu-device: {}\n", supervisor.error().reason);
    return kFailed;
  }
  const bool preload = run.preload < 0 ? run.cuda != "all" : run.preload != 0;
  const pid_t command = ::fork();
  if (command < 0) {
    fmt::print(stderr, "vgpu-device: fork: {}\n", std::strerror(errno));
    return kFailed;
  }
  if (command == 0) {
    (*supervisor)->restore_in_child();
    ::setenv("VGPU_DEVICE", path.c_str(), 1);
    prepend("LD_LIBRARY_PATH", folder->path(), ':');
    if (preload) prepend("LD_PRELOAD", fmt::format("{}", fmt::join(folder->preload(), ":")), ':');
    execute(run);
  }
  const int status = wait_for_command(**supervisor, command);
  (*supervisor)->stop();
  const auto summary = (*supervisor)->summary();
  fmt::print(stderr, "{}\n", summary_line(summary));
  if (!run.counters_file.empty()) {
    if (const auto problem = write_summary_json(summary, run.counters_file); !problem.empty()) {
      fmt::print(stderr, "vgpu-device: {}\n", problem);
    }
  }
  return status;
}

}  // namespace vgpu::tools
