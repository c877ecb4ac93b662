// Which NUMA nodes a worker process runs on: one where it has the processors it wants, else the fewest that
// do; guests' workers are spread over the nodes. Threads are bound to nodes, never to single processors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "device/error.h"

struct hwloc_topology;

namespace vgpu::software {

// Numbers are the system's, in ascending order.
struct NumaPlacement {
  std::vector<uint32_t> nodes = {};
  std::vector<uint32_t> cpus = {};  // those of the nodes that the process may use; never empty
};

struct NumaRequest {
  std::optional<uint32_t> node = {};           // this one; absent: chosen
  uint32_t threads = 0;                        // that run blocks; 0: as many as the node has processors
  std::span<const uint32_t> cpus = {};         // that the process may use
  std::optional<uint32_t> running_on = {};     // processor, which decides between nodes that are as good
  std::span<const NumaPlacement> others = {};  // workers that have their place already
};

// None: nothing is to be bound, since there is one node only or the threads need them all. Chosen is, of the
// nodes with as many usable processors as threads, the one with most processors for each worker on it, this
// one counted; where no node has enough, the fewest nodes that together do. kInvalidValue: the node asked for
// is not there, or has no processor that may be used. `topology` is loaded. Pure; any thread.
device::Result<std::optional<NumaPlacement>> choose_nodes(hwloc_topology* topology,
                                                          const NumaRequest& request);

// This machine as hwloc sees it, and the places that workers got on it. One thread; a fork may bind itself.
class NumaPlacer {
 public:
  // `node`: where all workers run; absent: chosen for each. Then a machine of one node costs a look at one
  // small file, and a process that was started with a memory policy (numactl, hwloc-bind) is left as it is.
  // Otherwise hwloc reads the whole machine: for a start alone. Its environment (HWLOC_XMLFILE,
  // HWLOC_SYNTHETIC) is obeyed. kOperatingSystem: hwloc cannot tell.
  static device::Result<NumaPlacer> create(std::optional<uint32_t> node);

  // The place of one more worker with so many threads: see choose_nodes().
  device::Result<std::optional<NumaPlacement>> place(uint32_t threads);

  // Binds the calling thread, and what it starts later, to the place: processors, and memory as long as the
  // nodes have some left. kOperatingSystem says what the system refused; the rest is bound then.
  device::Result<void> bind(const NumaPlacement& place) const;

 private:
  std::optional<uint32_t> node_;
  std::shared_ptr<hwloc_topology> topology_;  // null: nothing is ever bound
  std::vector<uint32_t> cpus_;                // that this process may use
  std::vector<NumaPlacement> placed_;
};

}  // namespace vgpu::software
