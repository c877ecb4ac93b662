// A backend with real memory and a handful of kernels written in C++, so that the driver library can be
// tested end to end without a compiler. Kernels, by name (parameters in order):
//   add (u64 array, u32 count, u32 value)  adds value to each 32-bit element
//   gate (u64 word)     runs until the 32-bit word in pinned memory is not 0 (or the context is cancelled)
//   illegal ()          touches an illegal address: a sticky error
//   refused ()          fails without harm to the context: too many resources
//   small ()            takes at most 128 threads a block
//   mixed (u8, u64, u16) has gaps between its parameters
#pragma once

#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "device/backend.h"
#include "ring/access.h"

namespace vgpu::shim::testing {

using device::Error;
using device::Result;
using protocol::Status;

inline constexpr uint64_t kWindowBase = uint64_t{1} << 44;
inline constexpr uint64_t kWindowBytes = uint64_t{1} << 42;
inline constexpr uint64_t kMemoryBytes = 256u << 20;
inline constexpr uint64_t kGranularity = 2u << 20;

class PlainContext final : public device::Context {
 public:
  Result<uint64_t> allocate(uint64_t bytes) override {
    if (bytes > kMemoryBytes - in_use_) return refuse(Status::kOutOfMemory, "no memory left");
    const uint64_t address = take_addresses(bytes);
    segments_[address] = {std::make_shared<std::vector<std::byte>>(bytes), bytes};
    in_use_ += bytes;
    return address;
  }
  Result<void> free(uint64_t address) override {
    if (address == 0) return {};
    const auto found = segments_.find(address);
    if (found == segments_.end()) return refuse(Status::kInvalidValue, "not allocated");
    in_use_ -= found->second.bytes;
    segments_.erase(found);
    return {};
  }
  Result<MemoryInfo> memory_info() override { return MemoryInfo{kMemoryBytes - in_use_, kMemoryBytes}; }

  Result<void> copy_to_device(uint64_t destination, uint64_t destination_pitch,
                              std::span<const std::byte> bulk, uint64_t bulk_pitch,
                              device::Rows rows) override {
    for (uint64_t row = 0; row < rows.height; ++row) {
      const bool done = for_pieces(destination + row * destination_pitch, rows.width,
                                   [&](std::byte* to, uint64_t offset, uint64_t bytes) {
                                     std::memcpy(to, bulk.data() + row * bulk_pitch + offset, bytes);
                                   });
      if (!done) return illegal();
    }
    return {};
  }
  Result<void> copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch, uint64_t source,
                                uint64_t source_pitch, device::Rows rows) override {
    for (uint64_t row = 0; row < rows.height; ++row) {
      const bool done = for_pieces(source + row * source_pitch, rows.width,
                                   [&](std::byte* from, uint64_t offset, uint64_t bytes) {
                                     std::memcpy(bulk.data() + row * bulk_pitch + offset, from, bytes);
                                   });
      if (!done) return illegal();
    }
    return {};
  }
  Result<void> copy_on_device(uint64_t destination, uint64_t destination_pitch, uint64_t source,
                              uint64_t source_pitch, device::Rows rows) override {
    std::vector<std::byte> between(rows.width * rows.height);
    if (auto read = copy_from_device(between, rows.width, source, source_pitch, rows); !read) return read;
    return copy_to_device(destination, destination_pitch, between, rows.width, rows);
  }
  Result<void> memset(const protocol::MemsetRequest& r) override {
    for (uint64_t row = 0; row < r.height; ++row) {
      const bool done = for_pieces(r.destination + row * r.pitch, r.width * r.element_bytes,
                                   [&](std::byte* to, uint64_t, uint64_t bytes) {
                                     for (uint64_t i = 0; i < bytes; i += r.element_bytes) {
                                       std::memcpy(to + i, &r.value, r.element_bytes);
                                     }
                                   });
      if (!done) return illegal();
    }
    return {};
  }
  Result<void> write_value(const protocol::WriteValueRequest& r) override {
    const bool done = for_pieces(r.address, r.bytes, [&](std::byte* to, uint64_t offset, uint64_t bytes) {
      std::memcpy(to, reinterpret_cast<const std::byte*>(&r.value) + offset, bytes);
    });
    return done ? Result<void>{} : illegal();
  }
  Result<uint64_t> map_bulk(std::span<std::byte> bulk, int, uint64_t) override {
    bulk_ = bulk;
    return kBulkAddress;
  }

