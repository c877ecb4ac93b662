// KernelRunner over the compiler alone: a small window of device memory, warps as ucontext fibers, a signal
// handler for faults. Slow and simple on purpose, and independent of device/software/runtime.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "device/software/jit/jit.h"
#include "device/software/ptx/ast.h"
#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {

class JitRunner : public KernelRunner {
 public:
  explicit JitRunner(software::jit::Jit& jit);
  ~JitRunner() override;
  JitRunner(const JitRunner&) = delete;
  JitRunner& operator=(const JitRunner&) = delete;

  std::string load(const std::string& ptx, const std::string& name) override;
  std::uint64_t allocate(std::size_t bytes) override;
  void write(std::uint64_t address, std::span<const std::byte> bytes) override;
  void read(std::uint64_t address, std::span<std::byte> out) override;
  LaunchStatus launch(const LaunchRequest& request) override;

  // Set while a launch runs: the cancel word every block reads.
  std::uint32_t cancel = 0;

 private:
  struct Block;
  LaunchStatus run_block(const software::jit::CompiledKernel& kernel, const LaunchRequest& request,
                         std::uint32_t x, std::uint32_t y, std::uint32_t z, std::uint32_t slot);

  software::jit::Jit& jit_;
  std::optional<software::ptx::Module> module_;
  std::vector<std::uint64_t> globals_;
  std::uint64_t next_ = 0;
};

}  // namespace vgpu::testing::kernels
