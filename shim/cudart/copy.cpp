// Copies and fills. A _ptds entry (per-thread default stream, synchronous) is the asynchronous call on the
// thread's own stream followed by a wait for it.
#include "shim/cudart/registry.h"

namespace vgpu::shim::cudart {
namespace {

enum class Wait : bool { kNo, kYes };

bool valid_kind(cudaMemcpyKind kind) noexcept {
  return kind <= cudaMemcpyDefault;
}

cudaError_t copy(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind) noexcept {
  if (!valid_kind(kind)) return cudaErrorInvalidMemcpyDirection;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (bytes == 0) return cudaSuccess;
  if (destination == nullptr || source == nullptr) return cudaErrorInvalidValue;
  const CUdeviceptr to = device_pointer(destination);
  const CUdeviceptr from = device_pointer(source);
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return to_runtime(table->memcpy_htod(to, source, bytes));
    case cudaMemcpyDeviceToHost:
      return to_runtime(table->memcpy_dtoh(destination, from, bytes));
    case cudaMemcpyDeviceToDevice:
      return to_runtime(table->memcpy_dtod(to, from, bytes));
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
      break;
  }
  return to_runtime(table->memcpy(to, from, bytes));
}

cudaError_t copy_async(void* destination, const void* source, std::size_t bytes, cudaMemcpyKind kind,
                       cudaStream_t stream, Wait wait = Wait::kNo) noexcept {
  if (!valid_kind(kind)) return cudaErrorInvalidMemcpyDirection;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (bytes == 0) return cudaSuccess;
  if (destination == nullptr || source == nullptr) return cudaErrorInvalidValue;
  const CUdeviceptr to = device_pointer(destination);
  const CUdeviceptr from = device_pointer(source);
  CUresult result = CUDA_SUCCESS;
  switch (kind) {
    case cudaMemcpyHostToDevice:
      result = table->memcpy_htod_async(to, source, bytes, stream);
      break;
    case cudaMemcpyDeviceToHost:
      result = table->memcpy_dtoh_async(destination, from, bytes, stream);
      break;
    case cudaMemcpyDeviceToDevice:
      result = table->memcpy_dtod_async(to, from, bytes, stream);
      break;
    case cudaMemcpyHostToHost:
    case cudaMemcpyDefault:
      result = table->memcpy_async(to, from, bytes, stream);
      break;
  }
  if (result == CUDA_SUCCESS && wait == Wait::kYes) result = table->stream_synchronize(stream);
  return to_runtime(result);
}

// Which memory the two sides of a copy are, as the kind says.
void set_types(CUDA_MEMCPY2D& copy, const void* source, void* destination, cudaMemcpyKind kind) noexcept {
  const bool from_host = kind == cudaMemcpyHostToHost || kind == cudaMemcpyHostToDevice;
  const bool to_host = kind == cudaMemcpyHostToHost || kind == cudaMemcpyDeviceToHost;
  if (kind == cudaMemcpyDefault) {
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    copy.srcDevice = device_pointer(source);
    copy.dstDevice = device_pointer(destination);
    return;
  }
  copy.srcMemoryType = from_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy.dstMemoryType = to_host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  if (from_host) {
    copy.srcHost = source;
  } else {
    copy.srcDevice = device_pointer(source);
  }
  if (to_host) {
    copy.dstHost = destination;
  } else {
    copy.dstDevice = device_pointer(destination);
  }
}

struct Rows {
  void* destination;
  std::size_t destination_pitch;
  const void* source;
  std::size_t source_pitch;
  std::size_t width;
  std::size_t height;
};

cudaError_t copy_rows(const Rows& rows, cudaMemcpyKind kind, const cudaStream_t* stream, Wait wait) noexcept {
  if (!valid_kind(kind)) return cudaErrorInvalidMemcpyDirection;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (rows.width == 0 || rows.height == 0) return cudaSuccess;
  if (rows.destination == nullptr || rows.source == nullptr) return cudaErrorInvalidValue;
  if (rows.width > rows.destination_pitch || rows.width > rows.source_pitch)
    return cudaErrorInvalidPitchValue;
  if (table->memcpy_2d == nullptr || table->memcpy_2d_async == nullptr) return cudaErrorNotSupported;
  CUDA_MEMCPY2D copy{};
  set_types(copy, rows.source, rows.destination, kind);
  copy.srcPitch = rows.source_pitch;
  copy.dstPitch = rows.destination_pitch;
  copy.WidthInBytes = rows.width;
  copy.Height = rows.height;
  if (stream == nullptr) return to_runtime(table->memcpy_2d(&copy));
  CUresult result = table->memcpy_2d_async(&copy, *stream);
  if (result == CUDA_SUCCESS && wait == Wait::kYes) result = table->stream_synchronize(*stream);
  return to_runtime(result);
}

// A box of pitched memory as one copy per slice. CUDA arrays are not supported.
cudaError_t copy_box(const cudaMemcpy3DParms* p, const cudaStream_t* stream, Wait wait) noexcept {
  if (p == nullptr) return cudaErrorInvalidValue;
  if (p->srcArray != nullptr || p->dstArray != nullptr) return unsupported("cudaMemcpy3D with a CUDA array");
  const auto start = [](const cudaPitchedPtr& memory, const cudaPos& at, std::size_t slice) {
    return static_cast<char*>(memory.ptr) + ((at.z + slice) * memory.ysize + at.y) * memory.pitch + at.x;
  };
  if (p->extent.depth > 1 && (p->srcPtr.ysize < p->extent.height || p->dstPtr.ysize < p->extent.height)) {
    return cudaErrorInvalidValue;
  }
  for (std::size_t slice = 0; slice < p->extent.depth; ++slice) {
    const Rows rows{start(p->dstPtr, p->dstPos, slice),
                    p->dstPtr.pitch,
                    start(p->srcPtr, p->srcPos, slice),
                    p->srcPtr.pitch,
                    p->extent.width,
                    p->extent.height};
    const bool last = slice + 1 == p->extent.depth;
    const cudaError_t error = copy_rows(rows, p->kind, stream, last ? wait : Wait::kNo);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t copy_peer(void* destination, int destination_device, const void* source, int source_device,
                      std::size_t bytes, const cudaStream_t* stream) noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  CUcontext to = nullptr;
  CUcontext from = nullptr;
  error = primary_context(*table, destination_device, &to);
  if (error == cudaSuccess) error = primary_context(*table, source_device, &from);
  if (error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  if (table->memcpy_peer == nullptr || table->memcpy_peer_async == nullptr) return cudaErrorNotSupported;
  const CUdeviceptr d = device_pointer(destination);
  const CUdeviceptr s = device_pointer(source);
  return to_runtime(stream == nullptr ? table->memcpy_peer(d, to, s, from, bytes)
                                      : table->memcpy_peer_async(d, to, s, from, bytes, *stream));
}

// The address `offset` bytes into a registered variable, `count` bytes of which are wanted.
cudaError_t in_symbol(const void* symbol, std::size_t count, std::size_t offset, void** address) {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  CUdeviceptr start = 0;
  std::size_t bytes = 0;
  error = Registry::get().variable(*table, symbol, &start, &bytes);
  if (error != cudaSuccess) return error;
  if (offset > bytes || count > bytes - offset) return cudaErrorInvalidValue;
  *address = host_pointer(start + offset);
  return cudaSuccess;
}

cudaError_t to_symbol(const void* symbol, const void* source, std::size_t count, std::size_t offset,
                      cudaMemcpyKind kind, const cudaStream_t* stream, Wait wait) {
  if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  void* address = nullptr;
  const cudaError_t error = in_symbol(symbol, count, offset, &address);
  if (error != cudaSuccess) return error;
  return stream == nullptr ? copy(address, source, count, kind)
                           : copy_async(address, source, count, kind, *stream, wait);
}

cudaError_t from_symbol(void* destination, const void* symbol, std::size_t count, std::size_t offset,
                        cudaMemcpyKind kind, const cudaStream_t* stream, Wait wait) {
  if (kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice && kind != cudaMemcpyDefault) {
    return cudaErrorInvalidMemcpyDirection;
  }
  void* address = nullptr;
  const cudaError_t error = in_symbol(symbol, count, offset, &address);
  if (error != cudaSuccess) return error;
  return stream == nullptr ? copy(destination, address, count, kind)
                           : copy_async(destination, address, count, kind, *stream, wait);
}

cudaError_t fill(void* pointer, std::size_t pitch, int value, std::size_t width, std::size_t height,
                 const cudaStream_t* stream, Wait wait) noexcept {
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  if (width == 0 || height == 0) return cudaSuccess;
  if (pointer == nullptr) return cudaErrorInvalidValue;
  if (height > 1 && width > pitch) return cudaErrorInvalidPitchValue;
  const auto byte = static_cast<unsigned char>(value);
  const CUdeviceptr to = device_pointer(pointer);
  CUresult result = CUDA_SUCCESS;
  if (height == 1) {
    result = stream == nullptr ? table->memset_d8(to, byte, width)
                               : table->memset_d8_async(to, byte, width, *stream);
  } else {
    result = stream == nullptr ? table->memset_d2d8(to, pitch, byte, width, height)
                               : table->memset_d2d8_async(to, pitch, byte, width, height, *stream);
  }
  if (result == CUDA_SUCCESS && stream != nullptr && wait == Wait::kYes) {
    result = table->stream_synchronize(*stream);
  }
  return to_runtime(result);
}

cudaError_t fill_box(cudaPitchedPtr memory, int value, cudaExtent extent, const cudaStream_t* stream,
                     Wait wait) noexcept {
  if (extent.depth > 1 && memory.ysize < extent.height) return cudaErrorInvalidValue;
  for (std::size_t slice = 0; slice < extent.depth; ++slice) {
    const bool last = slice + 1 == extent.depth;
    char* start = static_cast<char*>(memory.ptr) + slice * memory.ysize * memory.pitch;
    const cudaError_t error =
        fill(start, memory.pitch, value, extent.width, extent.height, stream, last ? wait : Wait::kNo);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

const cudaStream_t kOwnStream = CU_STREAM_PER_THREAD;

}  // namespace
}  // namespace vgpu::shim::cudart

using namespace vgpu::shim::cudart;

// Each call in its four forms: synchronous, the same on the thread's own stream, on a stream, and on a stream
// where 0 means the thread's own.
VGPU_CUDART_API cudaError_t cudaMemcpy(void* d, const void* s, std::size_t bytes,
                                       cudaMemcpyKind kind) noexcept {
  return keep(copy(d, s, bytes, kind));
}
VGPU_CUDART_API cudaError_t cudaMemcpy_ptds(void* d, const void* s, std::size_t bytes,
                                            cudaMemcpyKind kind) noexcept {
  return keep(copy_async(d, s, bytes, kind, kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemcpyAsync(void* d, const void* s, std::size_t bytes, cudaMemcpyKind kind,
                                            cudaStream_t stream) noexcept {
  return keep(copy_async(d, s, bytes, kind, stream));
}
VGPU_CUDART_API cudaError_t cudaMemcpyAsync_ptsz(void* d, const void* s, std::size_t bytes,
                                                 cudaMemcpyKind kind, cudaStream_t stream) noexcept {
  return keep(copy_async(d, s, bytes, kind, per_thread(stream)));
}

VGPU_CUDART_API cudaError_t cudaMemcpy2D(void* d, std::size_t dpitch, const void* s, std::size_t spitch,
                                         std::size_t width, std::size_t height,
                                         cudaMemcpyKind kind) noexcept {
  return keep(copy_rows({d, dpitch, s, spitch, width, height}, kind, nullptr, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemcpy2D_ptds(void* d, std::size_t dpitch, const void* s, std::size_t spitch,
                                              std::size_t width, std::size_t height,
                                              cudaMemcpyKind kind) noexcept {
  return keep(copy_rows({d, dpitch, s, spitch, width, height}, kind, &kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemcpy2DAsync(void* d, std::size_t dpitch, const void* s, std::size_t spitch,
                                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                                              cudaStream_t stream) noexcept {
  return keep(copy_rows({d, dpitch, s, spitch, width, height}, kind, &stream, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemcpy2DAsync_ptsz(void* d, std::size_t dpitch, const void* s,
                                                   std::size_t spitch, std::size_t width, std::size_t height,
                                                   cudaMemcpyKind kind, cudaStream_t stream) noexcept {
  return cudaMemcpy2DAsync(d, dpitch, s, spitch, width, height, kind, per_thread(stream));
}

VGPU_CUDART_API cudaError_t cudaMemcpy3D(const cudaMemcpy3DParms* p) noexcept {
  return keep(copy_box(p, nullptr, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemcpy3D_ptds(const cudaMemcpy3DParms* p) noexcept {
  return keep(copy_box(p, &kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemcpy3DAsync(const cudaMemcpy3DParms* p, cudaStream_t stream) noexcept {
  return keep(copy_box(p, &stream, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemcpy3DAsync_ptsz(const cudaMemcpy3DParms* p, cudaStream_t stream) noexcept {
  return cudaMemcpy3DAsync(p, per_thread(stream));
}

VGPU_CUDART_API cudaError_t cudaMemcpyPeer(void* d, int ddevice, const void* s, int sdevice,
                                           std::size_t bytes) noexcept {
  return keep(copy_peer(d, ddevice, s, sdevice, bytes, nullptr));
}
VGPU_CUDART_API cudaError_t cudaMemcpyPeerAsync(void* d, int ddevice, const void* s, int sdevice,
                                                std::size_t bytes, cudaStream_t stream) noexcept {
  return keep(copy_peer(d, ddevice, s, sdevice, bytes, &stream));
}

VGPU_CUDART_API cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* s, std::size_t count,
                                               std::size_t offset, cudaMemcpyKind kind) noexcept {
  return guarded([&] { return to_symbol(symbol, s, count, offset, kind, nullptr, Wait::kNo); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyToSymbol_ptds(const void* symbol, const void* s, std::size_t count,
                                                    std::size_t offset, cudaMemcpyKind kind) noexcept {
  return guarded([&] { return to_symbol(symbol, s, count, offset, kind, &kOwnStream, Wait::kYes); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyToSymbolAsync(const void* symbol, const void* s, std::size_t count,
                                                    std::size_t offset, cudaMemcpyKind kind,
                                                    cudaStream_t stream) noexcept {
  return guarded([&] { return to_symbol(symbol, s, count, offset, kind, &stream, Wait::kNo); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyToSymbolAsync_ptsz(const void* symbol, const void* s, std::size_t count,
                                                         std::size_t offset, cudaMemcpyKind kind,
                                                         cudaStream_t stream) noexcept {
  return cudaMemcpyToSymbolAsync(symbol, s, count, offset, kind, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaMemcpyFromSymbol(void* d, const void* symbol, std::size_t count,
                                                 std::size_t offset, cudaMemcpyKind kind) noexcept {
  return guarded([&] { return from_symbol(d, symbol, count, offset, kind, nullptr, Wait::kNo); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyFromSymbol_ptds(void* d, const void* symbol, std::size_t count,
                                                      std::size_t offset, cudaMemcpyKind kind) noexcept {
  return guarded([&] { return from_symbol(d, symbol, count, offset, kind, &kOwnStream, Wait::kYes); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyFromSymbolAsync(void* d, const void* symbol, std::size_t count,
                                                      std::size_t offset, cudaMemcpyKind kind,
                                                      cudaStream_t stream) noexcept {
  return guarded([&] { return from_symbol(d, symbol, count, offset, kind, &stream, Wait::kNo); });
}
VGPU_CUDART_API cudaError_t cudaMemcpyFromSymbolAsync_ptsz(void* d, const void* symbol, std::size_t count,
                                                           std::size_t offset, cudaMemcpyKind kind,
                                                           cudaStream_t stream) noexcept {
  return cudaMemcpyFromSymbolAsync(d, symbol, count, offset, kind, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) noexcept {
  if (address == nullptr) return keep(cudaErrorInvalidValue);
  return guarded([&] { return in_symbol(symbol, 0, 0, address); });
}
VGPU_CUDART_API cudaError_t cudaGetSymbolSize(std::size_t* bytes, const void* symbol) noexcept {
  if (bytes == nullptr) return keep(cudaErrorInvalidValue);
  return guarded([&]() -> cudaError_t {
    cudaError_t error = cudaSuccess;
    const Driver* table = current(&error);
    if (table == nullptr) return error;
    CUdeviceptr start = 0;
    return Registry::get().variable(*table, symbol, &start, bytes);
  });
}

VGPU_CUDART_API cudaError_t cudaMemset(void* d, int value, std::size_t bytes) noexcept {
  return keep(fill(d, bytes, value, bytes, 1, nullptr, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemset_ptds(void* d, int value, std::size_t bytes) noexcept {
  return keep(fill(d, bytes, value, bytes, 1, &kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemsetAsync(void* d, int value, std::size_t bytes,
                                            cudaStream_t stream) noexcept {
  return keep(fill(d, bytes, value, bytes, 1, &stream, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemsetAsync_ptsz(void* d, int value, std::size_t bytes,
                                                 cudaStream_t stream) noexcept {
  return cudaMemsetAsync(d, value, bytes, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaMemset2D(void* d, std::size_t pitch, int value, std::size_t width,
                                         std::size_t height) noexcept {
  return keep(fill(d, pitch, value, width, height, nullptr, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemset2D_ptds(void* d, std::size_t pitch, int value, std::size_t width,
                                              std::size_t height) noexcept {
  return keep(fill(d, pitch, value, width, height, &kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemset2DAsync(void* d, std::size_t pitch, int value, std::size_t width,
                                              std::size_t height, cudaStream_t stream) noexcept {
  return keep(fill(d, pitch, value, width, height, &stream, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemset2DAsync_ptsz(void* d, std::size_t pitch, int value, std::size_t width,
                                                   std::size_t height, cudaStream_t stream) noexcept {
  return cudaMemset2DAsync(d, pitch, value, width, height, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaMemset3D(cudaPitchedPtr memory, int value, cudaExtent extent) noexcept {
  return keep(fill_box(memory, value, extent, nullptr, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemset3D_ptds(cudaPitchedPtr memory, int value, cudaExtent extent) noexcept {
  return keep(fill_box(memory, value, extent, &kOwnStream, Wait::kYes));
}
VGPU_CUDART_API cudaError_t cudaMemset3DAsync(cudaPitchedPtr memory, int value, cudaExtent extent,
                                              cudaStream_t stream) noexcept {
  return keep(fill_box(memory, value, extent, &stream, Wait::kNo));
}
VGPU_CUDART_API cudaError_t cudaMemset3DAsync_ptsz(cudaPitchedPtr memory, int value, cudaExtent extent,
                                                   cudaStream_t stream) noexcept {
  return cudaMemset3DAsync(memory, value, extent, per_thread(stream));
}
