// Contexts and buffers.
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

}  // namespace vgpu::bench
