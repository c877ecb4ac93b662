// vgpu-device: the virtual GPU's host side. Options alone here; device/server/ does the work.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "protocol/commands.h"
#include "ring/region_layout.h"
#include "tools/vgpu-device/guests.h"
#include "tools/vgpu-device/options.h"
#include "tools/vgpu-device/run.h"
#include "tools/vgpu-device/worker_places.h"

namespace {

std::string default_cache_directory() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (const auto own = variable("VGPU_CACHE"); !own.empty()) return own + "/kernels";
  if (const auto cache = variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/vgpu/kernels";
  if (const auto home = variable("HOME"); !home.empty()) return home + "/.cache/vgpu/kernels";
  return {};
}

// Empty, or why these options do not go together.
std::string conflict(const vgpu::tools::DeviceOptions& device, bool runs_a_command) {
  if (device.guests.empty()) {
    return device.guest_group.empty() ? std::string() : "--guest-group is for guests: name one with --guest";
  }
  if (runs_a_command) return "run starts a device of its own, for a command of this machine: no --guest";
  if (!device.path.empty()) return "a guest's region is DIR/NAME.bar: --guests-dir, and no --path";
  auto names = device.guests;
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  return twice == names.end() ? std::string() : "guest " + *twice + " is named twice";
}

}  // namespace

int main(int argc, char** argv) try {
  vgpu::tools::DeviceOptions device;
  vgpu::tools::RunOptions run;
  device.cache_directory = default_cache_directory();
  device.log_level.clear();

  CLI::App app(
      "A virtual GPU: serves CUDA programs of this machine or of a VM through a region of shared memory.");
  app.set_version_flag("--version", VGPU_VERSION);
  app.add_option("--path", device.path, "Region file; default: the user's own in /dev/shm");
  app.add_option("--size", device.region_bytes, "Bytes of the region, a power of two (256M)")
      ->transform(CLI::AsSizeValue(false))
      ->check([](const std::string& text) {
        const auto bytes = std::strtoull(text.c_str(), nullptr, 10);
        return std::has_single_bit(bytes) ? std::string() : "--size " + text + " is not a power of two";
      });
  app.add_option("--channels", device.channels, "Processes that can use the device at once")
      ->check(CLI::Range(1u, vgpu::ring::kMaxChannels));
  app.add_option("--memory", device.memory_bytes, "Bytes of device memory; default: the backend's choice")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--threads", device.threads,
                 "Threads that execute kernels; 0: one per processor (of the NUMA node they are kept on)");
  app.add_option("--numa", device.numa,
                 "NUMA node that threads and device memory are kept on. auto: one for each guest, of which "
                 "there are as few as possible on a node, or the fewest with enough processors for "
                 "--threads; a number: this one; off: the system's choice")
      ->check(vgpu::tools::numa_problem);
  app.add_option("--cache-dir", device.cache_directory, "Where compiled kernels are kept");
  app.add_option(
         "--cache-size", device.cache_bytes,
         "Bytes that compiled kernels may take there (1G); those used longest ago go first. 0: none are kept")
      ->transform(CLI::AsSizeValue(false));
  app.add_option("--log", device.log_file, "Log file; default: standard error");
  app.add_option("--log-level", device.log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.add_option("--backend", device.backend,
                 "software: kernels run on the CPU; null: everything but kernels")
      ->check(CLI::IsMember({"software", "null"}));
  app.add_flag("!--no-sandbox", device.sandbox,
               "Leave the worker its system calls and files (for debuggers)");
  app.add_option("--guest", device.guests,
                 "Serve the VM of this name, by DIR/NAME.bar (ivshmem-plain) and DIR/NAME.sock "
                 "(ivshmem-doorbell); may be given several times. Limits are each guest's")
      ->take_all()
      ->expected(1)
      ->check(vgpu::tools::guest_name_problem);
  app.add_option("--guests-dir", device.guests_directory, "DIR (/dev/shm/vgpu-guests)");
  app.add_option("--guest-group", device.guest_group,
                 "Group whose members may open the guests' files: the one QEMU runs in");
  app.fallthrough();
  app.require_subcommand(0, 1);

  auto* command =
      app.add_subcommand("run", "Start a private device for one command: vgpu-device run -- PROGRAM ARGS…");
  command->add_option("command", run.command, "Program and arguments")->required()->expected(1, -1);
  command->add_option("--libs", run.libraries, "Folder of the shim libraries; default: beside this program");
  command->add_option("--cuda", run.cuda, "CUDA generations the program finds: 12, 13 or all")
      ->check(CLI::IsMember({"12", "13", "all"}));
  bool preload = false;
  auto* preload_flag =
      command->add_flag("--preload,!--no-preload", preload,
                        "Preload the libraries too, for programs with library paths of their own; "
                        "default: when --cuda names one generation");
  command->add_option("--counters,--counters-json", run.counters_file,
                      "Write the final counters there as JSON");
  command->positionals_at_end();

  CLI11_PARSE(app, argc, argv);
  if (const auto problem = conflict(device, command->parsed()); !problem.empty()) {
    std::fprintf(stderr, "vgpu-device: %s\n", problem.c_str());
    return 1;
  }
  if (preload_flag->count() > 0) run.preload = preload ? 1 : 0;
  return command->parsed() ? vgpu::tools::run_command(device, run) : vgpu::tools::serve_device(device);
} catch (const std::exception& exception) {
  std::fprintf(stderr, "vgpu-device: %s\n", exception.what());
  return 1;
} catch (...) {
  std::fputs("vgpu-device: an unknown failure\n", stderr);
  return 1;
}
