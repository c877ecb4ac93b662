// Full discovery for the tools and the device: libpci finds the functions with ivshmem's ids and what lspci
// would say of them. Needs libpci; the shim uses pci/locate.h.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "pci/locate.h"
#include "ring/error.h"

namespace vgpu::pci {

struct BarInfo {
  uint32_t index = 0;
  uint64_t bus_address = 0;
  uint64_t bytes = 0;
  bool memory = true;  // else I/O ports
  bool is_64bit = false;
  bool prefetchable = false;
};

// One PCI function that may be a vGPU.
struct DiscoveredDevice {
  PciAddress address;
  uint16_t vendor = 0;
  uint16_t device = 0;
  uint16_t subsystem_vendor = 0;
  uint16_t subsystem_device = 0;
  uint8_t revision = 0;
  int32_t numa_node = -1;  // -1: the system does not say
  std::string sysfs_directory;
  std::string driver;  // bound kernel driver; empty: none
  std::vector<BarInfo> bars;
  bool memory_enabled = true;  // the function answers to its BARs' addresses
  int32_t acpi_index = -1;     // the number that QEMU's acpi-index= gave it; -1: none

  // ivshmem-doorbell has a BAR for its interrupts, ivshmem-plain has none.
  bool has_doorbell() const noexcept {
    for (const BarInfo& bar : bars) {
      if (bar.index == 1) return true;
    }
    return false;
  }
  bool has_region = false;
  std::string why_not;  // why has_region is false: foreign device, truncated BAR, no permission, ...
};

// All functions with ivshmem's ids, vGPU or not, by address. An empty list is no error. libpci's own errors
// come back as kSystem; they never end the process. Calls are serialised inside: any thread.
std::expected<std::vector<DiscoveredDevice>, Error> discover(const std::string& sysfs_root = "/sys");

}  // namespace vgpu::pci
