// A region read into plain values: everything is copied once and bounded, so a foreign, corrupt or truncated
// region is reported and never believed. Read-only.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/server/executor.h"
#include "pci/bar.h"
#include "ring/region.h"

namespace vgpu::tools {

struct ChannelReport {
  uint32_t index = 0;
  std::string state;
  bool owned = false;      // the device serves somebody
  std::string lock;        // "held", "free", "unknown"
  uint32_t owner_pid = 0;  // as the owner says it
  std::string owner_name;
  uint64_t claimed_unix_ns = 0;
  std::vector<std::string> owner_libraries;  // shim libraries the owner maps, where /proc shows them
  uint64_t published = 0;
  uint64_t completed = 0;
  uint64_t consumed = 0;
  uint64_t ring_fill_bytes = 0;
  uint64_t ring_bytes = 0;
  bool consumer_parked = false;
  uint64_t consumer_parks = 0;
  uint64_t guest_parks = 0;
  uint64_t full_waits = 0;
  uint64_t guest_round_trips = 0;
  uint32_t epoch = 0;
  uint64_t dead_owners = 0;
  uint32_t sticky_error = 0;
  uint32_t deferred_error = 0;
  uint32_t deferred_errors = 0;
  uint32_t last_error = 0;
  uint64_t last_error_position = 0;
  std::string last_error_command;
  std::string last_error_text;
  device::Counters counters;
};

struct RegionReport {
  ring::FoundRegion found;
  bool protocol_matches = false;
  std::string state;
  std::string reason;
  uint32_t worker_pid = 0;
  uint64_t heartbeat = 0;
  bool heartbeat_grows = false;
  std::string device_lock;  // "held": a device process lives behind the file
  uint64_t started_unix_ns = 0;
  uint64_t memory_in_use_bytes = 0;
  ring::DeviceInfo info;
  device::Counters totals;
  std::vector<ChannelReport> channels;
};

// Watches the heartbeat for up to a third of a second. Errors: as ring::check_region.
std::expected<RegionReport, ring::Error> read_region(const pci::Bar& bar);

}  // namespace vgpu::tools
