// The linear copies of the driver API. The kinds of memory in the names are checked as CUDA's unified
// addressing has it: the addresses say what they are.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/copy.h"

using namespace vgpu::shim;

namespace {

uint64_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

Entry enter_for(CopyMode mode) {
  return mode == CopyMode::kSynchronous ? enter_unsafe() : enter();
}

CUresult copy(const Entry& entry, uint64_t destination, uint64_t source, size_t bytes, CUstream handle,
              NullStream meaning, CopyMode mode) {
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
  return copy(enter_for(CopyMode::kSynchronous), destination, source, bytes, nullptr, meaning,
              CopyMode::kSynchronous);
}

CUresult copy_later(uint64_t destination, uint64_t source, size_t bytes, CUstream stream,
                    NullStream meaning) {
  return copy(enter_for(CopyMode::kAsynchronous), destination, source, bytes, stream, meaning,
              CopyMode::kAsynchronous);
}

// The named kinds of memory: a copy "to the device" that is told ordinary memory would write where the
// program never meant to. Pinned memory is the device's as well, under unified addressing.
enum class Kinds : uint8_t { kToDevice, kFromDevice, kOnDevice };

CUresult copy_named(Kinds kinds, uint64_t destination, uint64_t source, size_t bytes, CUstream stream,
                    NullStream meaning, CopyMode mode) {
  const Entry entry = enter_for(mode);
  if (!entry) {
    return entry.result;
  }
  const auto foreign = [&entry](uint64_t where) {
    return kind_of_memory(entry, where) == MemoryKind::kOrdinary &&
           !Driver::get().host_memory.find(reinterpret_cast<const void*>(static_cast<uintptr_t>(where)));
  };
  if (bytes != 0 && ((kinds != Kinds::kFromDevice && foreign(destination)) ||
                     (kinds != Kinds::kToDevice && foreign(source)))) {
    return refuse_copy(entry, {.destination = destination,
                               .destination_pitch = bytes,
                               .source = source,
                               .source_pitch = bytes,
                               .width = bytes,
                               .height = 1});
  }
  return copy(entry, destination, source, bytes, stream, meaning, mode);
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

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) try {
  return copy_now(to, from, bytes, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemcpy_ptds(CUdeviceptr to, CUdeviceptr from, size_t bytes) try {
  return copy_now(to, from, bytes, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) try {
  return copy_named(Kinds::kToDevice, to, address(from), bytes, nullptr, kLegacy, CopyMode::kSynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyHtoD_v2_ptds(CUdeviceptr to, const void* from, size_t bytes) try {
  return copy_named(Kinds::kToDevice, to, address(from), bytes, nullptr, kPerThread, CopyMode::kSynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) try {
  return copy_named(Kinds::kFromDevice, address(to), from, bytes, nullptr, kLegacy, CopyMode::kSynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoH_v2_ptds(void* to, CUdeviceptr from, size_t bytes) try {
  return copy_named(Kinds::kFromDevice, address(to), from, bytes, nullptr, kPerThread,
                    CopyMode::kSynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) try {
  return copy_named(Kinds::kOnDevice, to, from, bytes, nullptr, kLegacy, CopyMode::kSynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoD_v2_ptds(CUdeviceptr to, CUdeviceptr from, size_t bytes) try {
  return copy_named(Kinds::kOnDevice, to, from, bytes, nullptr, kPerThread, CopyMode::kSynchronous);
}
VGPU_ABI_EDGE

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_later(to, from, bytes, stream, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemcpyAsync_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_later(to, from, bytes, stream, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kToDevice, to, address(from), bytes, stream, kLegacy, CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kToDevice, to, address(from), bytes, stream, kPerThread, CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kFromDevice, address(to), from, bytes, stream, kLegacy, CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoHAsync_v2_ptsz(void* to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kFromDevice, address(to), from, bytes, stream, kPerThread,
                    CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kOnDevice, to, from, bytes, stream, kLegacy, CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) try {
  return copy_named(Kinds::kOnDevice, to, from, bytes, stream, kPerThread, CopyMode::kAsynchronous);
}
VGPU_ABI_EDGE

// Between contexts of the one device.
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                      size_t bytes) try {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_now(to, from, bytes, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemcpyPeer_ptds(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes) try {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_now(to, from, bytes, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                           size_t bytes, CUstream stream) try {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_later(to, from, bytes, stream, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                                CUcontext from_context, size_t bytes, CUstream stream) try {
  const CUresult checked = check_contexts(to_context, from_context);
  return checked != CUDA_SUCCESS ? checked : copy_later(to, from, bytes, stream, kPerThread);
}
VGPU_ABI_EDGE
