// What a program asks about its kernels: attributes, occupancy, names, parameters.
#include "shim/cudart/registry.h"

namespace vgpu::shim::cudart {
namespace {

struct Resolved {
  const Driver* table;
  CUkernel kernel;
  int device;
};

template <typename Body>
cudaError_t with_kernel(const void* function, Body&& body) noexcept {
  return guarded([&]() -> cudaError_t {
    cudaError_t error = cudaSuccess;
    const Driver* table = current(&error);
    if (table == nullptr) return error;
    Resolved resolved{table, nullptr, 0};
    error = Registry::get().kernel(*table, function, &resolved.kernel);
    if (error != cudaSuccess) return error;
    error = current_device(*table, &resolved.device);
    return error == cudaSuccess ? body(resolved) : error;
  });
}

cudaError_t attributes(const Resolved& r, cudaFuncAttributes* out) {
  if (r.table->kernel_get_attribute == nullptr) return cudaErrorNotSupported;
  cudaFuncAttributes result{};
  CUresult first_error = CUDA_SUCCESS;
  const auto get = [&](CUfunction_attribute which) {
    int value = 0;
    const CUresult status =
        r.table->kernel_get_attribute(&value, static_cast<int>(which), r.kernel, r.device);
    if (status != CUDA_SUCCESS && first_error == CUDA_SUCCESS) first_error = status;
    return value;
  };
  result.sharedSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES));
  result.constSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES));
  result.localSizeBytes = static_cast<std::size_t>(get(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES));
  result.maxThreadsPerBlock = get(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  result.numRegs = get(CU_FUNC_ATTRIBUTE_NUM_REGS);
  result.ptxVersion = get(CU_FUNC_ATTRIBUTE_PTX_VERSION);
  result.binaryVersion = get(CU_FUNC_ATTRIBUTE_BINARY_VERSION);
  result.cacheModeCA = get(CU_FUNC_ATTRIBUTE_CACHE_MODE_CA);
  result.maxDynamicSharedSizeBytes = get(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  result.preferredShmemCarveout = get(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT);
  if (first_error != CUDA_SUCCESS) return to_runtime(first_error);
  // Drivers before CUDA 11.8 know no clusters: then these stay 0.
  result.clusterDimMustBeSet = get(CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET);
  result.requiredClusterWidth = get(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH);
  result.requiredClusterHeight = get(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT);
  result.requiredClusterDepth = get(CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH);
  result.clusterSchedulingPolicyPreference = get(CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE);
  result.nonPortableClusterSizeAllowed = get(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
  *out = result;
  return cudaSuccess;
}

}  // namespace
}  // namespace vgpu::shim::cudart

using namespace vgpu::shim::cudart;

VGPU_CUDART_API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* out, const void* function) noexcept {
  if (out == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) { return attributes(r, out); });
}

VGPU_CUDART_API cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute,
                                                 int value) noexcept {
  if (attribute < cudaFuncAttributeMaxDynamicSharedMemorySize ||
      attribute > cudaFuncAttributeClusterSchedulingPolicyPreference) {
    return keep(cudaErrorInvalidValue);
  }
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->kernel_set_attribute == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->kernel_set_attribute(static_cast<int>(attribute), value, r.kernel, r.device));
  });
}

VGPU_CUDART_API cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t kernel, cudaFuncAttribute attribute,
                                                            int value, int device) noexcept {
  return with_context<&Driver::kernel_set_attribute>(static_cast<int>(attribute), value, kernel, device);
}

VGPU_CUDART_API cudaError_t cudaFuncSetCacheConfig(const void* function, cudaFuncCache config) noexcept {
  if (config > cudaFuncCachePreferEqual) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->kernel_set_cache_config == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->kernel_set_cache_config(r.kernel, static_cast<int>(config), r.device));
  });
}

VGPU_CUDART_API cudaError_t cudaFuncGetName(const char** name, const void* function) noexcept {
  if (name == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    const char* registered = Registry::get().kernel_name(function);
    if (registered != nullptr) {
      *name = registered;
      return cudaSuccess;
    }
    if (r.table->kernel_get_name == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->kernel_get_name(name, r.kernel));
  });
}

VGPU_CUDART_API cudaError_t cudaFuncGetParamInfo(const void* function, std::size_t index, std::size_t* offset,
                                                 std::size_t* bytes) noexcept {
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->kernel_get_param_info == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->kernel_get_param_info(r.kernel, index, offset, bytes));
  });
}

VGPU_CUDART_API cudaError_t cudaGetFuncBySymbol(cudaFunction_t* result, const void* function) noexcept {
  if (result == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->kernel_get_function == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->kernel_get_function(result, r.kernel));
  });
}

VGPU_CUDART_API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void* function, int block_size, std::size_t shared_bytes, unsigned flags) noexcept {
  if (blocks == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->occupancy_max_active_blocks == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->occupancy_max_active_blocks(blocks, reinterpret_cast<CUfunction>(r.kernel),
                                                           block_size, shared_bytes, flags));
  });
}
VGPU_CUDART_API cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function,
                                                                          int block_size,
                                                                          std::size_t shared_bytes) noexcept {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_size, shared_bytes,
                                                                0);
}
VGPU_CUDART_API cudaError_t cudaOccupancyAvailableDynamicSMemPerBlock(std::size_t* bytes,
                                                                      const void* function, int blocks,
                                                                      int block_size) noexcept {
  if (bytes == nullptr) return keep(cudaErrorInvalidValue);
  return with_kernel(function, [&](const Resolved& r) -> cudaError_t {
    if (r.table->occupancy_available_shared == nullptr) return cudaErrorNotSupported;
    return to_runtime(r.table->occupancy_available_shared(bytes, reinterpret_cast<CUfunction>(r.kernel),
                                                          blocks, block_size));
  });
}
