// A backend in plain memory for tests: allocations are byte vectors, calls are counted by name, failures can
// be ordered, a launch of kBlockingFunction runs until the context is cancelled, and one of kLookingFunction
// looks at the launches behind it when FakeState::called("all is sent") is said.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "device/backend.h"

namespace vgpu::device::testing {

using protocol::Status;

inline constexpr uint64_t kFakeWindowBase = 0x7000'0000'0000;
inline constexpr uint64_t kFakeWindowBytes = uint64_t{1} << 32;
inline constexpr uint64_t kFakeMemory = 64u << 20;
inline constexpr uint32_t kLookingFunction = 665;
inline constexpr uint32_t kBlockingFunction = 666;
// One block of a warp.
constexpr protocol::LaunchRequest launch_of(uint32_t function) {
  return {.function = function,
          .grid_x = 1,
          .grid_y = 1,
          .grid_z = 1,
          .block_x = 32,
          .block_y = 1,
          .block_z = 1,
          .flags = 0,
          .shared_bytes = 0};
}
// Runs until its context is cancelled.
constexpr protocol::LaunchRequest blocking_launch() {
  return launch_of(kBlockingFunction);
}

// What all contexts of a backend share, and what a test looks at. Thread-safe.
class FakeState {
 public:
  void called(const std::string& name) {
    const std::lock_guard lock(mutex_);
    ++calls_[name];
    changed_.notify_all();
  }
  int calls(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = calls_.find(name);
    return found == calls_.end() ? 0 : found->second;
  }
  std::set<std::string> names() const {
    const std::lock_guard lock(mutex_);
    std::set<std::string> names;
    for (const auto& [name, count] : calls_) names.insert(name);
    return names;
  }
  // The next call of that name fails.
  void fail_next(const std::string& name, Error error) {
    const std::lock_guard lock(mutex_);
    failures_[name] = std::move(error);
  }
  std::unique_ptr<Error> take_failure(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = failures_.find(name);
    if (found == failures_.end()) return nullptr;
    auto error = std::make_unique<Error>(std::move(found->second));
    failures_.erase(found);
    return error;
  }
  bool wait_for_call(const std::string& name, std::chrono::seconds limit = std::chrono::seconds(20)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, [&] { return calls_.contains(name); });
  }

  void add_upcoming(uint32_t function) {
    const std::lock_guard lock(mutex_);
    upcoming_.push_back(function);
  }
  // The functions of the launches that one of kLookingFunction saw.
  std::vector<uint32_t> upcoming() const {
    const std::lock_guard lock(mutex_);
    return upcoming_;
  }

  std::string kernel_name = "kernel";  // of the one that there are figures of
  std::atomic<uint64_t> memory_in_use{0};
  std::atomic<int> contexts{0};

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, int> calls_;
  std::vector<uint32_t> upcoming_;
  std::map<std::string, Error> failures_;
};

class FakeContext final : public Context {
 public:
  explicit FakeContext(FakeState& state) : state_(state) { ++state_.contexts; }
  ~FakeContext() override {
    state_.memory_in_use -= in_use_.load();
    --state_.contexts;
  }

