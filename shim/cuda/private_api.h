// The one private entry of libvgpu-cuda.so (soname libcuda.so.1), by which libvgpu-cublas and libvgpu-nvml
// reach the session. Find it with dlsym(handle of libcuda.so.1, kVgpuPrivateTableSymbol): NVIDIA's libcuda
// has no such symbol, and then, or when the table for the wanted version is null, the caller must report that
// it needs vgpu's libcuda (CUBLAS_STATUS_NOT_INITIALIZED, NVML_ERROR_LIBRARY_NOT_FOUND), never call further.
// Every function may be called from any thread and ends within 3 s when the device is gone.
#pragma once

#include <cstdint>

#include "ring/region_layout.h"
#include "shim/cuda/cuda_types.h"

inline constexpr uint32_t kVgpuPrivateVersion = 1;
inline constexpr char kVgpuPrivateTableSymbol[] = "vgpuGetPrivateTable";

// What the device says about itself at this moment.
struct VgpuDeviceStatus {
  uint32_t device_state;  // vgpu::ring::DeviceState
  uint32_t channels_served;
  uint64_t memory_in_use_bytes;  // of all processes
};

struct VgpuPrivateTable {
  uint32_t version;  // kVgpuPrivateVersion
  uint32_t bytes;    // sizeof(VgpuPrivateTable)

  // Puts one asynchronous command (protocol/commands.h: `opcode`; `body`: the request struct and its tail,
  // copied before the call returns) on `stream` of the calling thread's current context, in order with every
  // other CUDA call; into the graph when the stream is capturing. Null, CU_STREAM_LEGACY and
  // CU_STREAM_PER_THREAD as in CUDA. INVALID_CONTEXT without a current context, INVALID_HANDLE for a stream
  // that is none, INVALID_VALUE for a command that is not asynchronous or too long; errors of the execution
  // surface at the next synchronising call.
  CUresult (*submit)(CUstream stream, uint16_t opcode, const void* body, uint32_t body_bytes);

  // The calling thread's current context, usable: INVALID_CONTEXT when there is none, the context's sticky
  // error when it has one.
  CUresult (*check_context)(CUcontext* context);
  // Whether `stream` may be used in the current context.
  CUresult (*check_stream)(CUstream stream);

  // The device's constant description, valid until the process ends. Works without cuInit and without a
  // context: finds and maps the device but takes no channel (nvml). NO_DEVICE, SYSTEM_DRIVER_MISMATCH, ....
  CUresult (*device_info)(const vgpu::ring::DeviceInfo** info);
  CUresult (*device_status)(VgpuDeviceStatus* status);

  // Counts and, with VGPU_LOG, names a call that the library exports but does not implement. `name` must live
  // as long as the process.
  void (*note_unimplemented)(const char* name);
  // One line for VGPU_LOG, without a line end; nothing when logging is off.
  void (*log)(const char* line);
  // Non-zero when VGPU_LOG is on: lets a caller skip putting a line together.
  int (*log_enabled)();
};

#pragma GCC visibility push(default)
extern "C" {
// Null when the library does not speak `version`. Does nothing else: no device is touched.
const VgpuPrivateTable* vgpuGetPrivateTable(uint32_t version);
}
#pragma GCC visibility pop
using VgpuGetPrivateTableFn = const VgpuPrivateTable* (*)(uint32_t version);
