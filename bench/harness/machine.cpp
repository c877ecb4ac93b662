// The machine out of hwloc, /proc and uname; the build out of what CMake wrote down.
#include "bench/harness/machine.h"

#include <hwloc.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "bench/harness/clock.h"
#include "bench/harness/placement.h"
#include "bench_commit.h"

namespace vgpu::bench {
namespace {

using nlohmann::json;

// The value of the first line "key : value" of a file in /proc; empty where there is none.
std::string proc_field(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && line.compare(0, key.size(), key) == 0) {
      const std::size_t start = line.find_first_not_of(" \t", colon + 1);
      return start == std::string::npos ? "" : line.substr(start);
    }
  }
  return "";
}

json caches_and_nodes() {
  json caches = json::array();
  int nodes = 1;
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) == 0) {
    hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    if (hwloc_topology_load(topology) == 0) {
      nodes = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
      for (const hwloc_obj_type_t type :
           {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE}) {
        const int count = hwloc_get_nbobjs_by_type(topology, type);
        if (count > 0) {
          hwloc_obj_t cache = hwloc_get_obj_by_type(topology, type, 0);
          caches.push_back({{"level", cache->attr->cache.depth},
                            {"bytes", cache->attr->cache.size},
                            {"line_bytes", cache->attr->cache.linesize},
                            {"count", count}});
        }
      }
    }
    hwloc_topology_destroy(topology);
  }
  return {{"caches", caches}, {"numa_nodes", nodes}};
}

json pair_or_null(const std::optional<CorePair>& pair) {
  return pair ? json::array({pair->first, pair->second}) : json();
}

}  // namespace

json machine_facts() {
  json facts = caches_and_nodes();
  const std::string model = proc_field("/proc/cpuinfo", "model name");
  const std::string flags = proc_field("/proc/cpuinfo", "flags");
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  utsname system{};
  ::uname(&system);
  facts["cpu"] = model.empty() ? system.machine : model;
  facts["cores"] = CPU_COUNT(&allowed);
  facts["virtual_machine"] = (" " + flags + " ").find(" hypervisor ") != std::string::npos;
  facts["kernel"] = std::string(system.sysname) + " " + system.release;
  facts["memory_bytes"] =
      static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const Clock& clock = Clock::get();
  facts["clock"] = {{"source", clock.source()},
                    {"ticks_per_ns", clock.ticks_per_ns()},
                    {"overhead_ns", clock.overhead_ns()},
                    {"step_ns", clock.step_ns()}};
  const Placements& pairs = placements();
  for (const Placement placement : kPlacements) {
    facts["placements"][std::string(placement_name(placement))] = pair_or_null(pairs[placement]);
  }
  return facts;
}

json build_facts() {
  const std::string compiler =
#if defined(__clang__)
      "clang " + std::to_string(__clang_major__) + "." + std::to_string(__clang_minor__);
#else
      "gcc " + std::to_string(__GNUC__) + "." + std::to_string(__GNUC_MINOR__);
#endif
  return {{"commit", VGPU_BENCH_COMMIT},
          {"dirty", VGPU_BENCH_DIRTY != 0},
          {"compiler", compiler},
          {"build_type", VGPU_BENCH_BUILD_TYPE}};
}

}  // namespace vgpu::bench
