// A backend that executes nothing and answers plausibly: for measuring the way to the device and for trying
// the tools without a compiler. Addresses come from a window nobody reads or writes; memory is counted, not
// held.
#pragma once

#include <cstdint>
#include <memory>

#include "device/backend.h"

namespace vgpu::device {

std::unique_ptr<Backend> make_null_backend(uint64_t memory_bytes);

}  // namespace vgpu::device
