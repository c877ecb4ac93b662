// vgpu-probe show: everything a region tells.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/region_report.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

ordered_json counters_json(const device::Counters& counters) {
  const auto& block = counters.block;
  ordered_json json = {{"commands", block.commands},
                       {"launches", block.launches},
                       {"bytes_in", block.bytes_to_device},
                       {"bytes_out", block.bytes_from_device},
                       {"bytes_on_device", block.bytes_on_device},
                       {"round_trips", block.replies},
                       {"batches", block.batches},
                       {"blas_calls", block.blas_calls},
                       {"errors", block.errors},
                       {"not_supported", block.not_supported},
                       {"memory_in_use_bytes", block.memory_in_use_bytes},
                       {"memory_peak_bytes", block.memory_peak_bytes},
                       {"busy_ns", block.busy_ns},
                       {"kernel_ns", block.kernel_ns},
                       {"kernels_compiled", block.kernels_compiled},
                       {"compile_ns", block.compile_ns}};
  auto& commands = json["by_command"] = ordered_json::object();
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    if (counters.by_command[i] > 0) commands[protocol::kCommands[i].name] = counters.by_command[i];
  }
  return json;
}

ordered_json channel_json(const ChannelReport& channel) {
  ordered_json json = {
      {"index", channel.index}, {"state", channel.state}, {"served", channel.owned}, {"lock", channel.lock}};
  if (channel.owner_pid != 0) {
    json["owner"] = {{"pid", channel.owner_pid},
                     {"process", channel.owner_name},
                     {"claimed_unix_ns", channel.claimed_unix_ns},
                     {"libraries", channel.owner_libraries}};
  }
  json["ring"] = {{"bytes", channel.ring_bytes},
                  {"fill_bytes", channel.ring_fill_bytes},
                  {"published", channel.published},
                  {"completed", channel.completed},
                  {"consumed", channel.consumed},
                  {"consumer_parked", channel.consumer_parked},
                  {"consumer_parks", channel.consumer_parks},
                  {"guest_parks", channel.guest_parks},
                  {"full_waits", channel.full_waits},
                  {"guest_round_trips", channel.guest_round_trips}};
  json["epoch"] = channel.epoch;
  json["dead_owners"] = channel.dead_owners;
  json["sticky_error"] = channel.sticky_error;
  json["deferred_errors"] = channel.deferred_errors;
  if (channel.last_error != 0) {
    json["last_error"] = {{"code", channel.last_error},
                          {"command", channel.last_error_command},
                          {"position", channel.last_error_position},
                          {"reason", channel.last_error_text}};
  }
  json["counters"] = counters_json(channel.counters);
  return json;
}

std::string uuid_text(const uint8_t (&uuid)[16]) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string time_text(uint64_t unix_ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(unix_ns / 1'000'000'000)));
}

std::string protocol_problem(const ring::FoundRegion& found) {
  return fmt::format(
      "the device speaks protocol {} ({:016x}, vgpu {}), this program {} ({:016x}): use one version on both "
      "sides",
      found.protocol_version, found.protocol_hash,
      std::string(ring::load_text(found.vgpu_version, sizeof found.vgpu_version)), protocol::kProtocolVersion,
      protocol::kProtocolHash);
}

ordered_json region_json(const RegionReport& report, const pci::Bar& bar) {
  const auto& found = report.found;
  ordered_json json;
  json["path"] = bar.path();
  json["carrier"] = pci::carrier_name(bar.carrier());
  json["header"] = {
      {"vgpu_version", std::string(ring::load_text(found.vgpu_version, sizeof found.vgpu_version))},
      {"layout_version", ring::kLayoutVersion},
      {"protocol_version", found.protocol_version},
      {"protocol_hash", fmt::format("{:016x}", found.protocol_hash)},
      {"protocol_matches", report.protocol_matches},
      {"region_bytes", found.geometry.region_bytes},
      {"feature_bits", found.feature_bits},
      {"generation", fmt::format("{:016x}", found.generation)},
      {"channels", found.geometry.channel_count},
      {"ring_bytes", found.geometry.ring_bytes},
      {"reply_count", found.geometry.reply_count},
      {"reply_bytes", found.geometry.reply_bytes},
      {"bulk_bytes", found.geometry.bulk_bytes}};
  json["status"] = {{"state", report.state},
                    {"reason", report.reason},
                    {"worker_pid", report.worker_pid},
                    {"device_lock", report.device_lock},
                    {"heartbeat", report.heartbeat},
                    {"heartbeat_grows", report.heartbeat_grows},
                    {"started_unix_ns", report.started_unix_ns},
                    {"memory_in_use_bytes", report.memory_in_use_bytes}};
  const auto& info = report.info;
  auto attributes = ordered_json::object();
  for (uint32_t i = 0; i < ring::kAttributeCount; ++i) {
    if (info.attributes[i] != 0) attributes[std::to_string(i)] = info.attributes[i];
  }
  json["device"] = {{"name", std::string(ring::load_text(info.name, sizeof info.name))},
                    {"uuid", uuid_text(info.uuid)},
                    {"compute_capability", fmt::format("{}.{}", info.compute_major, info.compute_minor)},
                    {"memory_bytes", info.total_memory_bytes},
                    {"va_base", info.va_base},
                    {"va_bytes", info.va_bytes},
                    {"driver_version", info.driver_version},
                    {"attributes", attributes}};
  json["totals"] = counters_json(report.totals);
  auto& channels = json["channels"] = ordered_json::array();
  for (const auto& channel : report.channels) channels.push_back(channel_json(channel));
  return json;
}

void print_counters(const device::Counters& counters, const char* indent) {
  const auto& block = counters.block;
  fmt::print("{}{} commands in {} batches, {} launches, {} BLAS calls, {} round trips, {} errors\n", indent,
             block.commands, block.batches, block.launches, block.blas_calls, block.replies, block.errors);
  fmt::print("{}{} bytes to device, {} from device, {} on device; memory {} bytes, peak {}\n", indent,
             block.bytes_to_device, block.bytes_from_device, block.bytes_on_device, block.memory_in_use_bytes,
             block.memory_peak_bytes);
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    if (counters.by_command[i] > 0) {
      fmt::print("{}  {:<28} {}\n", indent, protocol::kCommands[i].name, counters.by_command[i]);
    }
  }
}

