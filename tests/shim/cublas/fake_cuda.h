// A libcuda.so.1 with vgpu's private entry that keeps the commands it is given.
#pragma once

#include <cstddef>
#include <vector>

#include "shim/cuda/private_api.h"

struct FakeSubmit {
  CUstream stream;
  uint16_t opcode;
  std::vector<std::byte> body;
};

struct FakeCuda {
  std::vector<FakeSubmit> submitted;
  std::vector<CUDA_MEMCPY2D> copies;
  CUcontext current = nullptr;
  CUresult submit_result = CUDA_SUCCESS;
  CUresult info_result = CUDA_SUCCESS;
  VgpuDeviceStatus status{};
  vgpu::ring::DeviceInfo info{};
  int unimplemented = 0;
  void reset();
};

extern "C" __attribute__((visibility("default"))) FakeCuda* fake_cuda();
