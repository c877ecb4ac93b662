// The backends this program offers, by name.
#pragma once

#include "device/server/worker.h"
#include "tools/vgpu-device/options.h"

namespace vgpu::tools {

// kInvalidValue names the backends there are. What kernels print goes to the worker's standard output or to
// the log.
device::Result<device::BackendFactory> backend_factory(const DeviceOptions& options,
                                                       bool print_to_standard_output);

}  // namespace vgpu::tools
