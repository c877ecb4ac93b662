// What CUDA's handles stand for, on the guest's side.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "protocol/commands.h"
#include "shim/cuda/cuda_types.h"
#include "shim/cuda/handle_table.h"
#include "shim/session/session.h"

namespace vgpu::shim {

struct Capture;

struct Context : Object {
  bool primary = false;
  std::atomic<bool> active{true};        // a primary context: retained at least once
  uint32_t retain_count = 0;             // guarded by Driver::context_mutex
  std::atomic<uint32_t> flags{0};        // CUctx_flags
  std::atomic<int32_t> cache_config{0};  // CUfunc_cache
  std::array<std::atomic<uint64_t>, 16> limits{};
  uint64_t legacy_stream = 0;  // handle of the stream that stands for the null stream
  uint64_t unique_id = 0;
};

struct Stream : Object {
  uint64_t context = 0;    // handle
  uint32_t device_id = 0;  // the device's name of it; 0: the legacy stream
  uint32_t flags = 0;
  int32_t priority = 0;
  bool legacy = false;
  bool per_thread = false;
  uint64_t unique_id = 0;
  std::atomic<uint64_t> last{0};     // position behind its last record
  std::shared_ptr<Capture> capture;  // not null: capturing. Guarded by Driver::capture_mutex for writers.
  std::atomic<bool> capturing{false};

  // What a command of this stream is submitted with.
  StreamOrder order() noexcept { return {device_id, &last}; }
  // For records submitted without it.
  void advance(uint64_t position) noexcept {
    uint64_t seen = last.load(std::memory_order_relaxed);
    while (seen < position && !last.compare_exchange_weak(seen, position, std::memory_order_release)) {
    }
  }
};

struct Event : Object {
  uint64_t context = 0;
  uint32_t flags = 0;
  std::atomic<uint64_t> position{0};  // behind its last record; 0: never recorded
  std::atomic<bool> known_to_device{false};
  std::shared_ptr<Capture> capture;  // last recorded in a capturing stream
  std::vector<uint64_t> seen;        // then: what a stream that waits for it has seen
  std::mutex time_mutex;
  uint64_t time_position = 0;  // which record `time` belongs to
  uint64_t time_ns = 0;
};

struct Function : Object {
  uint64_t module = 0;   // handle
  uint64_t context = 0;  // handle
  std::string name;
  protocol::FunctionGetReply info{};
  std::vector<protocol::ParameterLayout> parameters;
  std::atomic<uint32_t> max_dynamic_shared{0};
  std::atomic<int32_t> cache_config{0};
  std::atomic<int32_t> carveout{-1};
};

struct Module : Object {
  uint64_t context = 0;
  uint64_t library = 0;  // the library it belongs to: then it is not the program's to unload
  uint32_t function_count = 0;
  std::mutex mutex;
  std::map<std::string, uint64_t, std::less<>> functions;  // name -> Function handle
  struct Global {
    uint64_t address = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Global, std::less<>> globals;
};

struct Kernel : Object {
  uint64_t library = 0;
  std::string name;
  std::atomic<uint64_t> function{0};
};

struct Library : Object {
  std::mutex mutex;
  const void* preserved = nullptr;  // the program keeps the image: it is loaded when first used
  uint64_t module = 0;              // handle; 0 until loaded
  std::map<std::string, uint64_t, std::less<>> kernels;
};

struct Physical : Object {
  uint64_t bytes = 0;
  CUmemAllocationProp properties{};
  uint32_t references = 1;  // the handle, and cuMemRetainAllocationHandle
  uint32_t mappings = 0;
  bool handle_released = false;
};

// One operation of a graph: a command as it goes into the ring, or a copy from or to memory of the program
// that is read or written when the graph is launched.
struct GraphStep {
  enum class Type : uint8_t { kCommand, kHostToDevice, kDeviceToHost, kHostToHost, kHostFunction };
  Type type = Type::kCommand;
  CUgraphNodeType node_type = CU_GRAPH_NODE_TYPE_EMPTY;
  uint16_t opcode = 0;
  std::vector<std::byte> body;
  // Copies: rows of `width` bytes.
  uint64_t destination = 0, destination_pitch = 0, source = 0, source_pitch = 0, width = 0, height = 0;
  CUhostFn host_function = nullptr;
  void* host_data = nullptr;
  uint64_t event = 0;     // handle, of event records
  uint64_t function = 0;  // handle, of kernels
};

struct Graph : Object {
  std::vector<GraphStep> steps;  // in an order that satisfies every dependency: that of the capture
};

struct GraphExec : Object {
  std::mutex mutex;
  std::vector<GraphStep> steps;
  uint64_t flags = 0;
  uint64_t context = 0;
};

// A capture in progress: the streams that take part in it, and what they recorded so far. Which work a stream
// has waited for is kept as a vector clock: seen[i] = how many steps of branch i come before its next one.
struct Capture {
  struct Branch {
    uint64_t stream = 0;  // handle
    uint64_t steps = 0;   // recorded by this stream
    std::vector<uint64_t> seen;
  };
  std::mutex mutex;
  uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  uint64_t thread = 0;           // of the thread that began it
  bool blocking_stream = false;  // the stream that began it synchronises with the legacy stream
  std::atomic<bool> invalidated{false};
  std::vector<Branch> branches;  // the first is the stream that began it
  uint64_t graph = 0;            // handle, made at the beginning: cuStreamGetCaptureInfo shows it
};

}  // namespace vgpu::shim
