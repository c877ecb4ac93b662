// Contexts, buffers and empty kernels.
#include "bench/transport/cuda.h"

#include <cstring>
#include <fstream>

namespace vgpu::bench {

void throw_cuda(CUresult result, const char* call) {
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  throw std::runtime_error(std::string(call) + ": " + (name != nullptr ? name : "an unknown error"));
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) {
  check(cuMemHostAlloc(&data_, bytes, 0), "cuMemHostAlloc");
  std::memset(data_, 1, bytes);
}

bool PinnedBuffer::in_region(const std::string& path) const {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long first = 0;
    unsigned long last = 0;
    const auto address = reinterpret_cast<unsigned long>(data_);
    if (std::sscanf(line.c_str(), "%lx-%lx", &first, &last) == 2 && first <= address && address < last) {
      return line.ends_with(path);
    }
  }
  return false;
}

Cuda::Cuda() {
  CUdevice device = 0;
  check(cuInit(0), "cuInit");
  check(cuDeviceGet(&device, 0), "cuDeviceGet");
  check(cuDevicePrimaryCtxRetain(&context_, device), "cuDevicePrimaryCtxRetain");
  enter_thread();
  check(cuStreamCreate(&stream_, 1), "cuStreamCreate");  // CU_STREAM_NON_BLOCKING
}

Cuda::~Cuda() {
  cuStreamDestroy_v2(stream_);
  cuDevicePrimaryCtxRelease_v2(0);
}

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
