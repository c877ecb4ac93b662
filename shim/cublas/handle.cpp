// Handles and their settings, status names, and the way to libcuda.so.1.
#include "shim/cublas/handle.h"

#include <dlfcn.h>

#include <memory>
#include <mutex>
#include <new>

namespace vgpu::shim::cublas {
namespace {

constinit Cuda g_cuda;
constinit std::once_flag g_load_once;

template <typename Function>
void resolve(void* library, const char* symbol, Function*& slot) noexcept {
  slot = reinterpret_cast<Function*>(dlsym(library, symbol));
}

void load() noexcept {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  VgpuGetPrivateTableFn get = nullptr;
  resolve(library, kVgpuPrivateTableSymbol, get);
  if (get == nullptr) return;  // NVIDIA's own
  resolve(library, "cuInit", g_cuda.init);
  resolve(library, "cuCtxGetCurrent", g_cuda.ctx_get_current);
  resolve(library, "cuCtxSetCurrent", g_cuda.ctx_set_current);
  resolve(library, "cuDevicePrimaryCtxRetain", g_cuda.primary_ctx_retain);
  resolve(library, "cuMemcpy2DUnaligned_v2", g_cuda.memcpy_2d);
  resolve(library, "cuMemcpy2DAsync_v2", g_cuda.memcpy_2d_async);
  g_cuda.table = get(kVgpuPrivateVersion);
}

}  // namespace

const Cuda* cuda() noexcept {
  std::call_once(g_load_once, load);
  return g_cuda.table == nullptr ? nullptr : &g_cuda;
}

cublasStatus_t to_status(CUresult result) noexcept {
  switch (result) {
    case CUDA_SUCCESS:
      return CUBLAS_STATUS_SUCCESS;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return CUBLAS_STATUS_ALLOC_FAILED;
    case CUDA_ERROR_INVALID_VALUE:
    case CUDA_ERROR_INVALID_HANDLE:
      return CUBLAS_STATUS_INVALID_VALUE;
    case CUDA_ERROR_NO_DEVICE:
    case CUDA_ERROR_NOT_INITIALIZED:
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_INVALID_DEVICE:
      return CUBLAS_STATUS_NOT_INITIALIZED;
    case CUDA_ERROR_NOT_SUPPORTED:
      return CUBLAS_STATUS_NOT_SUPPORTED;
    default:
      return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

cublasStatus_t submit(const Handle& handle, uint16_t opcode, const void* body, uint32_t bytes) noexcept {
  const Cuda* driver = cuda();
  if (driver == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  CUresult result = driver->table->submit(handle.stream, opcode, body, bytes);
  if (result == CUDA_ERROR_INVALID_CONTEXT && driver->ctx_set_current(handle.context) == CUDA_SUCCESS) {
    result = driver->table->submit(handle.stream, opcode, body, bytes);
  }
  return to_status(result);
}

cublasStatus_t unsupported(const char* name) noexcept {
  const Cuda* driver = cuda();
  if (driver != nullptr) driver->table->note_unimplemented(name);
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

namespace {

// The thread's context, or the first device's primary one, made current as the runtime would.
CUresult usable_context(const Cuda& driver, CUcontext* context) noexcept {
  CUresult result = driver.table->check_context(context);
  if (result != CUDA_ERROR_INVALID_CONTEXT && result != CUDA_ERROR_NOT_INITIALIZED) return result;
  result = driver.init(0);
  CUcontext primary = nullptr;
  if (result == CUDA_SUCCESS) result = driver.primary_ctx_retain(&primary, 0);
  if (result == CUDA_SUCCESS) result = driver.ctx_set_current(primary);
  return result == CUDA_SUCCESS ? driver.table->check_context(context) : result;
}

}  // namespace
}  // namespace vgpu::shim::cublas

using namespace vgpu::shim::cublas;

VGPU_CUBLAS_API cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) noexcept {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = nullptr;
  const Cuda* driver = cuda();
  if (driver == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  CUcontext context = nullptr;
  const CUresult result = usable_context(*driver, &context);
  if (result != CUDA_SUCCESS) return to_status(result);
  std::unique_ptr<Handle> created(new (std::nothrow) Handle);
  if (created == nullptr) return CUBLAS_STATUS_ALLOC_FAILED;
  created->context = context;
  *handle = created.release();
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_CUBLAS_API cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->magic = 0;
  const std::unique_ptr<Handle> owned(handle);
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_CUBLAS_API cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, CUstream stream) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, CUstream* stream) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (stream == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}

// The device brings its own scratch memory; the caller's is checked as cuBLAS documents, and left alone.
VGPU_CUBLAS_API cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace,
                                                     std::size_t /*bytes*/) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  constexpr uintptr_t kAlignment = 256;
  if (reinterpret_cast<uintptr_t>(workspace) % kAlignment != 0) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_CUBLAS_API cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle,
                                                       cublasPointerMode_t mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode != CUBLAS_POINTER_MODE_HOST && mode != CUBLAS_POINTER_MODE_DEVICE)
    return CUBLAS_STATUS_INVALID_VALUE;
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle,
                                                       cublasPointerMode_t* mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *mode = handle->pointer_mode;
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_CUBLAS_API cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle,
                                                    cublasAtomicsMode_t mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode != CUBLAS_ATOMICS_NOT_ALLOWED && mode != CUBLAS_ATOMICS_ALLOWED)
    return CUBLAS_STATUS_INVALID_VALUE;
  handle->atomics_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetAtomicsMode(cublasHandle_t handle,
                                                    cublasAtomicsMode_t* mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *mode = handle->atomics_mode;
  return CUBLAS_STATUS_SUCCESS;
}

// A mode allows less precision, it never demands it: the device computes in the type asked for in all of
// them.
VGPU_CUBLAS_API cublasStatus_t cublasSetMathMode(cublasHandle_t handle, int mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  const int plain = mode & ~kMathDisallowReducedPrecision;
  if (plain < 0 || plain > kMathModeLast) return CUBLAS_STATUS_INVALID_VALUE;
  handle->math_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetMathMode(cublasHandle_t handle, int* mode) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (mode == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *mode = handle->math_mode;
  return CUBLAS_STATUS_SUCCESS;
}

VGPU_CUBLAS_API cublasStatus_t cublasSetSmCountTarget(cublasHandle_t handle, int count) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (count < 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->sm_count_target = count;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetSmCountTarget(cublasHandle_t handle, int* count) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (count == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *count = handle->sm_count_target;
  return CUBLAS_STATUS_SUCCESS;
}

namespace {
constexpr int kMajor = VGPU_CUBLAS_GENERATION;
constexpr int kMinor = VGPU_CUBLAS_GENERATION < 13 ? 9 : 0;
}  // namespace

VGPU_CUBLAS_API cublasStatus_t cublasGetVersion_v2(cublasHandle_t /*handle*/, int* version) noexcept {
  if (version == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *version = kMajor * 10000 + kMinor * 100;
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API cublasStatus_t cublasGetProperty(int property, int* value) noexcept {
  if (value == nullptr || property < 0 || property > 2) return CUBLAS_STATUS_INVALID_VALUE;
  constexpr int kValues[] = {kMajor, kMinor, 0};
  *value = kValues[property];
  return CUBLAS_STATUS_SUCCESS;
}
VGPU_CUBLAS_API std::size_t cublasGetCudartVersion() noexcept {
  return static_cast<std::size_t>(kMajor) * 1000 + static_cast<std::size_t>(kMinor) * 10;
}
