// Which processors to use with a vGPU, and why.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pci/topology.h"
#include "tools/vgpu-probe/places.h"

namespace vgpu::tools {

struct Pinning {
  std::vector<uint32_t> numa_nodes;    // that hold the region's memory; empty: unknown
  std::vector<uint32_t> near_cpus;     // near that memory
  std::vector<uint32_t> program_cpus;  // for the program's threads; in a guest all of the near ones
  std::vector<uint32_t> device_cpus;   // for vgpu-device; empty where it runs on another machine
  std::vector<std::string> advice;     // sentences and commands
};

Pinning recommend_pinning(const Place& place, const pci::MachinePart& machine);

// Both as JSON (docs/probe.md).
nlohmann::ordered_json machine_json(const pci::MachinePart& machine);
nlohmann::ordered_json pinning_json(const Pinning& pinning);

}  // namespace vgpu::tools
