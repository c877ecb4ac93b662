// The interface behind which commands are executed: `software` (PTX on the CPU) and, later, `cuda` (a real
// GPU's driver). One Backend per worker process, one Context per channel, that is, per guest process.
//
// Threads: a Context is used by one thread, its channel's; only cancel() and memory_in_use() may be called
// from another. Contexts of one Backend are used at the same time. Nothing here throws.
//
// Order: calls take effect in the order made. A call returns when its effects are complete, or earlier if
// the backend keeps the order itself; wait_idle() then waits for all of it. Errors of work that was let go
// return from a later call. After an error for which protocol::is_sticky() holds every later call but the
// destructor returns that error.
//
// Trust: handles and ranges have passed the protocol's checks against Limits, nothing more. The backend
// checks that a handle exists, that a device range is allocated, that a launch fits. Spans named `bulk` are
// guest-writable memory that may change at any moment: copy, then look.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/error.h"
#include "protocol/commands.h"

namespace vgpu::device {

// What the device tells about itself; goes into the region's device info as it is.
struct DeviceProperties {
  std::string name;
  std::array<std::byte, 16> uuid{};
  uint32_t compute_major = 0;
  uint32_t compute_minor = 0;
  uint64_t total_memory_bytes = 0;
  uint64_t window_base = 0;  // device addresses lie in [window_base, window_base + window_bytes)
  uint64_t window_bytes = 0;
  // CUdevice_attribute number -> value; absent ones are 0.
  std::array<int32_t, 256> attributes{};
};

// Bounds on what one guest process may hold (design.md: enforced here).
struct Quota {
  uint64_t memory_bytes = 0;  // device memory, all contexts of the backend share DeviceProperties::total
  uint32_t modules = 4096;
  uint32_t functions = 65536;
  uint32_t streams = 4096;
  uint32_t events = 1u << 20;
  uint32_t allocations = 1u << 20;
};

struct Rows {  // `height` rows of `width` bytes
  uint64_t width = 0;
  uint64_t height = 1;
};

struct FunctionInfo {
  protocol::FunctionGetReply attributes;
  std::vector<protocol::ParameterLayout> parameters;
};

struct GlobalInfo {
  uint64_t address = 0;
  uint64_t bytes = 0;
};

// One kernel at one block shape, as KernelFigures tells it.
struct KernelReport {
  protocol::KernelFiguresReply figures;  // name_bytes and count_bytes are the executor's to set
  std::string name;
  std::string counts;  // lines "name value"
};

// The launches that the guest has put behind the one that is being executed, as far as they are there: gives
// each to the callback, in their order, until it returns false. They are the guest's word and no more:
// another command than that may come, or none.
using OnUpcomingLaunch =
    std::function<bool(const protocol::LaunchRequest&, std::span<const std::byte> parameters)>;
using UpcomingLaunches = std::function<void(const OnUpcomingLaunch&)>;

class Context {
 public:
  virtual ~Context() = default;  // frees everything the context holds

  // Memory. allocate: 256-byte aligned, contents unspecified. free(0) does nothing.
  virtual Result<uint64_t> allocate(uint64_t bytes) = 0;
  virtual Result<void> free(uint64_t address) = 0;
  struct MemoryInfo {
    uint64_t free_bytes = 0;
    uint64_t total_bytes = 0;
  };
  virtual Result<MemoryInfo> memory_info() = 0;
  // Copies of rows; pitches are in bytes between row starts and mean nothing for one row.
  virtual Result<void> copy_to_device(uint64_t destination, uint64_t destination_pitch,
                                      std::span<const std::byte> bulk, uint64_t bulk_pitch, Rows rows) = 0;
  virtual Result<void> copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch, uint64_t source,
                                        uint64_t source_pitch, Rows rows) = 0;
  virtual Result<void> copy_on_device(uint64_t destination, uint64_t destination_pitch, uint64_t source,
                                      uint64_t source_pitch, Rows rows) = 0;
  virtual Result<void> memset(const protocol::MemsetRequest& request) = 0;
  virtual Result<void> write_value(const protocol::WriteValueRequest& request) = 0;
  // Makes the channel's bulk heap visible to kernels; returns its device address. `file` and `file_offset`
  // say where the span lies in the region's file, so that a backend can map it a second time.
  virtual Result<uint64_t> map_bulk(std::span<std::byte> bulk, int file, uint64_t file_offset) = 0;

