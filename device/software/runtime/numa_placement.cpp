// See numa_placement.h.
#include "device/software/runtime/numa_placement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwloc.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace vgpu::software {
namespace {

using device::Error;
using device::Result;
using protocol::Status;

using Bitmap = std::unique_ptr<hwloc_bitmap_s, void (*)(hwloc_bitmap_t)>;

Bitmap empty_bitmap() {
  return {hwloc_bitmap_alloc(), hwloc_bitmap_free};
}

Bitmap bitmap_of(std::span<const uint32_t> members) {
  Bitmap set = empty_bitmap();
  for (const uint32_t member : members) hwloc_bitmap_set(set.get(), member);
  return set;
}

std::vector<uint32_t> members(hwloc_const_bitmap_t set) {
  std::vector<uint32_t> result;
  for (int index = hwloc_bitmap_first(set); index >= 0; index = hwloc_bitmap_next(set, index)) {
    result.push_back(static_cast<uint32_t>(index));
  }
  return result;
}

struct Node {
  uint32_t number = 0;
  std::vector<uint32_t> cpus = {};  // that may be used
  uint64_t workers = 0;             // there, with the one to be placed
  bool here = false;                // the process runs there now
};

// A machine may have several kinds of memory near the same processors: the first is the ordinary one.
hwloc_obj_t nearest_node(hwloc_obj_t processor) {
  for (hwloc_obj_t up = processor->parent; up != nullptr; up = up->parent) {
    for (hwloc_obj_t memory = up->memory_first_child; memory != nullptr;
         memory = memory->memory_first_child) {
      if (memory->type == HWLOC_OBJ_NUMANODE) return memory;
    }
  }
  return nullptr;
}

// Those that have a processor which may be used.
std::vector<Node> usable_nodes(hwloc_topology* topology, const NumaRequest& request) {
  std::vector<Node> nodes;
  for (hwloc_obj_t processor = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, nullptr);
       processor != nullptr; processor = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, processor)) {
    if (std::ranges::find(request.cpus, processor->os_index) == request.cpus.end()) continue;
    const hwloc_obj_t memory = nearest_node(processor);
    if (memory == nullptr) continue;
    auto node = std::ranges::find(nodes, memory->os_index, &Node::number);
    if (node == nodes.end()) {
      const auto workers = std::ranges::count_if(request.others, [memory](const NumaPlacement& other) {
        return std::ranges::find(other.nodes, memory->os_index) != other.nodes.end();
      });
      node = nodes.insert(nodes.end(),
                          Node{.number = memory->os_index, .workers = static_cast<uint64_t>(workers) + 1});
    }
    node->cpus.push_back(processor->os_index);
    if (request.running_on == processor->os_index) node->here = true;
  }
  return nodes;
}

bool better(const Node& a, const Node& b) {
  // Processors for each worker, compared without a division.
  const uint64_t of_a = a.cpus.size() * b.workers;
  const uint64_t of_b = b.cpus.size() * a.workers;
  if (of_a != of_b) return of_a > of_b;
  if (a.here != b.here) return a.here;
  return a.number < b.number;
}

Result<std::optional<NumaPlacement>> node_asked_for(hwloc_topology* topology, const NumaRequest& request) {
  const hwloc_obj_t node = hwloc_get_numanode_obj_by_os_index(topology, *request.node);
  if (node == nullptr) {
    return std::unexpected(Error{
        Status::kInvalidValue,
        fmt::format("there is no NUMA node {} whose memory this process may use: there are {}", *request.node,
                    fmt::join(members(hwloc_topology_get_topology_nodeset(topology)), ", "))});
  }
  NumaPlacement place{.nodes = {*request.node}};
  for (const uint32_t processor : members(node->cpuset)) {
    if (std::ranges::find(request.cpus, processor) != request.cpus.end()) place.cpus.push_back(processor);
  }
  if (place.cpus.empty()) {
    return std::unexpected(
        Error{Status::kInvalidValue,
              fmt::format("NUMA node {} has no processor that this process may use: its affinity is {}",
                          *request.node, fmt::join(request.cpus, ", "))});
  }
  if (hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) == 1) return std::nullopt;
  return place;
}

// False where that is not certain: hwloc is asked then.
bool has_one_node() {
  if (std::getenv("HWLOC_SYNTHETIC") != nullptr || std::getenv("HWLOC_XMLFILE") != nullptr) return false;
  std::ifstream file("/sys/devices/system/node/online");
  std::string nodes;  // "0", or a list such as "0-1,3"
  // A kernel without NUMA has no such file.
  return !std::getline(file, nodes) || nodes.find_first_of(",-") == std::string::npos;
}

