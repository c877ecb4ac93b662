// Looking at a device, and judging what was seen.
#include "tools/vgpu-probe/device_report.h"

#include <fmt/format.h>

#include <ctime>

#include "protocol/commands.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

constexpr uint64_t kPatience = 1'000'000'000;      // ten beats should have come
constexpr uint64_t kLittlePatience = 250'000'000;  // when its lock says already that it is gone

void judge(DeviceReport& report, std::string health, std::string problem, std::string advice) {
  report.health = std::move(health);
  report.problem = std::move(problem);
  report.advice = std::move(advice);
}

std::string restart_advice(const Place& place) {
  if (!place.guest.empty()) {
    const std::string directory = place.location.path.substr(0, place.location.path.rfind('/'));
    return fmt::format(
        "start it again: vgpu-device --guest {}{}; the guest's programs then need to be started anew too",
        place.guest, directory == kDefaultGuestsDirectory ? "" : fmt::format(" --guests-dir {}", directory));
  }
  if (place.location.carrier == pci::Carrier::kPciBar) {
    return "on the host: see vgpu-device's log, and start it again; programs here then need to be started "
           "anew";
  }
  return fmt::format("start it again: vgpu-device --path {}", place.location.path);
}

void judge_error(DeviceReport& report, const ring::Error& error) {
  const bool pci = report.place.location.carrier == pci::Carrier::kPciBar;
  const std::string text = printable(error.text);
  switch (error.code) {
    case ring::ErrorCode::kPermission:
      return judge(report, "no access", text,
                   pci ? "run this as root, or join the group vgpu where the udev rule is installed "
                         "(docs/vm.md)"
                       : "run this as the user that the device belongs to, or as root");
    case ring::ErrorCode::kNotFound:
      return judge(report, "missing", text, "");
    case ring::ErrorCode::kNotARegion:
      if (report.place.function && !report.place.function->memory_enabled) {
        return judge(report, "no region",
                     "the function does not answer to its BARs: its memory decoding is off",
                     fmt::format("echo 1 > {}/enable, as the udev rule does (docs/vm.md)",
                                 report.place.location.path));
      }
      return judge(
          report, "no region", text,
          pci ? "is it another use of ivshmem? If it is meant as a vGPU: start vgpu-device on the host "
                "with the memory behind this BAR (docs/vm.md)"
              : "no vgpu-device has formatted it: start one on it, or remove it");
    case ring::ErrorCode::kLayoutMismatch:
      return judge(report, "other version", text, "use one version of vgpu on both sides");
    case ring::ErrorCode::kTruncated:
      return judge(report, "truncated", text,
                   pci ? "QEMU's size= and vgpu-device's --size must be the same"
                       : "start its vgpu-device anew, which makes the file anew");
    case ring::ErrorCode::kCorrupt:
      return judge(report, "corrupt", text,
                   "something else wrote into the header: start vgpu-device anew, which formats it anew");
    default:
      return judge(report, "unreadable", text, "");
  }
}

void judge_region(DeviceReport& report) {
  const RegionReport& region = *report.region;
  const bool beats = report.heartbeat && report.heartbeat->beats;
  const bool silent = report.heartbeat && !report.heartbeat->beats;
  if (region.state == "stopped" || region.state == "dead" || region.state == "absent") {
    return judge(
        report, region.state,
        fmt::format("the device is {}{}{}", region.state, region.reason.empty() ? "" : ": ", region.reason),
        restart_advice(report.place));
  }
  if (region.device_lock == "free" && !beats) {
    return judge(report, "dead", "its vgpu-device is gone; it was killed, since it could not say so",
                 restart_advice(report.place));
  }
  if (silent) {
    return judge(
        report, "silent",
        fmt::format("no heartbeat in {}; ten a second are due", duration_text(report.heartbeat->watched_ns)),
        region.device_lock_held
            ? "vgpu-device lives but does not run: is it stopped (kill -STOP), or the machine overloaded?"
            : restart_advice(report.place));
  }
  if (!region.protocol_matches) {
    return judge(
        report, "other version",
        fmt::format("the device speaks protocol {} ({:016x}, vgpu {}), this program {} ({:016x}, vgpu "
                    "{})",
                    region.found.protocol_version, region.found.protocol_hash, region.vgpu_version,
                    protocol::kProtocolVersion, protocol::kProtocolHash, VGPU_VERSION),
        "use one version of vgpu on both sides");
  }
  if (!region.is_ready()) {
    return judge(
        report, region.state,
        fmt::format("the device is {}{}{}", region.state, region.reason.empty() ? "" : ": ", region.reason),
        region.state == "starting" ? "wait a moment, and look again" : "");
  }
}

