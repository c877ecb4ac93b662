// What the program's start-up code registered: fat binaries, their kernels and variables. Nothing reaches the
// driver before a kernel or a variable of a fat binary is first used.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "shim/cudart/address_map.h"
#include "shim/cudart/runtime.h"

namespace vgpu::shim::cudart {

struct Image;

struct Kernel {
  Image* image = nullptr;  // null: the handle came from the program itself (cudaLibraryGetKernel)
  std::string name;
  std::atomic<CUkernel> handle{nullptr};
};

struct Variable {
  Image* image = nullptr;
  std::string name;
  std::size_t bytes = 0;
};

struct Image {
  const void* wrapper = nullptr;  // the fat binary's wrapper, in the program's own data
  std::mutex mutex;               // guards what follows
  CUlibrary library = nullptr;
  cudaError_t load_error = cudaSuccess;
  std::vector<std::pair<const void*, std::unique_ptr<Kernel>>> kernels;
  std::vector<std::pair<const void*, std::unique_ptr<Variable>>> variables;
};

class Registry {
 public:
  // The one of this process; never destroyed, since programs unregister after main.
  static Registry& get() noexcept;

  Image* add_image(const void* wrapper);
  void remove_image(Image* image) noexcept;
  void add_kernel(Image& image, const void* host_function, const char* name);
  void add_variable(Image& image, const void* host_variable, const char* name, std::size_t bytes);
  // Lets a driver handle stand where a host function is expected.
  void add_handle(CUkernel handle);

  // The kernel's driver handle, loading its image at the first use; a context must be current.
  // cudaErrorInvalidDeviceFunction: nothing is registered for the address, or the image lacks the kernel.
  cudaError_t kernel(const Driver& table, const void* function, CUkernel* handle);
  // The name registered for the address, or null.
  const char* kernel_name(const void* function) const noexcept;
  // cudaErrorInvalidSymbol: no variable is registered for the address, or the image lacks it.
  cudaError_t variable(const Driver& table, const void* symbol, CUdeviceptr* address, std::size_t* bytes);

 private:
  static cudaError_t load(const Driver& table, Image& image);
  cudaError_t resolve(const Driver& table, Kernel& kernel, CUkernel* handle);

  AddressMap<Kernel> kernels_;
  AddressMap<Variable> variables_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Image>> images_;
  std::vector<std::unique_ptr<Kernel>> handles_;
};

}  // namespace vgpu::shim::cudart
