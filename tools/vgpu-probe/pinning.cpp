// The rules of placement: the region's memory, the program and vgpu-device on one NUMA node; the thread that
// submits and the one that consumes on two cores, since each polls, under one cache, since a line goes back
// and forth between them.
#include "tools/vgpu-probe/pinning.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using pci::MachinePart;

constexpr uint64_t kLookedAtBytes = 1 << 20;  // the header and the first channel: what the device backs first

void collect(const MachinePart& part, MachinePart::Kind kind, std::vector<const MachinePart*>& found) {
  if (part.kind == kind) found.push_back(&part);
  for (const auto& inner : part.parts) collect(inner, kind, found);
}

bool within(const std::vector<uint32_t>& cpus, const std::vector<uint32_t>& all) {
  return std::ranges::includes(all, cpus);
}

std::string numactl(const std::vector<uint32_t>& nodes) {
  const std::string list = range_text(nodes);
  return fmt::format("numactl --cpunodebind={} --membind={}", list, list);
}

}  // namespace

Pinning recommend_pinning(const Place& place, const MachinePart& machine) {
  Pinning pinning;
  const bool in_guest = place.location.carrier == pci::Carrier::kPciBar;
  if (place.function) {
    if (const auto near = pci::pci_locality(place.function->address)) pinning.numa_nodes = near->numa_nodes;
    if (pinning.numa_nodes.empty() && place.function->numa_node >= 0) {
      pinning.numa_nodes = {static_cast<uint32_t>(place.function->numa_node)};
    }
  } else {
    pinning.numa_nodes = pci::file_numa_nodes(place.location.path, kLookedAtBytes);
  }
  std::vector<const MachinePart*> nodes;
  collect(machine, MachinePart::Kind::kNumaNode, nodes);
  for (const auto* node : nodes) {
    if (std::ranges::find(pinning.numa_nodes, static_cast<uint32_t>(node->number)) !=
        pinning.numa_nodes.end()) {
      pinning.near_cpus.insert(pinning.near_cpus.end(), node->cpus.begin(), node->cpus.end());
    }
  }
  std::ranges::sort(pinning.near_cpus);
  if (pinning.near_cpus.empty()) pinning.near_cpus = machine.cpus;

  std::vector<const MachinePart*> cores;
  collect(machine, MachinePart::Kind::kCore, cores);
  std::erase_if(cores, [&](const MachinePart* core) { return !within(core->cpus, pinning.near_cpus); });
  pinning.program_cpus = pinning.near_cpus;
  const bool several_nodes = nodes.size() > 1;
  if (several_nodes && pinning.numa_nodes.empty()) {
    pinning.advice.emplace_back(
        "The system does not tell which node holds the device's memory: give the virtual "
        "machine NUMA nodes, and bind its memory (docs/vm.md).");
  }
  if (in_guest) {
    if (several_nodes && !pinning.numa_nodes.empty()) {
      pinning.advice.push_back(fmt::format("Run programs near it: {} PROGRAM", numactl(pinning.numa_nodes)));
    } else if (!several_nodes) {
      pinning.advice.emplace_back(
          "This machine has one NUMA node: programs need no pinning here. On the host, keep QEMU's "
          "processors, its "
          "memory and vgpu-device on one node.");
    }
    if (cores.size() < 2) {
      pinning.advice.emplace_back(
          "It has one core: give it two at least, or a waiting thread takes the core from "
          "the one that works.");
    }
    return pinning;
  }
  if (several_nodes && !pinning.numa_nodes.empty()) {
    pinning.advice.push_back(
        fmt::format("Keep vgpu-device and what uses it near it: {} vgpu-device ..., and "
                    "the same for the program, or for QEMU and its memory-backend-file "
                    "(host-nodes={}, policy=bind).",
                    numactl(pinning.numa_nodes), range_text(pinning.numa_nodes)));
  } else if (!several_nodes) {
    pinning.advice.emplace_back("This machine has one NUMA node: memory needs no binding.");
  }
  if (cores.size() < 2) {
    pinning.device_cpus = pinning.near_cpus;
    pinning.advice.emplace_back(
        "One core is near it: the program and vgpu-device take turns on it, and each "
        "round trip costs a switch between them.");
    return pinning;
  }
  // The first core for the thread that submits, the others for the device.
  pinning.program_cpus = cores.front()->cpus;
  for (std::size_t i = 1; i < cores.size(); ++i) {
    pinning.device_cpus.insert(pinning.device_cpus.end(), cores[i]->cpus.begin(), cores[i]->cpus.end());
  }
  std::ranges::sort(pinning.device_cpus);
  pinning.advice.push_back(fmt::format(
      "For the shortest round trips keep the two sides on different cores: taskset -c {} PROGRAM, "
      "taskset -c {} vgpu-device --threads {} ...",
      range_text(pinning.program_cpus), range_text(pinning.device_cpus), pinning.device_cpus.size()));
  return pinning;
}

nlohmann::ordered_json machine_json(const MachinePart& machine) {
  static constexpr const char* kKinds[] = {"machine", "package",   "numa_node", "cache",
                                           "core",    "processor", "other",     "pci_device"};
  nlohmann::ordered_json json = {{"kind", kKinds[static_cast<std::size_t>(machine.kind)]},
                                 {"name", machine.name}};
  if (machine.number >= 0) json["number"] = machine.number;
  if (machine.bytes != 0) json["bytes"] = machine.bytes;
  if (!machine.model.empty()) json["model"] = printable(machine.model);
  json["cpus"] = machine.cpus;
  auto& parts = json["parts"] = nlohmann::ordered_json::array();
  for (const auto& inner : machine.parts) parts.push_back(machine_json(inner));
  return json;
}

nlohmann::ordered_json pinning_json(const Pinning& pinning) {
  return {{"numa_nodes", pinning.numa_nodes},
          {"near_cpus", pinning.near_cpus},
          {"program_cpus", pinning.program_cpus},
          {"device_cpus", pinning.device_cpus},
          {"advice", pinning.advice}};
}

}  // namespace vgpu::tools
