// Where vGPUs are, or could be: PCI functions, region files, and what VGPU_DEVICE names.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "pci/discover.h"
#include "pci/locate.h"

namespace vgpu::tools {

struct Place {
  pci::Location location;
  std::optional<pci::DiscoveredDevice> function;  // of a PCI place
};

// Every place that exists, usable or not: PCI functions with ivshmem's ids, this user's and root's default
// files, private regions of `vgpu-device run`, and VGPU_DEVICE's.
std::vector<Place> all_places();

// The one place `device` names (a path or a PCI address; empty: VGPU_DEVICE, else the first region found).
// The error says what to do.
std::expected<Place, std::string> choose_place(const std::string& device);

}  // namespace vgpu::tools
