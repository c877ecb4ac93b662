// A cuBLAS handle, and the way to the device: libcuda.so.1's private entry, opened by name at the first call.
// As in cuBLAS, a handle may be used by several threads, but not changed while another one uses it.
#pragma once

#include "shim/cublas/cublas_abi.h"
#include "shim/cuda/private_api.h"

namespace vgpu::shim::cublas {

inline constexpr uint64_t kHandleMagic = 0x5355'4c42'5550'4756;

struct Handle {
  uint64_t magic = kHandleMagic;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
  cublasAtomicsMode_t atomics_mode = CUBLAS_ATOMICS_NOT_ALLOWED;
  int math_mode = 0;
  int sm_count_target = 0;
};

inline bool valid(const Handle* handle) noexcept {
  return handle != nullptr && handle->magic == kHandleMagic;
}

// The functions of libcuda.so.1 that this library uses; null members where it lacks them.
struct Cuda {
  const VgpuPrivateTable* table = nullptr;
  CUresult (*init)(unsigned) = nullptr;
  CUresult (*ctx_get_current)(CUcontext*) = nullptr;
  CUresult (*ctx_set_current)(CUcontext) = nullptr;
  CUresult (*primary_ctx_retain)(CUcontext*, CUdevice) = nullptr;
  CUresult (*memcpy_2d)(const CUDA_MEMCPY2D*) = nullptr;
  CUresult (*memcpy_2d_async)(const CUDA_MEMCPY2D*, CUstream) = nullptr;
};
// Null if there is no libcuda, or it is not vgpu's.
const Cuda* cuda() noexcept;

cublasStatus_t to_status(CUresult result) noexcept;

// Puts a command on the handle's stream, in the handle's context where the thread has none.
cublasStatus_t submit(const Handle& handle, uint16_t opcode, const void* body, uint32_t bytes) noexcept;

// For an exported call, or a form of one, that is not implemented: counts it, names it under VGPU_LOG. The
// name must be a literal.
cublasStatus_t unsupported(const char* name) noexcept;

}  // namespace vgpu::shim::cublas
