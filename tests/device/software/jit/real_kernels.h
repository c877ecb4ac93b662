// The kernels of a real library: what list_real_kernels finds in the .nv_fatbin section of libggml-cuda.so.
#pragma once

#include <algorithm>
#include <expected>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/software/jit/jit.h"
#include "device/software/ptx/ast.h"

namespace vgpu::testing {

struct RealKernel {
  std::shared_ptr<const software::ptx::Module> module;
  std::string name;
  software::ptx::LaunchBounds bounds;
};

struct RealKernels {
  std::vector<RealKernel> kernels;  // in file order, stubs (kernels that only print and trap) left out
};

[[nodiscard]] std::expected<RealKernels, std::string> list_real_kernels(const std::filesystem::path& library);

// The shape a launch would have as far as the kernel tells: its launch bounds, else 256 threads in a row.
[[nodiscard]] software::jit::LaunchShape likely_shape(const RealKernel& kernel);

// libggml-cuda.so of the CUDA 12 build, or nothing if it is not installed here.
[[nodiscard]] std::optional<std::filesystem::path> find_llama_library();

}  // namespace vgpu::testing
