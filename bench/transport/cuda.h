// The CUDA driver API with errors as exceptions, as the benchmark's cases use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "shim/cuda/cuda_abi.h"

namespace vgpu::bench {

[[noreturn]] void throw_cuda(CUresult result, const char* call);

// Throws std::runtime_error naming call and error. Costs a comparison, and may stand inside what is timed.
inline void check(CUresult result, const char* call) {
  if (result != CUDA_SUCCESS) [[unlikely]] {
    throw_cuda(result, call);
  }
}

// Device memory.
class DeviceBuffer {
 public:
  explicit DeviceBuffer(std::size_t bytes) { check(cuMemAlloc_v2(&address_, bytes), "cuMemAlloc"); }
  ~DeviceBuffer() { cuMemFree_v2(address_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  CUdeviceptr address() const noexcept { return address_; }

 private:
  CUdeviceptr address_ = 0;
};

// Pinned host memory, written once.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer() { cuMemFreeHost(data_); }
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;
  std::byte* data() const noexcept { return static_cast<std::byte*>(data_); }
  // Whether it lies in the device's region (`path`), and not in ordinary memory because the region was full.
  bool in_region(const std::string& path) const;

 private:
  void* data_ = nullptr;
};

class Event {
 public:
  Event() { check(cuEventCreate(&event_, 0), "cuEventCreate"); }
  ~Event() { cuEventDestroy_v2(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  CUevent get() const noexcept { return event_; }

 private:
  CUevent event_ = nullptr;
};

// A context of the device that VGPU_DEVICE names, current on this thread, and a stream that is not the
// default one.
class Cuda {
 public:
  Cuda();
  ~Cuda();
  Cuda(const Cuda&) = delete;
  Cuda& operator=(const Cuda&) = delete;

  CUstream stream() const noexcept { return stream_; }
  // Makes the context current on another thread.
  void enter_thread() const { check(cuCtxSetCurrent(context_), "cuCtxSetCurrent"); }
  void synchronize() const { check(cuStreamSynchronize(stream_), "cuStreamSynchronize"); }

 private:
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
};

}  // namespace vgpu::bench
