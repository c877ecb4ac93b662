// vgpu-probe show: everything that can be told of a device without using it.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "shim/cuda/cuda_enums.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/client.h"
#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/report_text.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

std::string joined(const std::vector<std::string>& words, const char* none) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? none : text;
}

std::string age_text(const DeviceReport& report, uint64_t unix_ns) {
  return unix_ns == 0 ? std::string("never")
                      : fmt::format("{} ({} ago)", time_text(unix_ns), duration_text(report.age_ns(unix_ns)));
}

void print_near(const DeviceReport& report) {
  if (!report.locality) return;
  const auto& near = *report.locality;
  const auto nodes = [](uint32_t count) {
    return fmt::format("{} NUMA node{}", count, count == 1 ? "" : "s");
  };
  if (near.numa_nodes.empty()) {
    print_field("NUMA node", fmt::format("unknown; the machine has {} and {} processors",
                                         nodes(near.machine_numa_nodes), near.machine_cpus));
  } else {
    print_field("NUMA node",
                fmt::format("{} of {}; near it are the processors {}", range_text(near.numa_nodes),
                            nodes(near.machine_numa_nodes), range_text(near.cpus)));
  }
}

void print_info(const DeviceReport& report) {
  const auto& region = *report.region;
  const auto& info = region.info;
  print_heading("device");
  print_field("name", region.name);
  print_field("UUID", uuid_text(info.uuid));
  print_field("compute capability", fmt::format("{}.{}", info.compute_major, info.compute_minor));
  print_field("memory", fmt::format("{}, {} in use", bytes_text(info.total_memory_bytes),
                                    bytes_text(region.header.status.memory_in_use_bytes)));
  print_field("addresses", fmt::format("{:#x} - {:#x}", info.va_base, info.va_base + info.va_bytes - 1));
  print_field(
      "CUDA driver",
      fmt::format("{}.{} ({})", info.driver_version / 1000, info.driver_version % 1000 / 10,
                  printable(ring::load_text(info.driver_version_text, sizeof info.driver_version_text))));
  // In a virtual machine programs are told where its own bus has the device.
  print_field(
      "PCI address for CUDA",
      report.place.function
          ? report.place.function->address.text()
          : pci::PciAddress{info.pci_domain, info.pci_bus, info.pci_device, info.pci_function}.text());
  const auto attribute = [&](CUdevice_attribute number) { return info.attributes[number]; };
  print_field("processors", fmt::format("{} multiprocessors, {} MHz, warps of {}",
                                        attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                                        attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000,
                                        attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE)));
  print_field("blocks", fmt::format("up to {} threads, {} registers, {} of shared memory",
                                    attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
                                    attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
                                    bytes_text(static_cast<uint64_t>(std::max(
                                        0, attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK))))));
  std::size_t known = 0;
  for (uint32_t i = 0; i < ring::kAttributeCount; ++i) known += info.attribute_known[i / 64] >> (i % 64) & 1;
  print_field("attributes", fmt::format("{} of CUDA's are known; --json names their values", known));
  print_near(report);
}

void print_status(const DeviceReport& report) {
  const auto& region = *report.region;
  const auto& status = region.header.status;
  print_heading("status");
  print_field("state", region.state + (region.reason.empty() ? "" : ": " + region.reason));
  print_field("worker", status.worker_pid == 0 ? std::string("none")
                                               : fmt::format("pid {} on the host", status.worker_pid));
  print_field("device's lock", region.device_lock == "unknown"
                                   ? "not visible from here: the device is on the other side"
                                   : region.device_lock);
  if (report.heartbeat) {
    const auto& heart = *report.heartbeat;
    print_field("heartbeat", heart.beats ? fmt::format("{}, beats; age at most {}", number_text(heart.count),
                                                       duration_text(heart.watched_ns))
                                         : fmt::format("{}, NONE in {}", number_text(heart.count),
                                                       duration_text(heart.watched_ns)));
  }
  print_field("started", age_text(report, status.started_unix_ns));
  print_field("channels in use",
              fmt::format("{} of {}", status.channels_served, region.found.geometry.channel_count));
}