uint64_t unix_now() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void look_at_owners(DeviceReport& report) {
  for (const auto& channel : report.region->channels) {
    if (channel.owner_pid != 0) report.owners.emplace(channel.index, look_at_process(channel.owner_pid));
  }
}

}  // namespace

DeviceReport look_at(const Place& place, Detail detail) {
  DeviceReport report;
  report.place = place;
  report.looked_unix_ns = unix_now();
  if (detail == Detail::kFull) {
    auto locality = place.function ? pci::pci_locality(place.function->address) : pci::node_locality(-1);
    if (!locality && place.function) locality = pci::node_locality(place.function->numa_node);
    if (locality) report.locality = std::move(*locality);
  }
  const bool is_pci = place.location.carrier == pci::Carrier::kPciBar;
  if (is_pci && detail != Detail::kLive) report.mappings = measure_mappings(place.location.path);
  auto source = RegionSource::open(place.location);
  if (!source) {
    judge_error(report, source.error());
    return report;
  }
  report.mapped_file = source->path();
  report.region = read_region(*source);
  source->let_go();
  if (report.region->problem) {
    judge_error(report, *report.region->problem);
    return report;
  }
  report.owners_in_a_guest = source->carrier() == pci::Carrier::kFile &&
                             (report.region->found.feature_bits & ring::kFeatureOwnerLocks) == 0;
  if (detail != Detail::kLive) {
    report.heartbeat =
        watch_heartbeat(*source, report.region->device_lock == "free" ? kLittlePatience : kPatience);
  }
  if (detail == Detail::kFull && !report.owners_in_a_guest) look_at_owners(report);
  judge_region(report);
  return report;
}

void judge_heartbeat(DeviceReport& report, HeartbeatReport heartbeat) {
  report.heartbeat = heartbeat;
  judge(report, "ready", "", "");
  judge_region(report);
}

const char* found_by_text(pci::FoundBy found_by) noexcept {
  switch (found_by) {
    case pci::FoundBy::kEnvironment:
      return "VGPU_DEVICE";
    case pci::FoundBy::kPci:
      return "PCI";
    case pci::FoundBy::kDefaultPath:
      break;
  }
  return "file";
}

std::string uuid_text(const uint8_t (&uuid)[16]) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string range_text(const std::vector<uint32_t>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text += end - i == 1 ? fmt::format("{}", numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[end - 1]);
    i = end;
  }
  return text;
}

std::vector<std::string> feature_names(uint64_t bits) {
  std::vector<std::string> names;
  const auto name = [&](uint64_t bit, const char* text) {
    if ((bits & bit) != 0) names.emplace_back(text);
    bits &= ~bit;
  };
  name(ring::kFeatureFutexDoorbell, "futex doorbell");
  name(ring::kFeatureOwnerLocks, "owner locks");
  name(ring::kFeatureRemoteFences, "remote fences");
  name(ring::kFeatureIvshmemDoorbell, "ivshmem doorbell");
  if (bits != 0) names.push_back(fmt::format("unknown {:#x}", bits));
  return names;
}

}  // namespace vgpu::tools