Result<std::shared_ptr<hwloc_topology>> load() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) {
    return std::unexpected(Error{Status::kOperatingSystem, "hwloc_topology_init failed"});
  }
  std::shared_ptr<hwloc_topology> topology(raw, hwloc_topology_destroy);
  hwloc_topology_set_flags(raw, HWLOC_TOPOLOGY_FLAG_DONT_CHANGE_BINDING);
  hwloc_topology_set_cache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(raw) != 0) {
    return std::unexpected(Error{Status::kOperatingSystem, "hwloc_topology_load failed"});
  }
  return topology;
}

bool has_memory_policy(hwloc_topology* topology) {
  const Bitmap nodes = empty_bitmap();
  hwloc_membind_policy_t policy = HWLOC_MEMBIND_DEFAULT;
  return hwloc_get_membind(topology, nodes.get(), &policy, HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) ==
             0 &&
         policy != HWLOC_MEMBIND_DEFAULT && policy != HWLOC_MEMBIND_FIRSTTOUCH;
}

}  // namespace

Result<std::optional<NumaPlacement>> choose_nodes(hwloc_topology* topology, const NumaRequest& request) {
  if (request.node) return node_asked_for(topology, request);
  if (hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) == 1) return std::nullopt;
  std::vector<Node> nodes = usable_nodes(topology, request);
  const std::size_t wanted = std::max(request.threads, 1u);
  const auto large_enough = [wanted](const Node& node) { return node.cpus.size() >= wanted; };
  if (const auto rest = std::ranges::partition(nodes, large_enough); rest.begin() != nodes.begin()) {
    auto best = std::min_element(nodes.begin(), rest.begin(), better);
    std::ranges::sort(best->cpus);
    return NumaPlacement{.nodes = {best->number}, .cpus = std::move(best->cpus)};
  }
  // The largest first, so that they are few.
  std::ranges::sort(nodes, [](const Node& a, const Node& b) {
    return a.cpus.size() != b.cpus.size() ? a.cpus.size() > b.cpus.size() : better(a, b);
  });
  NumaPlacement place;
  for (const Node& node : nodes) {
    if (place.cpus.size() >= wanted) break;
    place.nodes.push_back(node.number);
    place.cpus.insert(place.cpus.end(), node.cpus.begin(), node.cpus.end());
  }
  if (place.nodes.size() == nodes.size()) return std::nullopt;
  std::ranges::sort(place.nodes);
  std::ranges::sort(place.cpus);
  return place;
}

Result<NumaPlacer> NumaPlacer::create(std::optional<uint32_t> node) {
  NumaPlacer placer;
  placer.node_ = node;
  if (!node && has_one_node()) return placer;
  auto topology = load();
  if (!topology) return std::unexpected(std::move(topology.error()));
  if (!node && has_memory_policy(topology->get())) return placer;
  placer.topology_ = std::move(*topology);
  const Bitmap cpus = empty_bitmap();
  if (hwloc_get_cpubind(placer.topology_.get(), cpus.get(), HWLOC_CPUBIND_THREAD) != 0) {
    return std::unexpected(
        Error{Status::kOperatingSystem,
              fmt::format("asking for this process's affinity: {}", std::strerror(errno))});
  }
  // The system's mask may have bits beyond the machine's processors.
  hwloc_bitmap_and(cpus.get(), cpus.get(), hwloc_topology_get_topology_cpuset(placer.topology_.get()));
  placer.cpus_ = members(cpus.get());
  return placer;
}

Result<std::optional<NumaPlacement>> NumaPlacer::place(uint32_t threads) {
  if (!topology_) return std::nullopt;
  NumaRequest request{
      .node = node_, .threads = threads, .cpus = cpus_, .running_on = std::nullopt, .others = placed_};
  if (const int cpu = ::sched_getcpu(); cpu >= 0) request.running_on = static_cast<uint32_t>(cpu);
  auto place = choose_nodes(topology_.get(), request);
  if (place && *place) placed_.push_back(**place);
  return place;
}

Result<void> NumaPlacer::bind(const NumaPlacement& place) const {
  if (!topology_) return {};
  std::string refused;
  if (hwloc_set_cpubind(topology_.get(), bitmap_of(place.cpus).get(), HWLOC_CPUBIND_THREAD) != 0) {
    refused =
        fmt::format("binding to the processors {}: {}", fmt::join(place.cpus, ", "), std::strerror(errno));
  }
  // Not strict: when the nodes are full, memory of others is better than none.
  if (hwloc_set_membind(topology_.get(), bitmap_of(place.nodes).get(), HWLOC_MEMBIND_BIND,
                        HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) != 0) {
    if (!refused.empty()) refused += "; ";
    refused += fmt::format("asking for memory of NUMA node {}: {}", fmt::join(place.nodes, ", "),
                           std::strerror(errno));
  }
  if (!refused.empty()) return std::unexpected(Error{Status::kOperatingSystem, std::move(refused)});
  return {};
}

}  // namespace vgpu::software
