// Devices and the primary context: choice, limits, synchronisation, peers, versions.
#include <cstring>

#include "shim/cudart/registry.h"

using namespace vgpu::shim::cudart;

namespace {

constexpr int kRuntimeVersion = VGPU_CUDART_GENERATION < 13 ? 12090 : 13000;

cudaError_t device_count(const Driver& table, int* count) noexcept {
  return table.device_get_count == nullptr ? cudaErrorNotSupported
                                           : to_runtime(table.device_get_count(count));
}

// The driver, and that `device` is one of its devices.
const Driver* checked(int device, cudaError_t* error) noexcept {
  const Driver* table = driver(error);
  if (table == nullptr) return nullptr;
  int count = 0;
  *error = device_count(*table, &count);
  if (*error == cudaSuccess && (device < 0 || device >= count)) *error = cudaErrorInvalidDevice;
  return *error == cudaSuccess ? table : nullptr;
}

cudaError_t set_device(int device) noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = checked(device, &error);
  if (table == nullptr) return error;
  CUcontext wanted = nullptr;
  error = primary_context(*table, device, &wanted);
  if (error != cudaSuccess) return error;
  t_state.device = device;
  CUcontext present = nullptr;
  if (table->ctx_get_current(&present) == CUDA_SUCCESS && present == wanted) return cudaSuccess;
  return to_runtime(table->ctx_set_current(wanted));
}

cudaError_t reset() noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  if (table == nullptr) return error;
  if (table->primary_ctx_reset == nullptr) return cudaErrorNotSupported;
  int device = 0;
  error = current_device(*table, &device);
  if (error != cudaSuccess) return error;
  error = to_runtime(table->primary_ctx_reset(device));
  if (error != cudaSuccess) return error;
  // The next call makes a fresh primary context current.
  forget_primary(device);
  t_state.last_error = cudaSuccess;
  return to_runtime(table->ctx_set_current(nullptr));
}

cudaError_t set_flags(int device, unsigned flags) noexcept {
  constexpr unsigned kMapHost = 0x08;  // always on; the driver's flag of that number too
  constexpr unsigned kKnown = 0xff;
  if ((flags & ~kKnown) != 0) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = checked(device, &error);
  if (table == nullptr) return error;
  if (table->primary_ctx_set_flags == nullptr) return cudaErrorNotSupported;
  return to_runtime(table->primary_ctx_set_flags(device, flags & ~kMapHost));
}

cudaError_t entry_point(const char* symbol, void** function, int version, unsigned long long flags,
                        cudaDriverEntryPointQueryResult* status) noexcept {
  if (symbol == nullptr || function == nullptr) return cudaErrorInvalidValue;
  const Driver* table = loaded_driver();
  if (table == nullptr) return cudaErrorInsufficientDriver;
  if (table->get_proc_address == nullptr) return cudaErrorNotSupported;
  unsigned found = 0;
  *function = nullptr;
  const CUresult result = table->get_proc_address(symbol, function, version, flags, &found);
  if (status != nullptr) *status = static_cast<cudaDriverEntryPointQueryResult>(found);
  if (result == CUDA_ERROR_NOT_FOUND) return status == nullptr ? cudaErrorSymbolNotFound : cudaSuccess;
  return to_runtime(result);
}

cudaError_t peer_context(int peer, const Driver** table, CUcontext* context) noexcept {
  cudaError_t error = cudaSuccess;
  *table = current(&error);
  if (*table == nullptr || checked(peer, &error) == nullptr) return error;
  return primary_context(**table, peer, context);
}

}  // namespace

VGPU_CUDART_API cudaError_t cudaGetDeviceCount(int* count) noexcept {
  if (count == nullptr) return keep(cudaErrorInvalidValue);
  *count = 0;
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  if (table == nullptr) return keep(error);
  error = device_count(*table, count);
  if (error == cudaSuccess && *count == 0) error = cudaErrorNoDevice;
  return keep(error);
}

VGPU_CUDART_API cudaError_t cudaGetDevice(int* device) noexcept {
  if (device == nullptr) return keep(cudaErrorInvalidValue);
  cudaError_t error = cudaSuccess;
  const Driver* table = driver(&error);
  return keep(table == nullptr ? error : current_device(*table, device));
}

VGPU_CUDART_API cudaError_t cudaSetDevice(int device) noexcept {
  return keep(set_device(device));
}

