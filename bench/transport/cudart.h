// A kernel launched through the runtime API. By itself, because the runtime's types and the driver's have
// names in common that only one file at a time may take from each.
#pragma once

#include <memory>

struct CUstream_st;

namespace vgpu::bench {

// empty_kernel_name(parameters), launched with cudaLaunchKernel. Throws std::runtime_error.
class RuntimeKernel {
 public:
  explicit RuntimeKernel(int parameters);
  ~RuntimeKernel();
  RuntimeKernel(const RuntimeKernel&) = delete;
  RuntimeKernel& operator=(const RuntimeKernel&) = delete;
  void launch(CUstream_st* stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vgpu::bench
