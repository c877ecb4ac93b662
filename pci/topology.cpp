// Locality through hwloc.
#include "pci/topology.h"

#include <hwloc.h>

#include <memory>

namespace vgpu::pci {
namespace {

struct DestroyTopology {
  void operator()(hwloc_topology_t topology) const noexcept { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, DestroyTopology>;

std::expected<Topology, Error> load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) {
    return std::unexpected(Error{ErrorCode::kSystem, "hwloc_topology_init failed"});
  }
  Topology topology(raw);
  // ivshmem is of class "memory", which hwloc leaves out unless it is told to keep all.
  hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(raw) != 0) {
    return std::unexpected(Error{ErrorCode::kSystem, "hwloc_topology_load failed"});
  }
  return topology;
}

std::vector<uint32_t> members(hwloc_const_bitmap_t set) {
  std::vector<uint32_t> result;
  for (int index = hwloc_bitmap_first(set); index >= 0; index = hwloc_bitmap_next(set, index)) {
    result.push_back(static_cast<uint32_t>(index));
    if (hwloc_bitmap_weight(set) < 0 && result.size() >= 65536) {
      break;  // an infinite set
    }
  }
  return result;
}

// What is near `object`, which has sets of its own; nullptr: the whole machine, nodes unknown.
Locality describe(hwloc_topology_t topology, hwloc_obj_t object) {
  Locality locality;
  const hwloc_obj_t machine = hwloc_get_root_obj(topology);
  const hwloc_obj_t near = object != nullptr ? object : machine;
  locality.cpus = members(near->cpuset);
  if (object != nullptr) {
    locality.numa_nodes = members(near->nodeset);
  }
  locality.machine_cpus = static_cast<uint32_t>(hwloc_bitmap_weight(machine->cpuset));
  locality.machine_numa_nodes = static_cast<uint32_t>(hwloc_bitmap_weight(machine->nodeset));
  return locality;
}

}  // namespace

std::expected<Locality, Error> pci_locality(const PciAddress& address) {
  auto topology = load();
  if (!topology) {
    return std::unexpected(std::move(topology.error()));
  }
  const hwloc_obj_t device = hwloc_get_pcidev_by_busid(topology->get(), address.domain, address.bus,
                                                       address.device, address.function);
  if (device == nullptr) {
    return std::unexpected(Error{ErrorCode::kNotFound, "hwloc knows no PCI device " + address.text()});
  }
  return describe(topology->get(), hwloc_get_non_io_ancestor_obj(topology->get(), device));
}

std::expected<Locality, Error> node_locality(int32_t numa_node) {
  auto topology = load();
  if (!topology) {
    return std::unexpected(std::move(topology.error()));
  }
  if (numa_node < 0) {
    return describe(topology->get(), nullptr);
  }
  const hwloc_obj_t node =
      hwloc_get_numanode_obj_by_os_index(topology->get(), static_cast<unsigned>(numa_node));
  if (node == nullptr) {
    return std::unexpected(
        Error{ErrorCode::kNotFound, "this machine has no NUMA node " + std::to_string(numa_node)});
  }
  return describe(topology->get(), node);
}

}  // namespace vgpu::pci