  Result<uint64_t> allocate(uint64_t bytes) override {
    return call<uint64_t>("allocate", [&]() -> Result<uint64_t> {
      if (bytes > kFakeMemory - state_.memory_in_use.load()) {
        return std::unexpected(Error{Status::kOutOfMemory, std::to_string(bytes) + " bytes asked for"});
      }
      const uint64_t address = next_;
      next_ += (bytes + 255) / 256 * 256;
      memory_[address].resize(bytes);
      in_use_ += bytes;
      state_.memory_in_use += bytes;
      return address;
    });
  }
  Result<void> free(uint64_t address) override {
    return call<void>("free", [&]() -> Result<void> {
      const auto found = memory_.find(address);
      if (found == memory_.end()) return not_allocated(address);
      in_use_ -= found->second.size();
      state_.memory_in_use -= found->second.size();
      memory_.erase(found);
      return {};
    });
  }
  Result<MemoryInfo> memory_info() override {
    return call<MemoryInfo>("memory_info", [&]() -> Result<MemoryInfo> {
      return MemoryInfo{.free_bytes = kFakeMemory - state_.memory_in_use.load(), .total_bytes = kFakeMemory};
    });
  }
  Result<void> copy_to_device(uint64_t destination, uint64_t destination_pitch,
                              std::span<const std::byte> bulk, uint64_t bulk_pitch, Rows rows) override {
    return call<void>("copy_to_device", [&]() -> Result<void> {
      for (uint64_t row = 0; row < rows.height; ++row) {
        std::byte* to = find(destination + row * destination_pitch, rows.width);
        if (to == nullptr) return not_allocated(destination);
        std::memcpy(to, bulk.data() + row * bulk_pitch, rows.width);
      }
      return {};
    });
  }
  Result<void> copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch, uint64_t source,
                                uint64_t source_pitch, Rows rows) override {
    return call<void>("copy_from_device", [&]() -> Result<void> {
      for (uint64_t row = 0; row < rows.height; ++row) {
        const std::byte* from = find(source + row * source_pitch, rows.width);
        if (from == nullptr) return not_allocated(source);
        std::memcpy(bulk.data() + row * bulk_pitch, from, rows.width);
      }
      return {};
    });
  }
  Result<void> copy_on_device(uint64_t, uint64_t, uint64_t, uint64_t, Rows) override {
    return plain("copy_on_device");
  }
  Result<void> memset(const protocol::MemsetRequest&) override { return plain("memset"); }
  Result<void> write_value(const protocol::WriteValueRequest&) override { return plain("write_value"); }
  Result<uint64_t> map_bulk(std::span<std::byte>, int, uint64_t) override {
    return call<uint64_t>("map_bulk",
                          []() -> Result<uint64_t> { return kFakeWindowBase + kFakeWindowBytes / 2; });
  }
  Result<uint64_t> reserve_address(uint64_t, uint64_t, uint64_t) override {
    return call<uint64_t>("reserve_address",
                          []() -> Result<uint64_t> { return kFakeWindowBase + kFakeWindowBytes / 4; });
  }
  Result<void> free_address(uint64_t, uint64_t) override { return plain("free_address"); }
  Result<void> create_physical(uint32_t, uint64_t) override { return plain("create_physical"); }
  Result<void> release_physical(uint32_t) override { return plain("release_physical"); }
  Result<void> map(const protocol::MapRequest&) override { return plain("map"); }
  Result<void> unmap(uint64_t, uint64_t) override { return plain("unmap"); }
  Result<void> set_access(const protocol::SetAccessRequest&) override { return plain("set_access"); }
  Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) override {
    return call<protocol::ModuleLoadReply>("load_module", [&]() -> Result<protocol::ModuleLoadReply> {
      images_[module] = std::move(image);
      const auto& kept = images_[module];
      // The counts tell a test what came: how many bytes, and the last of them.
      return protocol::ModuleLoadReply{
          .function_count = static_cast<uint32_t>(kept.size()),
          .global_count = kept.empty() ? 0 : std::to_integer<uint32_t>(kept.back()),
          .ptx_version = 80,
          .target = 61};
    });
  }
  Result<void> unload_module(uint32_t) override { return plain("unload_module"); }
  Result<FunctionInfo> get_function(uint32_t, uint32_t, std::string_view name) override {
    return call<FunctionInfo>("get_function", [&]() -> Result<FunctionInfo> {
      FunctionInfo info;
      info.attributes.max_threads_per_block = 1024;
      info.parameters.resize(name.size());  // a name of n letters has n parameters
      for (uint16_t i = 0; i < name.size(); ++i)
        info.parameters[i] = {.offset = static_cast<uint16_t>(8 * i), .bytes = 8};
      return info;
    });
  }
  Result<std::string> function_name(uint32_t, uint32_t index) override {
    return call<std::string>("function_name",
                             [&]() -> Result<std::string> { return "kernel" + std::to_string(index); });
  }
  Result<GlobalInfo> get_global(uint32_t, std::string_view name) override {
    return call<GlobalInfo>("get_global", [&]() -> Result<GlobalInfo> {
      return GlobalInfo{.address = kFakeWindowBase + 64, .bytes = name.size()};
    });
  }
  Result<void> set_max_dynamic_shared(uint32_t, uint32_t) override { return plain("set_max_dynamic_shared"); }
  Result<void> launch(uint32_t, const protocol::LaunchRequest& request, std::span<const std::byte>) override {
    return call<void>("launch", [&]() -> Result<void> {
      if (request.function == kLookingFunction && state_.wait_for_call("all is sent")) {
        upcoming_([&](const protocol::LaunchRequest& next, std::span<const std::byte>) {
          state_.add_upcoming(next.function);
          return next.function != 0;
        });
      }
      if (request.function != kBlockingFunction) return {};
      state_.called("launch is running");
      std::unique_lock lock(cancel_mutex_);
      cancelled_changed_.wait(lock, [&] { return cancelled_; });
      return std::unexpected(Error{Status::kLaunchFailed, "cancelled"});
    });
  }
  void set_upcoming(UpcomingLaunches upcoming) override { upcoming_ = std::move(upcoming); }
  Result<void> gemm(uint32_t, const protocol::GemmRequest&) override { return plain("gemm"); }
  Result<void> trsm_batched(uint32_t, const protocol::TrsmBatchedRequest&) override {
    return plain("trsm_batched");
  }
  Result<KernelReport> kernel_figures(uint32_t) override {
    return call<KernelReport>("kernel_figures", [&]() -> Result<KernelReport> {
      KernelReport report{.figures = {}, .name = state_.kernel_name, .counts = "loads_uniform 3\n"};
      report.figures.kernels = 1;
      report.figures.launches = 7;
      return report;
    });
  }
  Result<void> create_stream(const protocol::StreamCreateRequest&) override { return plain("create_stream"); }
  Result<void> destroy_stream(uint32_t) override { return plain("destroy_stream"); }
  Result<void> record_event(uint32_t, uint32_t) override { return plain("record_event"); }
  Result<void> wait_event(uint32_t, uint32_t) override { return plain("wait_event"); }
  Result<void> destroy_event(uint32_t) override { return plain("destroy_event"); }
  Result<uint64_t> event_time(uint32_t event) override {
    return call<uint64_t>("event_time", [&]() -> Result<uint64_t> { return uint64_t{event} * 1000; });
  }
  Result<void> wait_idle() override { return plain("wait_idle"); }
  void cancel() override {
    state_.called("cancel");
    const std::lock_guard lock(cancel_mutex_);
    cancelled_ = true;
    cancelled_changed_.notify_all();
  }
  uint64_t memory_in_use() const override { return in_use_.load(); }

 private:
  template <typename T, typename Work>
  Result<T> call(const std::string& name, Work&& work) {
    state_.called(name);
    if (auto failure = state_.take_failure(name)) return std::unexpected(std::move(*failure));
    return work();
  }
  Result<void> plain(const std::string& name) {
    return call<void>(name, []() -> Result<void> { return {}; });
  }
  static Result<void> not_allocated(uint64_t address) {
    return std::unexpected(
        Error{Status::kInvalidValue, "address " + std::to_string(address) + " is not allocated"});
  }
  std::byte* find(uint64_t address, uint64_t bytes) {
    auto after = memory_.upper_bound(address);
    if (after == memory_.begin()) return nullptr;
    auto& [start, block] = *--after;
    return bytes <= block.size() && address - start <= block.size() - bytes ? block.data() + (address - start)
                                                                            : nullptr;
  }

  FakeState& state_;
  UpcomingLaunches upcoming_;
  std::map<uint64_t, std::vector<std::byte>> memory_;
  std::map<uint32_t, std::vector<std::byte>> images_;
  uint64_t next_ = kFakeWindowBase;
  std::atomic<uint64_t> in_use_{0};
  std::mutex cancel_mutex_;
  std::condition_variable cancelled_changed_;
  bool cancelled_ = false;
};

class FakeBackend final : public Backend {
 public:
  FakeBackend() {
    properties_.name = "fake";
    properties_.compute_major = 6;
    properties_.compute_minor = 1;
    properties_.total_memory_bytes = kFakeMemory;
    properties_.window_base = kFakeWindowBase;
    properties_.window_bytes = kFakeWindowBytes;
    properties_.attributes[10] = 32;
  }
  const DeviceProperties& properties() const override { return properties_; }
  Result<std::unique_ptr<Context>> create_context(const Quota&) override {
    state.called("create_context");
    if (auto failure = state.take_failure("create_context")) return std::unexpected(std::move(*failure));
    return std::make_unique<FakeContext>(state);
  }
  std::string statistics() const override { return "fake statistics"; }

  mutable FakeState state;

 private:
  DeviceProperties properties_;
};

}  // namespace vgpu::device::testing
