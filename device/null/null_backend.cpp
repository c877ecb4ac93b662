// The backend that executes nothing.
#include "device/null/null_backend.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <utility>

namespace vgpu::device {
namespace {

using protocol::Status;

constexpr uint64_t kWindowBase = uint64_t{1} << 44;
constexpr uint64_t kWindowBytes = uint64_t{1} << 42;
constexpr uint64_t kAlignment = 256;
constexpr uint64_t kGranularity = 2u << 20;

std::unexpected<Error> failure(Status status, std::string reason) {
  return std::unexpected(Error{status, std::move(reason)});
}

// Memory of all contexts of the backend.
struct Pool {
  uint64_t total = 0;
  std::atomic<uint64_t> used{0};

  bool take(uint64_t bytes) {
    uint64_t now = used.load(std::memory_order_relaxed);
    while (bytes <= total && now <= total - bytes) {
      if (used.compare_exchange_weak(now, now + bytes, std::memory_order_relaxed)) return true;
    }
    return false;
  }
  void give_back(uint64_t bytes) { used.fetch_sub(bytes, std::memory_order_relaxed); }
};

class NullContext final : public Context {
 public:
  explicit NullContext(Pool& pool) : pool_(pool) {}
  ~NullContext() override { pool_.give_back(in_use_.load(std::memory_order_relaxed)); }

  Result<uint64_t> allocate(uint64_t bytes) override {
    if (bytes > kWindowBytes / 2)
      return failure(Status::kOutOfMemory, fmt::format("{} bytes asked for", bytes));
    const uint64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (!pool_.take(rounded))
      return failure(Status::kOutOfMemory, fmt::format("{} bytes are not free", rounded));
    in_use_.fetch_add(rounded, std::memory_order_relaxed);
    const uint64_t address = next_address(rounded);
    allocations_[address] = rounded;
    return address;
  }
  Result<void> free(uint64_t address) override {
    if (address == 0) return {};
    const auto found = allocations_.find(address);
    if (found == allocations_.end()) {
      return failure(Status::kInvalidValue, fmt::format("{:#x} was not allocated", address));
    }
    pool_.give_back(found->second);
    in_use_.fetch_sub(found->second, std::memory_order_relaxed);
    allocations_.erase(found);
    return {};
  }
  Result<MemoryInfo> memory_info() override {
    return MemoryInfo{.free_bytes = pool_.total - pool_.used.load(std::memory_order_relaxed),
                      .total_bytes = pool_.total};
  }
  Result<void> copy_to_device(uint64_t, uint64_t, std::span<const std::byte>, uint64_t, Rows) override {
    return {};
  }
  Result<void> copy_from_device(std::span<std::byte>, uint64_t, uint64_t, uint64_t, Rows) override {
    return {};
  }
  Result<void> copy_on_device(uint64_t, uint64_t, uint64_t, uint64_t, Rows) override { return {}; }
  Result<void> memset(const protocol::MemsetRequest&) override { return {}; }
  Result<void> write_value(const protocol::WriteValueRequest&) override { return {}; }
  Result<uint64_t> map_bulk(std::span<std::byte> bulk, int, uint64_t) override {
    return next_address(bulk.size());
  }

  Result<uint64_t> reserve_address(uint64_t bytes, uint64_t, uint64_t) override {
    if (bytes > kWindowBytes / 2)
      return failure(Status::kOutOfMemory, fmt::format("{} bytes asked for", bytes));
    next_ = (next_ + kGranularity - 1) / kGranularity * kGranularity;
    return next_address((bytes + kGranularity - 1) / kGranularity * kGranularity);
  }
  Result<void> free_address(uint64_t, uint64_t) override { return {}; }
  Result<void> create_physical(uint32_t, uint64_t) override { return {}; }
  Result<void> release_physical(uint32_t) override { return {}; }
  Result<void> map(const protocol::MapRequest&) override { return {}; }
  Result<void> unmap(uint64_t, uint64_t) override { return {}; }
  Result<void> set_access(const protocol::SetAccessRequest&) override { return {}; }

