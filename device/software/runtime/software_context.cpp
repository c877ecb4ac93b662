// See software_context.h. Launching is in launch.cpp.
#include "device/software/runtime/software_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>

#include "device/software/runtime/blas.h"
#include "device/software/runtime/device_attributes.h"
#include "device/software/runtime/guarded_copy.h"
#include "device/software/runtime/host_operations.h"

namespace vgpu::software {
namespace {

uint64_t monotonic_nanoseconds() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

RowsView view(uint64_t address, uint64_t pitch) {
  return {.address = address, .pitch = pitch};
}
RowsView view(const std::byte* address, uint64_t pitch) {
  return {.address = reinterpret_cast<uint64_t>(address), .pitch = pitch};
}

std::unexpected<Error> bad_handle(const char* kind, uint32_t handle) {
  return std::unexpected(Error{Status::kInvalidHandle, fmt::format("{} {} does not exist", kind, handle)});
}

// The bulk side was bounded by the channel's heap; what is left to check is that the rows lie in this span.
Result<void> check_bulk(std::size_t size, uint64_t pitch, device::Rows rows) {
  if (rows.width == 0 || rows.height == 0) return {};
  const bool fits =
      rows.width <= size &&
      (rows.height == 1 || (pitch >= rows.width && rows.height - 1 <= (size - rows.width) / pitch));
  if (fits) return {};
  return std::unexpected(
      Error{Status::kInvalidValue, fmt::format("copy: {} rows of {} bytes at a pitch of {} in {} "
                                               "bytes of bulk memory",
                                               rows.height, rows.width, pitch, size)});
}

// Threads that compile ahead. A compilation takes some 40 MB.
uint32_t compilers_for(uint32_t threads) {
  constexpr uint32_t kMost = 8;
  return threads > 1 ? std::min(threads, kMost) : 0;
}

}  // namespace

SoftwareContext::SoftwareContext(SoftwareDevice& device, const device::Quota& quota)
    : device_(device),
      quota_(quota),
      id_(device.next_context.fetch_add(1, std::memory_order_relaxed)),
      budget_(device.memory, quota.memory_bytes),
      memory_(*device.window, budget_, ranges_, quota.allocations),
      virtual_(*device.window, *device.store, budget_, ranges_, quota.allocations),
      runner_(*device.window),
      ahead_(compilers_for(device.launcher->threads())) {}

SoftwareContext::~SoftwareContext() {
  // Modules free their variables in memory_, which outlives them only in this order.
  functions_.clear();
  modules_.clear();
}

Result<void> SoftwareContext::usable() const {
  if (dead_) return std::unexpected(*dead_);
  if (stop_.load(std::memory_order_relaxed) == kCancelledByOwner) {
    return std::unexpected(Error{Status::kDeviceUnavailable, "the context was cancelled"});
  }
  return {};
}

Result<void> SoftwareContext::usable(uint32_t stream) const {
  if (auto ok = usable(); !ok) return ok;
  if (stream != 0 && !streams_.contains(stream)) return bad_handle("stream", stream);
  return {};
}

template <typename T>
Result<T> SoftwareContext::keep(Result<T> result) {
  if (!result && protocol::is_sticky(result.error().status)) dead_ = result.error();
  return result;
}
template Result<void> SoftwareContext::keep(Result<void>);

// ---- memory ----

Result<uint64_t> SoftwareContext::allocate(uint64_t bytes) {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  return memory_.allocate(bytes);
}

Result<void> SoftwareContext::free(uint64_t address) {
  if (auto ok = usable(); !ok) return ok;
  if (address == 0) return {};
  return memory_.free(address);
}

Result<device::Context::MemoryInfo> SoftwareContext::memory_info() {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  return MemoryInfo{.free_bytes = budget_.available(), .total_bytes = budget_.total()};
}

Result<void> SoftwareContext::copy_to_device(uint64_t destination, uint64_t destination_pitch,
                                             std::span<const std::byte> bulk, uint64_t bulk_pitch,
                                             device::Rows rows) {
  if (auto ok = usable(); !ok) return ok;
  if (auto ok = check_bulk(bulk.size(), bulk_pitch, rows); !ok) return ok;
  if (auto ok = ranges_.check_rows(destination, destination_pitch, rows.width, rows.height,
                                   PageAccess::kReadWrite, "copy to the device");
      !ok) {
    return ok;
  }
  return keep(
      copy_rows(view(destination, destination_pitch), view(bulk.data(), bulk_pitch), rows, bulk, stop_));
}

Result<void> SoftwareContext::copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch,
                                               uint64_t source, uint64_t source_pitch, device::Rows rows) {
  if (auto ok = usable(); !ok) return ok;
  if (auto ok = check_bulk(bulk.size(), bulk_pitch, rows); !ok) return ok;
  if (auto ok = ranges_.check_rows(source, source_pitch, rows.width, rows.height, PageAccess::kRead,
                                   "copy from the device");
      !ok) {
    return ok;
  }
  return keep(copy_rows(view(bulk.data(), bulk_pitch), view(source, source_pitch), rows, bulk, stop_));
}

