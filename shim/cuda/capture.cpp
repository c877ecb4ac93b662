// Stream capture: what would go into the ring is kept as steps of a graph instead. The order in which steps
// were recorded satisfies every dependency, so a graph is a list; which streams took part is kept to give
// CUDA's errors.
#include <algorithm>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

Capture::Branch* branch_of(Capture& capture, uint64_t stream) {
  for (Capture::Branch& branch : capture.branches) {
    if (branch.stream == stream) {
      return &branch;
    }
  }
  return nullptr;
}

void merge_seen(std::vector<uint64_t>& into, const std::vector<uint64_t>& from) {
  into.resize(std::max(into.size(), from.size()));
  for (std::size_t i = 0; i < from.size(); ++i) {
    into[i] = std::max(into[i], from[i]);
  }
}

CUresult begin(CUstream handle, CUstreamCaptureMode mode, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (mode < CU_STREAM_CAPTURE_MODE_GLOBAL || mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  if (stream->legacy) {
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.capture_mutex);
  if (stream->capturing) {
    return CUDA_ERROR_ILLEGAL_STATE;
  }
  Graph* graph = driver.graphs.create();
  if (graph == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  auto capture = std::make_shared<Capture>();
  capture->id = driver.next_id.fetch_add(1);
  capture->mode = mode;
  capture->thread = this_thread_id();
  capture->blocking_stream = (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
  capture->branches.push_back({.stream = stream->handle, .steps = 0, .seen = {}});
  capture->graph = graph->handle;
  stream->capture = capture;
  stream->capturing.store(true, std::memory_order_release);
  if (mode == CU_STREAM_CAPTURE_MODE_GLOBAL) {
    driver.global_captures.fetch_add(1);
  }
  if (mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
    ++this_thread().thread_captures;
  }
  if (capture->blocking_stream) {
    driver.blocking_captures.fetch_add(1);
  }
  return CUDA_SUCCESS;
}

CUresult end(CUstream handle, CUgraph* result, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Stream* stream = nullptr;
  if (const CUresult resolved = resolve_stream(entry, handle, meaning, stream); resolved != CUDA_SUCCESS) {
    return resolved;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.capture_mutex);
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!stream->capturing || !capture) {
    return CUDA_ERROR_ILLEGAL_STATE;
  }
  if (capture->branches.front().stream != stream->handle) {
    capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  }
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && capture->thread != this_thread_id()) {
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  const std::lock_guard inner(capture->mutex);
  bool joined = true;
  const Capture::Branch& origin = capture->branches.front();
  for (std::size_t i = 1; i < capture->branches.size(); ++i) {
    const uint64_t seen = i < origin.seen.size() ? origin.seen[i] : 0;
    joined = joined && seen == capture->branches[i].steps;
  }
  for (const Capture::Branch& branch : capture->branches) {
    if (Stream* member = driver.streams.find(branch.stream)) {
      member->capturing = false;
      member->capture.reset();
    }
  }
  if (capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL) {
    driver.global_captures.fetch_sub(1);
  }
  if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED) {
    --this_thread().thread_captures;
  }
  if (capture->blocking_stream) {
    driver.blocking_captures.fetch_sub(1);
  }
  *result = nullptr;
  if (capture->invalidated || !joined) {
    driver.graphs.destroy(capture->graph);
    return capture->invalidated ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  *result = as_handle<CUgraph>(capture->graph);
  return CUDA_SUCCESS;
}

CUstreamCaptureStatus status_of_stream(const Stream& stream) {
  if (!stream.capturing || !stream.capture) {
    return CU_STREAM_CAPTURE_STATUS_NONE;
  }
  return stream.capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult info(CUstream handle, CUstreamCaptureStatus* status, uint64_t* id, CUgraph* graph,
              const CUgraphNode** dependencies, const CUgraphEdgeData** edges, size_t* count,
              NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (status == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Stream* stream = nullptr;
  if (const CUresult resolved = resolve_stream(entry, handle, meaning, stream); resolved != CUDA_SUCCESS) {
    return resolved;
  }
  const std::lock_guard guard(Driver::get().capture_mutex);
  *status = status_of_stream(*stream);
  if (*status == CU_STREAM_CAPTURE_STATUS_NONE) {
    return CUDA_SUCCESS;
  }
  if (id != nullptr) {
    *id = stream->capture->id;
  }
  if (graph != nullptr) {
    *graph = as_handle<CUgraph>(stream->capture->graph);
  }
  // The nodes the next one will depend on are not exposed: steps are a list, and nodes are not edited.
  if (dependencies != nullptr) {
    *dependencies = nullptr;
  }
  if (edges != nullptr) {
    *edges = nullptr;
  }
  if (count != nullptr) {
    *count = 0;
  }
  return CUDA_SUCCESS;
}

CUresult is_capturing(CUstream handle, CUstreamCaptureStatus* status, NullStream meaning) {
  return info(handle, status, nullptr, nullptr, nullptr, nullptr, nullptr, meaning);
}

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;

}  // namespace

namespace vgpu::shim {

CUresult check_capture_allows_unsafe_call() {
  Driver& driver = Driver::get();
  const ThreadState& thread = this_thread();
  if (driver.global_captures.load(std::memory_order_acquire) == 0 && thread.thread_captures == 0) [[likely]] {
    return CUDA_SUCCESS;
  }
  // cuThreadExchangeStreamCaptureMode: relaxed allows everything; thread-local looks at this thread's own
  // captures.
  if (thread.capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED ||
      (thread.capture_mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL && thread.thread_captures == 0)) {
    return CUDA_SUCCESS;
  }
  const uint64_t me = this_thread_id();
  bool forbidden = false;
  const std::lock_guard guard(driver.capture_mutex);
  driver.streams.for_each([&](Stream& stream) {
    if (!stream.capturing || !stream.capture) {
      return;
    }
    Capture& capture = *stream.capture;
    const bool mine = capture.thread == me && capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    const bool global =
        capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread.capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (mine || global) {
      capture.invalidated = true;
      forbidden = true;
    }
  });
  return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult capture_step(Stream& stream, GraphStep step) {
  Driver& driver = Driver::get();
  const std::shared_ptr<Capture> capture = stream.capture;
  if (!capture) {
    return CUDA_ERROR_ILLEGAL_STATE;
  }
  const std::lock_guard guard(capture->mutex);
  if (capture->invalidated) {
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  Graph* graph = driver.graphs.find(capture->graph);
  Capture::Branch* branch = branch_of(*capture, stream.handle);
  if (graph == nullptr || branch == nullptr) {
    capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  graph->steps.push_back(std::move(step));
  const auto index = static_cast<std::size_t>(branch - capture->branches.data());
  branch->seen.resize(std::max(branch->seen.size(), index + 1));
  branch->seen[index] = ++branch->steps;
  return CUDA_SUCCESS;
}

CUresult capture_event_record(Stream& stream, Event& event, bool external) {
  const std::shared_ptr<Capture> capture = stream.capture;
  if (!capture) {
    return CUDA_ERROR_ILLEGAL_STATE;
  }
  if (external) {  // a node that records the event each time the graph runs
    const protocol::EventRecordRequest request{.event = event.id};
    GraphStep step;
    step.node_type = CU_GRAPH_NODE_TYPE_EVENT_RECORD;
    step.opcode = static_cast<uint16_t>(protocol::EventRecordRequest::kOpcode);
    step.body.resize(sizeof(request));
    std::memcpy(step.body.data(), &request, sizeof(request));
    step.event = event.handle;
    return capture_step(stream, std::move(step));
  }
  const std::lock_guard guard(Driver::get().capture_mutex);
  const std::lock_guard inner(capture->mutex);
  const Capture::Branch* branch = branch_of(*capture, stream.handle);
  if (capture->invalidated || branch == nullptr) {
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  event.capture = capture;
  event.seen = branch->seen;
  return CUDA_SUCCESS;
}

CUresult capture_event_wait(Stream& stream, Event& event, bool external) {
  if (external && stream.capturing) {
    const protocol::StreamWaitEventRequest request{.event = event.id};
    GraphStep step;
    step.node_type = CU_GRAPH_NODE_TYPE_WAIT_EVENT;
    step.opcode = static_cast<uint16_t>(protocol::StreamWaitEventRequest::kOpcode);
    step.body.resize(sizeof(request));
    std::memcpy(step.body.data(), &request, sizeof(request));
    step.event = event.handle;
    return capture_step(stream, std::move(step));
  }
  const std::lock_guard guard(Driver::get().capture_mutex);
  const std::shared_ptr<Capture> capture = event.capture;
  if (!capture) {
    // The captured work would depend on work that is not captured.
    stream.capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  if (stream.capturing && stream.capture != capture) {
    stream.capture->invalidated = true;
    capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  const std::lock_guard inner(capture->mutex);
  if (capture->invalidated) {
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  if (!stream.capturing) {
    const Stream* origin = Driver::get().streams.find(capture->branches.front().stream);
    if (origin == nullptr || !origin->capturing || origin->capture != capture) {
      return CUDA_ERROR_CAPTURED_EVENT;  // that capture is over
    }
    if (stream.legacy) {
      capture->invalidated = true;
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    if (branch_of(*capture, stream.handle) == nullptr) {
      capture->branches.push_back({.stream = stream.handle, .steps = 0, .seen = {}});
    }
    stream.capture = capture;
    stream.capturing.store(true, std::memory_order_release);
  }
  merge_seen(branch_of(*capture, stream.handle)->seen, event.seen);
  return CUDA_SUCCESS;
}

}  // namespace vgpu::shim

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) try {
  return begin(stream, mode, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) try {
  return begin(stream, mode, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamBeginCapture(CUstream stream) try {
  return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamBeginCapture_ptsz(CUstream stream) try {
  return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) try { return end(stream, graph, kLegacy); }
VGPU_ABI_EDGE
CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph* graph) try {
  return end(stream, graph, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) try {
  return is_capturing(stream, status, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamIsCapturing_ptsz(CUstream stream, CUstreamCaptureStatus* status) try {
  return is_capturing(stream, status, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id) try {
  return info(stream, status, id, nullptr, nullptr, nullptr, nullptr, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo_ptsz(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id) try {
  return info(stream, status, id, nullptr, nullptr, nullptr, nullptr, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id,
                                   CUgraph* graph, const CUgraphNode** dependencies, size_t* count) try {
  return info(stream, status, id, graph, dependencies, nullptr, count, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id,
                                        CUgraph* graph, const CUgraphNode** dependencies, size_t* count) try {
  return info(stream, status, id, graph, dependencies, nullptr, count, kPerThread);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id,
                                   CUgraph* graph, const CUgraphNode** dependencies,
                                   const CUgraphEdgeData** edges, size_t* count) try {
  return info(stream, status, id, graph, dependencies, edges, count, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream stream, CUstreamCaptureStatus* status, uint64_t* id,
                                        CUgraph* graph, const CUgraphNode** dependencies,
                                        const CUgraphEdgeData** edges, size_t* count) try {
  return info(stream, status, id, graph, dependencies, edges, count, kPerThread);
}
VGPU_ABI_EDGE

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (mode == nullptr || *mode < CU_STREAM_CAPTURE_MODE_GLOBAL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::swap(*mode, this_thread().capture_mode);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