void print_header(const RegionReport& region) {
  const ring::RegionHeader& h = region.header;
  const auto matches = [](bool yes) { return yes ? "" : "; NOT this program's"; };
  print_heading("header");
  print_field("magic", fmt::format("{:016x}{}", h.magic,
                                   h.magic == ring::kRegionMagic ? "" : "; NOT a vgpu region's"));
  // What follows another magic is somebody's memory, and nobody's business.
  if (h.magic != ring::kRegionMagic) return;
  print_field("vgpu version", printable(ring::load_text(h.vgpu_version, sizeof h.vgpu_version)));
  print_field("layout version",
              fmt::format("{}{}", h.layout_version, matches(h.layout_version == ring::kLayoutVersion)));
  if (h.layout_version != ring::kLayoutVersion) return;
  print_field("protocol", fmt::format("{} ({:016x}){}", h.protocol_version, h.protocol_hash,
                                      matches(h.protocol_version == protocol::kProtocolVersion &&
                                              h.protocol_hash == protocol::kProtocolHash)));
  print_field("region", fmt::format("{}; the file or BAR has {}", bytes_text(h.region_bytes),
                                    bytes_text(region.file_bytes)));
  print_field("features", joined(feature_names(h.feature_bits), "none"));
  if ((h.feature_bits & ring::kFeatureIvshmemDoorbell) != 0) {
    print_field("doorbell peer", std::to_string(h.doorbell_peer));
  }
  print_field("generation", fmt::format("{:016x}", h.generation));
  print_field("device info",
              fmt::format("{} at {:#x}", bytes_text(h.device_info_bytes), h.device_info_offset));
  print_field("channels", fmt::format("{} at {:#x}, every {}", h.channel_count, h.channels_offset,
                                      bytes_text(h.channel_stride)));
  print_field("  ring", fmt::format("{} at {:#x}", bytes_text(h.ring_bytes), h.ring_offset));
  print_field("  replies",
              fmt::format("{} of {} at {:#x}", h.reply_count, bytes_text(h.reply_bytes), h.replies_offset));
  print_field("  bulk", fmt::format("{} at {:#x}", bytes_text(h.bulk_bytes), h.bulk_offset));
}

void print_counters(const device::Counters& counters) {
  const auto& block = counters.block;
  print_field("commands", fmt::format("{} in {} batches; {} answered", number_text(block.commands),
                                      number_text(block.batches), number_text(block.replies)));
  print_field("launches", fmt::format("{}, {} BLAS calls, {} graphs", number_text(block.launches),
                                      number_text(block.blas_calls), number_text(block.graph_launches)));
  print_field("copied", fmt::format("{} in, {} out, {} on the device", bytes_text(block.bytes_to_device),
                                    bytes_text(block.bytes_from_device), bytes_text(block.bytes_on_device)));
  print_field("memory", fmt::format("{} in use, {} at the most", bytes_text(block.memory_in_use_bytes),
                                    bytes_text(block.memory_peak_bytes)));
  print_field("busy", fmt::format("{}, {} of it in kernels", duration_text(block.busy_ns),
                                  duration_text(block.kernel_ns)));
  if (block.kernels_compiled != 0) {
    print_field("compiled",
                fmt::format("{} kernels in {}", block.kernels_compiled, duration_text(block.compile_ns)));
  }
  print_field("errors", fmt::format("{}, {} of them not supported", number_text(block.errors),
                                    number_text(block.not_supported)));
  std::string by_command;
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    if (counters.by_command[i] == 0) continue;
    // No break between a name and its number.
    by_command += fmt::format("{}{} {}", by_command.empty() ? "" : ", ", protocol::kCommands[i].name,
                              counters.by_command[i]);
  }
  if (!by_command.empty()) print_field("by command", by_command);
}

