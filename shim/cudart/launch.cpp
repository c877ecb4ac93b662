// Launching kernels: cudaLaunchKernel is the driver's cuLaunchKernel plus one look-up in a hash map.
#include "shim/cudart/registry.h"

namespace vgpu::shim::cudart {
namespace {

int attribute(const Driver& table, CUdevice_attribute which, int fallback) noexcept {
  int value = fallback;
  int device = 0;
  if (table.device_get_attribute == nullptr || current_device(table, &device) != cudaSuccess) return fallback;
  if (table.device_get_attribute(&value, static_cast<int>(which), device) != CUDA_SUCCESS) return fallback;
  return value;
}

// The driver says "invalid value" where the runtime says "invalid configuration".
cudaError_t launch_error(const Driver& table, CUresult result, dim3 grid, dim3 block) noexcept {
  if (result != CUDA_ERROR_INVALID_VALUE) return to_runtime(result);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) {
    return cudaErrorInvalidConfiguration;
  }
  const auto above = [&](CUdevice_attribute which, unsigned value) {
    return value > static_cast<unsigned>(attribute(table, which, 0x7fffffff));
  };
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const auto most = attribute(table, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 0x7fffffff);
  const bool too_large =
      threads > static_cast<unsigned>(most) || above(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, block.x) ||
      above(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, block.y) ||
      above(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, block.z) ||
      above(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, grid.x) ||
      above(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, grid.y) || above(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, grid.z);
  return too_large ? cudaErrorInvalidConfiguration : cudaErrorInvalidValue;
}

bool fits_unsigned(std::size_t bytes) noexcept {
  return bytes <= 0xffffffffu;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** arguments, std::size_t shared_bytes,
                   cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  CUkernel kernel = nullptr;
  error = Registry::get().kernel(*table, function, &kernel);
  if (error != cudaSuccess) return error;
  if (!fits_unsigned(shared_bytes)) return cudaErrorInvalidValue;
  // The driver takes a CUkernel wherever it takes a CUfunction.
  const CUresult result =
      table->launch_kernel(reinterpret_cast<CUfunction>(kernel), grid.x, grid.y, grid.z, block.x, block.y,
                           block.z, static_cast<unsigned>(shared_bytes), stream, arguments, nullptr);
  if (result == CUDA_SUCCESS) [[likely]]
    return cudaSuccess;
  return launch_error(*table, result, grid, block);
}

cudaError_t launch_cooperative(const void* function, dim3 grid, dim3 block, void** arguments,
                               std::size_t shared_bytes, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (table->launch_cooperative_kernel == nullptr) return cudaErrorNotSupported;
  CUkernel kernel = nullptr;
  error = Registry::get().kernel(*table, function, &kernel);
  if (error != cudaSuccess) return error;
  if (!fits_unsigned(shared_bytes)) return cudaErrorInvalidValue;
  const CUresult result = table->launch_cooperative_kernel(
      reinterpret_cast<CUfunction>(kernel), grid.x, grid.y, grid.z, block.x, block.y, block.z,
      static_cast<unsigned>(shared_bytes), stream, arguments);
  return result == CUDA_SUCCESS ? cudaSuccess : launch_error(*table, result, grid, block);
}

cudaError_t launch_ex(const cudaLaunchConfig_t* config, const void* function, void** arguments,
                      bool own_stream) {
  if (config == nullptr || !fits_unsigned(config->dynamicSmemBytes)) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (table->launch_kernel_ex == nullptr) return cudaErrorNotSupported;
  CUkernel kernel = nullptr;
  error = Registry::get().kernel(*table, function, &kernel);
  if (error != cudaSuccess) return error;
  static_assert(sizeof(cudaLaunchAttribute) == sizeof(CUlaunchAttribute));
  CUlaunchConfig driver_config{};
  driver_config.gridDimX = config->gridDim.x;
  driver_config.gridDimY = config->gridDim.y;
  driver_config.gridDimZ = config->gridDim.z;
  driver_config.blockDimX = config->blockDim.x;
  driver_config.blockDimY = config->blockDim.y;
  driver_config.blockDimZ = config->blockDim.z;
  driver_config.sharedMemBytes = static_cast<unsigned>(config->dynamicSmemBytes);
  driver_config.hStream = own_stream ? per_thread(config->stream) : config->stream;
  driver_config.attrs = reinterpret_cast<CUlaunchAttribute*>(config->attrs);
  driver_config.numAttrs = config->numAttrs;
  const CUresult result =
      table->launch_kernel_ex(&driver_config, reinterpret_cast<CUfunction>(kernel), arguments, nullptr);
  return result == CUDA_SUCCESS ? cudaSuccess
                                : launch_error(*table, result, config->gridDim, config->blockDim);
}

}  // namespace
}  // namespace vgpu::shim::cudart

