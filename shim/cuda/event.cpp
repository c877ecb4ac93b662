// Events. An event is done when the completed position has passed its last record; its time is asked of the
// device when the program asks.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;
using vgpu::protocol::Status;

namespace {

constexpr unsigned kEventFlags = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;

CUresult find_event(CUevent handle, Event*& event) {
  event = Driver::get().events.find(handle);
  return event != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

// What a call on an event and a stream is about, or why it cannot be.
struct Operands {
  Entry entry;
  Event* event = nullptr;
  Stream* stream = nullptr;
  CUresult result = CUDA_SUCCESS;
};

Operands find_operands(CUevent event, CUstream stream, NullStream meaning, unsigned flags, unsigned known) {
  Operands found{.entry = enter()};
  if (!found.entry) {
    found.result = found.entry.result;
  } else if ((flags & ~known) != 0) {
    found.result = CUDA_ERROR_INVALID_VALUE;
  } else if (found.result = find_event(event, found.event); found.result == CUDA_SUCCESS) {
    found.result = resolve_stream(found.entry, stream, meaning, found.stream);
  }
  return found;
}

CUresult record(CUevent handle, CUstream stream_handle, NullStream meaning, unsigned flags) {
  const auto [entry, event, stream, result] =
      find_operands(handle, stream_handle, meaning, flags, CU_EVENT_RECORD_EXTERNAL);
  if (result != CUDA_SUCCESS) {
    return result;
  }
  if (event->context != stream->context) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (stream->capturing) {
    return capture_event_record(*stream, *event, flags == CU_EVENT_RECORD_EXTERNAL);
  }
  const Submitted submitted =
      entry.session->submit(vgpu::protocol::EventRecordRequest{.event = event->id}, stream->order());
  if (submitted.status != Status::kSuccess) {
    return to_result(submitted.status);
  }
  event->known_to_device = true;
  if (event->capture) {
    const std::lock_guard guard(Driver::get().capture_mutex);
    event->capture.reset();
  }
  event->position.store(submitted.end, std::memory_order_release);
  return CUDA_SUCCESS;
}

CUresult wait(CUstream stream_handle, CUevent handle, unsigned flags, NullStream meaning) {
  const auto [entry, event, stream, result] =
      find_operands(handle, stream_handle, meaning, flags, CU_EVENT_WAIT_EXTERNAL);
  if (result != CUDA_SUCCESS) {
    return result;
  }
  if (stream->capturing || event->capture) {
    return capture_event_wait(*stream, *event, flags == CU_EVENT_WAIT_EXTERNAL);
  }
  if (!event->known_to_device) {
    return CUDA_SUCCESS;  // never recorded: nothing to wait for
  }
  return to_result(
      entry.session->submit(vgpu::protocol::StreamWaitEventRequest{.event = event->id}, stream->order())
          .status);
}

// When the event's last record executed; asked of the device once for each record.
CUresult time_of(Session& session, Event& event, uint64_t& time) {
  const std::lock_guard guard(event.time_mutex);
  const uint64_t position = event.position.load(std::memory_order_acquire);
  if (event.time_position != position) {
    vgpu::protocol::EventTimeReply reply;
    const Status status = session.call(vgpu::protocol::EventTimeRequest{.event = event.id}, reply);
    if (status != Status::kSuccess) {
      return to_result(status);
    }
    event.time_ns = reply.time;
    event.time_position = position;
  }
  time = event.time_ns;
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuEventCreate(CUevent* result, unsigned int flags) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (result == nullptr || (flags & ~kEventFlags) != 0 ||
      ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((flags & CU_EVENT_INTERPROCESS) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;  // each process has a channel of its own
  }
  Event* event = Driver::get().events.create();
  if (event == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  event->context = entry.context->handle;
  event->flags = flags;
  *result = as_handle<CUevent>(event->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuEventDestroy_v2(CUevent handle) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Event* event = nullptr;
  if (const CUresult result = find_event(handle, event); result != CUDA_SUCCESS) {
    return result;
  }
  Status status = Status::kSuccess;
  if (event->known_to_device) {
    status = entry.session->submit(vgpu::protocol::EventDestroyRequest{.event = event->id}, 0).status;
  }
  Driver::get().events.destroy(event->handle);
  return to_result(status);
}
VGPU_ABI_EDGE
CUresult cuEventDestroy(CUevent event) try { return cuEventDestroy_v2(event); }
VGPU_ABI_EDGE

CUresult cuEventRecord(CUevent event, CUstream stream) try {
  return record(event, stream, NullStream::kLegacy, 0);
}
VGPU_ABI_EDGE
CUresult cuEventRecord_ptsz(CUevent event, CUstream stream) try {
  return record(event, stream, NullStream::kPerThread, 0);
}
VGPU_ABI_EDGE
CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) try {
  return record(event, stream, NullStream::kLegacy, flags);
}
VGPU_ABI_EDGE
CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned int flags) try {
  return record(event, stream, NullStream::kPerThread, flags);
}
VGPU_ABI_EDGE

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) try {
  return wait(stream, event, flags, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned int flags) try {
  return wait(stream, event, flags, NullStream::kPerThread);
}
VGPU_ABI_EDGE

CUresult cuEventQuery(CUevent handle) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Event* event = nullptr;
  if (const CUresult result = find_event(handle, event); result != CUDA_SUCCESS) {
    return result;
  }
  if (event->capture) {
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  const uint64_t position = event->position.load(std::memory_order_acquire);
  return entry.session->completed() >= position ? synchronize(*entry.session, position)
                                                : CUDA_ERROR_NOT_READY;
}
VGPU_ABI_EDGE

CUresult cuEventSynchronize(CUevent handle) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Event* event = nullptr;
  if (const CUresult result = find_event(handle, event); result != CUDA_SUCCESS) {
    return result;
  }
  if (event->capture) {
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  return synchronize(*entry.session, event->position.load(std::memory_order_acquire));
}
VGPU_ABI_EDGE

CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start_handle, CUevent end_handle) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Event* start = nullptr;
  Event* end = nullptr;
  if (find_event(start_handle, start) != CUDA_SUCCESS || find_event(end_handle, end) != CUDA_SUCCESS) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (milliseconds == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0 || start->position == 0 ||
      end->position == 0) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (start->capture || end->capture) {
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  if (entry.session->completed() < std::max(start->position.load(), end->position.load())) {
    return CUDA_ERROR_NOT_READY;
  }
  uint64_t from = 0;
  uint64_t to = 0;
  if (const CUresult result = time_of(*entry.session, *start, from); result != CUDA_SUCCESS) {
    return result;
  }
  if (const CUresult result = time_of(*entry.session, *end, to); result != CUDA_SUCCESS) {
    return result;
  }
  *milliseconds = static_cast<float>(static_cast<double>(static_cast<int64_t>(to - from)) / 1e6);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) try {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
VGPU_ABI_EDGE
