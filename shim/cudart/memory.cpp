// Allocation: device memory, pinned and registered host memory, and what a pointer is.
#include "shim/cudart/runtime.h"

using namespace vgpu::shim::cudart;

namespace {

cudaError_t allocate(void** pointer, std::size_t bytes) noexcept {
  if (pointer == nullptr) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (table->mem_alloc == nullptr) return cudaErrorNotSupported;
  CUdeviceptr address = 0;
  const CUresult result = table->mem_alloc(&address, bytes);
  if (result == CUDA_SUCCESS) *pointer = host_pointer(address);
  return to_runtime(result);
}

cudaError_t allocate_pitched(void** pointer, std::size_t* pitch, std::size_t width,
                             std::size_t rows) noexcept {
  if (pointer == nullptr || pitch == nullptr) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  *pointer = nullptr;
  *pitch = 0;
  if (width == 0 || rows == 0) return cudaSuccess;
  if (table->mem_alloc_pitch == nullptr) return cudaErrorNotSupported;
  CUdeviceptr address = 0;
  constexpr unsigned kElementBytes = 16;  // the widest access a kernel makes
  const CUresult result = table->mem_alloc_pitch(&address, pitch, width, rows, kElementBytes);
  if (result == CUDA_SUCCESS) *pointer = host_pointer(address);
  return to_runtime(result);
}

cudaError_t allocate_host(void** pointer, std::size_t bytes, unsigned flags) noexcept {
  if (pointer == nullptr || (flags & ~7u) != 0) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  if (table->mem_host_alloc == nullptr) return cudaErrorNotSupported;
  return to_runtime(table->mem_host_alloc(pointer, bytes, flags));
}

cudaError_t pointer_attributes(cudaPointerAttributes* out, const void* pointer) noexcept {
  if (out == nullptr) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (table->pointer_get_attributes == nullptr) return cudaErrorNotSupported;
  unsigned memory_type = 0;
  int ordinal = kInvalidDeviceOrdinal;
  CUdeviceptr device_address = 0;
  void* host_address = nullptr;
  unsigned managed = 0;
  int names[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                 CU_POINTER_ATTRIBUTE_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_HOST_POINTER,
                 CU_POINTER_ATTRIBUTE_IS_MANAGED};
  void* values[] = {&memory_type, &ordinal, &device_address, &host_address, &managed};
  const CUresult result = table->pointer_get_attributes(5, names, values, device_pointer(pointer));
  if (result != CUDA_SUCCESS) return to_runtime(result);
  *out = cudaPointerAttributes{};
  out->device = ordinal;
  out->devicePointer = host_pointer(device_address);
  out->hostPointer = host_address;
  if (managed != 0) {
    out->type = cudaMemoryTypeManaged;
  } else if (memory_type == CU_MEMORYTYPE_DEVICE) {
    out->type = cudaMemoryTypeDevice;
  } else if (memory_type == CU_MEMORYTYPE_HOST) {
    out->type = cudaMemoryTypeHost;
  } else {  // memory CUDA knows nothing of: the host's own
    out->type = cudaMemoryTypeUnregistered;
    out->device = kInvalidDeviceOrdinal;
    out->devicePointer = nullptr;
    out->hostPointer = const_cast<void*>(pointer);
  }
  return cudaSuccess;
}

}  // namespace

VGPU_CUDART_API cudaError_t cudaMalloc(void** pointer, std::size_t bytes) noexcept {
  return keep(allocate(pointer, bytes));
}

VGPU_CUDART_API cudaError_t cudaFree(void* pointer) noexcept {
  if (pointer == nullptr) {  // programs use this to have the context made
    cudaError_t error = cudaSuccess;
    return current(&error) == nullptr ? keep(error) : cudaSuccess;
  }
  return with_context<&Driver::mem_free>(device_pointer(pointer));
}

VGPU_CUDART_API cudaError_t cudaMallocPitch(void** pointer, std::size_t* pitch, std::size_t width,
                                            std::size_t height) noexcept {
  return keep(allocate_pitched(pointer, pitch, width, height));
}