VGPU_CUDART_API cudaError_t cudaSetValidDevices(int* devices, int count) noexcept {
  if (count == 0) return cudaSuccess;
  if (devices == nullptr || count < 0) return keep(cudaErrorInvalidValue);
  for (int i = 0; i < count; ++i) {
    cudaError_t error = cudaSuccess;
    if (checked(devices[i], &error) == nullptr) return keep(error);
  }
  t_state.device = devices[0];
  return cudaSuccess;
}

VGPU_CUDART_API cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags) noexcept {
  constexpr unsigned kFlagsAreValid = 1;
  if ((flags & ~kFlagsAreValid) != 0) return keep(cudaErrorInvalidValue);
  if ((flags & kFlagsAreValid) != 0) {
    const cudaError_t error = set_flags(device, device_flags);
    if (error != cudaSuccess) return keep(error);
  }
  cudaError_t error = cudaSuccess;
  const Driver* table = checked(device, &error);
  if (table == nullptr) return keep(error);
  CUcontext context = nullptr;
  return keep(primary_context(*table, device, &context));
}

VGPU_CUDART_API cudaError_t cudaSetDeviceFlags(unsigned flags) noexcept {
  return keep(set_flags(t_state.device, flags));
}

VGPU_CUDART_API cudaError_t cudaGetDeviceFlags(unsigned* flags) noexcept {
  if (flags == nullptr) return keep(cudaErrorInvalidValue);
  cudaError_t error = cudaSuccess;
  const Driver* table = checked(t_state.device, &error);
  if (table == nullptr) return keep(error);
  if (table->primary_ctx_get_state == nullptr) return keep(cudaErrorNotSupported);
  int active = 0;
  error = to_runtime(table->primary_ctx_get_state(t_state.device, flags, &active));
  constexpr unsigned kMapHost = 0x08;
  if (error == cudaSuccess) *flags |= kMapHost;
  return keep(error);
}

VGPU_CUDART_API cudaError_t cudaDeviceGetAttribute(int* value, int attribute, int device) noexcept {
  if (value == nullptr) return keep(cudaErrorInvalidValue);
  return forward<&Driver::device_get_attribute>(value, attribute, device);
}

VGPU_CUDART_API cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) noexcept {
  if (text == nullptr || length <= 0) return keep(cudaErrorInvalidValue);
  return forward<&Driver::device_get_pci_bus_id>(text, length, device);
}

VGPU_CUDART_API cudaError_t cudaDeviceGetByPCIBusId(int* device, const char* text) noexcept {
  if (device == nullptr || text == nullptr) return keep(cudaErrorInvalidValue);
  return forward<&Driver::device_get_by_pci_bus_id>(device, text);
}

VGPU_CUDART_API cudaError_t cudaDeviceSynchronize() noexcept {
  return with_context<&Driver::ctx_synchronize>();
}

VGPU_CUDART_API cudaError_t cudaDeviceReset() noexcept {
  return keep(reset());
}

VGPU_CUDART_API cudaError_t cudaDeviceSetLimit(int limit, std::size_t value) noexcept {
  return with_context<&Driver::ctx_set_limit>(limit, value);
}
VGPU_CUDART_API cudaError_t cudaDeviceGetLimit(std::size_t* value, int limit) noexcept {
  if (value == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::ctx_get_limit>(value, limit);
}
VGPU_CUDART_API cudaError_t cudaDeviceSetCacheConfig(cudaFuncCache config) noexcept {
  return with_context<&Driver::ctx_set_cache_config>(static_cast<int>(config));
}
VGPU_CUDART_API cudaError_t cudaDeviceGetCacheConfig(int* config) noexcept {
  if (config == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::ctx_get_cache_config>(config);
}
VGPU_CUDART_API cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) noexcept {
  return with_context<&Driver::ctx_get_stream_priority_range>(least, greatest);
}

VGPU_CUDART_API cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) noexcept {
  if (can == nullptr) return keep(cudaErrorInvalidValue);
  return forward<&Driver::device_can_access_peer>(can, device, peer);
}
VGPU_CUDART_API cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags) noexcept {
  const Driver* table = nullptr;
  CUcontext context = nullptr;
  const cudaError_t error = peer_context(peer, &table, &context);
  if (error != cudaSuccess) return keep(error);
  if (table->ctx_enable_peer_access == nullptr) return keep(cudaErrorNotSupported);
  return keep(to_runtime(table->ctx_enable_peer_access(context, flags)));
}
VGPU_CUDART_API cudaError_t cudaDeviceDisablePeerAccess(int peer) noexcept {
  const Driver* table = nullptr;
  CUcontext context = nullptr;
  const cudaError_t error = peer_context(peer, &table, &context);
  if (error != cudaSuccess) return keep(error);
  if (table->ctx_disable_peer_access == nullptr) return keep(cudaErrorNotSupported);
  return keep(to_runtime(table->ctx_disable_peer_access(context)));
}
VGPU_CUDART_API cudaError_t cudaDeviceGetP2PAttribute(int* value, int attribute, int source,
                                                      int destination) noexcept {
  if (value == nullptr) return keep(cudaErrorInvalidValue);
  return forward<&Driver::device_get_p2p_attribute>(value, attribute, source, destination);
}

