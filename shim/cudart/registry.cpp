#include "shim/cudart/registry.h"

#include <algorithm>
#include <new>

namespace vgpu::shim::cudart {

Registry& Registry::get() noexcept {
  alignas(Registry) static std::byte storage[sizeof(Registry)];
  static Registry* const registry = ::new (storage) Registry;
  return *registry;
}

Image* Registry::add_image(const void* wrapper) {
  auto image = std::make_unique<Image>();
  image->wrapper = wrapper;
  Image* raw = image.get();
  const std::scoped_lock lock(mutex_);
  images_.push_back(std::move(image));
  return raw;
}

void Registry::remove_image(Image* image) noexcept {
  std::unique_ptr<Image> owned;
  {
    const std::scoped_lock lock(mutex_);
    const auto found =
        std::find_if(images_.begin(), images_.end(), [&](const auto& entry) { return entry.get() == image; });
    if (found == images_.end()) return;
    owned = std::move(*found);
    images_.erase(found);
  }
  for (const auto& [key, kernel] : owned->kernels) kernels_.erase(key, kernel.get());
  for (const auto& [key, variable] : owned->variables) variables_.erase(key, variable.get());
  if (owned->library == nullptr) return;
  const Driver* table = loaded_driver();
  if (table != nullptr && table->library_unload != nullptr) table->library_unload(owned->library);
}

void Registry::add_kernel(Image& image, const void* host_function, const char* name) {
  auto kernel = std::make_unique<Kernel>();
  kernel->image = &image;
  kernel->name = name;
  Kernel* raw = kernel.get();
  {
    const std::scoped_lock lock(image.mutex);
    image.kernels.emplace_back(host_function, std::move(kernel));
  }
  kernels_.insert(host_function, raw);
}

void Registry::add_variable(Image& image, const void* host_variable, const char* name, std::size_t bytes) {
  auto variable = std::make_unique<Variable>();
  variable->image = &image;
  variable->name = name;
  variable->bytes = bytes;
  Variable* raw = variable.get();
  {
    const std::scoped_lock lock(image.mutex);
    image.variables.emplace_back(host_variable, std::move(variable));
  }
  variables_.insert(host_variable, raw);
}

void Registry::add_handle(CUkernel handle) {
  if (kernels_.find(handle) != nullptr) return;
  auto kernel = std::make_unique<Kernel>();
  kernel->handle.store(handle, std::memory_order_relaxed);
  Kernel* raw = kernel.get();
  {
    const std::scoped_lock lock(mutex_);
    handles_.push_back(std::move(kernel));
  }
  kernels_.insert(handle, raw);
}

// With image.mutex held.
cudaError_t Registry::load(const Driver& table, Image& image) {
  if (image.library != nullptr) return cudaSuccess;
  if (image.load_error != cudaSuccess) return image.load_error;
  if (table.library_load_data == nullptr) return cudaErrorNotSupported;
  const cudaError_t error = to_runtime(
      table.library_load_data(&image.library, image.wrapper, nullptr, nullptr, 0, nullptr, nullptr, 0));
  if (error != cudaSuccess) image.library = nullptr;
  switch (error) {  // these do not change however often they are tried
    case cudaErrorInvalidKernelImage:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
      image.load_error = error;
      break;
    default:
      break;
  }
  return error;
}

cudaError_t Registry::resolve(const Driver& table, Kernel& kernel, CUkernel* handle) {
  const std::scoped_lock lock(kernel.image->mutex);
  const cudaError_t error = load(table, *kernel.image);
  if (error != cudaSuccess) return error;
  CUkernel found = kernel.handle.load(std::memory_order_relaxed);
  if (found == nullptr) {
    if (table.library_get_kernel == nullptr) return cudaErrorNotSupported;
    const CUresult result = table.library_get_kernel(&found, kernel.image->library, kernel.name.c_str());
    if (result == CUDA_ERROR_NOT_FOUND) return cudaErrorInvalidDeviceFunction;
    if (result != CUDA_SUCCESS) return to_runtime(result);
    kernel.handle.store(found, std::memory_order_release);
  }
  *handle = found;
  return cudaSuccess;
}

cudaError_t Registry::kernel(const Driver& table, const void* function, CUkernel* handle) {
  Kernel* kernel = kernels_.find(function);
  if (kernel == nullptr) return cudaErrorInvalidDeviceFunction;
  *handle = kernel->handle.load(std::memory_order_acquire);
  if (*handle != nullptr) [[likely]]
    return cudaSuccess;
  const cudaError_t error = resolve(table, *kernel, handle);
  // The handle itself may now be passed where a function is expected.
  if (error == cudaSuccess) add_handle(*handle);
  return error;
}

const char* Registry::kernel_name(const void* function) const noexcept {
  const Kernel* kernel = kernels_.find(function);
  return kernel == nullptr || kernel->image == nullptr ? nullptr : kernel->name.c_str();
}

cudaError_t Registry::variable(const Driver& table, const void* symbol, CUdeviceptr* address,
                               std::size_t* bytes) {
  Variable* variable = variables_.find(symbol);
  if (variable == nullptr) return cudaErrorInvalidSymbol;
  const std::scoped_lock lock(variable->image->mutex);
  const cudaError_t error = load(table, *variable->image);
  if (error != cudaSuccess) return error;
  if (table.library_get_global == nullptr) return cudaErrorNotSupported;
  const CUresult result =
      table.library_get_global(address, bytes, variable->image->library, variable->name.c_str());
  return result == CUDA_ERROR_NOT_FOUND ? cudaErrorInvalidSymbol : to_runtime(result);
}

}  // namespace vgpu::shim::cudart