Result<void> SoftwareContext::copy_on_device(uint64_t destination, uint64_t destination_pitch,
                                             uint64_t source, uint64_t source_pitch, device::Rows rows) {
  if (auto ok = usable(); !ok) return ok;
  if (auto ok = ranges_.check_rows(source, source_pitch, rows.width, rows.height, PageAccess::kRead,
                                   "copy on the device, source");
      !ok) {
    return ok;
  }
  if (auto ok = ranges_.check_rows(destination, destination_pitch, rows.width, rows.height,
                                   PageAccess::kReadWrite, "copy on the device, destination");
      !ok) {
    return ok;
  }
  return keep(copy_rows(view(destination, destination_pitch), view(source, source_pitch), rows, {}, stop_));
}

Result<void> SoftwareContext::memset(const protocol::MemsetRequest& request) {
  if (auto ok = usable(); !ok) return ok;
  const uint64_t size = request.element_bytes;
  if ((size != 1 && size != 2 && size != 4) || request.destination % size != 0 ||
      (request.height > 1 && request.pitch % size != 0) || request.width > kDeviceWindowBytes) {
    return std::unexpected(
        Error{Status::kInvalidValue, fmt::format("memset: {} elements of {} bytes at {:#x}, pitch {}",
                                                 request.width, size, request.destination, request.pitch)});
  }
  if (auto ok = ranges_.check_rows(request.destination, request.pitch, request.width * size, request.height,
                                   PageAccess::kReadWrite, "memset");
      !ok) {
    return ok;
  }
  return keep(fill_rows(view(request.destination, request.pitch), request.width, request.height,
                        request.value, request.element_bytes, stop_));
}

Result<void> SoftwareContext::write_value(const protocol::WriteValueRequest& request) {
  if (auto ok = usable(); !ok) return ok;
  if ((request.bytes != 4 && request.bytes != 8) || request.address % request.bytes != 0) {
    return std::unexpected(
        Error{Status::kInvalidValue, fmt::format("write {} bytes to {:#x}", request.bytes, request.address)});
  }
  if (auto ok = ranges_.check(request.address, request.bytes, PageAccess::kReadWrite, "write a value"); !ok) {
    return ok;
  }
  const bool written = touch_guest_memory({}, [&request] {
    if (request.bytes == 8) {
      std::atomic_ref(*reinterpret_cast<uint64_t*>(request.address))
          .store(request.value, std::memory_order_release);
    } else {
      std::atomic_ref(*reinterpret_cast<uint32_t*>(request.address))
          .store(static_cast<uint32_t>(request.value), std::memory_order_release);
    }
  });
  if (!written) {
    return std::unexpected(
        Error{Status::kInvalidValue, fmt::format("write to {:#x}: not writable any more", request.address)});
  }
  return {};
}

