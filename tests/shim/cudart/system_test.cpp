// Whole programs in small: the runtime API down to kernels that run on the device. Each case is run in a
// process of its own through `vgpu-device run`.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "tests/shim/cudart/system_kernels.h"

#define CHECK_CUDA(call) ASSERT_EQ(call, cudaSuccess)

namespace {

class System : public testing::Test {
 protected:
  template <typename T>
  T* device(std::size_t count) {
    void* pointer = nullptr;
    EXPECT_EQ(cudaMalloc(&pointer, count * sizeof(T)), cudaSuccess);
    return static_cast<T*>(pointer);
  }
  template <typename T>
  T* upload(const std::vector<T>& values) {
    T* pointer = device<T>(values.size());
    EXPECT_EQ(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
    return pointer;
  }
  template <typename T>
  std::vector<T> download(const T* pointer, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpy(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  cudaError_t scale(float* y, const float* x, float factor, unsigned n, cudaStream_t stream = nullptr) {
    void* arguments[] = {&y, &x, &factor, &n};
    return cudaLaunchKernel(&image_.scale, {(n + 127) / 128, 1, 1}, {128, 1, 1}, arguments, 0, stream);
  }
  RegisteredImage image_{kSystemPtx};
};

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

TEST_F(System, DescribesItsDevice) {
  int count = 0;
  CHECK_CUDA(cudaGetDeviceCount(&count));
  ASSERT_EQ(count, 1);
  cudaDeviceProp p{};
  CHECK_CUDA(device_properties(&p, 0));
  EXPECT_EQ(p.major, 6);
  EXPECT_EQ(p.minor, 1);
  EXPECT_EQ(p.warpSize, 32);
  EXPECT_EQ(p.maxThreadsPerBlock, 1024);
  EXPECT_EQ(p.sharedMemPerBlock, 49152u);
  EXPECT_GT(p.multiProcessorCount, 0);
  EXPECT_NE(p.name[0], '\0');
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CHECK_CUDA(cudaMemGetInfo(&free_bytes, &total_bytes));
  EXPECT_EQ(total_bytes, p.totalGlobalMem);
  EXPECT_LE(free_bytes, total_bytes);
  char bus_id[32];
  CHECK_CUDA(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, 0));
  char expected[32];
  std::snprintf(expected, sizeof expected, "%04X:%02X:%02X.0", p.pciDomainID, p.pciBusID, p.pciDeviceID);
  EXPECT_STREQ(bus_id, expected);
}

TEST_F(System, AKernelComputesWhatItSays) {
  const auto x = ramp(1000);
  float* dx = upload(x);
  float* dy = device<float>(x.size());
  CHECK_CUDA(scale(dy, dx, 2.0f, 1000));
  CHECK_CUDA(cudaDeviceSynchronize());
  const auto y = download(dy, x.size());
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], 2.0f * x[i] + 1.0f) << i;
  CHECK_CUDA(cudaFree(dx));
  CHECK_CUDA(cudaFree(dy));
}

TEST_F(System, AVariableReachesTheKernel) {
  const float value = 5.0f;
  CHECK_CUDA(cudaMemcpyToSymbol(&image_.offset, &value, 4, 0, cudaMemcpyHostToDevice));
  float back = 0;
  CHECK_CUDA(cudaMemcpyFromSymbol(&back, &image_.offset, 4, 0, cudaMemcpyDeviceToHost));
  EXPECT_EQ(back, 5.0f);
  float* dx = upload(std::vector<float>{3.0f});
  CHECK_CUDA(scale(dx, dx, 1.0f, 1));
  EXPECT_EQ(download(dx, 1)[0], 8.0f);
}

TEST_F(System, DynamicSharedMemoryAndBarriersWork) {
  std::vector<unsigned> values(256);
  std::iota(values.begin(), values.end(), 0u);
  unsigned* memory = upload(values);
  void* arguments[] = {&memory};
  CHECK_CUDA(cudaLaunchKernel(&image_.reverse, {1, 1, 1}, {256, 1, 1}, arguments, 1024, nullptr));
  const auto reversed = download(memory, values.size());
  for (unsigned i = 0; i < 256; ++i) ASSERT_EQ(reversed[i], 255 - i);
}

TEST_F(System, ALaunchConfigurationPassesThroughPushAndPop) {
  unsigned* counter = upload(std::vector<unsigned>{0});
  ASSERT_EQ(__cudaPushCallConfiguration({3, 2, 1}, {33, 1, 1}, 0, nullptr), 0u);
  dim3 grid{};
  dim3 block{};
  std::size_t shared = 0;
  cudaStream_t stream = nullptr;
  CHECK_CUDA(__cudaPopCallConfiguration(&grid, &block, &shared, &stream));
  void* arguments[] = {&counter};
  CHECK_CUDA(cudaLaunchKernel(&image_.count, grid, block, arguments, shared, stream));
  EXPECT_EQ(download(counter, 1)[0], 6u * 33u);
}

TEST_F(System, LargeCopiesArriveWhole) {
  std::vector<unsigned> values((std::size_t{40} << 20) / 4 + 3);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<unsigned>(i * 2654435761u);
  unsigned* memory = upload(values);
  EXPECT_EQ(download(memory, values.size()), values);
  unsigned* second = device<unsigned>(values.size());
  CHECK_CUDA(cudaMemcpy(second, memory, values.size() * 4, cudaMemcpyDeviceToDevice));
  EXPECT_EQ(download(second, values.size()), values);
}

TEST_F(System, RowsKeepTheirPitch) {
  std::vector<unsigned char> values(16 * 10);
  std::iota(values.begin(), values.end(), static_cast<unsigned char>(0));
  void* memory = nullptr;
  std::size_t pitch = 0;
  CHECK_CUDA(cudaMallocPitch(&memory, &pitch, 12, 10));
  ASSERT_GE(pitch, 12u);
  CHECK_CUDA(cudaMemset(memory, 0xee, pitch * 10));
  CHECK_CUDA(cudaMemcpy2D(memory, pitch, values.data(), 16, 12, 10, cudaMemcpyHostToDevice));
  std::vector<unsigned char> back(16 * 10, 0x77);
  CHECK_CUDA(cudaMemcpy2D(back.data(), 16, memory, pitch, 12, 10, cudaMemcpyDeviceToHost));
  for (std::size_t row = 0; row < 10; ++row) {
    for (std::size_t column = 0; column < 16; ++column) {
      const std::size_t i = row * 16 + column;
      ASSERT_EQ(back[i], column < 12 ? values[i] : 0x77) << row << "," << column;
    }
  }
}

TEST_F(System, StreamsEventsAndPinnedMemoryWorkTogether) {
  constexpr unsigned kCount = 100000;
  void* pinned = nullptr;
  CHECK_CUDA(cudaMallocHost(&pinned, kCount * sizeof(float)));
  auto* host = static_cast<float*>(pinned);
  std::iota(host, host + kCount, 0.0f);
  cudaStream_t stream = nullptr;
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, 1));
  cudaEvent_t start = nullptr;
  cudaEvent_t end = nullptr;
  CHECK_CUDA(cudaEventCreateWithFlags(&start, 0));
  CHECK_CUDA(cudaEventCreateWithFlags(&end, 0));
  float* memory = device<float>(kCount);
  CHECK_CUDA(cudaEventRecord(start, stream));
  CHECK_CUDA(cudaMemcpyAsync(memory, host, kCount * sizeof(float), cudaMemcpyHostToDevice, stream));
  for (int i = 0; i < 3; ++i) CHECK_CUDA(scale(memory, memory, 1.0f, kCount, stream));
  CHECK_CUDA(cudaMemcpyAsync(host, memory, kCount * sizeof(float), cudaMemcpyDeviceToHost, stream));
  CHECK_CUDA(cudaEventRecord(end, stream));
  CHECK_CUDA(cudaEventSynchronize(end));
  float milliseconds = -1;
  CHECK_CUDA(cudaEventElapsedTime(&milliseconds, start, end));
  EXPECT_GE(milliseconds, 0.0f);
  for (unsigned i = 0; i < kCount; ++i) ASSERT_EQ(host[i], static_cast<float>(i) + 3.0f);
  CHECK_CUDA(cudaEventDestroy(start));
  CHECK_CUDA(cudaEventDestroy(end));
  CHECK_CUDA(cudaStreamDestroy(stream));
  CHECK_CUDA(cudaFreeHost(pinned));
}

