// The backends this program offers, by name.
#pragma once

#include "device/server/worker.h"
#include "tools/vgpu-device/options.h"

namespace vgpu::tools {

// kInvalidValue names the backends there are.
device::Result<device::BackendFactory> backend_factory(const DeviceOptions& options);

}  // namespace vgpu::tools
