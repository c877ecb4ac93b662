// Streams and events.
#include "shim/cudart/runtime.h"

using namespace vgpu::shim::cudart;

VGPU_CUDART_API cudaError_t cudaStreamCreate(cudaStream_t* stream) noexcept {
  return with_context<&Driver::stream_create>(stream, 0u);
}
VGPU_CUDART_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) noexcept {
  return with_context<&Driver::stream_create>(stream, flags);
}
VGPU_CUDART_API cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                                         int priority) noexcept {
  return with_context<&Driver::stream_create_with_priority>(stream, flags, priority);
}
VGPU_CUDART_API cudaError_t cudaStreamDestroy(cudaStream_t stream) noexcept {
  return with_context<&Driver::stream_destroy>(stream);
}

VGPU_CUDART_API cudaError_t cudaStreamSynchronize(cudaStream_t stream) noexcept {
  return with_context<&Driver::stream_synchronize>(stream);
}
VGPU_CUDART_API cudaError_t cudaStreamSynchronize_ptsz(cudaStream_t stream) noexcept {
  return cudaStreamSynchronize(per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaStreamQuery(cudaStream_t stream) noexcept {
  return with_context<&Driver::stream_query>(stream);
}
VGPU_CUDART_API cudaError_t cudaStreamQuery_ptsz(cudaStream_t stream) noexcept {
  return cudaStreamQuery(per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event,
                                                unsigned flags) noexcept {
  return with_context<&Driver::stream_wait_event>(stream, event, flags);
}
VGPU_CUDART_API cudaError_t cudaStreamWaitEvent_ptsz(cudaStream_t stream, cudaEvent_t event,
                                                     unsigned flags) noexcept {
  return cudaStreamWaitEvent(per_thread(stream), event, flags);
}

VGPU_CUDART_API cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned* flags) noexcept {
  return with_context<&Driver::stream_get_flags>(stream, flags);
}
VGPU_CUDART_API cudaError_t cudaStreamGetFlags_ptsz(cudaStream_t stream, unsigned* flags) noexcept {
  return cudaStreamGetFlags(per_thread(stream), flags);
}
VGPU_CUDART_API cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) noexcept {
  return with_context<&Driver::stream_get_priority>(stream, priority);
}
VGPU_CUDART_API cudaError_t cudaStreamGetPriority_ptsz(cudaStream_t stream, int* priority) noexcept {
  return cudaStreamGetPriority(per_thread(stream), priority);
}
VGPU_CUDART_API cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) noexcept {
  return with_context<&Driver::stream_get_id>(stream, id);
}
VGPU_CUDART_API cudaError_t cudaStreamGetId_ptsz(cudaStream_t stream, unsigned long long* id) noexcept {
  return cudaStreamGetId(per_thread(stream), id);
}

// The driver knows a stream's context, a context its device once it is current.
VGPU_CUDART_API cudaError_t cudaStreamGetDevice(cudaStream_t stream, int* device) noexcept {
  if (device == nullptr) return keep(cudaErrorInvalidValue);
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return keep(error);
  if (table->stream_get_ctx == nullptr) return keep(cudaErrorNotSupported);
  CUcontext present = nullptr;
  CUcontext owner = nullptr;
  CUresult result = table->ctx_get_current(&present);
  if (result == CUDA_SUCCESS) result = table->stream_get_ctx(stream, &owner);
  if (result == CUDA_SUCCESS) result = table->ctx_set_current(owner);
  if (result != CUDA_SUCCESS) return keep(to_runtime(result));
  CUdevice handle = 0;
  result = table->ctx_get_device(&handle);
  const CUresult restored = table->ctx_set_current(present);
  if (result == CUDA_SUCCESS) *device = handle;
  return keep(to_runtime(result != CUDA_SUCCESS ? result : restored));
}
VGPU_CUDART_API cudaError_t cudaStreamGetDevice_ptsz(cudaStream_t stream, int* device) noexcept {
  return cudaStreamGetDevice(per_thread(stream), device);
}

// CUresult and cudaError_t share numbers, width and calling convention, so the callback is passed as it is.
VGPU_CUDART_API cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback,
                                                  void* data, unsigned flags) noexcept {
  static_assert(sizeof(CUresult) == sizeof(cudaError_t));
  if (callback == nullptr) return keep(cudaErrorInvalidValue);
  const auto converted = reinterpret_cast<void (*)(CUstream, CUresult, void*)>(callback);
  return with_context<&Driver::stream_add_callback>(stream, converted, data, flags);
}
VGPU_CUDART_API cudaError_t cudaStreamAddCallback_ptsz(cudaStream_t stream, cudaStreamCallback_t callback,
                                                       void* data, unsigned flags) noexcept {
  return cudaStreamAddCallback(per_thread(stream), callback, data, flags);
}

VGPU_CUDART_API cudaError_t cudaEventCreate(cudaEvent_t* event) noexcept {
  return with_context<&Driver::event_create>(event, 0u);
}
VGPU_CUDART_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) noexcept {
  return with_context<&Driver::event_create>(event, flags);
}
VGPU_CUDART_API cudaError_t cudaEventDestroy(cudaEvent_t event) noexcept {
  return with_context<&Driver::event_destroy>(event);
}
VGPU_CUDART_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) noexcept {
  return with_context<&Driver::event_record>(event, stream);
}
VGPU_CUDART_API cudaError_t cudaEventRecord_ptsz(cudaEvent_t event, cudaStream_t stream) noexcept {
  return cudaEventRecord(event, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream,
                                                     unsigned flags) noexcept {
  return with_context<&Driver::event_record_with_flags>(event, stream, flags);
}
VGPU_CUDART_API cudaError_t cudaEventRecordWithFlags_ptsz(cudaEvent_t event, cudaStream_t stream,
                                                          unsigned flags) noexcept {
  return cudaEventRecordWithFlags(event, per_thread(stream), flags);
}
VGPU_CUDART_API cudaError_t cudaEventQuery(cudaEvent_t event) noexcept {
  return with_context<&Driver::event_query>(event);
}
VGPU_CUDART_API cudaError_t cudaEventSynchronize(cudaEvent_t event) noexcept {
  return with_context<&Driver::event_synchronize>(event);
}
VGPU_CUDART_API cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start,
                                                 cudaEvent_t end) noexcept {
  return with_context<&Driver::event_elapsed_time>(milliseconds, start, end);
}
#if VGPU_CUDART_GENERATION < 13
VGPU_CUDART_API cudaError_t cudaEventElapsedTime_v2(float* milliseconds, cudaEvent_t start,
                                                    cudaEvent_t end) noexcept {
  return cudaEventElapsedTime(milliseconds, start, end);
}
#endif
