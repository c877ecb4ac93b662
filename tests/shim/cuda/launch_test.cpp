// Modules, functions, launches, occupancy, and how errors of kernels surface.
#include <cstring>

#include "tests/shim/cuda/fixture.h"

namespace vgpu::shim::testing {
namespace {

TEST_F(DriverTest, AKernelGetsItsParametersHoweverTheyAreGiven) {
  const CUfunction kernel = function("add");
  const CUdeviceptr memory = allocate(400);
  const auto values = numbers(100);
  ASSERT_CUDA(cuMemcpyHtoD_v2(memory, values.data(), 400));
  ASSERT_CUDA(add(kernel, memory, 100, 5));
  struct {
    CUdeviceptr array;
    uint32_t count, value;
  } block{memory, 50, 7};
  size_t bytes = sizeof(block);
  void* extra[] = {reinterpret_cast<void*>(kLaunchParamBufferPointer), &block,
                   reinterpret_cast<void*>(kLaunchParamBufferSize), &bytes,
                   reinterpret_cast<void*>(kLaunchParamEnd)};
  ASSERT_CUDA(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
  std::vector<uint32_t> back(100);
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, 400));
  EXPECT_EQ(back[49], 49u + 5 + 7);
  EXPECT_EQ(back[50], 50u + 5);
  uint8_t one = 1;
  uint64_t two = 2;
  uint16_t three = 3;
  void* parameters[] = {&one, &two, &three};
  EXPECT_CUDA(cuLaunchKernel(function("mixed"), 1, 1, 1, 1, 1, 1, 0, nullptr, parameters, nullptr));
  EXPECT_CUDA(cuCtxSynchronize()) << "the kernel checks what it got";
}

TEST_F(DriverTest, LaunchesAreChecked) {
  const CUfunction kernel = function("illegal");
  const auto launch = [&](unsigned gx, unsigned gy, unsigned bx, unsigned by, unsigned shared) {
    return cuLaunchKernel(kernel, gx, gy, 1, bx, by, 1, shared, nullptr, nullptr, nullptr);
  };
  EXPECT_EQ(launch(0, 1, 1, 1, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(1, 1, 0, 1, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(1, 65536, 1, 1, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(1, 1, 1025, 1, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(1, 1, 512, 4, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(launch(1, 1, 1, 1, 49152), CUDA_ERROR_INVALID_VALUE) << "with the static shared memory too much";
  EXPECT_EQ(cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(
      cuLaunchKernel(reinterpret_cast<CUfunction>(context_), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
      CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuLaunchKernel(function("small"), 1, 1, 1, 129, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  EXPECT_EQ(cuLaunchKernel(function("add"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_ERROR_INVALID_VALUE)
      << "no parameters";
  EXPECT_CUDA(cuCtxSynchronize()) << "none of it reached the device";
}

TEST_F(DriverTest, LaunchAttributesAreDoneOrRefused) {
  CUlaunchAttribute attributes[2] = {};
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
  attributes[0].value.cooperative = 1;
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  config.attrs = attributes;
  config.numAttrs = 1;
  const CUfunction kernel = function("small");
  EXPECT_CUDA(cuLaunchKernelEx(&config, kernel, nullptr, nullptr));
  config.gridDimX = 1 << 20;
  EXPECT_EQ(cuLaunchKernelEx(&config, kernel, nullptr, nullptr), CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  EXPECT_EQ(cuLaunchCooperativeKernel(kernel, 1 << 20, 1, 1, 1, 1, 1, 0, nullptr, nullptr),
            CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT;
  EXPECT_EQ(cuLaunchKernelEx(&config, kernel, nullptr, nullptr), CUDA_ERROR_NOT_SUPPORTED);
  EXPECT_CUDA(cuCtxSynchronize());
}

TEST_F(DriverTest, AFailureThatSparesTheContextIsToldOnce) {
  ASSERT_CUDA(cuLaunchKernel(function("refused"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
  EXPECT_EQ(cuCtxSynchronize(), CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  EXPECT_CUDA(cuCtxSynchronize());
  EXPECT_CUDA(cuMemFree_v2(allocate(16)));
}

TEST_F(DriverTest, ImagesThatAreNoneAreRefusedAndTheContextLives) {
  CUmodule module = nullptr;
  EXPECT_EQ(cuModuleLoadData(&module, "rubbish"), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(cuModuleLoadData(&module, ""), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_EQ(cuModuleLoadData(&module, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuModuleLoadData(&module, "no code for this device"), CUDA_ERROR_NO_BINARY_FOR_GPU);
  char errors[128] = {};
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {errors, reinterpret_cast<void*>(sizeof(errors))};
  EXPECT_EQ(cuModuleLoadDataEx(&module, "syntax error", 2, options, values), CUDA_ERROR_INVALID_PTX);
  EXPECT_NE(std::strstr(errors, "line 3"), nullptr) << errors;
  EXPECT_EQ(cuModuleLoad(&module, "/no/such/file"), CUDA_ERROR_FILE_NOT_FOUND);
  EXPECT_CUDA(cuCtxSynchronize());
}

TEST_F(DriverTest, ModulesAreEnumeratedAndUnloaded) {
  CUmodule module = nullptr;
  ASSERT_CUDA(cuModuleLoadData(&module, kImage));
  unsigned count = 0;
  EXPECT_CUDA(cuModuleGetFunctionCount(&count, module));
  ASSERT_EQ(count, 6u);
  CUfunction functions[6] = {};
  ASSERT_CUDA(cuModuleEnumerateFunctions(functions, 6, module));
  const char* name = nullptr;
  EXPECT_CUDA(cuFuncGetName(&name, functions[5]));
  EXPECT_STREQ(name, "mixed");
  CUfunction again = nullptr;
  EXPECT_CUDA(cuModuleGetFunction(&again, module, "mixed"));
  EXPECT_EQ(again, functions[5]);
  size_t offset = 0;
  size_t bytes = 0;
  EXPECT_CUDA(cuFuncGetParamInfo(again, 2, &offset, &bytes));
  EXPECT_EQ(offset, 16u);
  EXPECT_EQ(bytes, 2u);
  EXPECT_EQ(cuFuncGetParamInfo(again, 3, &offset, &bytes), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuModuleGetFunction(&again, module, "missing"), CUDA_ERROR_NOT_FOUND);
  CUdeviceptr global = 0;
  ASSERT_CUDA(cuModuleGetGlobal_v2(&global, &bytes, module, "counter"));
  EXPECT_EQ(bytes, 4u);
  EXPECT_CUDA(cuModuleGetGlobal_v2(nullptr, nullptr, module, "counter"));
  EXPECT_EQ(cuModuleGetGlobal_v2(&global, &bytes, module, "missing"), CUDA_ERROR_NOT_FOUND);
  EXPECT_CUDA(cuMemsetD32_v2(global, 5, 1));
  EXPECT_CUDA(cuModuleUnload(module));
  EXPECT_EQ(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuLaunchKernel(functions[4], 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr),
            CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuMemsetD32_v2(global, 5, 1), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, FatbinsBringTheirOwnSize) {
  struct {
    uint32_t magic = 0xba55ed50;
    uint16_t version = 1;
    uint16_t header = 16;
    uint64_t payload = 8;
    char text[9] = "kernels!";
  } fatbin;
  struct {
    uint32_t magic = 0x466243b1;
    uint32_t version = 1;
    const void* data = nullptr;
    const void* list = nullptr;
  } wrapper;
  wrapper.data = &fatbin;
  CUmodule module = nullptr;
  EXPECT_CUDA(cuModuleLoadFatBinary(&module, &wrapper));
  EXPECT_CUDA(cuModuleUnload(module));
  EXPECT_CUDA(cuModuleLoadData(&module, &fatbin));
  EXPECT_CUDA(cuModuleUnload(module));
  wrapper.data = "not a fatbin at all";
  EXPECT_EQ(cuModuleLoadData(&module, &wrapper), CUDA_ERROR_INVALID_IMAGE);
}

TEST_F(DriverTest, AnImageLargerThanTheStagingArrivesWhole) {
  std::string image(3 << 20, '/');
  image += "kernels";
  CUmodule module = nullptr;
  EXPECT_CUDA(cuModuleLoadData(&module, image.c_str()));
  EXPECT_CUDA(cuModuleUnload(module));
}

TEST_F(DriverTest, LibrariesGiveKernelsThatServeAsFunctions) {
  CUlibrary library = nullptr;
  ASSERT_CUDA(cuLibraryLoadData(&library, kImage, nullptr, nullptr, 0, nullptr, nullptr, 0));
  CUkernel kernel = nullptr;
  ASSERT_CUDA(cuLibraryGetKernel(&kernel, library, "add"));
  EXPECT_EQ(cuLibraryGetKernel(&kernel, library, "missing"), CUDA_ERROR_NOT_FOUND);
  unsigned count = 0;
  EXPECT_CUDA(cuLibraryGetKernelCount(&count, library));
  EXPECT_EQ(count, 6u);
  const CUdeviceptr memory = allocate(4);
  ASSERT_CUDA(cuMemsetD32_v2(memory, 1, 1));
  ASSERT_CUDA(add(reinterpret_cast<CUfunction>(kernel), memory, 1, 41));
  uint32_t back = 0;
  ASSERT_CUDA(cuMemcpyDtoH_v2(&back, memory, 4));
  EXPECT_EQ(back, 42u);
  CUfunction function = nullptr;
  EXPECT_CUDA(cuKernelGetFunction(&function, kernel));
  EXPECT_CUDA(add(function, memory, 1, 1));
  EXPECT_CUDA(cuLibraryGetGlobal(nullptr, nullptr, library, "counter"));
  CUmodule module = nullptr;
  EXPECT_CUDA(cuLibraryGetModule(&module, library));
  EXPECT_EQ(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE) << "the library's";
  EXPECT_CUDA(cuLibraryUnload(library));
  EXPECT_EQ(add(reinterpret_cast<CUfunction>(kernel), memory, 1, 1), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(DriverTest, APreservedImageIsLoadedWhenItIsUsed) {
  CUlibraryOption option = CU_LIBRARY_BINARY_IS_PRESERVED;
  void* value = reinterpret_cast<void*>(1);
  CUlibrary library = nullptr;
  ASSERT_CUDA(cuLibraryLoadData(&library, "rubbish", nullptr, nullptr, 0, &option, &value, 1));
  CUkernel kernel = nullptr;
  EXPECT_EQ(cuLibraryGetKernel(&kernel, library, "add"), CUDA_ERROR_INVALID_IMAGE);
  EXPECT_CUDA(cuLibraryUnload(library));
}

TEST_F(DriverTest, FunctionAttributesAreKeptAndBounded) {
  const CUfunction kernel = function("small");
  int value = 0;
  EXPECT_CUDA(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel));
  EXPECT_EQ(value, 128);
  EXPECT_CUDA(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, kernel));
  EXPECT_EQ(value, 1024);
  EXPECT_CUDA(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 16384));
  EXPECT_CUDA(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, kernel));
  EXPECT_EQ(value, 16384);
  EXPECT_EQ(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 49152),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuFuncSetAttribute(kernel, CU_FUNC_ATTRIBUTE_NUM_REGS, 16), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 16385, nullptr, nullptr, nullptr),
            CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, OccupancyFollowsTheLimits) {
  const CUfunction kernel = function("small");
  int blocks = 0;
  EXPECT_CUDA(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, 128, 0));
  EXPECT_EQ(blocks, 16) << "65536 registers over 32 * 128 each; 2048 threads over 128";
  EXPECT_CUDA(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(&blocks, kernel, 128, 31744, 0));
  EXPECT_EQ(blocks, 3) << "98304 bytes over 32768 each";
  int grid = 0;
  int block = 0;
  EXPECT_CUDA(cuOccupancyMaxPotentialBlockSize(&grid, &block, kernel, nullptr, 0, 0));
  EXPECT_EQ(block, 128);
  EXPECT_EQ(grid, 16 * 4);
}

}  // namespace
}  // namespace vgpu::shim::testing