  Result<protocol::ModuleLoadReply> load_module(uint32_t, std::vector<std::byte>) override {
    return protocol::ModuleLoadReply{.function_count = 0, .global_count = 0, .ptx_version = 80, .target = 61};
  }
  Result<void> unload_module(uint32_t) override { return {}; }
  Result<FunctionInfo> get_function(uint32_t, uint32_t, std::string_view) override {
    FunctionInfo info;
    info.attributes.max_threads_per_block = 1024;
    info.attributes.ptx_version = 80;
    info.attributes.binary_version = 61;
    return info;
  }
  Result<std::string> function_name(uint32_t module, uint32_t index) override {
    return failure(Status::kNotFound,
                   fmt::format("module {} has no function {}: nothing is parsed", module, index));
  }
  Result<GlobalInfo> get_global(uint32_t, std::string_view name) override {
    return failure(Status::kNotFound, fmt::format("no variable {}: nothing is parsed", name));
  }
  Result<void> set_max_dynamic_shared(uint32_t, uint32_t) override { return {}; }
  Result<void> launch(uint32_t, const protocol::LaunchRequest&, std::span<const std::byte>) override {
    return {};
  }
  Result<void> gemm(uint32_t, const protocol::GemmRequest&) override { return {}; }
  Result<void> trsm_batched(uint32_t, const protocol::TrsmBatchedRequest&) override { return {}; }
  Result<void> create_stream(const protocol::StreamCreateRequest&) override { return {}; }
  Result<void> destroy_stream(uint32_t) override { return {}; }
  Result<void> record_event(uint32_t, uint32_t event) override {
    events_[event] = now();
    return {};
  }
  Result<void> wait_event(uint32_t, uint32_t) override { return {}; }
  Result<void> destroy_event(uint32_t event) override {
    events_.erase(event);
    return {};
  }
  Result<uint64_t> event_time(uint32_t event) override {
    const auto found = events_.find(event);
    if (found == events_.end())
      return failure(Status::kInvalidHandle, fmt::format("event {} was never recorded", event));
    return found->second;
  }
  Result<void> wait_idle() override { return {}; }
  void cancel() override {}
  uint64_t memory_in_use() const override { return in_use_.load(std::memory_order_relaxed); }

 private:
  static uint64_t now() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch())
                                     .count());
  }
  // Starts anew when the window is used up: nothing lies behind an address anyway.
  uint64_t next_address(uint64_t bytes) {
    if (bytes > kWindowBytes - next_) next_ = 0;
    const uint64_t address = kWindowBase + next_;
    next_ += bytes;
    return address;
  }

  Pool& pool_;
  std::atomic<uint64_t> in_use_{0};
  uint64_t next_ = kAlignment;
  std::map<uint64_t, uint64_t> allocations_;
  std::map<uint32_t, uint64_t> events_;
};

class NullBackend final : public Backend {
 public:
  explicit NullBackend(uint64_t memory_bytes) {
    pool_.total = memory_bytes;
    properties_.name = "vGPU without execution";
    std::memcpy(properties_.uuid.data(), "vgpu-null-device", properties_.uuid.size());
    properties_.compute_major = 6;
    properties_.compute_minor = 1;
    properties_.total_memory_bytes = memory_bytes;
    properties_.window_base = kWindowBase;
    properties_.window_bytes = kWindowBytes;
    // CUdevice_attribute: threads per block, block and grid dimensions, warp size, multiprocessors.
    constexpr std::pair<uint32_t, int32_t> kAttributes[] = {
        {1, 1024},  {2, 1024}, {3, 1024}, {4, 64},    {5, 0x7fffffff}, {6, 65535}, {7, 65535},
        {8, 49152}, {10, 32},  {16, 1},   {39, 2048}, {75, 6},         {76, 1}};
    for (const auto& [number, value] : kAttributes) properties_.attributes[number] = value;
  }
  const DeviceProperties& properties() const override { return properties_; }
  Result<std::unique_ptr<Context>> create_context(const Quota&) override {
    return std::make_unique<NullContext>(pool_);
  }
  std::string statistics() const override { return "nothing is executed"; }

 private:
  DeviceProperties properties_;
  Pool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_null_backend(uint64_t memory_bytes) {
  return std::make_unique<NullBackend>(memory_bytes);
}

}  // namespace vgpu::device
