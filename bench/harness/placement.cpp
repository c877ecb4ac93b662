// Pairs of cores out of hwloc's topology.
#include "bench/harness/placement.h"

#include <hwloc.h>
#include <pthread.h>

namespace vgpu::bench {
namespace {

// The last cache above a processor, or nullptr where hwloc sees none.
hwloc_obj_t last_cache(hwloc_obj_t processor) {
  hwloc_obj_t found = nullptr;
  for (hwloc_obj_t up = processor->parent; up != nullptr; up = up->parent) {
    if (hwloc_obj_type_is_dcache(up->type) != 0) {
      found = up;
    }
  }
  return found;
}

hwloc_obj_t core_of(hwloc_topology_t topology, hwloc_obj_t processor) {
  hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, processor);
  return core != nullptr ? core : processor;
}

Placements find_placements() {
  Placements found;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) {
    return found;
  }
  if (hwloc_topology_load(topology) == 0) {
    bool far_is_across_nodes = false;
    const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
    for (int i = 0; i < count; ++i) {
      for (int j = i + 1; j < count; ++j) {
        hwloc_obj_t a = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, static_cast<unsigned>(i));
        hwloc_obj_t b = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PU, static_cast<unsigned>(j));
        const CorePair pair{static_cast<int>(a->os_index), static_cast<int>(b->os_index)};
        if (core_of(topology, a) == core_of(topology, b)) {
          found.same_core = found.same_core ? found.same_core : pair;
        } else if (last_cache(a) != nullptr && last_cache(a) == last_cache(b)) {
          found.same_cache = found.same_cache ? found.same_cache : pair;
        } else {
          const bool across = hwloc_bitmap_isequal(a->nodeset, b->nodeset) == 0;
          if (!found.far || (across && !far_is_across_nodes)) {
            found.far = pair;
            far_is_across_nodes = across;
          }
        }
      }
    }
  }
  hwloc_topology_destroy(topology);
  return found;
}

}  // namespace

std::string_view placement_name(Placement placement) noexcept {
  switch (placement) {
    case Placement::kSameCore:
      return "same_core";
    case Placement::kSameCache:
      return "same_cache";
    case Placement::kFar:
      break;
  }
  return "far";
}

const std::optional<CorePair>& Placements::operator[](Placement placement) const noexcept {
  switch (placement) {
    case Placement::kSameCore:
      return same_core;
    case Placement::kSameCache:
      return same_cache;
    case Placement::kFar:
      break;
  }
  return far;
}

std::optional<CorePair> Placements::usual() const noexcept {
  return same_cache ? same_cache : far ? far : same_core;
}

const Placements& placements() {
  static const Placements kFound = find_placements();
  return kFound;
}

bool pin_this_thread(int processor) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(processor), &set);
  return ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set) == 0;
}

Pinned::Pinned(int processor) noexcept {
  ok_ = ::pthread_getaffinity_np(::pthread_self(), sizeof(before_), &before_) == 0 &&
        pin_this_thread(processor);
}

Pinned::~Pinned() {
  if (ok_) {
    ::pthread_setaffinity_np(::pthread_self(), sizeof(before_), &before_);
  }
}

}  // namespace vgpu::bench
