#include "tests/shim/cublas/fake_cuda.h"

#include <cstring>

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

FakeCuda& state() {
  static FakeCuda cuda;
  return cuda;
}
char g_context;

CUresult submit(CUstream stream, uint16_t opcode, const void* body, uint32_t bytes) {
  if (state().current == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  FakeSubmit record{stream, opcode, std::vector<std::byte>(bytes)};
  std::memcpy(record.body.data(), body, bytes);
  state().submitted.push_back(std::move(record));
  return state().submit_result;
}
CUresult check_context(CUcontext* context) {
  if (state().current == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  *context = state().current;
  return CUDA_SUCCESS;
}
CUresult check_stream(CUstream) {
  return CUDA_SUCCESS;
}
CUresult device_info(const vgpu::ring::DeviceInfo** info) {
  *info = &state().info;
  return state().info_result;
}
CUresult device_status(VgpuDeviceStatus* status) {
  *status = state().status;
  return CUDA_SUCCESS;
}
void note_unimplemented(const char*) {
  ++state().unimplemented;
}
void log(const char*) {}
int log_enabled() {
  return 0;
}
constexpr VgpuPrivateTable kTable{
    kVgpuPrivateVersion, sizeof(VgpuPrivateTable), submit, check_context, check_stream, device_info,
    device_status,       note_unimplemented,       log,    log_enabled};

}  // namespace

void FakeCuda::reset() {
  *this = FakeCuda{};
}

FAKE FakeCuda* fake_cuda() {
  return &state();
}
FAKE const VgpuPrivateTable* vgpuGetPrivateTable(uint32_t version) {
  return version == kVgpuPrivateVersion ? &kTable : nullptr;
}
FAKE CUresult cuInit(unsigned) {
  return CUDA_SUCCESS;
}
FAKE CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = state().current;
  return CUDA_SUCCESS;
}
FAKE CUresult cuCtxSetCurrent(CUcontext context) {
  state().current = context;
  return CUDA_SUCCESS;
}
FAKE CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  *context = reinterpret_cast<CUcontext>(&g_context);
  return CUDA_SUCCESS;
}
FAKE CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* copy) {
  state().copies.push_back(*copy);
  return CUDA_SUCCESS;
}
FAKE CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream) {
  state().copies.push_back(*copy);
  return CUDA_SUCCESS;
}