using namespace vgpu::shim::cudart;

VGPU_CUDART_API cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments,
                                             std::size_t shared_bytes, cudaStream_t stream) noexcept {
  return guarded([&] { return launch(function, grid, block, arguments, shared_bytes, stream); });
}
VGPU_CUDART_API cudaError_t cudaLaunchKernel_ptsz(const void* function, dim3 grid, dim3 block,
                                                  void** arguments, std::size_t shared_bytes,
                                                  cudaStream_t stream) noexcept {
  return guarded([&] { return launch(function, grid, block, arguments, shared_bytes, per_thread(stream)); });
}
VGPU_CUDART_API cudaError_t cudaLaunchCooperativeKernel(const void* function, dim3 grid, dim3 block,
                                                        void** arguments, std::size_t shared_bytes,
                                                        cudaStream_t stream) noexcept {
  return guarded([&] { return launch_cooperative(function, grid, block, arguments, shared_bytes, stream); });
}
VGPU_CUDART_API cudaError_t cudaLaunchCooperativeKernel_ptsz(const void* function, dim3 grid, dim3 block,
                                                             void** arguments, std::size_t shared_bytes,
                                                             cudaStream_t stream) noexcept {
  return guarded(
      [&] { return launch_cooperative(function, grid, block, arguments, shared_bytes, per_thread(stream)); });
}
VGPU_CUDART_API cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                                void** arguments) noexcept {
  return guarded([&] { return launch_ex(config, function, arguments, false); });
}
VGPU_CUDART_API cudaError_t cudaLaunchKernelExC_ptsz(const cudaLaunchConfig_t* config, const void* function,
                                                     void** arguments) noexcept {
  return guarded([&] { return launch_ex(config, function, arguments, true); });
}

VGPU_CUDART_API cudaError_t cudaGetKernel(cudaKernel_t* kernel, const void* function) noexcept {
  return guarded([&]() -> cudaError_t {
    if (kernel == nullptr) return cudaErrorInvalidValue;
    cudaError_t error = cudaSuccess;
    const Driver* table = current(&error);
    return table == nullptr ? error : Registry::get().kernel(*table, function, kernel);
  });
}

#if VGPU_CUDART_GENERATION >= 13
// CUDA 13's headers turn <<<...>>> into these two.
VGPU_CUDART_API cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) noexcept {
  return cudaGetKernel(kernel, function);
}
VGPU_CUDART_API cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments,
                                               std::size_t shared_bytes, cudaStream_t stream) noexcept {
  return cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, stream);
}
VGPU_CUDART_API cudaError_t __cudaLaunchKernel_ptsz(cudaKernel_t kernel, dim3 grid, dim3 block,
                                                    void** arguments, std::size_t shared_bytes,
                                                    cudaStream_t stream) noexcept {
  return cudaLaunchKernel_ptsz(kernel, grid, block, arguments, shared_bytes, stream);
}
#endif

VGPU_CUDART_API cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function,
                                               void* data) noexcept {
  return with_context<&Driver::launch_host_func>(stream, function, data);
}
VGPU_CUDART_API cudaError_t cudaLaunchHostFunc_ptsz(cudaStream_t stream, cudaHostFn_t function,
                                                    void* data) noexcept {
  return with_context<&Driver::launch_host_func>(per_thread(stream), function, data);
}