  Result<uint64_t> reserve_address(uint64_t bytes, uint64_t, uint64_t) override {
    return take_addresses(bytes);
  }
  Result<void> free_address(uint64_t, uint64_t) override { return {}; }
  Result<void> create_physical(uint32_t physical, uint64_t bytes) override {
    if (bytes > kMemoryBytes - in_use_) return refuse(Status::kOutOfMemory, "no memory left");
    physical_[physical] = std::make_shared<std::vector<std::byte>>(bytes);
    in_use_ += bytes;
    return {};
  }
  Result<void> release_physical(uint32_t physical) override {
    const auto found = physical_.find(physical);
    if (found == physical_.end()) return refuse(Status::kInvalidValue, "no such physical allocation");
    in_use_ -= found->second->size();
    physical_.erase(found);
    return {};
  }
  Result<void> map(const protocol::MapRequest& r) override {
    const auto found = physical_.find(r.physical);
    if (found == physical_.end()) return refuse(Status::kInvalidValue, "no such physical allocation");
    segments_[r.address] = {found->second, r.bytes, false};
    return {};
  }
  Result<void> unmap(uint64_t address, uint64_t bytes) override {
    for (auto it = segments_.lower_bound(address); it != segments_.end() && it->first < address + bytes;) {
      it = segments_.erase(it);
    }
    return {};
  }
  Result<void> set_access(const protocol::SetAccessRequest& r) override {
    for (auto it = segments_.lower_bound(r.address); it != segments_.end() && it->first < r.address + r.bytes;
         ++it) {
      it->second.accessible = r.access == 3;
    }
    return {};
  }

  Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) override {
    const std::string_view text(reinterpret_cast<const char*>(image.data()), image.size());
    if (text.find("no code for this device") != text.npos)
      return refuse(Status::kNoBinaryForGpu, "nothing for 6.1");
    if (text.find("syntax error") != text.npos) return refuse(Status::kInvalidPtx, "line 3: syntax error");
    if (text.find("kernels") == text.npos) return refuse(Status::kInvalidImage, "not an image");
    globals_[module] = *allocate(4);
    return protocol::ModuleLoadReply{.function_count = 6, .global_count = 1, .ptx_version = 80, .target = 61};
  }
  Result<void> unload_module(uint32_t module) override {
    const auto found = globals_.find(module);
    if (found == globals_.end()) return refuse(Status::kInvalidHandle, "no such module");
    const uint64_t address = found->second;
    globals_.erase(found);
    return free(address);
  }
  Result<device::FunctionInfo> get_function(uint32_t, uint32_t function, std::string_view name) override {
    for (const auto& kernel : kKernels) {
      if (name != kernel.name) continue;
      functions_[function] = kernel.name;
      device::FunctionInfo info;
      info.parameters = kernel.parameters;
      info.attributes.parameter_count = static_cast<uint32_t>(kernel.parameters.size());
      if (!kernel.parameters.empty()) {
        info.attributes.parameter_bytes =
            kernel.parameters.back().offset + uint32_t{kernel.parameters.back().bytes};
      }
      info.attributes.max_threads_per_block = name == "small" ? 128 : 1024;
      info.attributes.static_shared_bytes = 1024;
      info.attributes.registers = 32;
      info.attributes.ptx_version = 80;
      info.attributes.binary_version = 61;
      return info;
    }
    return refuse(Status::kNotFound, "no such kernel");
  }
  Result<std::string> function_name(uint32_t, uint32_t index) override {
    if (index >= kKernels.size()) return refuse(Status::kInvalidValue, "no such index");
    return kKernels[index].name;
  }
  Result<device::GlobalInfo> get_global(uint32_t module, std::string_view name) override {
    if (name != "counter") return refuse(Status::kNotFound, "no such variable");
    return device::GlobalInfo{.address = globals_[module], .bytes = 4};
  }
  Result<void> set_max_dynamic_shared(uint32_t, uint32_t) override { return {}; }

  Result<void> launch(uint32_t, const protocol::LaunchRequest& r,
                      std::span<const std::byte> parameters) override {
    const std::string& name = functions_[r.function];
    const auto parameter = [&]<typename T>(T, std::size_t offset) {
      T value{};
      if (offset + sizeof(T) <= parameters.size()) std::memcpy(&value, parameters.data() + offset, sizeof(T));
      return value;
    };
    if (name == "add") {
      const auto value = parameter(uint32_t{}, 12);
      const bool done = for_pieces(parameter(uint64_t{}, 0), uint64_t{4} * parameter(uint32_t{}, 8),
                                   [&](std::byte* at, uint64_t, uint64_t bytes) {
                                     for (uint64_t i = 0; i < bytes; i += 4) {
                                       uint32_t element = 0;
                                       std::memcpy(&element, at + i, 4);
                                       element += value;
                                       std::memcpy(at + i, &element, 4);
                                     }
                                   });
      return done ? Result<void>{} : illegal();
    }
    if (name == "gate") {
      const auto* word =
          reinterpret_cast<const uint32_t*>(bulk_.data() + (parameter(uint64_t{}, 0) - kBulkAddress));
      while (ring::load_acquire(*word) == 0 && !cancelled_.load()) std::this_thread::yield();
      return {};
    }
    if (name == "mixed") {
      const bool right =
          parameter(uint8_t{}, 0) == 1 && parameter(uint64_t{}, 8) == 2 && parameter(uint16_t{}, 16) == 3;
      return right ? Result<void>{} : illegal();
    }
    if (name == "illegal") return illegal();
    if (name == "refused") return refuse(Status::kLaunchOutOfResources, "ordered to fail");
    return {};
  }
  Result<void> gemm(uint32_t, const protocol::GemmRequest&) override { return {}; }
  Result<void> trsm_batched(uint32_t, const protocol::TrsmBatchedRequest&) override { return {}; }
  Result<void> create_stream(const protocol::StreamCreateRequest&) override { return {}; }
  Result<void> destroy_stream(uint32_t) override { return {}; }
  Result<void> record_event(uint32_t, uint32_t event) override {
    times_[event] = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    return {};
  }
  Result<void> wait_event(uint32_t, uint32_t event) override {
    return times_.contains(event) ? Result<void>{} : refuse(Status::kInvalidHandle, "no such event");
  }
  Result<void> destroy_event(uint32_t event) override {
    return times_.erase(event) == 1 ? Result<void>{} : refuse(Status::kInvalidHandle, "no such event");
  }
  Result<uint64_t> event_time(uint32_t event) override {
    if (!times_.contains(event)) return refuse(Status::kInvalidHandle, "no such event");
    return times_[event];
  }
  Result<void> wait_idle() override { return {}; }
  void cancel() override { cancelled_ = true; }
  uint64_t memory_in_use() const override { return in_use_; }

 private:
  static constexpr uint64_t kBulkAddress = kWindowBase + kWindowBytes / 2;
  struct Segment {
    std::shared_ptr<std::vector<std::byte>> memory;
    uint64_t bytes = 0;
    bool accessible = true;
  };
  struct Kernel {
    std::string name;
    std::vector<protocol::ParameterLayout> parameters;
  };
  static inline const std::vector<Kernel> kKernels = {{"add", {{0, 8}, {8, 4}, {12, 4}}},
                                                      {"gate", {{0, 8}}},
                                                      {"illegal", {}},
                                                      {"refused", {}},
                                                      {"small", {}},
                                                      {"mixed", {{0, 1}, {8, 8}, {16, 2}}}};

  static std::unexpected<Error> refuse(Status status, std::string reason) {
    return std::unexpected(Error{status, std::move(reason)});
  }
  static std::unexpected<Error> illegal() { return refuse(Status::kIllegalAddress, "illegal address"); }
  uint64_t take_addresses(uint64_t bytes) {
    const uint64_t address = next_;
    next_ += (bytes + kGranularity - 1) / kGranularity * kGranularity;
    return address;
  }
  // Calls piece(host address, offset in the range, bytes) for every part of the range, which may lie in bulk
  // memory; false if one is not there.
  template <typename Piece>
  bool for_pieces(uint64_t address, uint64_t bytes, Piece&& piece) {
    if (address - kBulkAddress < bulk_.size()) {
      const uint64_t offset = address - kBulkAddress;
      if (bytes > bulk_.size() - offset) return false;
      piece(bulk_.data() + offset, 0, bytes);
      return true;
    }
    for (uint64_t done = 0; done < bytes;) {
      auto it = segments_.upper_bound(address + done);
      if (it == segments_.begin()) return false;
      --it;
      const uint64_t offset = address + done - it->first;
      if (offset >= it->second.bytes || !it->second.accessible) return false;
      const uint64_t length = std::min(bytes - done, it->second.bytes - offset);
      piece(it->second.memory->data() + offset, done, length);
      done += length;
    }
    return true;
  }

  std::map<uint64_t, Segment> segments_;
  std::map<uint32_t, std::shared_ptr<std::vector<std::byte>>> physical_;
  std::map<uint32_t, uint64_t> globals_;
  std::map<uint32_t, std::string> functions_;
  std::map<uint32_t, uint64_t> times_;
  std::span<std::byte> bulk_;
  uint64_t next_ = kWindowBase + kGranularity;
  std::atomic<uint64_t> in_use_{0};
  std::atomic<bool> cancelled_{false};
};

