// Devices, contexts, names and numbers.
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "shim/cuda/private_api.h"
#include "tests/shim/cuda/fixture.h"

namespace vgpu::shim::testing {
namespace {

TEST_F(DriverTest, TheDeviceTellsWhatTheRegionTells) {
  int count = 0;
  EXPECT_CUDA(cuDeviceGetCount(&count));
  EXPECT_EQ(count, 1);
  char name[64] = {};
  EXPECT_CUDA(cuDeviceGetName(name, sizeof(name), 0));
  EXPECT_STREQ(name, "plain test device");
  CUuuid uuid{};
  EXPECT_CUDA(cuDeviceGetUuid_v2(&uuid, 0));
  EXPECT_EQ(static_cast<unsigned char>(uuid.bytes[15]), 0xaf);
  size_t bytes = 0;
  EXPECT_CUDA(cuDeviceTotalMem_v2(&bytes, 0));
  EXPECT_EQ(bytes, 256u << 20);
  int major = 0;
  int minor = 0;
  EXPECT_CUDA(cuDeviceComputeCapability(&major, &minor, 0));
  EXPECT_EQ(major * 10 + minor, 61);
  CUdevprop properties{};
  EXPECT_CUDA(cuDeviceGetProperties(&properties, 0));
  EXPECT_EQ(properties.maxThreadsPerBlock, 1024);
  EXPECT_EQ(properties.SIMDWidth, 32);
}

TEST_F(DriverTest, EveryAttributeAnswersAndUnknownOnesAreZero) {
  for (int number = 1; number < 200; ++number) {
    int value = -1;
    EXPECT_CUDA(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(number), 0)) << number;
    EXPECT_GE(value, 0) << number;
  }
  int value = 0;
  EXPECT_CUDA(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0));
  EXPECT_EQ(value, 32);
  EXPECT_EQ(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 1), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(cuDeviceGetAttribute(nullptr, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, ThePciAddressFindsTheDevice) {
  char address[32] = {};
  ASSERT_CUDA(cuDeviceGetPCIBusId(address, sizeof(address), 0));
  EXPECT_EQ(std::strlen(address), 12u);
  CUdevice device = -1;
  EXPECT_CUDA(cuDeviceGetByPCIBusId(&device, address));
  EXPECT_EQ(device, 0);
  EXPECT_EQ(cuDeviceGetByPCIBusId(&device, "1234:56:17.0"), CUDA_ERROR_INVALID_DEVICE);
  EXPECT_EQ(cuDeviceGetByPCIBusId(&device, "nonsense"), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuDeviceGetPCIBusId(address, 5, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, EveryResultHasANameAndAText) {
  std::set<std::string> names;
  int count = 0;
#define VGPU_RESULT(result, number, words)        \
  {                                               \
    const char* text = nullptr;                   \
    EXPECT_EQ(static_cast<int>(result), number);  \
    EXPECT_CUDA(cuGetErrorName(result, &text));   \
    EXPECT_STREQ(text, #result);                  \
    names.insert(text);                           \
    EXPECT_CUDA(cuGetErrorString(result, &text)); \
    EXPECT_NE(std::strlen(text), 0u);             \
    ++count;                                      \
  }
#include "shim/cuda/cuda_results.def"
#undef VGPU_RESULT
  EXPECT_EQ(static_cast<int>(names.size()), count);
  const char* text = "";
  EXPECT_EQ(cuGetErrorString(static_cast<CUresult>(650), &text), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(text, nullptr);
}

TEST_F(DriverTest, EachThreadHasItsOwnCurrentContext) {
  CUcontext current = nullptr;
  std::thread([&] { EXPECT_CUDA(cuCtxGetCurrent(&current)); }).join();
  EXPECT_EQ(current, nullptr);
  EXPECT_CUDA(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context_);
  std::thread([] {
    CUdeviceptr pointer = 0;
    EXPECT_EQ(cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_INVALID_CONTEXT);
  }).join();
}

TEST_F(DriverTest, ContextsFormAStack) {
  CUcontext made = nullptr;
  ASSERT_CUDA(cuCtxCreate_v2(&made, 0, 0));
  EXPECT_NE(made, context_);
  CUcontext current = nullptr;
  EXPECT_CUDA(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, made);
  const CUdeviceptr memory = allocate(64);
  EXPECT_CUDA(cuCtxPopCurrent_v2(&current));
  EXPECT_EQ(current, made);
  EXPECT_CUDA(cuCtxGetCurrent(&current));
  EXPECT_EQ(current, context_);
  EXPECT_CUDA(cuCtxPushCurrent_v2(made));
  EXPECT_CUDA(cuCtxDestroy_v2(made));
  EXPECT_EQ(cuCtxPushCurrent_v2(made), CUDA_ERROR_INVALID_CONTEXT);
  EXPECT_EQ(cuMemFree_v2(memory), CUDA_ERROR_INVALID_VALUE) << "destroying the context freed it";
  EXPECT_EQ(cuCtxDestroy_v2(context_), CUDA_ERROR_INVALID_CONTEXT)
      << "the primary context is released, not destroyed";
}

TEST_F(DriverTest, ThePrimaryContextIsCountedAndMayBeCurrentBeforeItIsRetained) {
  unsigned flags = 0;
  int active = 0;
  EXPECT_CUDA(cuDevicePrimaryCtxGetState(0, &flags, &active));
  EXPECT_EQ(active, 1);
  EXPECT_CUDA(cuDevicePrimaryCtxRelease_v2(0));
  EXPECT_CUDA(cuDevicePrimaryCtxGetState(0, &flags, &active));
  EXPECT_EQ(active, 0);
  EXPECT_EQ(cuDevicePrimaryCtxRelease_v2(0), CUDA_ERROR_INVALID_CONTEXT);
  CUdeviceptr pointer = 0;
  EXPECT_EQ(cuMemAlloc_v2(&pointer, 16), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  EXPECT_CUDA(cuCtxSetCurrent(context_));
  CUcontext again = nullptr;
  EXPECT_CUDA(cuDevicePrimaryCtxRetain(&again, 0));
  EXPECT_EQ(again, context_);
  EXPECT_CUDA(cuMemFree_v2(allocate(16)));
}

TEST_F(DriverTest, ResettingThePrimaryContextFreesItsMemory) {
  size_t before = 0;
  size_t after = 0;
  size_t total = 0;
  ASSERT_CUDA(cuMemGetInfo_v2(&before, &total));
  allocate(8 << 20);
  ASSERT_CUDA(cuMemGetInfo_v2(&after, &total));
  EXPECT_EQ(before - after, 8u << 20);
  EXPECT_CUDA(cuDevicePrimaryCtxReset_v2(0));
  ASSERT_CUDA(cuMemGetInfo_v2(&after, &total));
  EXPECT_EQ(before, after);
}

TEST_F(DriverTest, ProcAddressesFollowVersionAndFlags) {
  void* function = nullptr;
  CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  EXPECT_CUDA(cuGetProcAddress_v2("cuMemAlloc", &function, 12000, 0, &status));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuMemAlloc_v2));
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SUCCESS);
  EXPECT_CUDA(cuGetProcAddress_v2("cuDevicePrimaryCtxRelease", &function, 7000, 0, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuDevicePrimaryCtxRelease));
  EXPECT_CUDA(cuGetProcAddress_v2("cuDevicePrimaryCtxRelease", &function, 13000, 0, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuDevicePrimaryCtxRelease_v2));
  EXPECT_CUDA(cuGetProcAddress_v2("cuCtxCreate", &function, 3020, 0, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuCtxCreate_v2));
  EXPECT_CUDA(cuGetProcAddress_v2("cuCtxSynchronize", &function, 2000, 0, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuCtxSynchronize));
  EXPECT_CUDA(cuGetProcAddress_v2("cuCtxSynchronize", &function, 13000, 0, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuCtxSynchronize_v2));
  EXPECT_CUDA(cuGetProcAddress_v2("cuLaunchKernel", &function, 12000,
                                  CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuLaunchKernel_ptsz));
  EXPECT_CUDA(cuGetProcAddress_v2("cuMemcpy", &function, 12000, CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM,
                                  nullptr));
  EXPECT_EQ(function, reinterpret_cast<void*>(&cuMemcpy_ptds));
  EXPECT_EQ(cuGetProcAddress_v2("cuMemCreate", &function, 5000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
  EXPECT_EQ(cuGetProcAddress_v2("cuNoSuchThing", &function, 13000, 0, &status), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
  EXPECT_EQ(function, nullptr);
  EXPECT_EQ(cuGetProcAddress("cuInit", nullptr, 13000, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, WhatIsNotImplementedSaysSo) {
  void* function = nullptr;
  ASSERT_CUDA(cuGetProcAddress_v2("cuArrayCreate", &function, 13000, 0, nullptr));
  EXPECT_EQ(reinterpret_cast<int (*)()>(function)(), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(DriverTest, PrivateTablesOfNvidiaAreRefused) {
  const CUuuid id{{1, 2, 3}};
  const void* table = &id;
  EXPECT_EQ(cuGetExportTable(&table, &id), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(table, nullptr);
}

TEST_F(DriverTest, ThePrivateTableSubmitsOnlyAsynchronousCommands) {
  EXPECT_EQ(vgpuGetPrivateTable(kVgpuPrivateVersion + 1), nullptr);
  const VgpuPrivateTable* table = vgpuGetPrivateTable(kVgpuPrivateVersion);
  ASSERT_NE(table, nullptr);
  EXPECT_EQ(table->bytes, sizeof(VgpuPrivateTable));
  const CUdeviceptr memory = allocate(64);
  const uint64_t ping = 1;
  EXPECT_EQ(table->submit(nullptr, 0x0001, &ping, sizeof(ping)), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(table->submit(reinterpret_cast<CUstream>(64), 0x0102, &memory, 8), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(table->submit(nullptr, 0x0102, &memory, 4), CUDA_ERROR_INVALID_VALUE);
  CUcontext context = nullptr;
  EXPECT_CUDA(table->check_context(&context));
  EXPECT_EQ(context, context_);
  const vgpu::ring::DeviceInfo* info = nullptr;
  EXPECT_CUDA(table->device_info(&info));
  EXPECT_EQ(info->compute_major, 6);
  VgpuDeviceStatus status{};
  // The device counts its channels with each beat of its heart.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  do {
    ASSERT_CUDA(table->device_status(&status));
  } while (status.channels_served != 1 && std::chrono::steady_clock::now() < end);
  EXPECT_EQ(status.channels_served, 1u);
}

}  // namespace
}  // namespace vgpu::shim::testing
