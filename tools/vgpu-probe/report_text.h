// What `list` and `show` print of a device alike.
#pragma once

#include <string>
#include <string_view>

#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {

void print_title(const DeviceReport& report);    // "/dev/shm/vgpu-0: ready"
void print_line(const std::string& text);        // indented, wrapped
void print_place(const DeviceReport& report);    // ids, BARs, mappings; or what kind of file
void print_problem(const DeviceReport& report);  // what is wrong, and what to do

// A section's heading, and a field in it.
void print_heading(std::string_view heading, Tone tone = Tone::kBold);
void print_field(std::string_view name, std::string_view value);

}  // namespace vgpu::tools
