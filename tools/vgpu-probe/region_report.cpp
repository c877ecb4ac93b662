// Reading a region.
#include "tools/vgpu-probe/region_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "protocol/commands.h"
#include "ring/channel.h"
#include "ring/channel_lock.h"

namespace vgpu::tools {
namespace {

constexpr auto kHeartbeatWatch = std::chrono::milliseconds(300);

const char* lock_text(ring::LockState state) {
  switch (state) {
    case ring::LockState::kFree:
      return "free";
    case ring::LockState::kHeld:
      return "held";
    case ring::LockState::kUnknown:
      break;
  }
  return "unknown";
}

// Text that goes to a terminal: the guest wrote some of it.
std::string printable(std::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return clean;
}

device::Counters read_counters(const ring::CounterBlock& block, const uint64_t* by_command) {
  device::Counters counters;
  const auto* from = reinterpret_cast<const uint64_t*>(&block);
  auto* to = reinterpret_cast<uint64_t*>(&counters.block);
  for (std::size_t i = 0; i < offsetof(ring::CounterBlock, reserved) / sizeof(uint64_t); ++i) {
    to[i] = ring::load_relaxed(from[i]);
  }
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i)
    counters.by_command[i] = ring::load_relaxed(by_command[i]);
  return counters;
}

// The shim libraries a process of this machine maps; stale copies are a classic.
std::vector<std::string> mapped_libraries(uint32_t pid) {
  std::vector<std::string> libraries;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    const auto path_start = line.find('/');
    if (path_start == std::string::npos) continue;
    const std::string path = line.substr(path_start);
    const std::string name = path.substr(path.rfind('/') + 1);
    const bool ours = name.starts_with("libvgpu") || name.starts_with("libcuda.so") ||
                      name.starts_with("libcudart.so") || name.starts_with("libcublas") ||
                      name.starts_with("libnvidia-ml.so");
    if (ours && std::ranges::find(libraries, path) == libraries.end()) libraries.push_back(path);
  }
  return libraries;
}

ChannelReport read_channel(const ring::ChannelView& view, const pci::Bar& bar) {
  const auto& control = *view.control;
  ChannelReport report;
  report.index = view.index;
  report.state =
      ring::channel_state_name(static_cast<ring::ChannelState>(ring::load_relaxed(control.served.state)));
  report.owned = ring::load_acquire(control.served.served_nonce) != 0;
  report.lock = bar.carrier() == pci::Carrier::kFile
                    ? lock_text(ring::probe_channel_lock(bar.probe_fd(), view.index))
                    : "unknown";
  const auto owner = ring::read_owner(control);
  if (owner.nonce != 0) {
    report.owner_pid = owner.pid;
    report.owner_name = printable(owner.process_name);
    report.claimed_unix_ns = ring::load_relaxed(control.owner.claimed_unix_ns);
    if (bar.carrier() == pci::Carrier::kFile) report.owner_libraries = mapped_libraries(owner.pid);
  }
  report.published = ring::load_relaxed(control.producer.published);
  report.consumed = ring::load_relaxed(control.consumer.consumed);
  report.completed = ring::load_relaxed(control.consumer.completed);
  report.ring_bytes = view.ring.size();
  report.ring_fill_bytes = report.published > report.consumed
                               ? std::min(report.published - report.consumed, report.ring_bytes)
                               : 0;
  report.consumer_parked = ring::load_relaxed(control.park.consumer_parked) != 0;
  report.consumer_parks = ring::load_relaxed(control.park.parks);
  report.guest_parks = ring::load_relaxed(control.producer.guest_parks);
  report.full_waits = ring::load_relaxed(control.producer.full_waits);
  report.guest_round_trips = ring::load_relaxed(control.producer.round_trips);
  report.epoch = ring::load_relaxed(control.served.epoch);
  report.dead_owners = ring::load_relaxed(control.served.reset_count_dead_owner);
  report.sticky_error = ring::load_acquire(control.consumer.sticky_error);
  const uint64_t deferred = ring::load_acquire(control.consumer.deferred_error);
  report.deferred_error = static_cast<uint32_t>(deferred);
  report.deferred_errors = static_cast<uint32_t>(deferred >> 32);
  report.last_error = ring::load_acquire(control.served.last_error_code);
  report.last_error_position = ring::load_relaxed(control.served.last_error_position);
  if (report.last_error != 0) {
    const uint32_t opcode = ring::load_relaxed(control.served.last_error_opcode);
    const uint32_t index =
        opcode > 0xffff ? protocol::kCommandCount : protocol::command_index(static_cast<uint16_t>(opcode));
    report.last_error_command = index < protocol::kCommandCount ? std::string(protocol::kCommands[index].name)
                                                                : fmt::format("opcode {:#x}", opcode);
    char text[sizeof control.served.last_error];
    std::memcpy(text, control.served.last_error, sizeof text);
    report.last_error_text = printable(ring::load_text(text, sizeof text));
  }
  report.counters = read_counters(control.counters, control.opcode_counts);
  return report;
}

}  // namespace

std::expected<RegionReport, ring::Error> read_region(const pci::Bar& bar) {
  auto found = ring::check_region(bar.bytes(), 0, 0);
  if (!found) return std::unexpected(std::move(found.error()));
  RegionReport report;
  report.found = *found;
  report.protocol_matches = found->protocol_version == protocol::kProtocolVersion &&
                            found->protocol_hash == protocol::kProtocolHash;
  const ring::RegionView region(bar.bytes(), found->geometry);
  const auto& header = region.header();
  report.state =
      ring::device_state_name(static_cast<ring::DeviceState>(ring::load_acquire(header.status.device_state)));
  char reason[sizeof header.status.reason];
  std::memcpy(reason, header.status.reason, sizeof reason);
  report.reason = printable(ring::load_text(reason, sizeof reason));
  report.worker_pid = ring::load_relaxed(header.status.worker_pid);
  report.started_unix_ns = ring::load_relaxed(header.status.started_unix_ns);
  report.memory_in_use_bytes = ring::load_relaxed(header.status.memory_in_use_bytes);
  report.device_lock =
      bar.carrier() == pci::Carrier::kFile ? lock_text(ring::probe_device_lock(bar.probe_fd())) : "unknown";
  std::memcpy(&report.info, &region.device_info(), sizeof report.info);
  report.totals = read_counters(header.totals, header.opcode_totals);
  for (uint32_t i = 0; i < found->geometry.channel_count; ++i) {
    report.channels.push_back(read_channel(region.channel(i), bar));
  }
  report.heartbeat = ring::load_relaxed(header.status.heartbeat);
  const auto end = std::chrono::steady_clock::now() + kHeartbeatWatch;
  while (!report.heartbeat_grows && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    report.heartbeat_grows = ring::load_relaxed(header.status.heartbeat) != report.heartbeat;
  }
  return report;
}

}  // namespace vgpu::tools