Result<uint64_t> SoftwareContext::map_bulk(std::span<std::byte> bulk, int file, uint64_t file_offset) {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  if (bulk_.bytes() != 0) return bulk_.address();
  if (bulk.empty() || file_offset % kPageBytes != 0) {
    return std::unexpected(
        Error{Status::kInvalidValue,
              fmt::format("map {} bytes of bulk memory at {:#x} of its file", bulk.size(), file_offset)});
  }
  auto range = WindowRange::take(*device_.window, bulk.size() + kPageBytes);  // the last page stays unmapped
  if (!range) return std::unexpected(range.error());
  if (const auto mapped =
          device_.window->map_file(range->address(), bulk.size(), file, file_offset, PageAccess::kReadWrite);
      !mapped) {
    return std::unexpected(Error{Status::kMapFailed, mapped.error().reason});
  }
  bulk_ = std::move(*range);
  ranges_.add({.address = bulk_.address(),
               .bytes = bulk.size(),
               .kind = RangeKind::kBulk,
               .access = PageAccess::kReadWrite});
  return bulk_.address();
}

// ---- virtual memory ----

Result<uint64_t> SoftwareContext::reserve_address(uint64_t bytes, uint64_t alignment, uint64_t wanted) {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  return virtual_.reserve(bytes, alignment, wanted);
}

Result<void> SoftwareContext::free_address(uint64_t address, uint64_t bytes) {
  if (auto ok = usable(); !ok) return ok;
  return virtual_.free(address, bytes);
}

Result<void> SoftwareContext::create_physical(uint32_t physical, uint64_t bytes) {
  if (auto ok = usable(); !ok) return ok;
  return virtual_.create(physical, bytes);
}

Result<void> SoftwareContext::release_physical(uint32_t physical) {
  if (auto ok = usable(); !ok) return ok;
  return virtual_.release(physical);
}

Result<void> SoftwareContext::map(const protocol::MapRequest& request) {
  if (auto ok = usable(); !ok) return ok;
  return virtual_.map(request.address, request.bytes, request.offset, request.physical);
}

Result<void> SoftwareContext::unmap(uint64_t address, uint64_t bytes) {
  if (auto ok = usable(); !ok) return ok;
  return virtual_.unmap(address, bytes);
}

Result<void> SoftwareContext::set_access(const protocol::SetAccessRequest& request) {
  if (auto ok = usable(); !ok) return ok;
  switch (request.access) {  // CUmemAccess_flags
    case 0:
      return virtual_.set_access(request.address, request.bytes, PageAccess::kNone);
    case 1:
      return virtual_.set_access(request.address, request.bytes, PageAccess::kRead);
    case 3:
      return virtual_.set_access(request.address, request.bytes, PageAccess::kReadWrite);
    default:
      return std::unexpected(Error{Status::kInvalidValue, fmt::format("access flags {}", request.access)});
  }
}

// ---- modules ----

Result<LoadedModule*> SoftwareContext::module(uint32_t handle) const {
  if (auto ok = usable(); !ok) return std::unexpected(ok.error());
  const auto found = modules_.find(handle);
  if (found == modules_.end()) return bad_handle("module", handle);
  return found->second.get();
}

Result<LoadedFunction*> SoftwareContext::function(uint32_t handle) const {
  const auto found = functions_.find(handle);
  if (found == functions_.end()) return bad_handle("function", handle);
  return found->second.get();
}

Result<protocol::ModuleLoadReply> SoftwareContext::load_module(uint32_t handle,
                                                               std::vector<std::byte> image) {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  if (modules_.contains(handle)) {
    return std::unexpected(Error{Status::kInvalidValue, fmt::format("module {} exists", handle)});
  }
  if (modules_.size() >= quota_.modules) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a context may hold {} modules", quota_.modules)});
  }
  auto loaded = LoadedModule::load(fmt::format("module {}", handle), image, kCapability, memory_);
  if (!loaded) return std::unexpected(loaded.error());
  const auto reply = (*loaded)->describe();
  modules_.emplace(handle, std::move(*loaded));
  return reply;
}

Result<void> SoftwareContext::unload_module(uint32_t handle) {
  const auto found = module(handle);
  if (!found) return std::unexpected(found.error());
  std::erase_if(functions_, [&](const auto& entry) { return &entry.second->module() == *found; });
  modules_.erase(handle);
  return {};
}

