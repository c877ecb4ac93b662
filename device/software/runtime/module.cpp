// See module.h.
#include "device/software/runtime/module.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "device/software/fatbin/fatbin.h"
#include "device/software/ptx/null_tests.h"
#include "device/software/runtime/block_runner.h"
#include "device/software/runtime/guarded_copy.h"

namespace vgpu::software {
namespace {

// Kernels of a hostile guest may come with ever new shapes; beyond this the least recently used code goes.
constexpr std::size_t kMaxCodesPerFunction = 64;
// For how many choices of null parameters a kernel is compiled: each takes as long as the kernel itself.
constexpr std::size_t kMostNullPatterns = 4;
// There is no register file to run out of; this lets every block size reach the occupancy the other limits
// give.
constexpr uint32_t kReportedRegisters = 32;

Error from(const fatbin::Error& error, const std::string& module) {
  Status status = Status::kInvalidImage;
  switch (error.kind) {
    case fatbin::ErrorKind::kInvalidImage:
      status = Status::kInvalidImage;
      break;
    case fatbin::ErrorKind::kNoBinaryForGpu:
      status = Status::kNoBinaryForGpu;
      break;
    case fatbin::ErrorKind::kInvalidPtx:
      status = Status::kInvalidPtx;
      break;
    case fatbin::ErrorKind::kUnsupportedPtxVersion:
      status = Status::kUnsupportedPtxVersion;
      break;
  }
  return {status, fmt::format("load {}: {}", module, error.message)};
}

Error from(const ptx::Error& error) {
  Status status = Status::kInvalidPtx;
  if (error.kind == ptx::ErrorKind::kUnsupportedVersion) status = Status::kUnsupportedPtxVersion;
  if (error.kind == ptx::ErrorKind::kNotFound) status = Status::kNotFound;
  return {status, error.describe()};
}

Error from(const jit::Error& error, std::string_view kernel) {
  Status status = Status::kInvalidPtx;  // "a PTX JIT compilation failed"
  if (error.kind == jit::ErrorKind::kNotFound) status = Status::kNotFound;
  if (error.kind == jit::ErrorKind::kLaunchShape) status = Status::kInvalidValue;
  return {status, fmt::format("compile {}: {}", kernel, error.message)};
}

bool in_device_memory(const ptx::Variable& variable) {
  return (variable.space == ptx::StateSpace::kGlobal || variable.space == ptx::StateSpace::kConst) &&
         variable.size > 0;
}

}  // namespace

// ---- modules ----

Result<std::shared_ptr<LoadedModule>> LoadedModule::load(std::string name, std::span<const std::byte> image,
                                                         uint32_t capability, DeviceMemory& memory) {
  auto chosen = fatbin::choose_ptx(image, capability);
  if (!chosen) return std::unexpected(from(chosen.error(), name));
  auto parsed = ptx::Module::parse(chosen->text, std::move(name));
  if (!parsed) return std::unexpected(from(parsed.error()));
  if (parsed->target() > capability) {
    return std::unexpected(
        Error{Status::kInvalidPtx, fmt::format("load {}: for compute capability {}, the device's is {}",
                                               parsed->file(), parsed->target(), capability)});
  }
  std::shared_ptr<LoadedModule> module(new LoadedModule(std::move(*parsed), memory));
  if (const auto placed = module->place_variables(); !placed) return std::unexpected(placed.error());
  return module;
}

LoadedModule::~LoadedModule() {
  if (block_ != 0) static_cast<void>(memory_.free(block_, RangeKind::kModule));
}

Result<void> LoadedModule::place_variables() {
  const auto variables = ptx_->variables();
  globals_.assign(variables.size() + 1, 0);  // never empty: compiled code may hold its address
  uint64_t bytes = 0;
  uint64_t alignment = kAllocationAlignment;
  for (std::size_t i = 0; i < variables.size(); ++i) {
    const ptx::Variable& variable = variables[i];
    if (!in_device_memory(variable)) continue;
    alignment = std::max<uint64_t>(alignment, variable.align);
    if (variable.size > kDeviceWindowBytes || variable.align > kPageBytes) {
      return std::unexpected(Error{Status::kOutOfMemory,
                                   fmt::format("{}:{}: variable {} of {} bytes, aligned to {}", ptx_->file(),
                                               variable.line, variable.name, variable.size, variable.align)});
    }
    bytes = round_up(bytes, std::max<uint64_t>(variable.align, 16));
    globals_[i] = bytes;
    bytes += variable.size;
    if (bytes > kDeviceWindowBytes) {
      return std::unexpected(Error{Status::kOutOfMemory, ptx_->file() + ": too many bytes of variables"});
    }
  }
  if (bytes == 0) return {};
  auto block = memory_.allocate(bytes + alignment - kAllocationAlignment, RangeKind::kModule);
  if (!block) return std::unexpected(block.error());
  block_ = *block;
  const uint64_t base = round_up(block_, alignment);
  for (std::size_t i = 0; i < variables.size(); ++i) {
    if (in_device_memory(variables[i])) globals_[i] += base;
  }
  // Memory of an earlier allocation of this context may be under it.
  std::memset(reinterpret_cast<void*>(base), 0, bytes);
  for (std::size_t i = 0; i < variables.size(); ++i) {
    const ptx::Variable& variable = variables[i];
    if (!in_device_memory(variable)) continue;
    auto* to = reinterpret_cast<std::byte*>(globals_[i]);
    const std::size_t given = std::min<std::size_t>(variable.initial.size(), variable.size);
    if (given > 0) std::memcpy(to, variable.initial.data(), given);
    for (const ptx::Relocation& relocation : variable.relocations) {
      if (relocation.size > 8 || relocation.offset > variable.size ||
          relocation.size > variable.size - relocation.offset) {
        return std::unexpected(
            Error{Status::kInvalidPtx, fmt::format("{}:{}: an address outside variable {}", ptx_->file(),
                                                   variable.line, variable.name)});
      }
      // Addresses of functions mean nothing here: calls through them trap.
      const uint64_t target = relocation.is_function || relocation.index >= variables.size()
                                  ? 0
                                  : globals_[relocation.index] + static_cast<uint64_t>(relocation.addend);
      std::memcpy(to + relocation.offset, &target, relocation.size);
    }
  }
  return {};
}

protocol::ModuleLoadReply LoadedModule::describe() const {
  protocol::ModuleLoadReply reply;
  for (const auto& function : ptx_->functions()) {
    if (function.is_entry && function.is_defined) ++reply.function_count;
  }
  for (const auto& variable : ptx_->variables()) {
    if (in_device_memory(variable)) ++reply.global_count;
  }
  reply.ptx_version = ptx_->version_major() * 10 + ptx_->version_minor();
  reply.target = ptx_->target();
  return reply;
}

Result<std::string> LoadedModule::kernel_name(uint32_t index) const {
  uint32_t at = 0;
  for (const auto& function : ptx_->functions()) {
    if (!function.is_entry || !function.is_defined) continue;
    if (at++ == index) return function.name;
  }
  return std::unexpected(Error{
      Status::kInvalidValue, fmt::format("{} has {} kernels, asked for number {}", ptx_->file(), at, index)});
}

Result<device::GlobalInfo> LoadedModule::global(std::string_view name) const {
  const auto index = ptx_->variable_index(name);
  if (!index || !in_device_memory(ptx_->variables()[*index])) {
    return std::unexpected(
        Error{Status::kNotFound, fmt::format("{} has no variable {}", ptx_->file(), name)});
  }
  return device::GlobalInfo{.address = globals_[*index], .bytes = ptx_->variables()[*index].size};
}

// ---- functions ----

Result<std::unique_ptr<LoadedFunction>> LoadedFunction::find(std::shared_ptr<LoadedModule> module,
                                                             std::string_view name) {
  const ptx::Module& ptx = module->ptx();
  const auto index = ptx.function_index(name);
  if (!index || !ptx.functions()[*index].is_entry || !ptx.functions()[*index].is_defined) {
    return std::unexpected(Error{Status::kNotFound, fmt::format("{} has no kernel {}", ptx.file(), name)});
  }
  // The kernel first, then everything it can call.
  std::vector<std::unique_ptr<const ptx::Function>> bodies;
  std::vector<const ptx::Function*> pointers;
  std::vector<uint32_t> pending{*index};
  std::vector<bool> seen(ptx.functions().size(), false);
  seen[*index] = true;
  uint64_t local_bytes = 0;
  std::vector<bool> constants(ptx.variables().size(), false);
  while (!pending.empty()) {
    const uint32_t next = pending.back();
    pending.pop_back();
    auto body = ptx.parse_function(next);
    if (!body) return std::unexpected(from(body.error()));
    local_bytes += body->local_bytes;
    for (const uint32_t variable : body->module_variables) {
      constants[variable] = ptx.variables()[variable].space == ptx::StateSpace::kConst;
    }
    for (const uint32_t called : body->called_functions) {
      if (seen[called] || !ptx.functions()[called].is_defined) continue;
      seen[called] = true;
      pending.push_back(called);
    }
    bodies.push_back(std::make_unique<const ptx::Function>(std::move(*body)));
    pointers.push_back(bodies.back().get());
  }
  const auto shared = ptx::layout_shared(ptx, pointers);
  uint64_t const_bytes = 0;
  for (std::size_t i = 0; i < constants.size(); ++i) {
    if (constants[i]) const_bytes += ptx.variables()[i].size;
  }
  const ptx::FunctionDecl& declaration = ptx.functions()[*index];
  if (shared.static_bytes > kMaxSharedBytes || local_bytes > kMaxLocalBytes ||
      declaration.parameter_bytes > protocol::kMaxParameterBytes) {
    return std::unexpected(Error{
        Status::kInvalidPtx,
        fmt::format(
            "{}:{}: kernel {} has {} bytes of shared memory, {} of local memory, {} of parameters; at most "
            "{}, {} and {} are possible",
            ptx.file(), declaration.line, name, shared.static_bytes, local_bytes, declaration.parameter_bytes,
            kMaxSharedBytes, kMaxLocalBytes, protocol::kMaxParameterBytes)});
  }

  std::unique_ptr<LoadedFunction> function(new LoadedFunction);
  function->module_ = std::move(module);
  function->name_ = name;
  auto& attributes = function->info_.attributes;
  attributes.parameter_count = static_cast<uint32_t>(declaration.parameters.size());
  attributes.parameter_bytes = declaration.parameter_bytes;
  const auto product = [](const uint32_t(&dimensions)[3]) {
    uint64_t threads = 1;
    for (const uint32_t dimension : dimensions)
      threads *= std::clamp<uint32_t>(dimension, 1, kMaxThreadsPerBlock);
    return threads;
  };
  uint64_t max_threads = kMaxThreadsPerBlock;
  if (declaration.bounds.max_threads[0] != 0) max_threads = product(declaration.bounds.max_threads);
  if (declaration.bounds.required_threads[0] != 0) max_threads = product(declaration.bounds.required_threads);
  attributes.max_threads_per_block =
      static_cast<uint32_t>(std::min<uint64_t>(max_threads, kMaxThreadsPerBlock));
  attributes.static_shared_bytes = static_cast<uint32_t>(shared.static_bytes);
  attributes.const_bytes = static_cast<uint32_t>(const_bytes);
  attributes.local_bytes = static_cast<uint32_t>(local_bytes);
  attributes.registers = kReportedRegisters;
  attributes.ptx_version = ptx.version_major() * 10 + ptx.version_minor();
  attributes.binary_version = ptx.target();
  for (const auto& parameter : declaration.parameters) {
    function->info_.parameters.push_back(
        {.offset = static_cast<uint16_t>(parameter.offset), .bytes = static_cast<uint16_t>(parameter.size)});
  }
  function->null_tested_ = ptx::null_tested_words(*pointers.front());
  function->max_dynamic_shared_ = kMaxSharedBytes - attributes.static_shared_bytes;
  return function;
}

Result<void> LoadedFunction::set_max_dynamic_shared(uint32_t bytes) {
  if (bytes > kMaxSharedBytes - static_shared_bytes()) {
    return std::unexpected(
        Error{Status::kInvalidValue,
              fmt::format("{}: {} bytes of dynamic and {} of static shared memory; {} in all", name_, bytes,
                          static_shared_bytes(), kMaxSharedBytes)});
  }
  max_dynamic_shared_ = bytes;
  return {};
}

uint64_t LoadedFunction::null_params(std::span<const std::byte> parameters) {
  const uint64_t nulls = ptx::null_words(null_tested_, parameters);
  if (std::ranges::find(null_patterns_, nulls) != null_patterns_.end()) return nulls;
  if (null_patterns_.size() == kMostNullPatterns) return 0;
  null_patterns_.push_back(nulls);
  return nulls;
}

LoadedFunction::Code* LoadedFunction::find_code(const jit::LaunchShape& shape) {
  const auto found =
      std::ranges::find(codes_, shape, [](const auto& code) -> const auto& { return code->shape; });
  if (found == codes_.end()) return nullptr;
  std::rotate(codes_.begin(), found, found + 1);
  return codes_.front().get();
}

std::shared_ptr<ComingKernel> LoadedFunction::announce(KernelCompiler& compiler,
                                                       const jit::LaunchShape& shape) {
  const bool is_known = find_code(shape) != nullptr || coming_.size() >= kMaxCodesPerFunction ||
                        std::ranges::find(coming_, shape, &ComingKernel::shape) != coming_.end();
  if (is_known) return nullptr;
  return coming_.emplace_back(std::make_shared<ComingKernel>(compiler, module_->shared_ptx(), name_, shape));
}

Result<LoadedFunction::Code*> LoadedFunction::compile(KernelCompiler& compiler,
                                                      const jit::LaunchShape& shape) {
  const auto coming = std::ranges::find(coming_, shape, &ComingKernel::shape);
  auto compiled = coming == coming_.end() ? compiler.compile(module_->ptx(), name_, shape) : (*coming)->get();
  if (coming != coming_.end()) coming_.erase(coming);
  if (!compiled) return std::unexpected(from(compiled.error(), name_));
  if (codes_.size() >= kMaxCodesPerFunction) codes_.pop_back();
  codes_.insert(codes_.begin(),
                std::unique_ptr<Code>(new Code{.shape = shape, .codes = KernelCodes(std::move(*compiled))}));
  return codes_.front().get();
}

}  // namespace vgpu::software
