// printf of kernels: CUDA's vprintf(format, arguments), both in device memory and neither trusted.
#pragma once

#include <cstdint>

#include "device/software/runtime/launch_plan.h"

namespace vgpu::software {

// Formats and hands the text to `sink` (which may be null). `count` gets what CUDA's printf returns: the
// number of arguments, or -1 without a format. False if an address could not be read.
bool print_from_device(uint64_t format, uint64_t arguments, const PrintSink* sink, int32_t& count);

}  // namespace vgpu::software
