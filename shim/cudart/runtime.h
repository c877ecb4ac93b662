// What every call of the runtime does around its work: find the driver, make the thread's device current,
// keep the thread's last error, and let no exception out.
#pragma once

#include "shim/cudart/driver.h"

namespace vgpu::shim::cudart {

struct CallConfiguration {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};
inline constexpr unsigned kMaxCallConfigurations = 16;

// Trivial, so that neither the loader nor a thread's end runs anything for it.
struct ThreadState {
  int device;  // what cudaSetDevice chose; the first device until then
  cudaError_t last_error;
  unsigned configuration_count;
  CallConfiguration configurations[kMaxCallConfigurations];
};
extern thread_local constinit ThreadState t_state;

// Keeps an error for cudaGetLastError (cudaErrorNotReady too: callers clear it).
inline cudaError_t keep(cudaError_t error) noexcept {
  if (error != cudaSuccess) [[unlikely]]
    t_state.last_error = error;
  return error;
}

// The driver with a context current on this thread: the one the program made current through the driver API,
// or the primary context of the thread's device, retained at its first use. Null on error.
const Driver* current(cudaError_t* error) noexcept;

// Forgets which primary contexts were retained for `device` (after a reset).
void forget_primary(int device) noexcept;
// The primary context of `device`, retained at its first use.
cudaError_t primary_context(const Driver& table, int device, CUcontext* context) noexcept;
// The device of the thread's current context, or the thread's choice.
cudaError_t current_device(const Driver& table, int* device) noexcept;

// Runs the body, keeps its error.
template <typename Body>
cudaError_t guarded(Body&& body) noexcept {
  try {
    return keep(body());
  } catch (...) {
    return keep(cudaErrorMemoryAllocation);
  }
}

// One driver call with the driver initialised, or with a context current.
template <auto Member, typename... Args>
cudaError_t forward(Args... args) noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  if (table == nullptr) return keep(error);
  if (table->*Member == nullptr) return keep(cudaErrorNotSupported);
  return keep(to_runtime((table->*Member)(args...)));
}
template <auto Member, typename... Args>
cudaError_t with_context(Args... args) noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return keep(error);
  if (table->*Member == nullptr) return keep(cudaErrorNotSupported);
  return keep(to_runtime((table->*Member)(args...)));
}

// For an exported call that is not implemented: counts it, names it under VGPU_LOG.
cudaError_t unsupported(const char* name) noexcept;

// The stream a _ptsz or _ptds entry means by 0: the calling thread's own.
inline cudaStream_t per_thread(cudaStream_t stream) noexcept {
  return stream == nullptr ? CU_STREAM_PER_THREAD : stream;
}

}  // namespace vgpu::shim::cudart