void print_channel(const ChannelReport& channel) {
  fmt::print("\nchannel {}: {}, lock {}\n", channel.index, channel.state, channel.lock);
  if (channel.owner_pid != 0) {
    fmt::print("  owner {} (pid {}) since {}\n", channel.owner_name, channel.owner_pid,
               time_text(channel.claimed_unix_ns));
    for (const auto& library : channel.owner_libraries) fmt::print("    maps {}\n", library);
  }
  fmt::print(
      "  ring {} of {} bytes; published {}, completed {}; consumer {}, parked {} times; guest parked {} "
      "times, waited {} times for room\n",
      channel.ring_fill_bytes, channel.ring_bytes, channel.published, channel.completed,
      channel.consumer_parked ? "asleep" : "awake", channel.consumer_parks, channel.guest_parks,
      channel.full_waits);
  if (channel.sticky_error != 0)
    fmt::print("  sticky error {}: every call of this process fails\n", channel.sticky_error);
  if (channel.deferred_errors != 0)
    fmt::print("  {} asynchronous errors, the newest {}\n", channel.deferred_errors, channel.deferred_error);
  if (channel.last_error != 0) {
    fmt::print("  last error {} in {} at {}: {}\n", channel.last_error, channel.last_error_command,
               channel.last_error_position, channel.last_error_text);
  }
  print_counters(channel.counters, "  ");
}

void print_region(const RegionReport& report, const pci::Bar& bar) {
  const auto& found = report.found;
  const auto& info = report.info;
  fmt::print("{} ({})\n", bar.path(), pci::carrier_name(bar.carrier()));
  fmt::print("{} {}, compute capability {}.{}, {} MiB, CUDA {}.{}\n",
             std::string(ring::load_text(info.name, sizeof info.name)), uuid_text(info.uuid),
             info.compute_major, info.compute_minor, info.total_memory_bytes >> 20,
             info.driver_version / 1000, info.driver_version % 1000 / 10);
  fmt::print("state {}{}{}, worker {}, {}, since {}\n", report.state, report.reason.empty() ? "" : ": ",
             report.reason, report.worker_pid, report.heartbeat_grows ? "heart beats" : "NO HEARTBEAT",
             time_text(report.started_unix_ns));
  fmt::print("vgpu {}, layout {}, protocol {} ({:016x}), generation {:016x}\n",
             std::string(ring::load_text(found.vgpu_version, sizeof found.vgpu_version)),
             ring::kLayoutVersion, found.protocol_version, found.protocol_hash, found.generation);
  fmt::print("region {} MiB: {} channels of {} KiB ring, {} replies of {} bytes, {} KiB bulk\n",
             found.geometry.region_bytes >> 20, found.geometry.channel_count, found.geometry.ring_bytes >> 10,
             found.geometry.reply_count, found.geometry.reply_bytes, found.geometry.bulk_bytes >> 10);
  fmt::print("all owners since the start:\n");
  print_counters(report.totals, "  ");
  for (const auto& channel : report.channels) {
    if (channel.owned || channel.owner_pid != 0 || channel.lock == "held") print_channel(channel);
  }
}

}  // namespace

int show_device(const std::string& device, bool json) {
  const auto place = choose_place(device);
  if (!place) {
    fmt::print(stderr, "vgpu-probe: {}\n", place.error());
    return 1;
  }
  const auto bar = pci::open_location(place->location, pci::Access::kReadOnly);
  if (!bar) {
    fmt::print(stderr, "vgpu-probe: {}\n", bar.error().text);
    return 1;
  }
  const auto report = read_region(*bar);
  if (!report) {
    fmt::print(stderr, "vgpu-probe: {}\n", report.error().text);
    return 1;
  }
  if (json) {
    fmt::print("{}\n",
               region_json(*report, *bar).dump(2, ' ', false, ordered_json::error_handler_t::replace));
  } else {
    print_region(*report, *bar);
  }
  if (!report->protocol_matches) fmt::print(stderr, "vgpu-probe: {}\n", protocol_problem(report->found));
  return 0;
}

}  // namespace vgpu::tools
