// The library's state: the device, the contexts, every thread's current context, and the tables behind the
// handles. Made by the first call that needs it, never destroyed: threads may be inside when the process
// exits.
#pragma once

#include <atomic>
#include <expected>
#include <memory>
#include <mutex>

#include "shim/cuda/allocations.h"
#include "shim/cuda/cuda_abi.h"
#include "shim/cuda/objects.h"
#include "shim/session/log.h"
#include "shim/session/session.h"

namespace vgpu::shim {

constexpr CUresult to_result(protocol::Status status) noexcept {
  return static_cast<CUresult>(status);
}

// The CUDA version this library speaks, as cuDriverGetVersion tells it: 1000 * major + 10 * minor.
inline constexpr int kDriverVersion = 13000;

class Driver {
 public:
  static Driver& get();

  // cuInit.
  CUresult init();
  // kSuccess after init() in this process; NOT_INITIALIZED before and in a forked child; DEINITIALIZED at
  // exit.
  static CUresult ready() noexcept { return static_cast<CUresult>(state_.load(std::memory_order_acquire)); }

  // The device, without a channel. Valid for ever once found.
  CUresult attach(const Attachment*& attachment);
  // The channel; claimed by the first call.
  CUresult open(Session*& session);
  Session* session_if_open() const noexcept { return session_.load(std::memory_order_acquire); }
  // 1, or 0 when CUDA_VISIBLE_DEVICES hides the device. After init().
  int visible_devices() const noexcept { return visible_devices_; }
  const ring::DeviceInfo& info() const noexcept { return attachment_.load()->info(); }
  int32_t attribute(CUdevice_attribute attribute) const noexcept;

  CUresult make_context(bool primary, uint32_t flags, Context*& context);
  // Frees everything of the context on the device.
  void clear_context(Context& context);

  HandleTable<Context, Kind::kContext> contexts;
  HandleTable<Stream, Kind::kStream> streams;
  HandleTable<Event, Kind::kEvent> events;
  HandleTable<Module, Kind::kModule> modules;
  HandleTable<Function, Kind::kFunction> functions;
  HandleTable<Library, Kind::kLibrary> libraries;
  HandleTable<Kernel, Kind::kKernel> kernels;
  HandleTable<Graph, Kind::kGraph> graphs;
  HandleTable<GraphExec, Kind::kGraphExec> graph_execs;
  HandleTable<Physical, Kind::kPhysical> physicals;
  AllocationTable allocations;
  HostTable host_memory;

  std::mutex context_mutex;
  std::atomic<uint64_t> primary{0};  // handle of the primary context, once made
  std::atomic<uint32_t> primary_flags{0};
  std::mutex capture_mutex;
  std::atomic<uint32_t> global_captures{0};    // captures that forbid unsafe calls to every thread
  std::atomic<uint32_t> blocking_captures{0};  // captures in streams that synchronise with the legacy stream
  std::atomic<uint64_t> next_id{1};            // for what CUDA numbers uniquely

 private:
  void register_process_hooks();
  static void after_fork_in_child() noexcept;
  static void at_exit() noexcept;
  bool device_visible(const ring::DeviceInfo& info) const;

  static std::atomic<int32_t> state_;  // CUresult of ready()
  std::mutex mutex_;
  std::atomic<const Attachment*> attachment_{nullptr};
  std::atomic<Session*> session_{nullptr};
  int visible_devices_ = 0;
  bool hooks_registered_ = false;
};

// ---- per thread ----

struct ThreadState {
  static constexpr uint32_t kDepth = 64;
  uint64_t stack[kDepth] = {};  // handles of contexts; 0: none current at that depth
  uint32_t depth = 0;
  uint32_t thread_captures = 0;  // captures of this thread that forbid unsafe calls to it
  CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  uint64_t id = 0;  // nonzero once asked for
};
ThreadState& this_thread() noexcept;
uint64_t this_thread_id() noexcept;

// ---- entry of a call ----

// What a call that works in the current context begins with.
struct Entry {
  CUresult result = CUDA_SUCCESS;
  Context* context = nullptr;
  Session* session = nullptr;
  explicit operator bool() const noexcept { return result == CUDA_SUCCESS; }
};
// NOT_INITIALIZED, INVALID_CONTEXT, CONTEXT_IS_DESTROYED, the sticky error, or a usable context.
Entry enter();
// The same for a call that stream capture forbids (docs: "may not be called during capture"): it returns
// STREAM_CAPTURE_UNSUPPORTED, and invalidates the captures in question.
Entry enter_unsafe();
// The current context or nullptr; no further check.
Context* current_context() noexcept;

// Whether a call that a stream capture forbids may be made now. Invalidates the captures if not.
CUresult check_capture_allows_unsafe_call();

// ---- streams ----

// How a null stream is meant: by the plain names, or by those with the suffix _ptsz or _ptds.
enum class NullStream : bool { kLegacy, kPerThread };
// INVALID_HANDLE; INVALID_CONTEXT if the stream is another context's; STREAM_CAPTURE_IMPLICIT.
CUresult resolve_stream(const Entry& entry, CUstream handle, NullStream meaning, Stream*& stream);
// The calling thread's stream of the context.
CUresult per_thread_stream(const Entry& entry, Stream*& stream);

// Adds a step to the stream's capture.
CUresult capture_step(Stream& stream, GraphStep step);
// cuEventRecord and cuStreamWaitEvent where the stream captures, or the event was recorded in a capture: how
// a capture spreads to other streams and joins again.
CUresult capture_event_record(Stream& stream, Event& event, bool external);
CUresult capture_event_wait(Stream& stream, Event& event, bool external);

// Puts a command on a stream: into the ring, or into the graph it captures.
template <typename Request>
CUresult enqueue(const Entry& entry, Stream& stream, const Request& request, CUgraphNodeType node_type,
                 std::span<const std::byte> tail = {}) {
  if (stream.capturing.load(std::memory_order_acquire)) [[unlikely]] {
    GraphStep step;
    step.node_type = node_type;
    step.opcode = static_cast<uint16_t>(Request::kOpcode);
    step.body.resize(sizeof(Request) + tail.size());
    std::memcpy(step.body.data(), &request, sizeof(Request));
    if (!tail.empty()) {
      std::memcpy(step.body.data() + sizeof(Request), tail.data(), tail.size());
    }
    return capture_step(stream, std::move(step));
  }
  return to_result(entry.session->submit(request, stream.order(), tail).status);
}

// Waits until everything before `position` has executed, then surfaces errors.
CUresult synchronize(Session& session, uint64_t position);

template <typename Pointer>
Pointer as_handle(uint64_t handle) noexcept {
  return reinterpret_cast<Pointer>(static_cast<uintptr_t>(handle));
}

}  // namespace vgpu::shim
