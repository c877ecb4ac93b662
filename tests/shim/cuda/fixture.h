// One test device for the test program, the primary context current, and shorthands.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "shim/cuda/cuda_abi.h"
#include "tests/shim/cuda/device_process.h"

namespace vgpu::shim::testing {

#define EXPECT_CUDA(call) EXPECT_EQ(call, CUDA_SUCCESS)
#define ASSERT_CUDA(call) ASSERT_EQ(call, CUDA_SUCCESS)

inline constexpr char kImage[] = "// kernels\n";

class DriverTest : public ::testing::Test {
 protected:
  static Device& device() {
    static Device device;
    return device;
  }
  void SetUp() override {
    ::setenv("VGPU_DEVICE", device().path().c_str(), 1);
    ::unsetenv("CUDA_VISIBLE_DEVICES");
    ASSERT_CUDA(cuInit(0));
    ASSERT_CUDA(cuDevicePrimaryCtxRetain(&context_, 0));
    ASSERT_CUDA(cuCtxSetCurrent(context_));
  }
  void TearDown() override {
    cuCtxSetCurrent(nullptr);
    EXPECT_CUDA(cuDevicePrimaryCtxRelease_v2(0));
  }

  static CUdeviceptr allocate(size_t bytes) {
    CUdeviceptr pointer = 0;
    EXPECT_CUDA(cuMemAlloc_v2(&pointer, bytes));
    return pointer;
  }
  static std::vector<uint32_t> numbers(size_t count, uint32_t first = 0) {
    std::vector<uint32_t> values(count);
    std::iota(values.begin(), values.end(), first);
    return values;
  }
  static CUfunction function(const char* name) {
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    EXPECT_CUDA(cuModuleLoadData(&module, kImage));
    EXPECT_CUDA(cuModuleGetFunction(&function, module, name));
    return function;
  }
  // Adds `value` to `count` elements.
  static CUresult add(CUfunction add, CUdeviceptr array, uint32_t count, uint32_t value,
                      CUstream stream = nullptr) {
    void* parameters[] = {&array, &count, &value};
    return cuLaunchKernel(add, 1, 1, 1, 32, 1, 1, 0, stream, parameters, nullptr);
  }

  CUcontext context_ = nullptr;
};

// A kernel that runs until open(): the stream behind it is busy for as long as a test wants.
class Gate {
 public:
  explicit Gate(CUfunction gate) : gate_(gate) {
    EXPECT_CUDA(cuMemHostAlloc(reinterpret_cast<void**>(&word_), sizeof(uint32_t), kMemHostAllocDeviceMap));
    *word_ = 0;
  }
  ~Gate() {
    open();
    cuCtxSynchronize();
    cuMemFreeHost(word_);
  }
  void close(CUstream stream) {
    CUdeviceptr address = 0;
    EXPECT_CUDA(cuMemHostGetDevicePointer_v2(&address, word_, 0));
    void* parameters[] = {&address};
    EXPECT_CUDA(cuLaunchKernel(gate_, 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr));
  }
  void open() { __atomic_store_n(word_, 1, __ATOMIC_RELEASE); }

 private:
  CUfunction gate_;
  uint32_t* word_ = nullptr;
};

}  // namespace vgpu::shim::testing