void print_owner(const DeviceReport& report, const ChannelReport& channel) {
  if (channel.owner_pid == 0) {
    if (channel.lock == "held") {
      print_field("owner", "somebody holds its lock, and has not said yet who");
    }
    return;
  }
  std::string owner = fmt::format("{} (pid {}{})", channel.owner_name, channel.owner_pid,
                                  report.owners_in_a_guest ? " in the guest" : "");
  const auto process = report.owners.find(channel.index);
  if (process != report.owners.end() && !process->second.exists) {
    owner += channel.lock == "free" ? ", DEAD: the next look of the device resets the channel"
                                    : ", in a container, or of another user: not to be seen here";
  }
  print_field("owner", owner);
  print_field("since", age_text(report, channel.claimed_unix_ns));
  if (!channel.generation_matches) {
    print_field("generation", "ANOTHER than the device's: it was started anew, this process must be too");
  }
  if (process == report.owners.end()) return;
  for (const auto& file : process->second.region_files) print_field("maps the region by", file);
  for (const auto& library : process->second.libraries) print_field("maps the library", library);
}

void print_channel(const DeviceReport& report, const ChannelReport& channel) {
  print_heading(fmt::format("channel {}: {}", channel.index, channel.state));
  print_owner(report, channel);
  print_field("lock", channel.lock == "unknown"  ? "not visible from here"
                      : report.owners_in_a_guest ? "the guest's; not visible from here"
                                                 : channel.lock);
  const double fill = channel.ring_bytes == 0 ? 0
                                              : static_cast<double>(channel.ring_fill_bytes) /
                                                    static_cast<double>(channel.ring_bytes);
  print_field("ring", fmt::format("{} {} of {}", bar_text(fill, 20), bytes_text(channel.ring_fill_bytes),
                                  bytes_text(channel.ring_bytes)));
  print_field("positions", fmt::format("published {}, completed {}, consumed {}", channel.published,
                                       channel.completed, channel.consumed));
  if (!channel.next_command.empty()) print_field("executing", channel.next_command);
  print_field("device's thread",
              fmt::format("{}; slept {} times", channel.consumer_parked ? "asleep" : "awake",
                          number_text(channel.consumer_parks)));
  print_field("process",
              fmt::format("threads asleep {}; slept {} times, waited {} times for room, {} round trips",
                          channel.guest_sleepers, number_text(channel.guest_parks),
                          number_text(channel.full_waits), number_text(channel.guest_round_trips)));
  print_field("owners before", fmt::format("{} resets, {} of them because the owner died", channel.epoch,
                                           channel.dead_owners));
  if (channel.sticky_error != 0) {
    print_field("sticky error",
                fmt::format("{}: every call of this process fails until it ends",
                            status_text(static_cast<protocol::Status>(channel.sticky_error))));
  }
  if (channel.deferred_errors != 0) {
    print_field("deferred errors",
                fmt::format("{}, the newest {}", channel.deferred_errors,
                            status_text(static_cast<protocol::Status>(channel.deferred_error))));
  }
  if (channel.last_error != 0) {
    print_field("last error", fmt::format("{} in {}, at position {}: {}",
                                          status_text(static_cast<protocol::Status>(channel.last_error)),
                                          channel.last_error_command, channel.last_error_position,
                                          channel.last_error_text));
  }
  print_counters(channel.counters);
}

void print_device(const DeviceReport& report, bool all_channels) {
  print_title(report);
  print_place(report);
  print_problem(report);
  if (report.decoded()) {
    // A device that stopped tells nothing of itself.
    if (!report.region->name.empty()) print_info(report);
    print_status(report);
  }
  if (report.region && report.region->has_header) print_header(*report.region);
  if (!report.decoded()) return;
  print_heading("all owners since the device started");
  print_counters(report.region->totals);
  std::vector<uint32_t> idle;
  for (const auto& channel : report.region->channels) {
    if (channel.in_use() || channel.last_error != 0 || all_channels) {
      print_channel(report, channel);
    } else {
      idle.push_back(channel.index);
    }
  }
  if (!idle.empty()) print_heading(fmt::format("free channels: {}", range_text(idle)));
}

}  // namespace

int show_device(const Request& request, bool all_channels) {
  const auto place = choose_place(request.device, request.guests_directory, Use::kLook);
  if (!place) return answer_failure(place.error(), request.json);
  const DeviceReport report = look_at(*place, Detail::kFull);
  if (request.json) {
    answer_json(full_json(report));
  } else {
    print_device(report, all_channels);
  }
  // What can be shown was shown, whatever its state.
  return report.decoded() ? 0 : 1;
}

}  // namespace vgpu::tools
