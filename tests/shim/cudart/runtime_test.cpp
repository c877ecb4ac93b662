// The runtime over a driver that only records: what is asked of the driver, when, and which errors come out.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/shim/cudart/cudart_api.h"
#include "tests/shim/cudart/fake_driver.h"

namespace {

char g_host_function[8];  // their addresses stand for host functions
char g_host_variable[8];
char g_image[16];

// The suite carries the generation in its name: both are registered side by side.
#if VGPU_CUDART_GENERATION < 13
#define RUNTIME Cudart12
#else
#define RUNTIME Cudart13
#endif

class RUNTIME : public testing::Test {
 protected:
  void SetUp() override {
    fake_driver()->reset();
    cudaDeviceReset();  // clears sticky errors and retained contexts of the test before
    cudaGetLastError();
    fake_driver()->reset();
    handle_ = __cudaRegisterFatBinary(g_image);
    __cudaRegisterFunction(handle_, &g_host_function[0], nullptr, "alpha", -1, nullptr, nullptr, nullptr,
                           nullptr, nullptr);
    __cudaRegisterFunction(handle_, &g_host_function[1], nullptr, "beta", -1, nullptr, nullptr, nullptr,
                           nullptr, nullptr);
    __cudaRegisterFunction(handle_, &g_host_function[2], nullptr, "missing", -1, nullptr, nullptr, nullptr,
                           nullptr, nullptr);
    __cudaRegisterVar(handle_, &g_host_variable[0], nullptr, "variable", 0, 64, 1, 0);
    __cudaRegisterVar(handle_, &g_host_variable[1], nullptr, "missing", 0, 64, 1, 0);
    __cudaRegisterFatBinaryEnd(handle_);
  }
  void TearDown() override {
    if (handle_ != nullptr) __cudaUnregisterFatBinary(handle_);
  }
  cudaError_t launch(int function, dim3 grid = {1, 1, 1}, dim3 block = {32, 1, 1}) {
    return cudaLaunchKernel(&g_host_function[function], grid, block, nullptr, 0, nullptr);
  }
  void** handle_ = nullptr;
};

TEST_F(RUNTIME, RegisteringAsksNothingOfTheDriver) {
  EXPECT_TRUE(fake_driver()->calls.empty());
}

TEST_F(RUNTIME, AnImageIsLoadedOnceWhenItsFirstKernelIsLaunched) {
  ASSERT_EQ(launch(0), cudaSuccess);
  ASSERT_EQ(launch(0), cudaSuccess);
  ASSERT_EQ(launch(1), cudaSuccess);
  EXPECT_EQ(fake_driver()->count("cuLibraryLoadData"), 1);
  EXPECT_EQ(fake_driver()->count("cuLibraryGetKernel"), 2);
  EXPECT_EQ(fake_driver()->count("cuLaunchKernel"), 3);
}

TEST_F(RUNTIME, AnImageThatWasNeverUsedIsNotUnloaded) {
  __cudaUnregisterFatBinary(handle_);
  handle_ = nullptr;
  EXPECT_EQ(fake_driver()->count("cuLibraryUnload"), 0);
}

TEST_F(RUNTIME, AnUnregisteredImageIsUnloadedAndItsKernelsAreForgotten) {
  ASSERT_EQ(launch(0), cudaSuccess);
  __cudaUnregisterFatBinary(handle_);
  handle_ = nullptr;
  EXPECT_EQ(fake_driver()->count("cuLibraryUnload"), 1);
  EXPECT_EQ(launch(0), cudaErrorInvalidDeviceFunction);
}

TEST_F(RUNTIME, ALaunchPassesItsConfiguration) {
  void* arguments[] = {nullptr};
  const auto stream = reinterpret_cast<cudaStream_t>(std::uintptr_t{0x40});
  ASSERT_EQ(cudaLaunchKernel(&g_host_function[0], {2, 3, 4}, {5, 6, 7}, arguments, 99, stream), cudaSuccess);
  ASSERT_EQ(fake_driver()->launches.size(), 1u);
  const FakeLaunch& seen = fake_driver()->launches[0];
  EXPECT_EQ(std::to_array(seen.grid), (std::array{2u, 3u, 4u}));
  EXPECT_EQ(std::to_array(seen.block), (std::array{5u, 6u, 7u}));
  EXPECT_EQ(seen.shared_bytes, 99u);
  EXPECT_EQ(seen.stream, stream);
  EXPECT_EQ(seen.arguments, arguments);
}

TEST_F(RUNTIME, CallConfigurationsNest) {
  ASSERT_EQ(__cudaPushCallConfiguration({1, 1, 1}, {2, 1, 1}, 3, nullptr), 0u);
  ASSERT_EQ(__cudaPushCallConfiguration({4, 1, 1}, {5, 1, 1}, 6, CU_STREAM_PER_THREAD), 0u);
  dim3 grid{};
  dim3 block{};
  std::size_t shared = 0;
  cudaStream_t stream = nullptr;
  ASSERT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared, &stream), cudaSuccess);
  EXPECT_EQ(grid.x, 4u);
  EXPECT_EQ(shared, 6u);
  EXPECT_EQ(stream, CU_STREAM_PER_THREAD);
  ASSERT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared, &stream), cudaSuccess);
  EXPECT_EQ(block.x, 2u);
  EXPECT_EQ(stream, nullptr);
  EXPECT_EQ(__cudaPopCallConfiguration(&grid, &block, &shared, &stream), cudaErrorMissingConfiguration);
}

