// Locality through hwloc.
#include "pci/topology.h"

#include <fcntl.h>
#include <hwloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "ring/unique_fd.h"

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

MachinePart::Kind kind_of(hwloc_obj_type_t type) {
  switch (type) {
    case HWLOC_OBJ_MACHINE:
      return MachinePart::Kind::kMachine;
    case HWLOC_OBJ_PACKAGE:
      return MachinePart::Kind::kPackage;
    case HWLOC_OBJ_NUMANODE:
      return MachinePart::Kind::kNumaNode;
    case HWLOC_OBJ_CORE:
      return MachinePart::Kind::kCore;
    case HWLOC_OBJ_PU:
      return MachinePart::Kind::kProcessor;
    default:
      return hwloc_obj_type_is_dcache(type) != 0 ? MachinePart::Kind::kCache : MachinePart::Kind::kOther;
  }
}

struct PlacedDevice {
  PciAddress address;
  hwloc_obj_t parent = nullptr;
};

MachinePart describe_part(hwloc_obj_t object, const std::vector<PlacedDevice>& devices) {
  MachinePart part;
  part.kind = kind_of(object->type);
  char name[64] = {};
  hwloc_obj_type_snprintf(name, sizeof(name), object, 0);
  part.name = name;
  if (object->os_index != HWLOC_UNKNOWN_INDEX) {
    part.number = object->os_index;
  }
  if (part.kind == MachinePart::Kind::kCache) {
    part.bytes = object->attr->cache.size;
  } else if (part.kind == MachinePart::Kind::kNumaNode) {
    part.bytes = object->attr->numanode.local_memory;
  }
  if (const char* model = hwloc_obj_get_info_by_name(object, "CPUModel"); model != nullptr) {
    part.model = model;
  }
  part.cpus = members(object->cpuset);
  for (hwloc_obj_t child = object->memory_first_child; child != nullptr; child = child->next_sibling) {
    part.parts.push_back(describe_part(child, devices));
  }
  for (unsigned i = 0; i < object->arity; ++i) {
    part.parts.push_back(describe_part(object->children[i], devices));
  }
  for (const PlacedDevice& device : devices) {
    if (device.parent == object) {
      MachinePart pci;
      pci.kind = MachinePart::Kind::kPciDevice;
      pci.name = device.address.text();
      pci.cpus = part.cpus;
      part.parts.push_back(std::move(pci));
    }
  }
  return part;
}

}  // namespace

std::expected<MachinePart, Error> machine_parts(const std::vector<PciAddress>& devices) {
  auto topology = load();
  if (!topology) {
    return std::unexpected(std::move(topology.error()));
  }
  std::vector<PlacedDevice> placed;
  for (const PciAddress& address : devices) {
    const hwloc_obj_t device = hwloc_get_pcidev_by_busid(topology->get(), address.domain, address.bus,
                                                         address.device, address.function);
    if (device != nullptr) {
      placed.push_back({address, hwloc_get_non_io_ancestor_obj(topology->get(), device)});
    }
  }
  return describe_part(hwloc_get_root_obj(topology->get()), placed);
}

std::vector<uint32_t> file_numa_nodes(const std::string& path, uint64_t bytes) {
  const ring::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) {
    return {};
  }
  const auto length =
      static_cast<std::size_t>(std::min<uint64_t>(bytes, static_cast<uint64_t>(status.st_size)));
  // Populated by the kernel, which passes over what cannot be.
  void* data = ::mmap(nullptr, length, PROT_READ, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (data == MAP_FAILED) {
    return {};
  }
  std::vector<uint32_t> nodes;
  if (auto topology = load()) {
    const std::unique_ptr<hwloc_bitmap_s, void (*)(hwloc_bitmap_t)> set(hwloc_bitmap_alloc(),
                                                                        hwloc_bitmap_free);
    if (set &&
        hwloc_get_area_memlocation(topology->get(), data, length, set.get(), HWLOC_MEMBIND_BYNODESET) == 0) {
      nodes = members(set.get());
    }
  }
  ::munmap(data, length);
  return nodes;
}

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
