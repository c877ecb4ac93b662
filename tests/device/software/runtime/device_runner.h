// KernelRunner over a whole backend: allocates, loads, launches and reads as a guest does.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "device/backend.h"
#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {

class DeviceRunner final : public KernelRunner {
 public:
  explicit DeviceRunner(device::Backend& backend) : context_(std::move(*backend.create_context({}))) {}

  std::string load(const std::string& ptx, const std::string&) override {
    const auto bytes = std::as_bytes(std::span(ptx.data(), ptx.size()));
    functions_.clear();
    const auto loaded = context_->load_module(1, {bytes.begin(), bytes.end()});
    return loaded ? "" : loaded.error().reason;
  }
  std::uint64_t allocate(std::size_t bytes) override { return context_->allocate(bytes).value_or(0); }
  void write(std::uint64_t address, std::span<const std::byte> bytes) override {
    const auto copied = context_->copy_to_device(address, 0, bytes, 0, {.width = bytes.size(), .height = 1});
    EXPECT_TRUE(copied) << copied.error().reason;
  }
  void read(std::uint64_t address, std::span<std::byte> out) override {
    std::memset(out.data(), 0, out.size());  // a context that failed answers nothing
    static_cast<void>(context_->copy_from_device(out, 0, address, 0, {.width = out.size(), .height = 1}));
  }
  device::Context& context() { return *context_; }
  LaunchStatus launch(const LaunchRequest& request) override {
    const auto [known, is_new] = functions_.try_emplace(request.kernel, next_function_);
    const std::uint32_t function = known->second;
    if (is_new) {
      const auto found = context_->get_function(1, next_function_++, request.kernel);
      if (!found) {
        functions_.erase(known);
        return refused(found.error());
      }
    }
    protocol::LaunchRequest record;
    record.function = function;
    record.grid_x = request.grid.x;
    record.grid_y = request.grid.y;
    record.grid_z = request.grid.z;
    record.block_x = static_cast<std::uint16_t>(request.block.x);
    record.block_y = static_cast<std::uint16_t>(request.block.y);
    record.block_z = static_cast<std::uint16_t>(request.block.z);
    record.flags = request.blocks_wait_for_each_other ? protocol::kLaunchCooperative : std::uint16_t{0};
    record.shared_bytes = request.dynamic_shared_bytes;
    const auto launched = context_->launch(0, record, request.params);
    return launched ? LaunchStatus{} : refused(launched.error());
  }

 private:
  static LaunchStatus refused(const device::Error& error) {
    switch (error.status) {
      case protocol::Status::kIllegalAddress:
        return {Status::kIllegalAddress, error.reason};
      case protocol::Status::kLaunchFailed:
        return {Status::kTrap, error.reason};
      case protocol::Status::kInvalidPtx:
        return {Status::kUnsupported, error.reason};
      default:
        return {Status::kOther, error.reason};
    }
  }

  std::unique_ptr<device::Context> context_;
  std::map<std::string, std::uint32_t> functions_;  // kernels of the module that have been launched
  std::uint32_t next_function_ = 1;
};

}  // namespace vgpu::testing::kernels
