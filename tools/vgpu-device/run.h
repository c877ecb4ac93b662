// `vgpu-device run` and the plain `vgpu-device`: a device for one command, or until it is stopped.
#pragma once

#include "tools/vgpu-device/options.h"

namespace vgpu::tools {

// Serves until SIGTERM or SIGINT. Returns the process's exit status.
int serve_device(const DeviceOptions& options);
// Starts a private device, runs the command with the shim libraries in front, passes its signals and exit
// status on, ends with one line of counters on standard error.
int run_command(const DeviceOptions& options, const RunOptions& run);

}  // namespace vgpu::tools
