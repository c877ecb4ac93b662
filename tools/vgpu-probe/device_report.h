// Everything about one vGPU that can be told without using it: the place, the region, whether its heart
// beats, who owns its channels, and the verdict with what to do about it.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "pci/topology.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/region_report.h"

namespace vgpu::tools {

enum class Detail : uint8_t {
  kLive,   // the region alone, no waiting for a heartbeat: for a view that looks again soon
  kShort,  // with the heartbeat and how the BAR is mapped
  kFull,   // with processors near it, and the owners' processes
};

struct DeviceReport {
  Place place;
  std::optional<RegionReport> region;  // none: it could not be opened
  std::optional<HeartbeatReport> heartbeat;
  std::vector<MappingReport> mappings;  // of a PCI device
  std::string mapped_file;              // what was read here
  std::optional<pci::Locality> locality;
  std::map<uint32_t, ProcessReport> owners;  // by channel; of processes of this machine
  // The owners' pids, names and clocks are those of a virtual machine's guest.
  bool owners_in_a_guest = false;
  uint64_t looked_unix_ns = 0;

  std::string health = "ready";  // one or two words; see docs/probe.md
  std::string problem;           // "" if it is ready
  std::string advice;

  bool usable() const noexcept { return health == "ready"; }
  // With a sound header: the rest of the region was read.
  bool decoded() const noexcept { return region && !region->problem; }
  uint64_t age_ns(uint64_t unix_ns) const noexcept {
    return looked_unix_ns > unix_ns ? looked_unix_ns - unix_ns : 0;
  }
};

DeviceReport look_at(const Place& place, Detail detail);

// Judges anew by a heartbeat that was watched elsewhere. Only of a report that is decoded().
void judge_heartbeat(DeviceReport& report, HeartbeatReport heartbeat);

// A device as `list` tells it, and as `show` does (documented in docs/probe.md).
nlohmann::ordered_json short_json(const DeviceReport& report);
nlohmann::ordered_json full_json(const DeviceReport& report);

const char* found_by_text(pci::FoundBy found_by) noexcept;
std::string uuid_text(const uint8_t (&uuid)[16]);
// "0-3,8" for processors and nodes.
std::string range_text(const std::vector<uint32_t>& numbers);
// Names of the feature bits that are set.
std::vector<std::string> feature_names(uint64_t bits);

}  // namespace vgpu::tools
