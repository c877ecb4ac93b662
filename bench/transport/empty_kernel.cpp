// PTX for kernels that do nothing.
#include "bench/transport/empty_kernel.h"

namespace vgpu::bench {

std::string empty_kernel_name(int parameters) {
  return "empty_" + std::to_string(parameters);
}

std::string empty_kernels_ptx() {
  std::string text = ".version 8.0\n.target sm_61\n.address_size 64\n";
  for (const int count : kParameterCounts) {
    text += ".visible .entry " + empty_kernel_name(count) + "(";
    for (int i = 0; i < count; ++i) {
      text += std::string(i == 0 ? "" : ", ") + (i % 2 == 0 ? ".param .u64 p" : ".param .u32 p") +
              std::to_string(i);
    }
    text += ")\n{\n  ret;\n}\n";
  }
  return text;
}

EmptyKernel::EmptyKernel(int parameters) {
  check(cuModuleLoadData(&module_, empty_kernels_ptx().c_str()), "cuModuleLoadData");
  check(cuModuleGetFunction(&function_, module_, empty_kernel_name(parameters).c_str()),
        "cuModuleGetFunction");
  for (int i = 0; i < 32; ++i) {
    arguments_[i] = &values_[i];
  }
}

}  // namespace vgpu::bench
