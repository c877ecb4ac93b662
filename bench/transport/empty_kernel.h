// Kernels that do nothing, with parameters.
#pragma once

#include <cstdint>
#include <string>

#include "bench/transport/cuda.h"

namespace vgpu::bench {

// Kernels that do nothing, with this many parameters: pointers and 32-bit integers in turn, as a library's
// kernels have them.
inline constexpr int kParameterCounts[] = {1, 8, 32};
std::string empty_kernels_ptx();
std::string empty_kernel_name(int parameters);

// An empty kernel with its arguments.
class EmptyKernel {
 public:
  explicit EmptyKernel(int parameters);
  ~EmptyKernel() { cuModuleUnload(module_); }
  EmptyKernel(const EmptyKernel&) = delete;
  EmptyKernel& operator=(const EmptyKernel&) = delete;

  void launch(CUstream stream) {
    check(cuLaunchKernel(function_, 1, 1, 1, 32, 1, 1, 0, stream, arguments_, nullptr), "cuLaunchKernel");
  }
  void** arguments() noexcept { return arguments_; }

 private:
  CUmodule module_ = nullptr;
  CUfunction function_ = nullptr;
  uint64_t values_[32] = {};
  void* arguments_[32] = {};
};

}  // namespace vgpu::bench
