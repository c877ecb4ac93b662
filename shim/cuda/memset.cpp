// Fills. All are asynchronous with respect to the host where the target is device memory, as CUDA documents.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/copy.h"
#include "shim/cuda/host_memory.h"

using namespace vgpu::shim;

namespace {

CUresult fill(uint64_t address, uint64_t pitch, uint32_t value, uint32_t element_bytes, size_t width,
              size_t height, CUstream handle, NullStream meaning, bool synchronous) try {
  const Entry entry = synchronous ? enter_unsafe() : enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  if (width == 0 || height == 0) {
    return CUDA_SUCCESS;
  }
  // Pinned memory goes by the host's address as well.
  if (kind_of_memory(entry, address) == MemoryKind::kBulk) {
    device_address_of(*entry.session, reinterpret_cast<const void*>(static_cast<uintptr_t>(address)),
                      address);
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(width, uint64_t{element_bytes}, &bytes) || address % element_bytes != 0 ||
      (height > 1 && (pitch < bytes || pitch % element_bytes != 0)) ||
      !device_rows_allocated(address, height > 1 ? pitch : bytes, bytes, height)) {
    return to_result(entry.session->refuse(
        vgpu::protocol::Status::kInvalidValue, vgpu::protocol::Opcode::kMemset,
        "fill of %zu rows of %zu elements of %u bytes at 0x%llx, pitch %llu: not memory "
        "of the device, past its "
        "end, or not aligned",
        height, width, element_bytes, static_cast<unsigned long long>(address),
        static_cast<unsigned long long>(pitch)));
  }
  return enqueue(entry, *stream,
                 vgpu::protocol::MemsetRequest{.destination = address,
                                               .width = width,
                                               .height = height,
                                               .pitch = height > 1 ? pitch : bytes,
                                               .value = value,
                                               .element_bytes = element_bytes},
                 CU_GRAPH_NODE_TYPE_MEMSET);
}
VGPU_ABI_EDGE

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;

}  // namespace

// One family for each element type: linear and rows, at once and on a stream, for both meanings of a null
// stream.
#define VGPU_MEMSET(Bits, Type)                                                                            \
  CUresult cuMemsetD##Bits##_v2(CUdeviceptr to, Type value, size_t count) {                                \
    return fill(to, 0, value, sizeof(Type), count, 1, nullptr, kLegacy, true);                             \
  }                                                                                                        \
  CUresult cuMemsetD##Bits##_v2_ptds(CUdeviceptr to, Type value, size_t count) {                           \
    return fill(to, 0, value, sizeof(Type), count, 1, nullptr, kPerThread, true);                          \
  }                                                                                                        \
  CUresult cuMemsetD##Bits##Async(CUdeviceptr to, Type value, size_t count, CUstream stream) {             \
    return fill(to, 0, value, sizeof(Type), count, 1, stream, kLegacy, false);                             \
  }                                                                                                        \
  CUresult cuMemsetD##Bits##Async_ptsz(CUdeviceptr to, Type value, size_t count, CUstream stream) {        \
    return fill(to, 0, value, sizeof(Type), count, 1, stream, kPerThread, false);                          \
  }                                                                                                        \
  CUresult cuMemsetD2D##Bits##_v2(CUdeviceptr to, size_t pitch, Type value, size_t width, size_t height) { \
    return fill(to, pitch, value, sizeof(Type), width, height, nullptr, kLegacy, true);                    \
  }                                                                                                        \
  CUresult cuMemsetD2D##Bits##_v2_ptds(CUdeviceptr to, size_t pitch, Type value, size_t width,             \
                                       size_t height) {                                                    \
    return fill(to, pitch, value, sizeof(Type), width, height, nullptr, kPerThread, true);                 \
  }                                                                                                        \
  CUresult cuMemsetD2D##Bits##Async(CUdeviceptr to, size_t pitch, Type value, size_t width, size_t height, \
                                    CUstream stream) {                                                     \
    return fill(to, pitch, value, sizeof(Type), width, height, stream, kLegacy, false);                    \
  }                                                                                                        \
  CUresult cuMemsetD2D##Bits##Async_ptsz(CUdeviceptr to, size_t pitch, Type value, size_t width,           \
                                         size_t height, CUstream stream) {                                 \
    return fill(to, pitch, value, sizeof(Type), width, height, stream, kPerThread, false);                 \
  }

VGPU_MEMSET(8, unsigned char)
VGPU_MEMSET(16, unsigned short)
VGPU_MEMSET(32, unsigned int)
