// Copies of rows and of boxes.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/copy.h"

using namespace vgpu::shim;

namespace {

uint64_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

// Where one side of a copy lies: start of its first row, and the distance between rows.
struct Side {
  CUresult result = CUDA_SUCCESS;
  uint64_t start = 0;
  uint64_t pitch = 0;
  bool device = false;
};

Side side(CUmemorytype type, uint64_t host, uint64_t device, size_t pitch, size_t x, size_t y, size_t width) {
  Side side;
  if (pitch == 0) {
    pitch = x + width;  // "ignored" where there is one row; CUDA takes 0 for the row's width
  }
  side.pitch = pitch;
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      side.start = host;
      break;
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
      side.start = device;
      side.device = type == CU_MEMORYTYPE_DEVICE;
      break;
    case CU_MEMORYTYPE_ARRAY:
      side.result = CUDA_ERROR_NOT_SUPPORTED;  // there are no arrays: none can be created
      return side;
    default:
      side.result = CUDA_ERROR_INVALID_VALUE;
      return side;
  }
  if (side.start == 0 || x > pitch || width > pitch - x) {
    side.result = CUDA_ERROR_INVALID_VALUE;
    return side;
  }
  side.start += y * pitch + x;
  return side;
}

CUresult copy_2d(const CUDA_MEMCPY2D* copy, CUstream handle, NullStream meaning, CopyMode mode) {
  const Entry entry = mode == CopyMode::kSynchronous ? enter_unsafe() : enter();
  if (!entry) {
    return entry.result;
  }
  if (copy == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  if (copy->WidthInBytes == 0 || copy->Height == 0) {
    return CUDA_SUCCESS;
  }
  const Side from = side(copy->srcMemoryType, address(copy->srcHost), copy->srcDevice, copy->srcPitch,
                         copy->srcXInBytes, copy->srcY, copy->WidthInBytes);
  const Side to = side(copy->dstMemoryType, address(copy->dstHost), copy->dstDevice, copy->dstPitch,
                       copy->dstXInBytes, copy->dstY, copy->WidthInBytes);
  if (from.result != CUDA_SUCCESS || to.result != CUDA_SUCCESS) {
    return from.result != CUDA_SUCCESS ? from.result : to.result;
  }
  const auto max_pitch = static_cast<uint64_t>(Driver::get().attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH));
  if (max_pitch != 0 && copy->Height > 1 &&
      ((from.device && from.pitch > max_pitch) || (to.device && to.pitch > max_pitch))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((from.device && kind_of_memory(entry, from.start) != MemoryKind::kDevice) ||
      (to.device && kind_of_memory(entry, to.start) != MemoryKind::kDevice)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return copy_rows(entry, *stream,
                   {.destination = to.start,
                    .destination_pitch = to.pitch,
                    .source = from.start,
                    .source_pitch = from.pitch,
                    .width = copy->WidthInBytes,
                    .height = copy->Height},
                   mode);
}

// A box is `Depth` copies of rows.
CUresult copy_3d(const CUDA_MEMCPY3D* copy, CUstream handle, NullStream meaning, CopyMode mode) {
  if (copy == nullptr) {
    const Entry entry = enter();
    return entry ? CUDA_ERROR_INVALID_VALUE : entry.result;
  }
  if (copy->srcLOD != 0 || copy->dstLOD != 0 || copy->reserved0 != nullptr || copy->reserved1 != nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool layered = copy->Depth > 1;
  const uint64_t source_rows = copy->srcHeight != 0 ? copy->srcHeight : copy->srcY + copy->Height;
  const uint64_t destination_rows = copy->dstHeight != 0 ? copy->dstHeight : copy->dstY + copy->Height;
  if (layered && (copy->srcY + copy->Height > source_rows || copy->dstY + copy->Height > destination_rows)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUDA_MEMCPY2D slice{};
  slice.srcXInBytes = copy->srcXInBytes;
  slice.srcMemoryType = copy->srcMemoryType;
  slice.srcHost = copy->srcHost;
  slice.srcDevice = copy->srcDevice;
  slice.srcArray = copy->srcArray;
  slice.srcPitch = copy->srcPitch;
  slice.dstXInBytes = copy->dstXInBytes;
  slice.dstMemoryType = copy->dstMemoryType;
  slice.dstHost = copy->dstHost;
  slice.dstDevice = copy->dstDevice;
  slice.dstArray = copy->dstArray;
  slice.dstPitch = copy->dstPitch;
  slice.WidthInBytes = copy->WidthInBytes;
  slice.Height = copy->Height;
  for (uint64_t z = 0; z < copy->Depth; ++z) {
    slice.srcY = copy->srcY + (copy->srcZ + z) * source_rows;
    slice.dstY = copy->dstY + (copy->dstZ + z) * destination_rows;
    if (const CUresult result = copy_2d(&slice, handle, meaning, mode); result != CUDA_SUCCESS) {
      return result;
    }
  }
  return CUDA_SUCCESS;
}

CUresult copy_3d_peer(const CUDA_MEMCPY3D_PEER* copy, CUstream handle, NullStream meaning, CopyMode mode) {
  if (copy == nullptr) {
    return copy_3d(nullptr, handle, meaning, mode);
  }
  const Driver& driver = Driver::get();
  if (driver.contexts.find(copy->srcContext) == nullptr ||
      driver.contexts.find(copy->dstContext) == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  // The same fields but for the contexts, which are those of the one device.
  CUDA_MEMCPY3D plain{};
  static_assert(sizeof(plain) == sizeof(*copy));
  std::memcpy(&plain, copy, sizeof(plain));
  plain.reserved0 = nullptr;
  plain.reserved1 = nullptr;
  return copy_3d(&plain, handle, meaning, mode);
}

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;
constexpr CopyMode kNow = CopyMode::kSynchronous;
constexpr CopyMode kLater = CopyMode::kAsynchronous;

}  // namespace

// The exported forms of one copy: for both meanings of a null stream, at once and on a stream.
#define VGPU_COPY_NOW(Name, Descriptor, copy_described)                                              \
  CUresult Name(const Descriptor* copy) try { return copy_described(copy, nullptr, kLegacy, kNow); } \
  VGPU_ABI_EDGE                                                                                      \
  CUresult Name##_ptds(const Descriptor* copy) try {                                                 \
    return copy_described(copy, nullptr, kPerThread, kNow);                                          \
  }                                                                                                  \
  VGPU_ABI_EDGE
#define VGPU_COPY_LATER(Name, Descriptor, copy_described)             \
  CUresult Name(const Descriptor* copy, CUstream stream) try {        \
    return copy_described(copy, stream, kLegacy, kLater);             \
  }                                                                   \
  VGPU_ABI_EDGE                                                       \
  CUresult Name##_ptsz(const Descriptor* copy, CUstream stream) try { \
    return copy_described(copy, stream, kPerThread, kLater);          \
  }                                                                   \
  VGPU_ABI_EDGE

VGPU_COPY_NOW(cuMemcpy2D_v2, CUDA_MEMCPY2D, copy_2d)
VGPU_COPY_NOW(cuMemcpy2DUnaligned_v2, CUDA_MEMCPY2D, copy_2d)
VGPU_COPY_LATER(cuMemcpy2DAsync_v2, CUDA_MEMCPY2D, copy_2d)
VGPU_COPY_NOW(cuMemcpy3D_v2, CUDA_MEMCPY3D, copy_3d)
VGPU_COPY_LATER(cuMemcpy3DAsync_v2, CUDA_MEMCPY3D, copy_3d)
VGPU_COPY_NOW(cuMemcpy3DPeer, CUDA_MEMCPY3D_PEER, copy_3d_peer)
VGPU_COPY_LATER(cuMemcpy3DPeerAsync, CUDA_MEMCPY3D_PEER, copy_3d_peer)