TEST_F(RUNTIME, AFunctionThatWasNeverRegisteredIsAnError) {
  EXPECT_EQ(launch(7), cudaErrorInvalidDeviceFunction);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDeviceFunction);
}

TEST_F(RUNTIME, AKernelThatItsImageLacksIsAnError) {
  EXPECT_EQ(launch(2), cudaErrorInvalidDeviceFunction);
}

TEST_F(RUNTIME, AnImageWithoutCodeForTheDeviceSaysSoAtEveryLaunch) {
  ASSERT_EQ(cudaFree(nullptr), cudaSuccess);  // makes the context, so that the next call is the load
  fake_driver()->next_result = CUDA_ERROR_NO_BINARY_FOR_GPU;
  EXPECT_EQ(launch(0), cudaErrorNoKernelImageForDevice);
  EXPECT_EQ(launch(1), cudaErrorNoKernelImageForDevice);
  EXPECT_EQ(fake_driver()->count("cuLibraryLoadData"), 1);
}

TEST_F(RUNTIME, ABlockOfNoThreadsIsAnInvalidConfiguration) {
  ASSERT_EQ(launch(0), cudaSuccess);
  fake_driver()->next_result = CUDA_ERROR_INVALID_VALUE;
  EXPECT_EQ(launch(0, {1, 1, 1}, {0, 1, 1}), cudaErrorInvalidConfiguration);
}

TEST_F(RUNTIME, ABlockAboveTheDevicesLimitIsAnInvalidConfiguration) {
  ASSERT_EQ(launch(0), cudaSuccess);
  fake_driver()->next_result = CUDA_ERROR_INVALID_VALUE;
  EXPECT_EQ(launch(0, {1, 1, 1}, {4096, 1, 1}), cudaErrorInvalidConfiguration);
}

TEST_F(RUNTIME, AnErrorIsKeptUntilItIsRead) {
  EXPECT_EQ(cudaMemcpy(g_image, g_image, 1, static_cast<cudaMemcpyKind>(9)), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);  // success does not clear it
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidMemcpyDirection);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RUNTIME, AnErrorBelongsToItsThread) {
  EXPECT_EQ(launch(7), cudaErrorInvalidDeviceFunction);
  cudaError_t other = cudaErrorUnknown;
  std::thread([&] { other = cudaPeekAtLastError(); }).join();
  EXPECT_EQ(other, cudaSuccess);
}

