// A libcuda.so.1 that records what the runtime asks of it, and answers what a test tells it to.
#pragma once

#include <string>
#include <vector>

#include "shim/cuda/cuda_types.h"

struct FakeLaunch {
  CUfunction function;
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  CUstream stream;
  void** arguments;
};

struct FakeDriver {
  std::vector<std::string> calls;  // names of the calls made, in order, but for the look-up of the context
  std::vector<FakeLaunch> launches;
  CUresult next_result = CUDA_SUCCESS;  // of the next recorded call, once
  CUcontext current = nullptr;
  std::size_t variable_bytes = 64;
  int count(const std::string& name) const;
  void reset();
};

extern "C" __attribute__((visibility("default"))) FakeDriver* fake_driver();