class PlainBackend final : public device::Backend {
 public:
  PlainBackend() {
    properties_.name = "plain test device";
    for (int i = 0; i < 16; ++i)
      properties_.uuid[static_cast<std::size_t>(i)] = static_cast<std::byte>(0xa0 + i);
    properties_.compute_major = 6;
    properties_.compute_minor = 1;
    properties_.total_memory_bytes = kMemoryBytes;
    properties_.window_base = kWindowBase;
    properties_.window_bytes = kWindowBytes;
    const std::pair<std::size_t, int32_t> attributes[] = {
        {1, 1024},     {2, 1024},   {3, 1024},  {4, 64},     {5, 0x7fffffff},  {6, 65535},
        {7, 65535},    {8, 49152},  {9, 65536}, {10, 32},    {11, 0x7fffffff}, {12, 65536},
        {13, 1000000}, {14, 512},   {16, 4},    {39, 2048},  {75, 6},          {76, 1},
        {81, 98304},   {82, 65536}, {95, 1},    {97, 49152}, {102, 1},         {106, 32}};
    for (const auto& [number, value] : attributes) properties_.attributes[number] = value;
  }
  const device::DeviceProperties& properties() const override { return properties_; }
  Result<std::unique_ptr<device::Context>> create_context(const device::Quota&) override {
    return std::make_unique<PlainContext>();
  }
  std::string statistics() const override { return "plain"; }

 private:
  device::DeviceProperties properties_;
};

}  // namespace vgpu::shim::testing
