// A backend that executes nothing: memory, copies, modules, streams and events are the software backend's,
// launches and BLAS calls do nothing and cost nothing. For measuring the way to the device, and for trying
// the tools without waiting for a compiler.
#pragma once

#include <cstdint>
#include <memory>

#include "device/backend.h"

namespace vgpu::device {

// One per process at a time, as the software backend.
Result<std::unique_ptr<Backend>> make_null_backend(uint64_t memory_bytes);

}  // namespace vgpu::device
