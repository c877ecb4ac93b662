// The public driver API as the runtime reaches it: libcuda.so.1, opened by name at the first call that needs
// it and never closed. Every function may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "shim/cudart/cudart_abi.h"

namespace vgpu::shim::cudart {

struct Driver {
#define DRIVER(member, symbol, ...) CUresult (*member)(__VA_ARGS__) = nullptr;
#include "shim/cudart/driver.def"
#undef DRIVER
};

// The loaded and initialised driver, or null; then *error says why: cudaErrorInsufficientDriver (no library,
// or older than this runtime), or what cuInit answered. Decided once per process.
const Driver* driver(cudaError_t* error) noexcept;

// The same without cuInit, for the calls that need no device; null if there is no library.
const Driver* loaded_driver() noexcept;

// dlsym in the driver library; null if there is none.
void* driver_symbol(const char* name) noexcept;

// CUresult and cudaError_t share their numbers.
constexpr cudaError_t to_runtime(CUresult result) noexcept {
  return static_cast<cudaError_t>(result);
}

inline CUdeviceptr device_pointer(const void* pointer) noexcept {
  return static_cast<CUdeviceptr>(reinterpret_cast<std::uintptr_t>(pointer));
}
inline void* host_pointer(CUdeviceptr pointer) noexcept {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(pointer));
}

}  // namespace vgpu::shim::cudart
