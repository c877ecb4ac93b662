// vgpu-probe: which vGPUs are there, what are they doing, do they work, how fast are they.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"

int main(int argc, char** argv) try {
  CLI::App app("Looks at virtual GPUs from a guest or on the host.");
  app.set_version_flag("--version", VGPU_VERSION);
  app.require_subcommand(1);
  vgpu::tools::Request request;
  request.guests_directory = vgpu::tools::kDefaultGuestsDirectory;
  uint32_t count = 10'000;
  uint64_t largest = 16U << 20;
  bool all_channels = false;
  const auto add = [&](const char* name, const char* description, bool one_device) {
    auto* command = app.add_subcommand(name, description);
    command->add_flag("--json", request.json, "Answer in JSON");
    command->add_option("--guests-dir", request.guests_directory, "Where vgpu-device keeps guests' regions");
    if (one_device) {
      command->add_option(
          "device", request.device,
          "Region file, PCI address or guest's name; default: VGPU_DEVICE, else the first one found");
    }
    return command;
  };
  auto* list = add("list", "The devices there are, usable or not", false);
  auto* show =
      add("show", "Everything a device's region tells: state, owners, rings, counters, errors", true);
  show->add_flag("--all", all_channels, "Free channels too");
  auto* test = add("test", "Whether the device works: a line for each check, exit status 0 or 1", true);
  auto* latency = add("latency", "Percentiles of what a program waits for, and a histogram", true);
  latency->add_option("--count", count, "Round trips to make")->check(CLI::Range(1u, 100'000'000u));
  auto* bandwidth = add("bandwidth", "Copies against their size, both directions, each mapping", true);
  bandwidth->add_option("--largest", largest, "Bytes of the largest copy")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{64}, uint64_t{1} << 32));
  CLI11_PARSE(app, argc, argv);
  if (list->parsed()) return vgpu::tools::list_devices(request);
  if (show->parsed()) return vgpu::tools::show_device(request, all_channels);
  if (test->parsed()) return vgpu::tools::test_device(request);
  if (latency->parsed()) return vgpu::tools::measure_latency(request, count);
  if (bandwidth->parsed()) return vgpu::tools::measure_bandwidth(request, largest);
  return 1;
} catch (const std::exception& exception) {
  std::fprintf(stderr, "vgpu-probe: %s\n", exception.what());
  return 1;
} catch (...) {
  std::fputs("vgpu-probe: an unknown failure\n", stderr);
  return 1;
}
