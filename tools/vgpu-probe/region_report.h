// A region read into plain values: everything is copied once and bounded, so a foreign, corrupt, truncated or
// hostile region is reported and never believed. Nothing is written, locked, or waited for but a heartbeat.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/server/executor.h"
#include "ring/region.h"
#include "tools/vgpu-probe/region_source.h"

namespace vgpu::tools {

struct ChannelReport {
  uint32_t index = 0;
  std::string state;
  bool owned = false;      // the device serves somebody
  std::string lock;        // "held", "free", "unknown"
  uint32_t owner_pid = 0;  // as the owner says it
  std::string owner_name;
  uint64_t claimed_unix_ns = 0;
  bool generation_matches = true;  // the owner attached to this start of the device
  uint64_t published = 0;
  uint64_t completed = 0;
  uint64_t consumed = 0;
  uint64_t ring_fill_bytes = 0;
  uint64_t ring_bytes = 0;
  std::string next_command;  // at the completed position, if something waits there
  bool consumer_parked = false;
  uint64_t consumer_parks = 0;
  uint64_t guest_parks = 0;
  uint32_t guest_sleepers = 0;  // threads asleep now
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

  bool in_use() const noexcept { return owned || owner_pid != 0 || lock == "held"; }
};

struct RegionReport {
  uint64_t file_bytes = 0;
  bool has_header = false;      // else only `problem` means something
  ring::RegionHeader header{};  // as it was found, believed in nothing
  // Why the rest cannot be read; kSystem-free: a header that contradicts itself, another layout, no region.
  std::optional<ring::Error> problem;

  // Only without a problem.
  ring::FoundRegion found;
  bool protocol_matches = false;
  std::string state;
  std::string reason;
  std::string vgpu_version;
  std::string name;  // the device's, as CUDA programs see it
  bool device_lock_held = false;
  std::string device_lock;  // "held": a device process of this kernel lives behind it
  ring::DeviceInfo info;
  device::Counters totals;
  std::vector<ChannelReport> channels;

  bool is_ready() const noexcept { return state == "ready"; }
};

// One look, no waiting. Never fails: what is wrong stands in `problem`.
RegionReport read_region(const RegionSource& source);

struct HeartbeatReport {
  bool beats = false;
  uint64_t count = 0;
  uint64_t watched_ns = 0;  // until the first beat, or until it gave up
};
// Watches until a beat comes, for at most `limit_ns`.
HeartbeatReport watch_heartbeat(const RegionSource& source, uint64_t limit_ns);

// What is told of a file in /proc of the owner of a channel, where its pid is one of this machine's.
struct ProcessReport {
  bool exists = false;
  std::string name;                       // as the kernel has it
  std::vector<std::string> libraries;     // CUDA and vgpu libraries it maps: stale copies are a classic
  std::vector<std::string> region_files;  // how it maps a region: the file, or resource2 or resource2_wc
};
ProcessReport look_at_process(uint32_t pid);

}  // namespace vgpu::tools
