// Where the workers run: --numa.
#pragma once

#include <memory>
#include <string>

#include "device/error.h"
#include "device/server/worker.h"
#include "tools/vgpu-device/options.h"

namespace vgpu::software {
class NumaPlacer;
}

namespace vgpu::tools {

// Empty, or what is wrong with it: auto, off or a number.
std::string numa_problem(const std::string& text);

class WorkerPlaces {
 public:
  // Where nobody chose a node, a machine that cannot be looked at is a line in the log.
  static device::Result<WorkerPlaces> create(const DeviceOptions& options);

  // The backend of one more worker, which binds itself to its place before it makes it: backend_factory() of
  // one thread per processor of the place, unless options.threads says otherwise. kInvalidValue: the node
  // that was named is not there, or has no processor for this process.
  device::Result<device::BackendFactory> place(DeviceOptions options, bool print_to_standard_output);

 private:
  std::shared_ptr<software::NumaPlacer> placer_;  // null: off
};

}  // namespace vgpu::tools
