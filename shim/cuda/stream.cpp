// Streams. The device executes a channel's records in ring order, so to wait for a stream is to wait for the
// position behind its last record: no record is sent for it.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

constexpr int32_t kLeastPriority = 0;
constexpr int32_t kGreatestPriority = -5;

CUresult make_stream(const Entry& entry, uint32_t flags, int32_t priority, bool per_thread, Stream*& stream) {
  Driver& driver = Driver::get();
  stream = driver.streams.create();
  if (stream == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  stream->context = entry.context->handle;
  stream->device_id = stream->id;
  stream->flags = flags;
  stream->priority = priority;
  stream->per_thread = per_thread;
  stream->unique_id = driver.next_id.fetch_add(1);
  const Submitted record = entry.session->submit(
      vgpu::protocol::StreamCreateRequest{.stream = stream->device_id, .flags = flags, .priority = priority},
      0);
  if (record.status != vgpu::protocol::Status::kSuccess) {
    driver.streams.destroy(stream->handle);
    return to_result(record.status);
  }
  stream->advance(record.end);
  return CUDA_SUCCESS;
}

CUresult create(CUstream* result, unsigned flags, int priority) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (result == nullptr || (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // "If the priority is outside the range, it is clamped."
  priority = priority > kLeastPriority      ? kLeastPriority
             : priority < kGreatestPriority ? kGreatestPriority
                                            : priority;
  Stream* stream = nullptr;
  const CUresult made = make_stream(entry, flags, priority, false, stream);
  if (made == CUDA_SUCCESS) {
    *result = as_handle<CUstream>(stream->handle);
  }
  return made;
}

// This thread's own streams, one a context. They end with the thread.
struct ThreadStreams {
  static constexpr uint32_t kContexts = 8;
  struct {
    uint64_t context = 0;
    uint64_t stream = 0;
  } entries[kContexts];

  ~ThreadStreams() {
    if (Driver::ready() != CUDA_SUCCESS) {
      return;
    }
    Driver& driver = Driver::get();
    Session* session = driver.session_if_open();
    for (const auto& entry : entries) {
      if (Stream* stream = driver.streams.find(entry.stream); stream != nullptr && session != nullptr) {
        session->submit(vgpu::protocol::StreamDestroyRequest{.stream = stream->device_id}, 0);
        driver.streams.destroy(entry.stream);
      }
    }
  }
};

template <typename Then>
CUresult with_stream(CUstream handle, NullStream meaning, Then&& then) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  return then(entry, *stream);
}

// What the stream has to wait for: the legacy stream waits for all blocking streams.
uint64_t last_position(const Entry& entry, const Stream& stream) {
  return stream.legacy ? entry.session->submitted() : stream.last.load(std::memory_order_acquire);
}

CUresult stream_synchronize(CUstream handle, NullStream meaning) {
  return with_stream(handle, meaning, [](const Entry& entry, Stream& stream) {
    if (stream.capturing) {
      if (stream.capture) {
        stream.capture->invalidated = true;
      }
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return synchronize(*entry.session, last_position(entry, stream));
  });
}

CUresult stream_query(CUstream handle, NullStream meaning) {
  return with_stream(handle, meaning, [](const Entry& entry, Stream& stream) {
    if (stream.capturing) {
      if (stream.capture) {
        stream.capture->invalidated = true;
      }
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    const uint64_t position = last_position(entry, stream);
    return entry.session->completed() >= position ? synchronize(*entry.session, position)
                                                  : CUDA_ERROR_NOT_READY;
  });
}

// Runs the function when the stream's work so far is done, before the call returns: later work then comes
// after it, and CUDA promises no more than that order.
CUresult host_function(CUstream handle, NullStream meaning, CUhostFn function, void* data) {
  return with_stream(handle, meaning, [&](const Entry& entry, Stream& stream) {
    if (function == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream.capturing) {
      GraphStep step;
      step.type = GraphStep::Type::kHostFunction;
      step.node_type = CU_GRAPH_NODE_TYPE_HOST;
      step.host_function = function;
      step.host_data = data;
      return capture_step(stream, std::move(step));
    }
    // "The host function is not called in case of an error."
    const CUresult result = synchronize(*entry.session, last_position(entry, stream));
    if (result == CUDA_SUCCESS) {
      function(data);
    }
    return result;
  });
}

CUresult stream_callback(CUstream handle, NullStream meaning, CUstreamCallback callback, void* data,
                         unsigned flags) {
  return with_stream(handle, meaning, [&](const Entry& entry, Stream& stream) {
    if (callback == nullptr || flags != 0) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (stream.capturing) {
      if (stream.capture) {
        stream.capture->invalidated = true;
      }
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    callback(handle, synchronize(*entry.session, last_position(entry, stream)), data);
    return CUDA_SUCCESS;
  });
}

CUresult write_value(CUstream handle, NullStream meaning, CUdeviceptr address, uint64_t value, uint32_t bytes,
                     unsigned flags) {
  return with_stream(handle, meaning, [&](const Entry& entry, Stream& stream) {
    if ((flags & ~unsigned{CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER}) != 0 || address % bytes != 0 ||
        !Driver::get().allocations.covers(address, bytes)) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return enqueue(entry, stream,
                   vgpu::protocol::WriteValueRequest{.address = address, .value = value, .bytes = bytes},
                   CU_GRAPH_NODE_TYPE_BATCH_MEM_OP);
  });
}

template <typename Value, typename Read>
CUresult read_property(CUstream handle, NullStream meaning, Value* value, Read&& read) {
  return with_stream(handle, meaning, [&](const Entry&, Stream& stream) {
    if (value == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *value = read(stream);
    return CUDA_SUCCESS;
  });
}

CUresult stream_context(CUstream handle, NullStream meaning, CUcontext* context) {
  return read_property(handle, meaning, context,
                       [](const Stream& s) { return as_handle<CUcontext>(s.context); });
}
CUresult stream_flags(CUstream handle, NullStream meaning, unsigned* flags) {
  return read_property(handle, meaning, flags, [](const Stream& s) { return s.flags; });
}
CUresult stream_priority(CUstream handle, NullStream meaning, int* priority) {
  return read_property(handle, meaning, priority, [](const Stream& s) { return s.priority; });
}
CUresult stream_id(CUstream handle, NullStream meaning, unsigned long long* id) {
  return read_property(handle, meaning, id, [](const Stream& s) { return s.unique_id; });
}
CUresult stream_device(CUstream handle, NullStream meaning, CUdevice* device) {
  return read_property(handle, meaning, device, [](const Stream&) { return CUdevice{0}; });
}

CUresult get_attribute(CUstream handle, NullStream meaning, CUstreamAttrID attribute,
                       CUstreamAttrValue* value) {
  return with_stream(handle, meaning, [&](const Entry&, Stream& stream) {
    if (value == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    switch (attribute) {
      case CU_LAUNCH_ATTRIBUTE_PRIORITY:
        value->priority = stream.priority;
        return CUDA_SUCCESS;
      case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
        value->syncPolicy = CU_SYNC_POLICY_AUTO;
        return CUDA_SUCCESS;
      case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
        value->accessPolicyWindow = {};
        return CUDA_SUCCESS;
      default:
        return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

// Attributes are hints about caches and about how the host waits; those that would change what happens are
// refused.
CUresult set_attribute(CUstream handle, NullStream meaning, CUstreamAttrID attribute,
                       const CUstreamAttrValue* value) {
  return with_stream(handle, meaning, [&](const Entry&, Stream&) {
    if (value == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    return attribute == CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY ||
                   attribute == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW
               ? CUDA_SUCCESS
               : CUDA_ERROR_NOT_SUPPORTED;
  });
}

CUresult copy_attributes(CUstream destination, CUstream source, NullStream meaning) {
  return with_stream(destination, meaning, [&](const Entry& entry, Stream&) {
    Stream* from = nullptr;
    return resolve_stream(entry, source, meaning, from);
  });
}

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;

}  // namespace

namespace vgpu::shim {

CUresult per_thread_stream(const Entry& entry, Stream*& stream) {
  static thread_local ThreadStreams own;
  Driver& driver = Driver::get();
  for (auto& slot : own.entries) {
    if (slot.context == entry.context->handle) {
      if (stream = driver.streams.find(slot.stream); stream != nullptr) {
        return CUDA_SUCCESS;
      }
    } else if (slot.context != 0 && driver.contexts.find(slot.context) != nullptr) {
      continue;
    }
    const CUresult made = make_stream(entry, 0, 0, true, stream);
    if (made == CUDA_SUCCESS) {
      slot.context = entry.context->handle;
      slot.stream = stream->handle;
    }
    return made;
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult resolve_stream(const Entry& entry, CUstream handle, NullStream meaning, Stream*& stream) {
  const auto value = reinterpret_cast<uintptr_t>(handle);
  if (value == kStreamPerThreadHandle || (value == 0 && meaning == NullStream::kPerThread)) {
    return per_thread_stream(entry, stream);
  }
  Driver& driver = Driver::get();
  if (value == 0 || value == kStreamLegacyHandle) {
    stream = driver.streams.find(entry.context->legacy_stream);
    // Work on the legacy stream would wait for blocking streams, which cannot be while one captures.
    if (driver.blocking_captures.load(std::memory_order_acquire) != 0) [[unlikely]] {
      driver.streams.for_each([](Stream& s) {
        if (s.capturing && s.capture && s.capture->blocking_stream) {
          s.capture->invalidated = true;
        }
      });
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    return stream != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
  }
  stream = driver.streams.find(static_cast<uint64_t>(value));
  if (stream == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  return stream->context == entry.context->handle ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

}  // namespace vgpu::shim

CUresult cuStreamCreate(CUstream* stream, unsigned int flags) try { return create(stream, flags, 0); }
VGPU_ABI_EDGE
CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) try {
  return create(stream, flags, priority);
}
VGPU_ABI_EDGE

// "Any pending work in the stream is completed first, asynchronously": its records stand before this one.
CUresult cuStreamDestroy_v2(CUstream handle) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Driver& driver = Driver::get();
  Stream* stream = driver.streams.find(handle);
  if (stream == nullptr || stream->legacy || stream->per_thread) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (stream->capturing) {
    if (stream->capture) {
      stream->capture->invalidated = true;
    }
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  const uint32_t device_id = stream->device_id;
  const Submitted record =
      entry.session->submit(vgpu::protocol::StreamDestroyRequest{.stream = device_id}, 0);
  driver.streams.destroy(stream->handle);
  return to_result(record.status);
}
VGPU_ABI_EDGE
CUresult cuStreamDestroy(CUstream stream) try { return cuStreamDestroy_v2(stream); }
VGPU_ABI_EDGE

#define VGPU_BOTH(name, parameters, call_legacy, call_per_thread) \
  CUresult name parameters try { return call_legacy; }            \
  VGPU_ABI_EDGE                                                   \
  CUresult name##_ptsz parameters try { return call_per_thread; } \
  VGPU_ABI_EDGE

VGPU_BOTH(cuStreamSynchronize, (CUstream s), stream_synchronize(s, kLegacy),
          stream_synchronize(s, kPerThread))
VGPU_BOTH(cuStreamQuery, (CUstream s), stream_query(s, kLegacy), stream_query(s, kPerThread))
VGPU_BOTH(cuStreamGetPriority, (CUstream s, int* v), stream_priority(s, kLegacy, v),
          stream_priority(s, kPerThread, v))
VGPU_BOTH(cuStreamGetFlags, (CUstream s, unsigned int* v), stream_flags(s, kLegacy, v),
          stream_flags(s, kPerThread, v))
VGPU_BOTH(cuStreamGetId, (CUstream s, unsigned long long* v), stream_id(s, kLegacy, v),
          stream_id(s, kPerThread, v))
VGPU_BOTH(cuStreamGetCtx, (CUstream s, CUcontext* v), stream_context(s, kLegacy, v),
          stream_context(s, kPerThread, v))
VGPU_BOTH(cuStreamGetDevice, (CUstream s, CUdevice* v), stream_device(s, kLegacy, v),
          stream_device(s, kPerThread, v))
VGPU_BOTH(cuLaunchHostFunc, (CUstream s, CUhostFn f, void* d), host_function(s, kLegacy, f, d),
          host_function(s, kPerThread, f, d))
VGPU_BOTH(cuStreamAddCallback, (CUstream s, CUstreamCallback f, void* d, unsigned int flags),
          stream_callback(s, kLegacy, f, d, flags), stream_callback(s, kPerThread, f, d, flags))
VGPU_BOTH(cuStreamWriteValue32_v2, (CUstream s, CUdeviceptr a, uint32_t v, unsigned int flags),
          write_value(s, kLegacy, a, v, 4, flags), write_value(s, kPerThread, a, v, 4, flags))
VGPU_BOTH(cuStreamWriteValue64_v2, (CUstream s, CUdeviceptr a, uint64_t v, unsigned int flags),
          write_value(s, kLegacy, a, v, 8, flags), write_value(s, kPerThread, a, v, 8, flags))
VGPU_BOTH(cuStreamWriteValue32, (CUstream s, CUdeviceptr a, uint32_t v, unsigned int flags),
          write_value(s, kLegacy, a, v, 4, flags), write_value(s, kPerThread, a, v, 4, flags))
VGPU_BOTH(cuStreamWriteValue64, (CUstream s, CUdeviceptr a, uint64_t v, unsigned int flags),
          write_value(s, kLegacy, a, v, 8, flags), write_value(s, kPerThread, a, v, 8, flags))
VGPU_BOTH(cuStreamGetAttribute, (CUstream s, CUstreamAttrID id, CUstreamAttrValue* v),
          get_attribute(s, kLegacy, id, v), get_attribute(s, kPerThread, id, v))
VGPU_BOTH(cuStreamSetAttribute, (CUstream s, CUstreamAttrID id, const CUstreamAttrValue* v),
          set_attribute(s, kLegacy, id, v), set_attribute(s, kPerThread, id, v))
VGPU_BOTH(cuStreamCopyAttributes, (CUstream to, CUstream from), copy_attributes(to, from, kLegacy),
          copy_attributes(to, from, kPerThread))
