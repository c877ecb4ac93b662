// Device memory: allocating, freeing, asking.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/copy.h"

using namespace vgpu::shim;
using vgpu::protocol::Status;

namespace {

CUresult allocate(CUdeviceptr* pointer, size_t bytes) {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  if (pointer == nullptr || bytes == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  vgpu::protocol::MemAllocReply reply;
  const Status status = entry.session->call(vgpu::protocol::MemAllocRequest{.bytes = bytes}, reply);
  if (status != Status::kSuccess) {
    return to_result(status);
  }
  Driver& driver = Driver::get();
  driver.allocations.add({.address = reply.address,
                          .bytes = bytes,
                          .context = entry.context->handle,
                          .buffer_id = driver.next_id.fetch_add(1)});
  *pointer = reply.address;
  return CUDA_SUCCESS;
}

// Allocating in stream order: the memory is there for everything that is put on any stream later, which is
// more than the call promises; an allocation is made by the device in ring order, after every free that
// stands before it.
CUresult allocate_on_stream(CUdeviceptr* pointer, size_t bytes, CUstream handle, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  if (stream->capturing) {
    return CUDA_ERROR_NOT_SUPPORTED;  // memory nodes of graphs
  }
  return allocate(pointer, bytes);
}

CUresult free_on_stream(CUdeviceptr pointer, CUstream handle, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  if (stream->capturing) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  if (pointer == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return cuMemFree_v2(pointer);
}

}  // namespace

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) try { return allocate(pointer, bytes); }
VGPU_ABI_EDGE

CUresult cuMemAllocPitch_v2(CUdeviceptr* pointer, size_t* pitch, size_t width, size_t height,
                            unsigned int element_bytes) try {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  if (pointer == nullptr || pitch == nullptr || width == 0 || height == 0 ||
      (element_bytes != 4 && element_bytes != 8 && element_bytes != 16)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  constexpr size_t kPitchAlignment = 512;
  const size_t row = (width + kPitchAlignment - 1) / kPitchAlignment * kPitchAlignment;
  size_t bytes = 0;
  if (row < width || __builtin_mul_overflow(row, height, &bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUresult result = allocate(pointer, bytes);
  if (result == CUDA_SUCCESS) {
    *pitch = row;
  }
  return result;
}
VGPU_ABI_EDGE

// No round trip: what the device does before it in the ring is done before it.
CUresult cuMemFree_v2(CUdeviceptr pointer) try {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  if (pointer == 0) {
    return CUDA_SUCCESS;
  }
  if (!Driver::get().allocations.remove(pointer, Allocation::Type::kDevice)) {
    return to_result(entry.session->refuse(
        vgpu::protocol::Status::kInvalidValue, vgpu::protocol::Opcode::kMemFree,
        "free of 0x%llx, where no allocation begins", static_cast<unsigned long long>(pointer)));
  }
  return to_result(entry.session->submit(vgpu::protocol::MemFreeRequest{.address = pointer}, 0).status);
}
VGPU_ABI_EDGE

CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, CUstream stream) try {
  return allocate_on_stream(pointer, bytes, stream, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemAllocAsync_ptsz(CUdeviceptr* pointer, size_t bytes, CUstream stream) try {
  return allocate_on_stream(pointer, bytes, stream, NullStream::kPerThread);
}
VGPU_ABI_EDGE
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) try {
  return free_on_stream(pointer, stream, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuMemFreeAsync_ptsz(CUdeviceptr pointer, CUstream stream) try {
  return free_on_stream(pointer, stream, NullStream::kPerThread);
}
VGPU_ABI_EDGE

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (free_bytes == nullptr || total_bytes == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  vgpu::protocol::MemGetInfoReply reply;
  const Status status = entry.session->call(vgpu::protocol::MemGetInfoRequest{}, reply);
  if (status == Status::kSuccess) {
    *free_bytes = reply.free_bytes;
    *total_bytes = reply.total_bytes;
  }
  return to_result(status);
}
VGPU_ABI_EDGE

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr pointer) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  const auto allocation = Driver::get().allocations.find(pointer);
  if (!allocation) {
    return CUDA_ERROR_NOT_FOUND;
  }
  if (base != nullptr) {
    *base = allocation->address;
  }
  if (bytes != nullptr) {
    *bytes = allocation->bytes;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
