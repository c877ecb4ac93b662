// See switches.h.
#include "tests/device/software/fuzz/switches.h"

#include <algorithm>

namespace vgpu::testing::fuzz {

std::span<const Switch> switches() {
  static constexpr Switch kSwitches[] = {
      {"guards", [](software::jit::Options& options) { options.passes.guards = false; }},
      {"windows", [](software::jit::Options& options) { options.passes.windows = false; }},
      {"transposes", [](software::jit::Options& options) { options.passes.transposes = false; }},
      {"convergence", [](software::jit::Options& options) { options.passes.convergence = false; }},
      {"merging", [](software::jit::Options& options) { options.passes.merging = false; }},
      {"splitting", [](software::jit::Options& options) { options.passes.splitting = false; }},
      {"prefetch", [](software::jit::Options& options) { options.passes.prefetch = false; }},
      {"rows", [](software::jit::Options& options) { options.passes.rows = false; }},
      {"nulls", [](software::jit::Options& options) { options.passes.nulls = false; }},
      {"leaving", [](software::jit::Options& options) { options.passes.leaving = false; }},
      {"coarsening", [](software::jit::Options& options) { options.passes.coarsening = false; }},
      {"warps", [](software::jit::Options& options) { options.passes.warps = false; }},
  };
  return kSwitches;
}

software::jit::Options options_without(const std::vector<std::string>& names, int opt_level) {
  software::jit::Options options;
  options.opt_level = opt_level;
  options.verify = true;
  for (const Switch& each : switches()) {
    if (std::ranges::find(names, each.name) != names.end()) each.turn_off(options);
  }
  return options;
}

}  // namespace vgpu::testing::fuzz