Result<device::FunctionInfo> SoftwareContext::get_function(uint32_t module_handle, uint32_t handle,
                                                           std::string_view name) {
  const auto found = module(module_handle);
  if (!found) return std::unexpected(found.error());
  if (functions_.contains(handle)) {
    return std::unexpected(Error{Status::kInvalidValue, fmt::format("function {} exists", handle)});
  }
  if (functions_.size() >= quota_.functions) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a context may hold {} functions", quota_.functions)});
  }
  auto loaded = LoadedFunction::find(modules_.at(module_handle), name);
  if (!loaded) return std::unexpected(loaded.error());
  auto info = (*loaded)->info();
  functions_.emplace(handle, std::move(*loaded));
  return info;
}

Result<std::string> SoftwareContext::function_name(uint32_t module_handle, uint32_t index) {
  const auto found = module(module_handle);
  if (!found) return std::unexpected(found.error());
  return (*found)->kernel_name(index);
}

Result<device::GlobalInfo> SoftwareContext::get_global(uint32_t module_handle, std::string_view name) {
  const auto found = module(module_handle);
  if (!found) return std::unexpected(found.error());
  return (*found)->global(name);
}

Result<void> SoftwareContext::set_max_dynamic_shared(uint32_t handle, uint32_t bytes) {
  if (auto ok = usable(); !ok) return ok;
  const auto found = function(handle);
  if (!found) return std::unexpected(found.error());
  return (*found)->set_max_dynamic_shared(bytes);
}

// ---- BLAS ----

Result<void> SoftwareContext::gemm(uint32_t stream, const protocol::GemmRequest& request) {
  if (auto ok = usable(stream); !ok) return ok;
  device_.gemms.fetch_add(1, std::memory_order_relaxed);
  if (!gemm_record_) gemm_record_ = device_.kernels.record("(BLAS: gemm)");
  const TimedLaunch timed(*gemm_record_, 0);
  return keep(blas_gemm(ranges_, request, stop_));
}

Result<void> SoftwareContext::trsm_batched(uint32_t stream, const protocol::TrsmBatchedRequest& request) {
  if (auto ok = usable(stream); !ok) return ok;
  if (!trsm_record_) trsm_record_ = device_.kernels.record("(BLAS: trsm)");
  const TimedLaunch timed(*trsm_record_, 0);
  return keep(blas_trsm_batched(ranges_, request, stop_));
}

// ---- streams and events ----

Result<void> SoftwareContext::create_stream(const protocol::StreamCreateRequest& request) {
  if (auto ok = usable(); !ok) return ok;
  if (streams_.size() >= quota_.streams) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a context may hold {} streams", quota_.streams)});
  }
  if (request.stream == 0 || !streams_.insert(request.stream).second) {
    return std::unexpected(Error{Status::kInvalidValue, fmt::format("stream {} exists", request.stream)});
  }
  return {};
}

Result<void> SoftwareContext::destroy_stream(uint32_t stream) {
  if (auto ok = usable(); !ok) return ok;
  if (streams_.erase(stream) == 0) return bad_handle("stream", stream);
  return {};
}

Result<void> SoftwareContext::record_event(uint32_t stream, uint32_t event) {
  if (auto ok = usable(stream); !ok) return ok;
  if (!events_.contains(event) && events_.size() >= quota_.events) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a context may hold {} events", quota_.events)});
  }
  events_[event] = monotonic_nanoseconds();
  return {};
}

Result<void> SoftwareContext::wait_event(uint32_t stream, uint32_t) {
  // What was recorded before has executed; an event that never was recorded is not waited for, as CUDA has
  // it.
  return usable(stream);
}

Result<void> SoftwareContext::destroy_event(uint32_t event) {
  if (auto ok = usable(); !ok) return ok;
  if (events_.erase(event) == 0) return bad_handle("event", event);
  return {};
}

Result<uint64_t> SoftwareContext::event_time(uint32_t event) {
  if (const auto ok = usable(); !ok) return std::unexpected(ok.error());
  const auto found = events_.find(event);
  if (found == events_.end()) return bad_handle("event", event);
  return found->second;
}

Result<void> SoftwareContext::wait_idle() {
  return usable();
}

void SoftwareContext::cancel() {
  stop_.store(kCancelledByOwner, std::memory_order_relaxed);
}

}  // namespace vgpu::software
