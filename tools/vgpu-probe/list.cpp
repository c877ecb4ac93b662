// vgpu-probe list: what was found, where, and how it is mapped.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "ring/region.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

const char* found_by_text(pci::FoundBy found_by) {
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

ordered_json describe_bars(const pci::DiscoveredDevice& function) {
  auto bars = ordered_json::array();
  for (const auto& bar : function.bars) {
    bars.push_back({{"index", bar.index},
                    {"bus_address", bar.bus_address},
                    {"bytes", bar.bytes},
                    {"memory", bar.memory},
                    {"is_64bit", bar.is_64bit},
                    {"prefetchable", bar.prefetchable}});
  }
  return bars;
}

ordered_json describe_place(const Place& place) {
  ordered_json device;
  device["path"] = place.location.path;
  device["carrier"] = pci::carrier_name(place.location.carrier);
  device["found_by"] = found_by_text(place.location.found_by);
  if (place.function) {
    device["pci_address"] = place.location.address.text();
    device["numa_node"] = place.function->numa_node;
    device["driver"] = place.function->driver;
    device["bars"] = describe_bars(*place.function);
  }
  device["usable"] = false;
  auto bar = pci::open_location(place.location, pci::Access::kReadOnly);
  if (!bar) {
    device["problem"] =
        place.function && !place.function->why_not.empty() ? place.function->why_not : bar.error().text;
    return device;
  }
  device["mapped_file"] = bar->path();
  device["mapped_bytes"] = bar->bytes().size();
  const auto found = ring::check_region(bar->bytes(), 0, 0);
  if (!found) {
    device["problem"] = found.error().text;
    return device;
  }
  device["mapping"] = pci::mapping_kind_name(pci::measure_mapping(bar->bytes(), bar->write_combining_file()));
  const ring::RegionView region(bar->bytes(), found->geometry);
  char name[sizeof region.device_info().name];
  std::memcpy(name, region.device_info().name, sizeof name);
  device["name"] = std::string(ring::load_text(name, sizeof name));
  const auto state = static_cast<ring::DeviceState>(ring::load_acquire(region.header().status.device_state));
  // A device that was killed cannot say so; its lock tells.
  const bool abandoned = bar->carrier() == pci::Carrier::kFile &&
                         ring::probe_device_lock(bar->probe_fd()) == ring::LockState::kFree;
  device["state"] = ring::device_state_name(state);
  device["channels"] = found->geometry.channel_count;
  device["channels_served"] = ring::load_relaxed(region.header().status.channels_served);
  if (abandoned) {
    device["problem"] = "its vgpu-device is gone; start it again";
  } else {
    device["usable"] = state == ring::DeviceState::kReady;
  }
  return device;
}

void print_device(const ordered_json& device) {
  fmt::print("{}  {}, found by {}\n", device["path"].get<std::string>(), device["carrier"].get<std::string>(),
             device["found_by"].get<std::string>());
  if (device.contains("name")) {
    fmt::print("    {}: {}, {} of {} channels served\n", device["name"].get<std::string>(),
               device["state"].get<std::string>(), device["channels_served"].get<uint32_t>(),
               device["channels"].get<uint32_t>());
    fmt::print("    {} MiB mapped {} from {}\n", device["mapped_bytes"].get<uint64_t>() >> 20,
               device["mapping"].get<std::string>(), device["mapped_file"].get<std::string>());
  }
  if (device.contains("pci_address")) {
    fmt::print("    PCI {}, NUMA node {}, driver {}\n", device["pci_address"].get<std::string>(),
               device["numa_node"].get<int>(),
               device["driver"].get<std::string>().empty() ? "none" : device["driver"].get<std::string>());
    for (const auto& bar : device["bars"]) {
      fmt::print("    BAR{}: {} KiB at {:#x}, {}{}{}\n", bar["index"].get<uint32_t>(),
                 bar["bytes"].get<uint64_t>() >> 10, bar["bus_address"].get<uint64_t>(),
                 bar["memory"].get<bool>() ? "memory" : "I/O ports",
                 bar["is_64bit"].get<bool>() ? ", 64-bit" : "",
                 bar["prefetchable"].get<bool>() ? ", prefetchable" : "");
    }
  }
  if (device.contains("problem")) fmt::print("    not usable: {}\n", device["problem"].get<std::string>());
}

}  // namespace

int list_devices(bool json) {
  auto devices = ordered_json::array();
  bool usable = false;
  for (const auto& place : all_places()) {
    devices.push_back(describe_place(place));
    usable = usable || devices.back()["usable"].get<bool>();
  }
  if (json) {
    const ordered_json answer{{"devices", devices}};
    fmt::print("{}\n", answer.dump(2, ' ', false, ordered_json::error_handler_t::replace));
  } else {
    for (const auto& device : devices) print_device(device);
  }
  if (!usable) {
    // The same words a program's shim would give, with what to do.
    const auto chosen = choose_place({});
    fmt::print(stderr, "vgpu-probe: {}\n", chosen ? "no vGPU that can be used" : chosen.error());
    return 1;
  }
  return 0;
}

}  // namespace vgpu::tools
