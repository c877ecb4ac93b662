// cudaDeviceProp from the driver's attributes: one row a field, so that the two generations differ only in
// rows.
#include <cstring>

#include "shim/cudart/registry.h"

using namespace vgpu::shim::cudart;

namespace {

cudaError_t fill(const Driver& table, int device, cudaDeviceProp& p) {
  CUdevice handle = 0;
  CUresult result = table.device_get(&handle, device);
  if (result != CUDA_SUCCESS) return to_runtime(result);
  if (table.device_get_attribute == nullptr || table.device_get_name == nullptr ||
      table.device_total_mem == nullptr) {
    return cudaErrorNotSupported;
  }
  result = table.device_get_name(p.name, static_cast<int>(sizeof p.name), handle);
  if (result != CUDA_SUCCESS) return to_runtime(result);
  result = table.device_total_mem(&p.totalGlobalMem, handle);
  if (result != CUDA_SUCCESS) return to_runtime(result);
  if (table.device_get_uuid != nullptr) table.device_get_uuid(&p.uuid, handle);
  // Only Windows drivers have a LUID: its absence is no error.
  if (table.device_get_luid != nullptr &&
      table.device_get_luid(p.luid, &p.luidDeviceNodeMask, handle) != CUDA_SUCCESS) {
    std::memset(p.luid, 0, sizeof p.luid);
    p.luidDeviceNodeMask = 0;
  }
  const auto set = [&](auto& field, CUdevice_attribute attribute) {
    int value = 0;
    if (table.device_get_attribute(&value, static_cast<int>(attribute), handle) != CUDA_SUCCESS) value = 0;
    field = static_cast<std::remove_reference_t<decltype(field)>>(value);
  };
#define FILL(field, attribute) set(p.field, CU_DEVICE_ATTRIBUTE_##attribute)
#include "shim/cudart/properties.def"
#undef FILL
  return cudaSuccess;
}

cudaError_t properties(cudaDeviceProp* out, int device, std::size_t bytes) noexcept {
  if (out == nullptr) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  if (table == nullptr) return error;
  int count = 0;
  if (table->device_get_count == nullptr || table->device_get_count(&count) != CUDA_SUCCESS || device < 0 ||
      device >= count) {
    return cudaErrorInvalidDevice;
  }
  cudaDeviceProp filled{};
  error = fill(*table, device, filled);
  if (error == cudaSuccess) std::memcpy(out, &filled, bytes);
  return error;
}

}  // namespace

#if VGPU_CUDART_GENERATION < 13
// This name still has CUDA 11's struct in libcudart.so.12; CUDA 12's headers call the _v2 one.
VGPU_CUDART_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) noexcept {
  return keep(properties(out, device, kDevicePropV1Bytes));
}
VGPU_CUDART_API cudaError_t cudaGetDeviceProperties_v2(cudaDeviceProp* out, int device) noexcept {
  return keep(properties(out, device, sizeof(cudaDeviceProp)));
}
#else
VGPU_CUDART_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) noexcept {
  return keep(properties(out, device, sizeof(cudaDeviceProp)));
}
#endif

// The device whose capability, memory and name come closest to what is asked; a field that is 0 asks nothing.
VGPU_CUDART_API cudaError_t cudaChooseDevice(int* device, const cudaDeviceProp* wanted) noexcept {
  if (device == nullptr || wanted == nullptr) return keep(cudaErrorInvalidValue);
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  if (table == nullptr) return keep(error);
  int count = 0;
  error = to_runtime(table->device_get_count(&count));
  if (error != cudaSuccess) return keep(error);
  if (count == 0) return keep(cudaErrorNoDevice);
  int best_score = -1;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp present{};
    error = fill(*table, i, present);
    if (error != cudaSuccess) return keep(error);
    int score = 0;
    if (wanted->name[0] != 0 && std::strncmp(wanted->name, present.name, sizeof present.name) == 0)
      score += 4;
    const bool capable =
        present.major > wanted->major || (present.major == wanted->major && present.minor >= wanted->minor);
    if (capable) score += 2;
    if (present.totalGlobalMem >= wanted->totalGlobalMem) score += 1;
    if (score > best_score) {
      best_score = score;
      *device = i;
    }
  }
  return cudaSuccess;
}
