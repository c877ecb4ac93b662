// What the device did, as a line and as JSON.
#pragma once

#include <string>

#include "device/server/supervisor.h"

namespace vgpu::tools {

// "vgpu: 12345 launches, 1.2 GiB to device, …": no newline.
std::string summary_line(const device::DeviceSummary& summary);
// Empty, or why the file could not be written.
std::string write_summary_json(const device::DeviceSummary& summary, const std::string& path);

}  // namespace vgpu::tools
