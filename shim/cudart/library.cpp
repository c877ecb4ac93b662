// Libraries that a program loads itself; their kernels launch through cudaLaunchKernel like registered ones.
#include "shim/cudart/registry.h"

using namespace vgpu::shim::cudart;

VGPU_CUDART_API cudaError_t cudaLibraryLoadData(cudaLibrary_t* library, const void* code, int* jit_options,
                                                void** jit_values, unsigned jit_count, int* library_options,
                                                void** library_values, unsigned library_count) noexcept {
  if (library == nullptr || code == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::library_load_data>(library, code, jit_options, jit_values, jit_count,
                                                  library_options, library_values, library_count);
}
VGPU_CUDART_API cudaError_t cudaLibraryLoadFromFile(cudaLibrary_t* library, const char* path,
                                                    int* jit_options, void** jit_values, unsigned jit_count,
                                                    int* library_options, void** library_values,
                                                    unsigned library_count) noexcept {
  if (library == nullptr || path == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::library_load_from_file>(library, path, jit_options, jit_values, jit_count,
                                                       library_options, library_values, library_count);
}
VGPU_CUDART_API cudaError_t cudaLibraryUnload(cudaLibrary_t library) noexcept {
  return with_context<&Driver::library_unload>(library);
}

VGPU_CUDART_API cudaError_t cudaLibraryGetKernel(cudaKernel_t* kernel, cudaLibrary_t library,
                                                 const char* name) noexcept {
  if (kernel == nullptr || name == nullptr) return keep(cudaErrorInvalidValue);
  return guarded([&] {
    const cudaError_t error = with_context<&Driver::library_get_kernel>(kernel, library, name);
    if (error == cudaSuccess) Registry::get().add_handle(*kernel);
    return error;
  });
}
VGPU_CUDART_API cudaError_t cudaLibraryGetKernelCount(unsigned* count, cudaLibrary_t library) noexcept {
  if (count == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::library_get_kernel_count>(count, library);
}
VGPU_CUDART_API cudaError_t cudaLibraryEnumerateKernels(cudaKernel_t* kernels, unsigned count,
                                                        cudaLibrary_t library) noexcept {
  if (kernels == nullptr) return keep(cudaErrorInvalidValue);
  return guarded([&] {
    unsigned present = 0;
    cudaError_t error = with_context<&Driver::library_get_kernel_count>(&present, library);
    if (error == cudaSuccess)
      error = with_context<&Driver::library_enumerate_kernels>(kernels, count, library);
    if (error != cudaSuccess) return error;
    for (unsigned i = 0; i < count && i < present; ++i) Registry::get().add_handle(kernels[i]);
    return error;
  });
}
VGPU_CUDART_API cudaError_t cudaLibraryGetGlobal(void** address, std::size_t* bytes, cudaLibrary_t library,
                                                 const char* name) noexcept {
  if (name == nullptr) return keep(cudaErrorInvalidValue);
  CUdeviceptr start = 0;
  const cudaError_t error = with_context<&Driver::library_get_global>(&start, bytes, library, name);
  if (error == cudaSuccess && address != nullptr) *address = host_pointer(start);
  return error;
}
