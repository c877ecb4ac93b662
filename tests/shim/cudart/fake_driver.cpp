#include "tests/shim/cudart/fake_driver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

FakeDriver& state() {
  static FakeDriver driver;
  return driver;
}

CUresult record(const char* name) {
  state().calls.emplace_back(name);
  return std::exchange(state().next_result, CUDA_SUCCESS);
}

char g_context;
char g_library;
constexpr CUdeviceptr kVariable = 0x7000;

}  // namespace

int FakeDriver::count(const std::string& name) const {
  return static_cast<int>(std::count(calls.begin(), calls.end(), name));
}
void FakeDriver::reset() {
  *this = FakeDriver{};
}

FAKE FakeDriver* fake_driver() {
  return &state();
}

FAKE CUresult cuInit(unsigned) {
  return CUDA_SUCCESS;
}
FAKE CUresult cuDriverGetVersion(int* version) {
  *version = 13000;
  return CUDA_SUCCESS;
}
FAKE CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return CUDA_SUCCESS;
}
FAKE CUresult cuDeviceGetCount(int* count) {
  *count = 1;
  return CUDA_SUCCESS;
}
FAKE CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  std::strncpy(name, "fake", static_cast<std::size_t>(length));
  return CUDA_SUCCESS;
}
FAKE CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice) {
  *bytes = std::size_t{5} << 30;
  return CUDA_SUCCESS;
}
// Each attribute answers a number of its own, so that a field that got another one's shows.
FAKE CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  *value = 1000 + attribute;
  return CUDA_SUCCESS;
}
FAKE CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = reinterpret_cast<CUcontext>(&g_context);
  return record("cuDevicePrimaryCtxRetain");
}
FAKE CUresult cuDevicePrimaryCtxReset_v2(CUdevice) {
  return record("cuDevicePrimaryCtxReset");
}
FAKE CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = state().current;
  return CUDA_SUCCESS;
}
FAKE CUresult cuCtxSetCurrent(CUcontext context) {
  state().current = context;
  return CUDA_SUCCESS;
}
FAKE CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return CUDA_SUCCESS;
}
FAKE CUresult cuCtxSynchronize() {
  return record("cuCtxSynchronize");
}

FAKE CUresult cuLibraryLoadData(CUlibrary* library, const void*, int*, void**, unsigned, int*, void**,
                                unsigned) {
  *library = reinterpret_cast<CUlibrary>(&g_library);
  return record("cuLibraryLoadData");
}
FAKE CUresult cuLibraryUnload(CUlibrary) {
  return record("cuLibraryUnload");
}
// A kernel's handle is the address of its name's first letter in a table: the same name, the same handle.
FAKE CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary, const char* name) {
  if (std::strcmp(name, "missing") == 0) return CUDA_ERROR_NOT_FOUND;
  static char letters[256];
  *kernel = reinterpret_cast<CUkernel>(&letters[static_cast<unsigned char>(name[0])]);
  return record("cuLibraryGetKernel");
}
FAKE CUresult cuLibraryGetGlobal(CUdeviceptr* address, std::size_t* bytes, CUlibrary, const char* name) {
  if (std::strcmp(name, "missing") == 0) return CUDA_ERROR_NOT_FOUND;
  *address = kVariable;
  *bytes = state().variable_bytes;
  return CUDA_SUCCESS;
}
FAKE CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                             unsigned by, unsigned bz, unsigned shared_bytes, CUstream stream,
                             void** arguments, void**) {
  state().launches.push_back({function, {gx, gy, gz}, {bx, by, bz}, shared_bytes, stream, arguments});
  return record("cuLaunchKernel");
}

FAKE CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t) {
  *address = 0x1000;
  return record("cuMemAlloc");
}
FAKE CUresult cuMemFree_v2(CUdeviceptr) {
  return record("cuMemFree");
}
FAKE CUresult cuMemcpy(CUdeviceptr, CUdeviceptr, std::size_t) {
  return record("cuMemcpy");
}
FAKE CUresult cuMemcpyHtoD_v2(CUdeviceptr, const void*, std::size_t) {
  return record("cuMemcpyHtoD");
}
FAKE CUresult cuMemcpyDtoH_v2(void*, CUdeviceptr, std::size_t) {
  return record("cuMemcpyDtoH");
}
FAKE CUresult cuMemcpyDtoD_v2(CUdeviceptr, CUdeviceptr, std::size_t) {
  return record("cuMemcpyDtoD");
}
FAKE CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr, const void*, std::size_t, CUstream stream) {
  return record(stream == CU_STREAM_PER_THREAD ? "cuMemcpyHtoDAsync own stream" : "cuMemcpyHtoDAsync");
}
FAKE CUresult cuMemcpyDtoHAsync_v2(void*, CUdeviceptr, std::size_t, CUstream) {
  return record("cuMemcpyDtoHAsync");
}
FAKE CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D*) {
  return record("cuMemcpy2D");
}
FAKE CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D*, CUstream) {
  return record("cuMemcpy2DAsync");
}
FAKE CUresult cuStreamSynchronize(CUstream stream) {
  return record(stream == CU_STREAM_PER_THREAD ? "cuStreamSynchronize own stream" : "cuStreamSynchronize");
}
