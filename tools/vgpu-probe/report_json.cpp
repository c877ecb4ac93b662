// A device as JSON. docs/probe.md documents it; tests check it against its schema.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

ordered_json counters_json(const device::Counters& counters) {
  const auto& block = counters.block;
  ordered_json json = {{"commands", block.commands},
                       {"launches", block.launches},
                       {"graph_launches", block.graph_launches},
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

ordered_json owner_json(const DeviceReport& report, const ChannelReport& channel) {
  ordered_json json = {{"pid", channel.owner_pid},
                       {"process", channel.owner_name},
                       {"side", report.owners_in_a_guest ? "guest" : "here"},
                       {"claimed_unix_ns", channel.claimed_unix_ns},
                       {"age_ns", report.age_ns(channel.claimed_unix_ns)},
                       {"generation_matches", channel.generation_matches}};
  if (const auto process = report.owners.find(channel.index); process != report.owners.end()) {
    json["exists"] = process->second.exists;
    json["libraries"] = process->second.libraries;
    json["maps"] = process->second.region_files;
  }
  return json;
}

ordered_json channel_json(const DeviceReport& report, const ChannelReport& channel) {
  ordered_json json = {
      {"index", channel.index}, {"state", channel.state}, {"served", channel.owned}, {"lock", channel.lock}};
  if (channel.owner_pid != 0) json["owner"] = owner_json(report, channel);
  json["ring"] = {{"bytes", channel.ring_bytes},
                  {"fill_bytes", channel.ring_fill_bytes},
                  {"published", channel.published},
                  {"completed", channel.completed},
                  {"consumed", channel.consumed},
                  {"next_command", channel.next_command},
                  {"consumer_parked", channel.consumer_parked},
                  {"consumer_parks", channel.consumer_parks},
                  {"guest_parks", channel.guest_parks},
                  {"guest_sleepers", channel.guest_sleepers},
                  {"full_waits", channel.full_waits},
                  {"guest_round_trips", channel.guest_round_trips}};
  json["epoch"] = channel.epoch;
  json["dead_owners"] = channel.dead_owners;
  json["sticky_error"] = channel.sticky_error;
  json["deferred_errors"] = channel.deferred_errors;
  json["newest_deferred_error"] = channel.deferred_error;
  if (channel.last_error != 0) {
    json["last_error"] = {{"code", channel.last_error},
                          {"command", channel.last_error_command},
                          {"position", channel.last_error_position},
                          {"reason", channel.last_error_text}};
  }
  json["counters"] = counters_json(channel.counters);
  return json;
}

// As it was found, sound or not.
ordered_json header_json(const RegionReport& region) {
  const ring::RegionHeader& h = region.header;
  ordered_json json = {{"magic", fmt::format("{:016x}", h.magic)},
                       {"magic_matches", h.magic == ring::kRegionMagic}};
  // What follows another magic is somebody's memory, and nobody's business.
  if (h.magic != ring::kRegionMagic) return json;
  json["vgpu_version"] = printable(ring::load_text(h.vgpu_version, sizeof h.vgpu_version));
  json["layout_version"] = h.layout_version;
  json["layout_matches"] = h.layout_version == ring::kLayoutVersion;
  if (h.layout_version != ring::kLayoutVersion) return json;
  json["protocol_version"] = h.protocol_version;
  json["protocol_hash"] = fmt::format("{:016x}", h.protocol_hash);
  json["protocol_matches"] =
      h.protocol_version == protocol::kProtocolVersion && h.protocol_hash == protocol::kProtocolHash;
  json["region_bytes"] = h.region_bytes;
  json["feature_bits"] = h.feature_bits;
  json["features"] = feature_names(h.feature_bits);
  json["doorbell_peer"] = h.doorbell_peer;
  json["generation"] = fmt::format("{:016x}", h.generation);
  json["device_info_offset"] = h.device_info_offset;
  json["device_info_bytes"] = h.device_info_bytes;
  json["channels_offset"] = h.channels_offset;
  json["channel_stride"] = h.channel_stride;
  json["channel_count"] = h.channel_count;
  json["ring_offset"] = h.ring_offset;
  json["ring_bytes"] = h.ring_bytes;
  json["replies_offset"] = h.replies_offset;
  json["reply_count"] = h.reply_count;
  json["reply_bytes"] = h.reply_bytes;
  json["bulk_offset"] = h.bulk_offset;
  json["bulk_bytes"] = h.bulk_bytes;
  return json;
}

ordered_json status_json(const DeviceReport& report) {
  const RegionReport& region = *report.region;
  const auto& status = region.header.status;
  ordered_json json = {{"state", region.state},
                       {"reason", region.reason},
                       {"worker_pid", status.worker_pid},
                       {"device_lock", region.device_lock},
                       {"started_unix_ns", status.started_unix_ns},
                       {"age_ns", report.age_ns(status.started_unix_ns)},
                       {"channels_served", status.channels_served},
                       {"memory_in_use_bytes", status.memory_in_use_bytes}};
  if (report.heartbeat) {
    json["heartbeat"] = report.heartbeat->count;
    json["heartbeat_grows"] = report.heartbeat->beats;
    json["heartbeat_watched_ns"] = report.heartbeat->watched_ns;
  }
  return json;
}

ordered_json info_json(const RegionReport& region) {
  const auto& info = region.info;
  auto attributes = ordered_json::object();
  for (uint32_t i = 0; i < ring::kAttributeCount; ++i) {
    if ((info.attribute_known[i / 64] >> (i % 64) & 1) != 0) {
      attributes[std::to_string(i)] = info.attributes[i];
    }
  }
  return {{"name", region.name},
          {"uuid", uuid_text(info.uuid)},
          {"compute_capability", fmt::format("{}.{}", info.compute_major, info.compute_minor)},
          {"memory_bytes", info.total_memory_bytes},
          {"va_base", info.va_base},
          {"va_bytes", info.va_bytes},
          {"driver_version", info.driver_version},
          {"driver_version_text",
           printable(ring::load_text(info.driver_version_text, sizeof info.driver_version_text))},
          {"pci_address",
           pci::PciAddress{info.pci_domain, info.pci_bus, info.pci_device, info.pci_function}.text()},
          {"attributes", attributes}};
}

ordered_json pci_json(const pci::DiscoveredDevice& function) {
  auto bars = ordered_json::array();
  for (const auto& bar : function.bars) {
    bars.push_back({{"index", bar.index},
                    {"bus_address", bar.bus_address},
                    {"bytes", bar.bytes},
                    {"memory", bar.memory},
                    {"is_64bit", bar.is_64bit},
                    {"prefetchable", bar.prefetchable}});
  }
  return {{"address", function.address.text()},
          {"vendor", function.vendor},
          {"device", function.device},
          {"subsystem_vendor", function.subsystem_vendor},
          {"subsystem_device", function.subsystem_device},
          {"revision", function.revision},
          {"kind", function.has_doorbell() ? "ivshmem-doorbell" : "ivshmem-plain"},
          {"memory_enabled", function.memory_enabled},
          {"driver", function.driver},
          {"numa_node", function.numa_node},
          {"acpi_index", function.acpi_index},
          {"bars", bars}};
}

}  // namespace

ordered_json short_json(const DeviceReport& report) {
  const Place& place = report.place;
  ordered_json json = {{"path", place.location.path},
                       {"carrier", pci::carrier_name(place.location.carrier)},
                       {"found_by", found_by_text(place.location.found_by)}};
  if (!place.guest.empty()) json["guest"] = place.guest;
  json["usable"] = report.usable();
  json["health"] = report.health;
  if (!report.problem.empty()) {
    json["problem"] = report.problem;
    json["advice"] = report.advice;
  }
  if (place.function) json["pci"] = pci_json(*place.function);
  if (!report.mapped_file.empty()) json["mapped_file"] = report.mapped_file;
  if (report.region) json["mapped_bytes"] = report.region->file_bytes;
  if (!report.mappings.empty()) {
    auto& mappings = json["mappings"] = ordered_json::array();
    for (const auto& mapping : report.mappings) {
      ordered_json one = {{"file", mapping.file}};
      if (mapping.problem.empty()) {
        one["kind"] = mapping.kind;
        one["load_ps"] = mapping.load_picoseconds;
      } else {
        one["problem"] = mapping.problem;
      }
      mappings.push_back(std::move(one));
    }
  }
  if (report.decoded()) {
    const auto& region = *report.region;
    json["name"] = region.name;
    json["state"] = region.state;
    json["memory_bytes"] = region.info.total_memory_bytes;
    json["memory_in_use_bytes"] = region.header.status.memory_in_use_bytes;
    json["channel_count"] = region.found.geometry.channel_count;
    json["channels_served"] = region.header.status.channels_served;
    json["vgpu_version"] = region.vgpu_version;
  }
  return json;
}

ordered_json full_json(const DeviceReport& report) {
  ordered_json json = short_json(report);
  if (report.locality) {
    json["locality"] = {{"numa_nodes", report.locality->numa_nodes},
                        {"cpus", report.locality->cpus},
                        {"machine_numa_nodes", report.locality->machine_numa_nodes},
                        {"machine_cpus", report.locality->machine_cpus}};
  }
  if (report.region && report.region->has_header) json["header"] = header_json(*report.region);
  if (!report.decoded()) return json;
  const RegionReport& region = *report.region;
  json["status"] = status_json(report);
  json["device"] = info_json(region);
  json["totals"] = counters_json(region.totals);
  auto& channels = json["channels"] = ordered_json::array();
  for (const auto& channel : region.channels) channels.push_back(channel_json(report, channel));
  return json;
}

}  // namespace vgpu::tools