VGPU_CUDART_API cudaError_t cudaDriverGetVersion(int* version) noexcept {
  if (version == nullptr) return keep(cudaErrorInvalidValue);
  *version = 0;  // no driver is an answer, not an error
  const Driver* table = loaded_driver();
  if (table == nullptr || table->driver_get_version == nullptr) return cudaSuccess;
  return keep(to_runtime(table->driver_get_version(version)));
}
VGPU_CUDART_API cudaError_t cudaRuntimeGetVersion(int* version) noexcept {
  if (version == nullptr) return keep(cudaErrorInvalidValue);
  *version = kRuntimeVersion;
  return cudaSuccess;
}

VGPU_CUDART_API cudaError_t cudaGetDriverEntryPoint(const char* symbol, void** function,
                                                    unsigned long long flags,
                                                    cudaDriverEntryPointQueryResult* status) noexcept {
  return keep(entry_point(symbol, function, kRuntimeVersion, flags, status));
}
VGPU_CUDART_API cudaError_t
cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned version,
                                 unsigned long long flags, cudaDriverEntryPointQueryResult* status) noexcept {
  return keep(entry_point(symbol, function, static_cast<int>(version), flags, status));
}
VGPU_CUDART_API cudaError_t cudaGetDriverEntryPoint_ptsz(const char* symbol, void** function,
                                                         unsigned long long flags,
                                                         cudaDriverEntryPointQueryResult* status) noexcept {
  constexpr unsigned long long kPerThread = 2;
  return keep(entry_point(symbol, function, kRuntimeVersion, flags == 0 ? kPerThread : flags, status));
}
VGPU_CUDART_API cudaError_t cudaGetDriverEntryPointByVersion_ptsz(
    const char* symbol, void** function, unsigned version, unsigned long long flags,
    cudaDriverEntryPointQueryResult* status) noexcept {
  constexpr unsigned long long kPerThread = 2;
  return keep(
      entry_point(symbol, function, static_cast<int>(version), flags == 0 ? kPerThread : flags, status));
}

// A profiler that is not there needs no telling; the driver answers.
VGPU_CUDART_API cudaError_t cudaProfilerStart() noexcept {
  return with_context<&Driver::profiler_start>();
}
VGPU_CUDART_API cudaError_t cudaProfilerStop() noexcept {
  return with_context<&Driver::profiler_stop>();
}

#if VGPU_CUDART_GENERATION < 13
// Names of CUDA 3 that programs built for CUDA 12 may still call.
VGPU_CUDART_API cudaError_t cudaThreadSynchronize() noexcept {
  return cudaDeviceSynchronize();
}
VGPU_CUDART_API cudaError_t cudaThreadExit() noexcept {
  return cudaDeviceReset();
}
VGPU_CUDART_API cudaError_t cudaThreadSetLimit(int limit, std::size_t value) noexcept {
  return cudaDeviceSetLimit(limit, value);
}
VGPU_CUDART_API cudaError_t cudaThreadGetLimit(std::size_t* value, int limit) noexcept {
  return cudaDeviceGetLimit(value, limit);
}
VGPU_CUDART_API cudaError_t cudaThreadSetCacheConfig(cudaFuncCache config) noexcept {
  return cudaDeviceSetCacheConfig(config);
}
VGPU_CUDART_API cudaError_t cudaThreadGetCacheConfig(int* config) noexcept {
  return cudaDeviceGetCacheConfig(config);
}
#endif
