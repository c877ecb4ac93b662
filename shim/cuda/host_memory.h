// Pinned host memory as the device sees it.
#pragma once

#include <cstdint>

#include "shim/cuda/driver.h"

namespace vgpu::shim {

// The device's address of what lies at `pointer` in pinned memory; from then on that address is one of the
// device's allocations. INVALID_VALUE where the memory is not pinned, NOT_SUPPORTED where the device cannot
// reach it.
CUresult device_address_of(Session& session, const void* pointer, uint64_t& address);

}  // namespace vgpu::shim
