#include "shim/cudart/runtime.h"

#include <array>
#include <atomic>
#include <mutex>

namespace vgpu::shim::cudart {

thread_local constinit ThreadState t_state{};

namespace {
constexpr int kMaxDevices = 64;
constinit std::array<std::atomic<CUcontext>, kMaxDevices> g_primary{};
constinit std::mutex g_primary_mutex;
}  // namespace

cudaError_t primary_context(const Driver& table, int device, CUcontext* context) noexcept {
  if (device < 0 || device >= kMaxDevices) return cudaErrorInvalidDevice;
  auto& slot = g_primary[static_cast<std::size_t>(device)];
  *context = slot.load(std::memory_order_acquire);
  if (*context != nullptr) return cudaSuccess;
  if (table.device_get == nullptr || table.primary_ctx_retain == nullptr) return cudaErrorNotSupported;
  const std::scoped_lock lock(g_primary_mutex);
  *context = slot.load(std::memory_order_relaxed);
  if (*context != nullptr) return cudaSuccess;
  CUdevice handle = 0;
  CUcontext retained = nullptr;
  auto result = table.device_get(&handle, device);
  if (result == CUDA_SUCCESS) result = table.primary_ctx_retain(&retained, handle);
  if (result != CUDA_SUCCESS) return to_runtime(result);
  slot.store(retained, std::memory_order_release);
  *context = retained;
  return cudaSuccess;
}

void forget_primary(int device) noexcept {
  const std::scoped_lock lock(g_primary_mutex);
  if (device >= 0 && device < kMaxDevices) {
    g_primary[static_cast<std::size_t>(device)].store(nullptr, std::memory_order_release);
  }
}

const Driver* current(cudaError_t* error) noexcept {
  const Driver* table = driver(error);
  if (table == nullptr) return nullptr;
  CUcontext context = nullptr;
  auto result = table->ctx_get_current(&context);
  if (result == CUDA_SUCCESS && context != nullptr) [[likely]]
    return table;
  if (result == CUDA_SUCCESS) {
    *error = primary_context(*table, t_state.device, &context);
    if (*error != cudaSuccess) return nullptr;
    result = table->ctx_set_current(context);
  }
  if (result == CUDA_SUCCESS) return table;
  *error = to_runtime(result);
  return nullptr;
}

cudaError_t current_device(const Driver& table, int* device) noexcept {
  CUcontext context = nullptr;
  CUdevice handle = 0;
  if (table.ctx_get_current(&context) == CUDA_SUCCESS && context != nullptr &&
      table.ctx_get_device(&handle) == CUDA_SUCCESS) {
    *device = handle;  // a CUdevice is the device's ordinal
  } else {
    *device = t_state.device;
  }
  return cudaSuccess;
}

}  // namespace vgpu::shim::cudart