TEST_F(System, ACapturedGraphRunsAgainAndAgain) {
  unsigned* counter = upload(std::vector<unsigned>{0});
  void* arguments[] = {&counter};
  // The image is loaded before the capture: loading is not allowed during one.
  CHECK_CUDA(cudaLaunchKernel(&image_.count, {1, 1, 1}, {1, 1, 1}, arguments, 0, nullptr));
  CHECK_CUDA(cudaDeviceSynchronize());
  cudaStream_t stream = nullptr;
  CHECK_CUDA(cudaStreamCreateWithFlags(&stream, 1));
  CHECK_CUDA(cudaStreamBeginCapture(stream, 2));
  for (int i = 0; i < 2; ++i) {
    CHECK_CUDA(cudaLaunchKernel(&image_.count, {4, 1, 1}, {8, 1, 1}, arguments, 0, stream));
  }
  cudaGraph_t graph = nullptr;
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t executable = nullptr;
  CHECK_CUDA(cudaGraphInstantiate(&executable, graph, 0));
  for (int i = 0; i < 3; ++i) CHECK_CUDA(cudaGraphLaunch(executable, stream));
  CHECK_CUDA(cudaStreamSynchronize(stream));
  EXPECT_EQ(download(counter, 1)[0], 1u + 3u * 2u * 32u);
  CHECK_CUDA(cudaGraphExecDestroy(executable));
  CHECK_CUDA(cudaGraphDestroy(graph));
}