  // Virtual memory management, as cuMemAddressReserve, cuMemCreate, cuMemMap and so on. Sizes and addresses
  // are multiples of the granularity (attribute of the backend: 2 MiB in software).
  virtual Result<uint64_t> reserve_address(uint64_t bytes, uint64_t alignment, uint64_t wanted) = 0;
  virtual Result<void> free_address(uint64_t address, uint64_t bytes) = 0;
  virtual Result<void> create_physical(uint32_t physical, uint64_t bytes) = 0;
  virtual Result<void> release_physical(uint32_t physical) = 0;
  virtual Result<void> map(const protocol::MapRequest& request) = 0;
  virtual Result<void> unmap(uint64_t address, uint64_t bytes) = 0;
  virtual Result<void> set_access(const protocol::SetAccessRequest& request) = 0;

  // Modules. `image` is the context's own copy: PTX text, a fatbin (with or without its wrapper's header), or
  // an ELF cubin.
  virtual Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) = 0;
  virtual Result<void> unload_module(uint32_t module) = 0;
  virtual Result<FunctionInfo> get_function(uint32_t module, uint32_t function, std::string_view name) = 0;
  virtual Result<std::string> function_name(uint32_t module, uint32_t index) = 0;
  virtual Result<GlobalInfo> get_global(uint32_t module, std::string_view name) = 0;
  virtual Result<void> set_max_dynamic_shared(uint32_t function, uint32_t bytes) = 0;

  // Execution. `parameters` is the packed block.
  virtual Result<void> launch(uint32_t stream, const protocol::LaunchRequest& request,
                              std::span<const std::byte> parameters) = 0;
  // Whom launch() may ask for what comes next: a backend that compiles can begin with that. Before the first
  // launch; it is asked within launch() alone. Ignored by a backend that has no use for it.
  virtual void set_upcoming([[maybe_unused]] UpcomingLaunches upcoming) {}
  virtual Result<void> gemm(uint32_t stream, const protocol::GemmRequest& request) = 0;
  virtual Result<void> trsm_batched(uint32_t stream, const protocol::TrsmBatchedRequest& request) = 0;

  virtual Result<void> create_stream(const protocol::StreamCreateRequest& request) = 0;
  virtual Result<void> destroy_stream(uint32_t stream) = 0;
  virtual Result<void> record_event(uint32_t stream, uint32_t event) = 0;
  virtual Result<void> wait_event(uint32_t stream, uint32_t event) = 0;
  virtual Result<void> destroy_event(uint32_t event) = 0;
  virtual Result<uint64_t> event_time(uint32_t event) = 0;  // nanoseconds, monotonic

  // Of the backend, not of this context alone. One that keeps no figures knows of no kernels.
  virtual Result<KernelReport> kernel_figures([[maybe_unused]] uint32_t index) { return KernelReport{}; }

  // Returns when everything handed over so far has executed.
  virtual Result<void> wait_idle() = 0;

  // From any thread: makes running and future work end soon with an error (the guest is gone).
  virtual void cancel() = 0;
  // From any thread: bytes of device memory this context holds.
  virtual uint64_t memory_in_use() const = 0;
};

// Figures for the counters that no command shows. Any thread.
struct BackendCounts {
  uint64_t kernels_compiled = 0;    // in this worker's life
  uint64_t kernels_from_cache = 0;  // found compiled on disk
  uint64_t compile_ns = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const DeviceProperties& properties() const = 0;
  virtual Result<std::unique_ptr<Context>> create_context(const Quota& quota) = 0;
  // One line for the log and the probe: what was compiled, found in the cache, and so on.
  virtual std::string statistics() const = 0;
  virtual BackendCounts counts() const { return {}; }
  // A table of the kernels that ran, one line each, for people: how often, how long, how compiled. May be
  // empty. Any thread.
  virtual std::string kernels() const { return {}; }
};

}  // namespace vgpu::device
