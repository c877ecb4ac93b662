// All libraries without a device: each call ends at once with the error that CUDA documents.
#include <gtest/gtest.h>

#include <cstdlib>

#include "shim/cublas/cublas_abi.h"
#include "shim/nvml/nvml_abi.h"
#include "tests/shim/cudart/cudart_api.h"

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t*);
nvmlReturn_t nvmlInit_v2();
nvmlReturn_t nvmlShutdown();
}

namespace {

class NoDevice : public testing::Test {
 protected:
  // Before the first CUDA call of the process.
  static void SetUpTestSuite() { setenv("VGPU_DEVICE", "/nonexistent/vgpu", 1); }
};

TEST_F(NoDevice, TheRuntimeCountsNone) {
  int count = 7;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
  EXPECT_EQ(count, 0);
}

TEST_F(NoDevice, TheRuntimeAllocatesNothing) {
  void* pointer = nullptr;
  EXPECT_EQ(cudaMalloc(&pointer, 16), cudaErrorNoDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNoDevice);
}

TEST_F(NoDevice, VersionsAreKnownAllTheSame) {
  int version = 0;
  EXPECT_EQ(cudaRuntimeGetVersion(&version), cudaSuccess);
  EXPECT_EQ(version / 1000, 12);
}

TEST_F(NoDevice, CublasIsNotInitialized) {
  cublasHandle_t handle = nullptr;
  EXPECT_EQ(cublasCreate_v2(&handle), CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_EQ(handle, nullptr);
}

TEST_F(NoDevice, NvmlFindsNoDriver) {
  EXPECT_EQ(nvmlInit_v2(), NVML_ERROR_DRIVER_NOT_LOADED);
  EXPECT_EQ(nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
}

}  // namespace
