// Which processors are near a vGPU, and what the machine looks like, through hwloc: where the consumer's
// threads and the programs should run.
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

// A part of the machine as hwloc knows it, in plain values.
struct MachinePart {
  enum class Kind : uint8_t { kMachine, kPackage, kNumaNode, kCache, kCore, kProcessor, kOther, kPciDevice };
  Kind kind = Kind::kOther;
  std::string name;            // "Package", "L3", "NUMANode", ...; of a PCI device its address
  int64_t number = -1;         // the system's; -1: it has none
  uint64_t bytes = 0;          // of a cache or node
  std::string model;           // of a package: the processor's; may be empty
  std::vector<uint32_t> cpus;  // the processors in it
  std::vector<MachinePart> parts;
};

// The machine, and in it those of `devices` that it has. hwloc's environment (HWLOC_XMLFILE,
// HWLOC_SYNTHETIC) is obeyed. Errors and threads as above.
std::expected<MachinePart, Error> machine_parts(const std::vector<PciAddress>& devices);

// The nodes that hold the memory behind the file's first `bytes`, as far as it has any; empty: unknown. The
// file is mapped, never touched: one that is truncated meanwhile does no harm.
std::vector<uint32_t> file_numa_nodes(const std::string& path, uint64_t bytes);

}  // namespace vgpu::pci
