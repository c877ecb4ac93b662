// vgpu-probe: which vGPUs are there, what are they doing, how fast do they answer.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "tools/vgpu-probe/probe.h"

int main(int argc, char** argv) try {
  CLI::App app("Looks at virtual GPUs from a guest or on the host.");
  app.set_version_flag("--version", VGPU_VERSION);
  app.require_subcommand(1);
  bool json = false;
  std::string device;
  uint32_t count = 10'000;
  const auto add = [&](const char* name, const char* description, bool one_device) {
    auto* command = app.add_subcommand(name, description);
    command->add_flag("--json", json, "Answer in JSON");
    if (one_device) {
      command->add_option("device", device,
                          "Region file or PCI address; default: VGPU_DEVICE, else the first one found");
    }
    return command;
  };
  auto* list = add("list", "The devices there are, usable or not", false);
  auto* show =
      add("show", "Everything a device's region tells: state, owners, rings, counters, errors", true);
  auto* test = add("test", "Whether the device works: a line for each check, exit status 0 or 1", true);
  auto* ping = add("ping", "Percentiles of the round trip through a channel of its own", true);
  ping->add_option("--count", count, "Round trips to make")->check(CLI::Range(1u, 100'000'000u));
  CLI11_PARSE(app, argc, argv);
  if (list->parsed()) return vgpu::tools::list_devices(json);
  if (show->parsed()) return vgpu::tools::show_device(device, json);
  if (test->parsed()) return vgpu::tools::test_device(device, json);
  return vgpu::tools::ping_device(device, count, json);
} catch (const std::exception& exception) {
  std::fprintf(stderr, "vgpu-probe: %s\n", exception.what());
  return 1;
} catch (...) {
  std::fputs("vgpu-probe: an unknown failure\n", stderr);
  return 1;
}
