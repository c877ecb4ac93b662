// NVML over a libcuda that describes a device: what a monitor reads, and what it is told when there is none.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "shim/nvml/nvml_abi.h"
#include "tests/shim/cublas/fake_cuda.h"

extern "C" {
nvmlReturn_t nvmlInit_v2();
nvmlReturn_t nvmlShutdown();
nvmlReturn_t nvmlSystemGetDriverVersion(char*, unsigned);
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int*);
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned*);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char*, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char*, nvmlDevice_t*);
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t, char*, unsigned);
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t, char*, unsigned);
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t, nvmlMemory_t*);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t, nvmlMemory_v2_t*);
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t, nvmlPciInfo_t*);
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t, int*, int*);
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t, int, unsigned*);
const char* nvmlErrorString(nvmlReturn_t);
}

namespace {

constexpr char kUuid[] = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f";

class Nvml : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda()->reset();
    auto& info = fake_cuda()->info;
    std::strcpy(info.name, "vGPU");
    std::strcpy(info.driver_version_text, "580.65.06");
    for (uint8_t i = 0; i < 16; ++i) info.uuid[i] = i;
    info.compute_major = 6;
    info.compute_minor = 1;
    info.total_memory_bytes = 1000;
    info.driver_version = 13000;
    info.pci_domain = 1;
    info.pci_bus = 0xab;
    info.pci_device = 3;
    fake_cuda()->status.device_state = static_cast<uint32_t>(vgpu::ring::DeviceState::kReady);
    fake_cuda()->status.memory_in_use_bytes = 300;
    ASSERT_EQ(nvmlInit_v2(), NVML_SUCCESS);
    ASSERT_EQ(nvmlDeviceGetHandleByIndex_v2(0, &device_), NVML_SUCCESS);
  }
  void TearDown() override { nvmlShutdown(); }
  nvmlDevice_t device_ = nullptr;
};

TEST_F(Nvml, TellsVersionsAndCounts) {
  char text[80];
  ASSERT_EQ(nvmlSystemGetDriverVersion(text, sizeof text), NVML_SUCCESS);
  EXPECT_STREQ(text, "580.65.06");
  int version = 0;
  ASSERT_EQ(nvmlSystemGetCudaDriverVersion_v2(&version), NVML_SUCCESS);
  EXPECT_EQ(version, 13000);
  unsigned count = 0;
  ASSERT_EQ(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
  EXPECT_EQ(count, 1u);
}

TEST_F(Nvml, FindsTheDeviceByUuidAndBusId) {
  nvmlDevice_t found = nullptr;
  EXPECT_EQ(nvmlDeviceGetHandleByUUID(kUuid, &found), NVML_SUCCESS);
  EXPECT_EQ(found, device_);
  EXPECT_EQ(nvmlDeviceGetHandleByUUID("GPU-ffffffff-0405-0607-0809-0a0b0c0d0e0f", &found),
            NVML_ERROR_NOT_FOUND);
  EXPECT_EQ(nvmlDeviceGetHandleByPciBusId_v2("0001:AB:03.0", &found), NVML_SUCCESS);
  EXPECT_EQ(nvmlDeviceGetHandleByPciBusId_v2("0000:AB:03.0", &found), NVML_ERROR_NOT_FOUND);
}

TEST_F(Nvml, DescribesTheDevice) {
  char text[96];
  ASSERT_EQ(nvmlDeviceGetName(device_, text, sizeof text), NVML_SUCCESS);
  EXPECT_STREQ(text, "vGPU");
  ASSERT_EQ(nvmlDeviceGetUUID(device_, text, sizeof text), NVML_SUCCESS);
  EXPECT_STREQ(text, kUuid);
  int major = 0;
  int minor = 0;
  ASSERT_EQ(nvmlDeviceGetCudaComputeCapability(device_, &major, &minor), NVML_SUCCESS);
  EXPECT_EQ(major * 10 + minor, 61);
  nvmlPciInfo_t pci{};
  ASSERT_EQ(nvmlDeviceGetPciInfo_v3(device_, &pci), NVML_SUCCESS);
  EXPECT_STREQ(pci.busId, "00000001:AB:03.0");
  EXPECT_STREQ(pci.busIdLegacy, "0001:AB:03.0");
}

TEST_F(Nvml, MemoryIsWhatTheDeviceCounts) {
  nvmlMemory_t memory{};
  ASSERT_EQ(nvmlDeviceGetMemoryInfo(device_, &memory), NVML_SUCCESS);
  EXPECT_EQ(memory.total, 1000u);
  EXPECT_EQ(memory.used, 300u);
  EXPECT_EQ(memory.free, 700u);
  nvmlMemory_v2_t second{};
  EXPECT_EQ(nvmlDeviceGetMemoryInfo_v2(device_, &second), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
  second.version = kNvmlMemoryV2;
  ASSERT_EQ(nvmlDeviceGetMemoryInfo_v2(device_, &second), NVML_SUCCESS);
  EXPECT_EQ(second.free, 700u);
}

TEST_F(Nvml, ADeadDeviceIsLost) {
  fake_cuda()->status.device_state = static_cast<uint32_t>(vgpu::ring::DeviceState::kDead);
  nvmlMemory_t memory{};
  EXPECT_EQ(nvmlDeviceGetMemoryInfo(device_, &memory), NVML_ERROR_GPU_IS_LOST);
}

TEST_F(Nvml, ABufferThatIsTooSmallIsAnError) {
  char text[4];
  EXPECT_EQ(nvmlDeviceGetName(device_, text, sizeof text), NVML_ERROR_INSUFFICIENT_SIZE);
}

TEST_F(Nvml, AForeignHandleAndNullAreInvalid) {
  unsigned unused = 0;
  nvmlMemory_t memory{};
  EXPECT_EQ(nvmlDeviceGetMemoryInfo(reinterpret_cast<nvmlDevice_t>(&unused), &memory),
            NVML_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(nvmlDeviceGetMemoryInfo(device_, nullptr), NVML_ERROR_INVALID_ARGUMENT);
  nvmlDevice_t second = nullptr;
  EXPECT_EQ(nvmlDeviceGetHandleByIndex_v2(1, &second), NVML_ERROR_INVALID_ARGUMENT);
}

TEST_F(Nvml, ASensorThatIsNotThereIsNotSupported) {
  unsigned degrees = 0;
  EXPECT_EQ(nvmlDeviceGetTemperature(device_, 0, &degrees), NVML_ERROR_NOT_SUPPORTED);
  EXPECT_STREQ(nvmlErrorString(NVML_ERROR_NOT_SUPPORTED), "Not Supported");
}

TEST_F(Nvml, InitialisationIsCounted) {
  ASSERT_EQ(nvmlInit_v2(), NVML_SUCCESS);
  ASSERT_EQ(nvmlShutdown(), NVML_SUCCESS);
  unsigned count = 0;
  EXPECT_EQ(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
  ASSERT_EQ(nvmlShutdown(), NVML_SUCCESS);
  EXPECT_EQ(nvmlDeviceGetCount_v2(&count), NVML_ERROR_UNINITIALIZED);
  EXPECT_EQ(nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
  ASSERT_EQ(nvmlInit_v2(), NVML_SUCCESS);  // for TearDown
}

}  // namespace
