// KernelRunner over the oracle: for the oracle's own tests, and as the reference of other runners' tests.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/software/oracle/oracle.h"
#include "device/software/ptx/ast.h"
#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {

class OracleRunner : public KernelRunner {
 public:
  std::string load(const std::string& ptx, const std::string& name) override {
    auto module = software::ptx::Module::parse(ptx, name);
    if (!module) return module.error().describe();
    module_ = std::move(*module);
    globals_ = software::oracle::place_globals(*module_, memory_);
    return {};
  }
  std::uint64_t allocate(std::size_t bytes) override { return memory_.allocate(bytes); }
  void write(std::uint64_t address, std::span<const std::byte> bytes) override {
    memory_.write(address, bytes);
  }
  void read(std::uint64_t address, std::span<std::byte> out) override { memory_.read(address, out); }

  LaunchStatus launch(const LaunchRequest& request) override {
    using software::oracle::Outcome;
    software::oracle::LaunchConfig config;
    config.grid = {request.grid.x, request.grid.y, request.grid.z};
    config.block = {request.block.x, request.block.y, request.block.z};
    config.dynamic_shared_bytes = request.dynamic_shared_bytes;
    config.params = request.params;
    config.globals = globals_;
    if (request.blocks_wait_for_each_other)
      config.resident_blocks = static_cast<std::uint32_t>(config.grid.count());
    result = software::oracle::run_grid(*module_, request.kernel, config, memory_);
    switch (result.outcome) {
      case Outcome::kDone:
        return {};
      case Outcome::kIllegalAddress:
      case Outcome::kMisalignedAddress:
        return {Status::kIllegalAddress, result.message};
      case Outcome::kTrap:
        return {Status::kTrap, result.message};
      case Outcome::kUnsupported:
        return {Status::kUnsupported, result.message};
      default:
        return {Status::kOther, result.message};
    }
  }

  software::oracle::Result result;  // of the last launch

 private:
  software::oracle::FlatMemory memory_;
  std::optional<software::ptx::Module> module_;
  std::vector<std::uint64_t> globals_;
};

}  // namespace vgpu::testing::kernels
