// NVML beside the runtime on a real device: both describe the same one, and memory that is taken shows in
// both.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "shim/nvml/nvml_abi.h"
#include "tests/shim/cudart/cudart_api.h"

extern "C" {
nvmlReturn_t nvmlInit_v2();
nvmlReturn_t nvmlShutdown();
nvmlReturn_t nvmlSystemGetDriverVersion(char*, unsigned);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char*, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t, char*, unsigned);
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t, nvmlMemory_t*);
}

namespace {

class NvmlSystem : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(nvmlInit_v2(), NVML_SUCCESS); }
  void TearDown() override { EXPECT_EQ(nvmlShutdown(), NVML_SUCCESS); }
};

TEST_F(NvmlSystem, DescribesTheRuntimesDevice) {
  char bus_id[32];
  ASSERT_EQ(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, 0), cudaSuccess);
  nvmlDevice_t device = nullptr;
  ASSERT_EQ(nvmlDeviceGetHandleByPciBusId_v2(bus_id, &device), NVML_SUCCESS);
  char name[256];
  ASSERT_EQ(nvmlDeviceGetName(device, name, sizeof name), NVML_SUCCESS);
  cudaDeviceProp properties{};
  ASSERT_EQ(device_properties(&properties, 0), cudaSuccess);
  EXPECT_STREQ(name, properties.name);
  char version[80];
  ASSERT_EQ(nvmlSystemGetDriverVersion(version, sizeof version), NVML_SUCCESS);
  EXPECT_GE(std::atoi(version), 570);  // below this, clients take a driver for too old
}

TEST_F(NvmlSystem, SeesMemoryThatIsTaken) {
  nvmlDevice_t device = nullptr;
  ASSERT_EQ(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_SUCCESS);
  nvmlMemory_t before{};
  ASSERT_EQ(nvmlDeviceGetMemoryInfo(device, &before), NVML_SUCCESS);
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, kBytes), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  // The device publishes the sum of all channels with its heartbeat, at least ten times a second.
  nvmlMemory_t after{};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  do {
    ASSERT_EQ(nvmlDeviceGetMemoryInfo(device, &after), NVML_SUCCESS);
  } while (after.used < before.used + kBytes && std::chrono::steady_clock::now() < deadline);
  EXPECT_GE(after.used, before.used + kBytes);
  EXPECT_EQ(after.free + after.used, after.total);
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_bytes, &total_bytes), cudaSuccess);
  EXPECT_EQ(total_bytes, after.total);
  EXPECT_EQ(free_bytes, after.free);
}

}  // namespace