VGPU_CUDART_API cudaError_t cudaMalloc3D(cudaPitchedPtr* pitched, cudaExtent extent) noexcept {
  if (pitched == nullptr) return keep(cudaErrorInvalidValue);
  std::size_t rows = 0;
  if (__builtin_mul_overflow(extent.height, extent.depth, &rows)) return keep(cudaErrorMemoryAllocation);
  cudaPitchedPtr result{nullptr, 0, extent.width, extent.height};
  const cudaError_t error = allocate_pitched(&result.ptr, &result.pitch, extent.width, rows);
  if (error == cudaSuccess) *pitched = result;
  return keep(error);
}

VGPU_CUDART_API cudaError_t cudaMallocManaged(void** pointer, std::size_t bytes, unsigned flags) noexcept {
  if (pointer == nullptr || bytes == 0 || (flags != 1 && flags != 2)) return keep(cudaErrorInvalidValue);
  CUdeviceptr address = 0;
  const cudaError_t error = with_context<&Driver::mem_alloc_managed>(&address, bytes, flags);
  if (error == cudaSuccess) *pointer = host_pointer(address);
  return error;
}

VGPU_CUDART_API cudaError_t cudaMallocAsync(void** pointer, std::size_t bytes, cudaStream_t stream) noexcept {
  if (pointer == nullptr) return keep(cudaErrorInvalidValue);
  CUdeviceptr address = 0;
  const cudaError_t error = with_context<&Driver::mem_alloc_async>(&address, bytes, stream);
  if (error == cudaSuccess) *pointer = host_pointer(address);
  return error;
}
VGPU_CUDART_API cudaError_t cudaMallocAsync_ptsz(void** pointer, std::size_t bytes,
                                                 cudaStream_t stream) noexcept {
  return cudaMallocAsync(pointer, bytes, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) noexcept {
  return with_context<&Driver::mem_free_async>(device_pointer(pointer), stream);
}
VGPU_CUDART_API cudaError_t cudaFreeAsync_ptsz(void* pointer, cudaStream_t stream) noexcept {
  return cudaFreeAsync(pointer, per_thread(stream));
}

VGPU_CUDART_API cudaError_t cudaMemGetInfo(std::size_t* free_bytes, std::size_t* total_bytes) noexcept {
  return with_context<&Driver::mem_get_info>(free_bytes, total_bytes);
}

VGPU_CUDART_API cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) noexcept {
  return keep(allocate_host(pointer, bytes, 0));
}
VGPU_CUDART_API cudaError_t cudaHostAlloc(void** pointer, std::size_t bytes, unsigned flags) noexcept {
  return keep(allocate_host(pointer, bytes, flags));
}
VGPU_CUDART_API cudaError_t cudaFreeHost(void* pointer) noexcept {
  if (pointer == nullptr) return cudaSuccess;
  return with_context<&Driver::mem_free_host>(pointer);
}
VGPU_CUDART_API cudaError_t cudaHostRegister(void* pointer, std::size_t bytes, unsigned flags) noexcept {
  return with_context<&Driver::mem_host_register>(pointer, bytes, flags);
}
VGPU_CUDART_API cudaError_t cudaHostUnregister(void* pointer) noexcept {
  return with_context<&Driver::mem_host_unregister>(pointer);
}
VGPU_CUDART_API cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags) noexcept {
  if (device == nullptr) return keep(cudaErrorInvalidValue);
  CUdeviceptr address = 0;
  const cudaError_t error = with_context<&Driver::mem_host_get_device_pointer>(&address, host, flags);
  if (error == cudaSuccess) *device = host_pointer(address);
  return error;
}
VGPU_CUDART_API cudaError_t cudaHostGetFlags(unsigned* flags, void* pointer) noexcept {
  if (flags == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::mem_host_get_flags>(flags, pointer);
}

VGPU_CUDART_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out,
                                                     const void* pointer) noexcept {
  return keep(pointer_attributes(out, pointer));
}

VGPU_CUDART_API cudaChannelFormatDesc cudaCreateChannelDesc(int x, int y, int z, int w, unsigned f) noexcept {
  return {x, y, z, w, f};
}
