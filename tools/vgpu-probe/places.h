// Where vGPUs are, or could be: PCI functions, region files, the regions of virtual machines' guests, and
// what VGPU_DEVICE names.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "pci/discover.h"
#include "pci/locate.h"

namespace vgpu::tools {

inline constexpr const char* kDefaultGuestsDirectory = "/dev/shm/vgpu-guests";

struct Place {
  pci::Location location;
  std::optional<pci::DiscoveredDevice> function;  // of a PCI place
  std::string guest;  // name of the guest whose region this is, seen from the host; "" else

  // What a person calls it: the PCI address, or the path.
  std::string name() const {
    return location.carrier == pci::Carrier::kPciBar ? location.address.text() : location.path;
  }
};

// Every place that exists, usable or not: VGPU_DEVICE's, PCI functions with ivshmem's ids, this user's and
// root's default files, private regions of `vgpu-device run`, and guests' regions in `guests_directory`.
std::vector<Place> all_places(const std::string& guests_directory);

enum class Use : uint8_t {
  kLook,     // whatever is there, also what cannot be used
  kProgram,  // what a CUDA program would use
};
// The one place `device` names: a path, a PCI address, or a guest's name; empty: VGPU_DEVICE, else the one a
// CUDA program would take, else (to look) the first there is. The error says what to do.
std::expected<Place, std::string> choose_place(const std::string& device, const std::string& guests_directory,
                                               Use use);

}  // namespace vgpu::tools
