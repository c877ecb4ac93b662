// The linear copies of the driver API. The kinds of memory in the names are checked as CUDA's unified
// addressing has it: the addresses say what they are.
#include "shim/cuda/copy.h"

using namespace vgpu::shim;

namespace {

uint64_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

CUresult copy(uint64_t destination, uint64_t source, size_t bytes, CUstream handle, NullStream meaning,
              CopyMode mode) {
  const Entry entry = mode == CopyMode::kSynchronous ? enter_unsafe() : enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  return copy_rows(entry, *stream,
                   {.destination = destination,
                    .destination_pitch = bytes,
                    .source = source,
                    .source_pitch = bytes,
                    .width = bytes,
                    .height = 1},
                   mode);
}

CUresult copy_now(uint64_t destination, uint64_t source, size_t bytes, NullStream meaning) {
  return copy(destination, source, bytes, nullptr, meaning, CopyMode::kSynchronous);
}

CUresult copy_later(uint64_t destination, uint64_t source, size_t bytes, CUstream stream,
                    NullStream meaning) {
  return copy(destination, source, bytes, stream, meaning, CopyMode::kAsynchronous);
}

CUresult check_contexts(CUcontext a, CUcontext b) {
  const Driver& driver = Driver::get();
  return driver.contexts.find(a) != nullptr && driver.contexts.find(b) != nullptr
             ? CUDA_SUCCESS
             : CUDA_ERROR_INVALID_CONTEXT;
}

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;

}  // namespace

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(to, from, bytes, kLegacy);
}
CUresult cuMemcpy_ptds(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(to, from, bytes, kPerThread);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy_now(to, address(from), bytes, kLegacy);
}
CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr to, const void* from, size_t bytes) {
  return copy_now(to, address(from), bytes, kPerThread);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy_now(address(to), from, bytes, kLegacy);
}
CUresult cuMemcpyDtoH_v2_ptds(void* to, CUdeviceptr from, size_t bytes) {
  return copy_now(address(to), from, bytes, kPerThread);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(to, from, bytes, kLegacy);
}
CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy_now(to, from, bytes, kPerThread);
}

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(to, from, bytes, stream, kLegacy);
}
CUresult cuMemcpyAsync_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(to, from, bytes, stream, kPerThread);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy_later(to, address(from), bytes, stream, kLegacy);
}
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy_later(to, address(from), bytes, stream, kPerThread);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(address(to), from, bytes, stream, kLegacy);
}
CUresult cuMemcpyDtoHAsync_v2_ptsz(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(address(to), from, bytes, stream, kPerThread);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(to, from, bytes, stream, kLegacy);
}
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy_later(to, from, bytes, stream, kPerThread);
}

// Between contexts of the one device.
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                      size_t bytes) {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_now(to, from, bytes, kLegacy);
}
CUresult cuMemcpyPeer_ptds(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes) {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_now(to, from, bytes, kPerThread);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes, CUstream stream) {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_later(to, from, bytes, stream, kLegacy);
}
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                CUcontext from_context, size_t bytes, CUstream stream) {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_later(to, from, bytes, stream, kPerThread);
}