TEST_F(RUNTIME, ReadingDoesNotClearAnErrorThatBreaksTheContext) {
  ASSERT_EQ(cudaFree(nullptr), cudaSuccess);
  fake_driver()->next_result = CUDA_ERROR_ILLEGAL_ADDRESS;
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaDeviceReset(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(RUNTIME, TheKindOfACopyChoosesTheDriversCall) {
  ASSERT_EQ(cudaMemcpy(g_image, g_image, 8, cudaMemcpyHostToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(g_image, g_image, 8, cudaMemcpyDeviceToHost), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(g_image, g_image, 8, cudaMemcpyDeviceToDevice), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(g_image, g_image, 8, cudaMemcpyDefault), cudaSuccess);
  const std::vector<std::string> expected{"cuDevicePrimaryCtxRetain", "cuMemcpyHtoD", "cuMemcpyDtoH",
                                          "cuMemcpyDtoD", "cuMemcpy"};
  EXPECT_EQ(fake_driver()->calls, expected);
}

TEST_F(RUNTIME, ACopyOfNothingAsksNothingOfTheDriver) {
  ASSERT_EQ(cudaFree(nullptr), cudaSuccess);
  const auto before = fake_driver()->calls.size();
  EXPECT_EQ(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(fake_driver()->calls.size(), before);
}

TEST_F(RUNTIME, ANullPointerInACopyIsAnError) {
  EXPECT_EQ(cudaMemcpy(nullptr, g_image, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
}

TEST_F(RUNTIME, RowsWiderThanTheirPitchAreAnError) {
  EXPECT_EQ(cudaMemcpy2D(g_image, 4, g_image, 16, 8, 2, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
}

TEST_F(RUNTIME, PerThreadEntriesUseTheThreadsOwnStream) {
  ASSERT_EQ(cudaMemcpyAsync_ptsz(g_image, g_image, 8, cudaMemcpyHostToDevice, nullptr), cudaSuccess);
  EXPECT_EQ(fake_driver()->count("cuMemcpyHtoDAsync own stream"), 1);
  ASSERT_EQ(cudaMemcpy_ptds(g_image, g_image, 8, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(fake_driver()->count("cuStreamSynchronize own stream"), 1);
}

TEST_F(RUNTIME, AllocatingNothingGivesNullAndFreeingNullIsFine) {
  void* pointer = g_image;
  EXPECT_EQ(cudaMalloc(&pointer, 0), cudaSuccess);
  EXPECT_EQ(pointer, nullptr);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
  EXPECT_EQ(fake_driver()->count("cuMemAlloc"), 0);
}

TEST_F(RUNTIME, OutOfMemoryIsAnErrorWithoutAPointer) {
  ASSERT_EQ(cudaFree(nullptr), cudaSuccess);
  void* pointer = g_image;
  fake_driver()->next_result = CUDA_ERROR_OUT_OF_MEMORY;
  EXPECT_EQ(cudaMalloc(&pointer, 16), cudaErrorMemoryAllocation);
  EXPECT_EQ(pointer, nullptr);
}

TEST_F(RUNTIME, CopiesIntoAVariableStayInside) {
  EXPECT_EQ(cudaMemcpyToSymbol(&g_host_variable[0], g_image, 16, 48, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemcpyToSymbol(&g_host_variable[0], g_image, 17, 48, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyToSymbol(&g_host_variable[0], g_image, 1, 65, cudaMemcpyHostToDevice),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyToSymbol(&g_host_variable[0], g_image, 1, 0, cudaMemcpyDeviceToHost),
            cudaErrorInvalidMemcpyDirection);
}

TEST_F(RUNTIME, AnUnknownVariableIsAnInvalidSymbol) {
  EXPECT_EQ(cudaMemcpyToSymbol(&g_host_variable[7], g_image, 1, 0, cudaMemcpyHostToDevice),
            cudaErrorInvalidSymbol);
  EXPECT_EQ(cudaMemcpyFromSymbol(g_image, &g_host_variable[1], 1, 0, cudaMemcpyDeviceToHost),
            cudaErrorInvalidSymbol);
}

TEST_F(RUNTIME, PropertiesComeFromTheDriversAttributes) {
  cudaDeviceProp p{};
  ASSERT_EQ(device_properties(&p, 0), cudaSuccess);
  EXPECT_STREQ(p.name, "fake");
  EXPECT_EQ(p.totalGlobalMem, std::size_t{5} << 30);
  EXPECT_EQ(p.major, 1000 + CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(p.multiProcessorCount, 1000 + CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  EXPECT_EQ(p.maxGridSize[2], 1000 + CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
  EXPECT_EQ(p.sharedMemPerBlockOptin, 1000u + CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  EXPECT_EQ(p.unifiedFunctionPointers, 1000 + CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS);
}

#if VGPU_CUDART_GENERATION < 13
TEST_F(RUNTIME, TheUnversionedPropertiesCallWritesCuda11sStructAlone) {
  struct {
    cudaDeviceProp properties;
  } memory;
  std::memset(&memory, 0x5a, sizeof memory);
  ASSERT_EQ(cudaGetDeviceProperties(&memory.properties, 0), cudaSuccess);
  EXPECT_EQ(memory.properties.major, 1000 + CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(memory.properties.hostRegisterSupported, 0x5a5a5a5a);
}
#else
TEST_F(RUNTIME, AKernelHandleLaunchesLikeItsFunction) {
  cudaKernel_t kernel = nullptr;
  ASSERT_EQ(__cudaGetKernel(&kernel, &g_host_function[1]), cudaSuccess);
  ASSERT_EQ(__cudaLaunchKernel(kernel, {1, 1, 1}, {1, 1, 1}, nullptr, 0, nullptr), cudaSuccess);
  ASSERT_EQ(fake_driver()->launches.size(), 1u);
  EXPECT_EQ(fake_driver()->launches[0].function, reinterpret_cast<CUfunction>(kernel));
}
#endif

TEST_F(RUNTIME, ADeviceThatIsNotThereIsAnError) {
  cudaDeviceProp p{};
  EXPECT_EQ(device_properties(&p, 1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaSetDevice(-1), cudaErrorInvalidDevice);
}

TEST_F(RUNTIME, ACallThatIsNotImplementedSaysSo) {
  void* array = nullptr;
  const cudaChannelFormatDesc format{32, 0, 0, 0, 2};
  EXPECT_EQ(cudaMallocArray(&array, &format, 4, 4, 0), cudaErrorNotSupported);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotSupported);
}

// The recording driver has no managed memory: a function that the driver lacks is an error, not a crash.
TEST_F(RUNTIME, ADriverWithoutTheFunctionIsAnError) {
  void* pointer = nullptr;
  EXPECT_EQ(cudaMallocManaged(&pointer, 16, 1), cudaErrorNotSupported);
}

TEST_F(RUNTIME, ErrorsHaveTheirNamesAndTexts) {
  EXPECT_STREQ(cudaGetErrorName(cudaErrorIllegalAddress), "cudaErrorIllegalAddress");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorIllegalAddress), "an illegal memory access was encountered");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
  EXPECT_STREQ(cudaGetErrorName(static_cast<cudaError_t>(12345)), "unrecognized error code");
}

TEST_F(RUNTIME, ManyThreadsLaunchWhileOthersRegister) {
  ASSERT_EQ(launch(0), cudaSuccess);  // from here on a launch only looks up
  static std::array<char, 4096> functions;
  void** more = __cudaRegisterFatBinary(g_image);
  std::thread registering([&] {
    for (char& function : functions) {
      __cudaRegisterFunction(more, &function, nullptr, "gamma", -1, nullptr, nullptr, nullptr, nullptr,
                             nullptr);
    }
  });
  cudaFuncAttributes unused{};
  int wrong = 0;
  for (int i = 0; i < 20000; ++i) {
    // Attributes are not in the recording driver, so a known function gives "not supported".
    if (cudaFuncGetAttributes(&unused, &g_host_function[0]) != cudaErrorNotSupported) ++wrong;
  }
  registering.join();
  EXPECT_EQ(wrong, 0);
  for (char& function : functions) {
    ASSERT_EQ(cudaFuncGetAttributes(&unused, &function), cudaErrorNotSupported);
  }
  __cudaUnregisterFatBinary(more);
  EXPECT_EQ(cudaFuncGetAttributes(&unused, &functions[0]), cudaErrorInvalidDeviceFunction);
}

}  // namespace
