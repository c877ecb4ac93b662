// Launching through libcudart: the program's side of cudaLaunchKernel.
#include "bench/transport/cudart.h"

#include <stdexcept>
#include <string>

#include "bench/transport/empty_kernel.h"
#include "shim/cudart/cudart_abi.h"

extern "C" {
cudaError_t cudaLibraryLoadData(cudaLibrary_t*, const void*, int*, void**, unsigned, int*, void**, unsigned);
cudaError_t cudaLibraryUnload(cudaLibrary_t);
cudaError_t cudaLibraryGetKernel(cudaKernel_t*, cudaLibrary_t, const char*);
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, std::size_t, cudaStream_t);
}

namespace vgpu::bench {
namespace {

void check_runtime(cudaError_t error, const char* call) {
  if (error != cudaSuccess) [[unlikely]] {
    throw std::runtime_error(std::string(call) + ": error " + std::to_string(error));
  }
}

}  // namespace

struct RuntimeKernel::State {
  cudaLibrary_t library = nullptr;
  cudaKernel_t kernel = nullptr;
  uint64_t values[32] = {};
  void* arguments[32] = {};
};

RuntimeKernel::RuntimeKernel(int parameters) : state_(std::make_unique<State>()) {
  check_runtime(cudaLibraryLoadData(&state_->library, empty_kernels_ptx().c_str(), nullptr, nullptr, 0,
                                    nullptr, nullptr, 0),
                "cudaLibraryLoadData");
  check_runtime(cudaLibraryGetKernel(&state_->kernel, state_->library, empty_kernel_name(parameters).c_str()),
                "cudaLibraryGetKernel");
  for (int i = 0; i < 32; ++i) {
    state_->arguments[i] = &state_->values[i];
  }
}

RuntimeKernel::~RuntimeKernel() {
  cudaLibraryUnload(state_->library);
}

void RuntimeKernel::launch(CUstream_st* stream) {
  check_runtime(cudaLaunchKernel(state_->kernel, {1, 1, 1}, {32, 1, 1}, state_->arguments, 0, stream),
                "cudaLaunchKernel");
}

}  // namespace vgpu::bench
