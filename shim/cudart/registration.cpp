// The entries that code made by nvcc and clang calls: registration at start-up and the launch configuration
// behind <<<...>>>. Registration only remembers.
#include "shim/cudart/registry.h"

using vgpu::shim::cudart::Image;
using vgpu::shim::cudart::kMaxCallConfigurations;
using vgpu::shim::cudart::Registry;
using vgpu::shim::cudart::t_state;

namespace {

Image* image_of(void** handle) noexcept {
  return reinterpret_cast<Image*>(handle);
}

// Start-up code has nowhere to report to: memory that is missing shows as an unknown function at the launch.
template <typename Body>
void quietly(Body&& body) noexcept {
  try {
    body();
  } catch (...) {
    t_state.last_error = cudaErrorMemoryAllocation;
  }
}

}  // namespace

VGPU_CUDART_API void** __cudaRegisterFatBinary(void* wrapper) noexcept {
  Image* image = nullptr;
  quietly([&] { image = Registry::get().add_image(wrapper); });
  return reinterpret_cast<void**>(image);
}

// Nothing is left to do when a fat binary's functions have all been named: its image is loaded when first
// used.
VGPU_CUDART_API void __cudaRegisterFatBinaryEnd(void** /*handle*/) noexcept {}

VGPU_CUDART_API char __cudaInitModule(void** /*handle*/) noexcept {
  return 1;
}

VGPU_CUDART_API void __cudaUnregisterFatBinary(void** handle) noexcept {
  if (handle != nullptr) Registry::get().remove_image(image_of(handle));
}

VGPU_CUDART_API void __cudaRegisterFunction(void** handle, const char* host_function,
                                            char* /*device_function*/, const char* device_name,
                                            int /*thread_limit*/, uint3* /*thread*/, uint3* /*block*/,
                                            dim3* /*block_dim*/, dim3* /*grid_dim*/,
                                            int* /*warp_size*/) noexcept {
  if (handle == nullptr || host_function == nullptr || device_name == nullptr) return;
  quietly([&] { Registry::get().add_kernel(*image_of(handle), host_function, device_name); });
}

VGPU_CUDART_API void __cudaRegisterVar(void** handle, char* host_variable, char* /*device_address*/,
                                       const char* device_name, int /*external*/, std::size_t bytes,
                                       int /*constant*/, int /*global*/) noexcept {
  if (handle == nullptr || host_variable == nullptr || device_name == nullptr) return;
  quietly([&] { Registry::get().add_variable(*image_of(handle), host_variable, device_name, bytes); });
}

VGPU_CUDART_API unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, std::size_t shared_bytes,
                                                     CUstream stream) noexcept {
  if (t_state.configuration_count == kMaxCallConfigurations) return 1;  // the caller then skips the launch
  t_state.configurations[t_state.configuration_count++] = {grid, block, shared_bytes, stream};
  return 0;
}

VGPU_CUDART_API cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared_bytes,
                                                       void* stream) noexcept {
  if (t_state.configuration_count == 0) return vgpu::shim::cudart::keep(cudaErrorMissingConfiguration);
  const auto& top = t_state.configurations[--t_state.configuration_count];
  *grid = top.grid;
  *block = top.block;
  *shared_bytes = top.shared_bytes;
  *static_cast<cudaStream_t*>(stream) = top.stream;
  return cudaSuccess;
}
