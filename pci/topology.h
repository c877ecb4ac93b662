// Which processors are near a vGPU, through hwloc: where the consumer's threads should run.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "pci/locate.h"
#include "ring/error.h"

namespace vgpu::pci {

struct Locality {
  std::vector<uint32_t> numa_nodes;  // nodes near it, by the system's number; empty: unknown
  std::vector<uint32_t> cpus;        // processors near it, by the system's number
  uint32_t machine_numa_nodes = 0;
  uint32_t machine_cpus = 0;
};

// Locality of a PCI function, or of the memory behind a region file (`numa_node` -1: the whole machine).
// hwloc's own errors come back as kSystem. Takes tens of milliseconds: not for a hot path. Any thread.
std::expected<Locality, Error> pci_locality(const PciAddress& address);
std::expected<Locality, Error> node_locality(int32_t numa_node);

}  // namespace vgpu::pci
