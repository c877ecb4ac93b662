// vgpu-probe's three questions. Each prints its answer, as text or JSON, and returns the process's exit
// status: 0, or 1 when there is nothing to tell, with the reason on standard error.
#pragma once

#include <cstdint>
#include <string>

namespace vgpu::tools {

int list_devices(bool json);
int show_device(const std::string& device, bool json);
int test_device(const std::string& device, bool json);
int ping_device(const std::string& device, uint32_t count, bool json);

}  // namespace vgpu::tools