TEST_F(System, SeveralThreadsShareTheDevice) {
  unsigned* counter = upload(std::vector<unsigned>{0});
  std::array<std::thread, 4> threads;
  for (auto& thread : threads) {
    thread = std::thread([&] {
      void* arguments[] = {&counter};
      for (int i = 0; i < 50; ++i) {
        EXPECT_EQ(cudaLaunchKernel(&image_.count, {1, 1, 1}, {32, 1, 1}, arguments, 0, CU_STREAM_PER_THREAD),
                  cudaSuccess);
      }
      EXPECT_EQ(cudaStreamSynchronize(CU_STREAM_PER_THREAD), cudaSuccess);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(download(counter, 1)[0], 4u * 50u * 32u);
}

TEST_F(System, KernelsTellTheirAttributes) {
  cudaFuncAttributes attributes{};
  CHECK_CUDA(cudaFuncGetAttributes(&attributes, &image_.scale));
  EXPECT_EQ(attributes.maxThreadsPerBlock, 1024);
  EXPECT_EQ(attributes.ptxVersion, 70);
  int blocks = 0;
  CHECK_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, &image_.scale, 128, 0, 0));
  EXPECT_GT(blocks, 0);
}

TEST_F(System, PointersTellWhatTheyAre) {
  float* memory = device<float>(16);
  cudaPointerAttributes attributes{};
  CHECK_CUDA(cudaPointerGetAttributes(&attributes, memory + 3));
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.devicePointer, memory + 3);
  EXPECT_EQ(attributes.device, 0);
  int local = 0;
  CHECK_CUDA(cudaPointerGetAttributes(&attributes, &local));
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
}

TEST_F(System, TooManyThreadsAreAnInvalidConfiguration) {
  float* memory = device<float>(16);
  void* arguments[] = {&memory};
  EXPECT_EQ(cudaLaunchKernel(&image_.count, {1, 1, 1}, {1025, 1, 1}, arguments, 0, nullptr),
            cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST_F(System, TooMuchSharedMemoryIsAnInvalidValue) {
  float* memory = device<float>(16);
  void* arguments[] = {&memory};
  EXPECT_EQ(cudaLaunchKernel(&image_.reverse, {1, 1, 1}, {1, 1, 1}, arguments, 49153, nullptr),
            cudaErrorInvalidValue);
}

TEST_F(System, AnIllegalAddressBreaksTheContextForGood) {
  unsigned* nowhere = nullptr;
  void* arguments[] = {&nowhere};
  CHECK_CUDA(cudaLaunchKernel(&image_.count, {1, 1, 1}, {1, 1, 1}, arguments, 0, nullptr));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 16), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
}

TEST_F(System, ForeignAndFreedPointersAreRefused) {
  int local = 0;
  EXPECT_EQ(cudaFree(&local), cudaErrorInvalidValue);
  float* memory = device<float>(16);
  CHECK_CUDA(cudaFree(memory));
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
}

TEST_F(System, MoreMemoryThanThereIsIsRefusedAndTheDeviceGoesOn) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, std::size_t{1} << 44), cudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaMalloc(&memory, 1024), cudaSuccess);
}

TEST_F(System, AnImageForOtherDevicesHasNoKernelForThisOne) {
  const RegisteredImage other(
      ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry count() { ret; }\n", 90);
  EXPECT_EQ(cudaLaunchKernel(&other.count, {1, 1, 1}, {1, 1, 1}, nullptr, 0, nullptr),
            cudaErrorNoKernelImageForDevice);
}

TEST_F(System, DamagedCodeIsRefused) {
  const RegisteredImage damaged(
      ".version 7.0\n.target sm_61\n.address_size 64\n.visible .entry count( { frobnicate; }\n");
  const cudaError_t error = cudaLaunchKernel(&damaged.count, {1, 1, 1}, {1, 1, 1}, nullptr, 0, nullptr);
  EXPECT_TRUE(error == cudaErrorInvalidPtx || error == cudaErrorInvalidKernelImage)
      << cudaGetErrorName(error);
  float* memory = device<float>(4);
  EXPECT_EQ(scale(memory, memory, 1.0f, 4), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

}  // namespace
