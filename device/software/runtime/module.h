// A loaded module: its PTX, its variables in device memory, and its kernels as launches see them.
// Used by the thread of its context.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/backend.h"
#include "device/software/jit/jit.h"
#include "device/software/ptx/ast.h"
#include "device/software/runtime/compile_ahead.h"
#include "device/software/runtime/device_memory.h"
#include "device/software/runtime/kernel_codes.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/kernel_statistics.h"

namespace vgpu::software {

class LoadedModule {
 public:
  // `name` stands for the module in errors; `capability` is the device's, 61 for 6.1.
  static Result<std::shared_ptr<LoadedModule>> load(std::string name, std::span<const std::byte> image,
                                                    uint32_t capability, DeviceMemory& memory);
  ~LoadedModule();
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;

  [[nodiscard]] const ptx::Module& ptx() const { return *ptx_; }
  // For who may outlive the module.
  [[nodiscard]] const std::shared_ptr<const ptx::Module>& shared_ptx() const { return ptx_; }
  // BlockState::globals.
  [[nodiscard]] const uint64_t* globals() const { return globals_.data(); }
  [[nodiscard]] protocol::ModuleLoadReply describe() const;
  // Names of the kernels, in file order.
  Result<std::string> kernel_name(uint32_t index) const;
  Result<device::GlobalInfo> global(std::string_view name) const;

 private:
  LoadedModule(ptx::Module ptx, DeviceMemory& memory)
      : ptx_(std::make_shared<const ptx::Module>(std::move(ptx))), memory_(memory) {}
  Result<void> place_variables();

  std::shared_ptr<const ptx::Module> ptx_;
  DeviceMemory& memory_;
  uint64_t block_ = 0;  // all variables lie in one allocation
  std::vector<uint64_t> globals_;
};

class LoadedFunction {
 public:
  // Parses the kernel and everything it calls.
  static Result<std::unique_ptr<LoadedFunction>> find(std::shared_ptr<LoadedModule> module,
                                                      std::string_view name);

  [[nodiscard]] const device::FunctionInfo& info() const { return info_; }
  [[nodiscard]] const LoadedModule& module() const { return *module_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] uint32_t static_shared_bytes() const { return info_.attributes.static_shared_bytes; }
  // Static memory and the dynamic memory that launches may ask for fit in what a block may have.
  Result<void> set_max_dynamic_shared(uint32_t bytes);
  [[nodiscard]] uint32_t max_dynamic_shared() const { return max_dynamic_shared_; }

  struct Code {
    jit::LaunchShape shape;
    KernelCodes codes;
    bool coarsened = false;                     // code for several blocks or warps at a time was asked for
    std::future<CoarserCodes> coarser = {};     // which are then moved into `codes`
    std::shared_ptr<KernelRecord> record = {};  // set by the first launch
  };
  // Which of the parameters that the kernel asks for it are null (jit::LaunchShape::null_params). Launches
  // are told apart by that up to a number of kinds; 0 for those of any other.
  uint64_t null_params(std::span<const std::byte> parameters);
  // Such code will be wanted: what is to be compiled for that; nullptr: it is there, or was announced.
  std::shared_ptr<ComingKernel> announce(KernelCompiler& compiler, const jit::LaunchShape& shape);
  // The code for this shape, until compile() is called for another or the function ends; nullptr: it is not
  // there.
  Code* find_code(const jit::LaunchShape& shape);
  // Makes it be there, by what was announced if it was.
  Result<Code*> compile(KernelCompiler& compiler, const jit::LaunchShape& shape);

 private:
  LoadedFunction() = default;

  std::shared_ptr<LoadedModule> module_;
  std::string name_;
  device::FunctionInfo info_;
  uint32_t max_dynamic_shared_ = 0;
  uint64_t null_tested_ = 0;                  // ptx::null_tested_words
  std::vector<uint64_t> null_patterns_;       // what null_params() has said
  std::vector<std::unique_ptr<Code>> codes_;  // most recently used first
  CompileAhead::Kernels coming_;              // announced, and not asked for yet
};

}  // namespace vgpu::software
