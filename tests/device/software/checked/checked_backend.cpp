// See checked_backend.h.
#include "tests/device/software/checked/checked_backend.h"

#include <cxxabi.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdlib>
#include <expected>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "device/forwarding_context.h"
#include "device/software/fatbin/fatbin.h"
#include "device/software/oracle/oracle.h"
#include "device/software/ptx/ast.h"
#include "tests/device/software/checked/compare.h"
#include "tests/device/software/checked/memory_image.h"

namespace vgpu::software::checked {
namespace {

using device::Result;
using Clock = std::chrono::steady_clock;

std::string demangle(const std::string& name) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 ? std::string(text.get()) : name;
}

// A module of the guest, parsed at the first check of one of its kernels.
struct Module {
  std::vector<std::byte> image;
  std::optional<ptx::Module> ptx;
  std::vector<uint64_t> globals;
  std::map<std::string, KernelTraits, std::less<>> traits;
};

struct Function {
  uint32_t module = 0;
  std::string name;
};

struct Shape {
  uint64_t launches = 0;
  uint64_t checks = 0;
};

class CheckedContext final : public device::ForwardingContext {
 public:
  CheckedContext(std::unique_ptr<device::Context> inner, const Options& options, uint32_t capability)
      : device::ForwardingContext(std::move(inner)), options_(options), capability_(capability) {}

  Result<uint64_t> allocate(uint64_t bytes) override;
  Result<void> free(uint64_t address) override;
  Result<void> map(const protocol::MapRequest& request) override;
  Result<void> unmap(uint64_t address, uint64_t bytes) override;
  Result<void> set_access(const protocol::SetAccessRequest& request) override;
  Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) override;
  Result<void> unload_module(uint32_t module) override;
  Result<device::FunctionInfo> get_function(uint32_t module, uint32_t function,
                                            std::string_view name) override;
  Result<void> launch(uint32_t stream, const protocol::LaunchRequest& request,
                      std::span<const std::byte> parameters) override;

 private:
  bool sample(const Function& function, const protocol::LaunchRequest& request);
  Result<void> parse(uint32_t handle, Module& module);
  // Readable memory, the variables of the module too.
  MemoryImage::Ranges readable(const Module& module);
  // The launch by the oracle on image_; false: it did not come to its end.
  bool run_oracle(const Module& module, const Function& function, const protocol::LaunchRequest& request,
                  std::span<const std::byte> parameters, Check& check);

  struct Piece {
    uint64_t bytes = 0;
    bool readable = false;
  };

  const Options& options_;
  const uint32_t capability_;
  std::map<uint64_t, uint64_t> allocations_;
  std::map<uint64_t, Piece> mapped_;
  std::unordered_map<uint32_t, Module> modules_;
  std::unordered_map<uint32_t, Function> functions_;
  std::map<std::tuple<uint32_t, std::string, uint32_t, uint32_t, uint32_t>, Shape> shapes_;
  MemoryImage image_;
  uint64_t launches_ = 0;
  double seconds_ = 0;  // that checks took
};

// ---- what there is to read ----

Result<uint64_t> CheckedContext::allocate(uint64_t bytes) {
  auto address = inner().allocate(bytes);
  if (address) allocations_[*address] = bytes;
  return address;
}

Result<void> CheckedContext::free(uint64_t address) {
  auto done = inner().free(address);
  if (done) allocations_.erase(address);
  return done;
}

Result<void> CheckedContext::map(const protocol::MapRequest& request) {
  auto done = inner().map(request);
  if (done) mapped_[request.address] = {.bytes = request.bytes};
  return done;
}

Result<void> CheckedContext::unmap(uint64_t address, uint64_t bytes) {
  auto done = inner().unmap(address, bytes);
  if (done) mapped_.erase(mapped_.lower_bound(address), mapped_.lower_bound(address + bytes));
  return done;
}

Result<void> CheckedContext::set_access(const protocol::SetAccessRequest& request) {
  auto done = inner().set_access(request);
  if (!done) return done;
  const auto end = mapped_.lower_bound(request.address + request.bytes);
  for (auto piece = mapped_.lower_bound(request.address); piece != end; ++piece) {
    piece->second.readable = request.access != 0;
  }
  return done;
}

MemoryImage::Ranges CheckedContext::readable(const Module& module) {
  MemoryImage::Ranges ranges(allocations_.begin(), allocations_.end());
  for (const auto& [address, piece] : mapped_) {
    if (piece.readable) ranges[address] = piece.bytes;
  }
  const auto variables = module.ptx->variables();
  for (std::size_t i = 0; i < variables.size(); ++i) {
    if (module.globals[i] != 0) ranges[module.globals[i]] = variables[i].size;
  }
  return ranges;
}

// ---- modules and functions ----

Result<protocol::ModuleLoadReply> CheckedContext::load_module(uint32_t handle, std::vector<std::byte> image) {
  auto reply = inner().load_module(handle, image);
  if (reply) modules_[handle].image = std::move(image);
  return reply;
}

Result<void> CheckedContext::unload_module(uint32_t handle) {
  auto done = inner().unload_module(handle);
  if (!done) return done;
  modules_.erase(handle);
  std::erase_if(functions_, [&](const auto& function) { return function.second.module == handle; });
  std::erase_if(shapes_, [&](const auto& shape) { return std::get<0>(shape.first) == handle; });
  return done;
}

Result<device::FunctionInfo> CheckedContext::get_function(uint32_t module, uint32_t function,
                                                          std::string_view name) {
  auto info = inner().get_function(module, function, name);
  if (info) functions_[function] = {.module = module, .name = std::string(name)};
  return info;
}

Result<void> CheckedContext::parse(uint32_t handle, Module& module) {
  if (module.ptx) return {};
  const auto invalid = [](std::string why) {
    return std::unexpected(device::Error{protocol::Status::kInvalidPtx, std::move(why)});
  };
  const auto text = fatbin::choose_ptx(module.image, capability_);
  if (!text) return invalid(text.error().message);
  auto parsed = ptx::Module::parse(text->text, fmt::format("module {}", handle));
  if (!parsed) return invalid(parsed.error().describe());
  for (const auto& variable : parsed->variables()) {
    uint64_t address = 0;
    if (variable.space != ptx::StateSpace::kShared && variable.size > 0) {
      const auto global = inner().get_global(handle, variable.name);
      if (!global) return std::unexpected(global.error());
      address = global->address;
    }
    module.globals.push_back(address);
  }
  module.ptx = std::move(*parsed);
  module.image = {};
  return {};
}

// ---- launches ----

bool CheckedContext::sample(const Function& function, const protocol::LaunchRequest& request) {
  ++launches_;
  Shape& shape = shapes_[{function.module, function.name, request.block_x, request.block_y, request.block_z}];
  ++shape.launches;
  if (seconds_ >= options_.max_seconds) return false;
  const bool by_shape = shape.checks < options_.per_shape && std::has_single_bit(shape.launches);
  const bool by_count = options_.every != 0 && launches_ % options_.every == 0;
  if (!by_shape && !by_count) return false;
  ++shape.checks;
  return true;
}

bool CheckedContext::run_oracle(const Module& module, const Function& function,
                                const protocol::LaunchRequest& request, std::span<const std::byte> parameters,
                                Check& check) {
  oracle::LaunchConfig config;
  config.grid = {request.grid_x, request.grid_y, request.grid_z};
  config.block = {request.block_x, request.block_y, request.block_z};
  config.dynamic_shared_bytes = request.shared_bytes;
  config.params = parameters;
  config.globals = module.globals;
  const auto run = [&](const std::vector<uint64_t>& blocks, uint64_t max_steps) {
    config.blocks = blocks;
    config.max_steps = max_steps;
    const auto result = oracle::run_grid(*module.ptx, function.name, config, image_);
    check.steps += result.steps;
    if (result.outcome == oracle::Outcome::kDone) {
      check.blocks_checked += blocks.size();
      return true;
    }
    check.detail = fmt::format("the oracle stopped in block ({}, {}, {}): {}", result.block.x, result.block.y,
                               result.block.z, result.message);
    return false;
  };
  // The first block tells what one costs. Of the others as many as the budget allows, evenly spread, the last
  // one among them.
  const uint64_t count = config.grid.count();
  if (!run({0}, options_.max_steps)) return false;
  const uint64_t affordable =
      (options_.max_steps - std::min(options_.max_steps, check.steps)) / std::max<uint64_t>(check.steps, 1);
  const uint64_t more = std::min(count - 1, std::max<uint64_t>(affordable, 1));
  if (more == 0) return true;
  std::vector<uint64_t> blocks;
  for (uint64_t n = 1; n <= more; ++n) blocks.push_back((count - 1) * n / more);
  return run(blocks, 8 * options_.max_steps);
}

Result<void> CheckedContext::launch(uint32_t stream, const protocol::LaunchRequest& request,
                                    std::span<const std::byte> parameters) {
  const auto found = functions_.find(request.function);
  if (found == functions_.end() || !sample(found->second, request)) {
    return inner().launch(stream, request, parameters);
  }
  const auto start = Clock::now();
  const Function& function = found->second;
  Check check;
  check.kernel = demangle(function.name);
  check.launch = launches_;
  std::ranges::copy(std::to_array({request.grid_x, request.grid_y, request.grid_z}), check.grid);
  std::ranges::copy(std::to_array<uint32_t>({request.block_x, request.block_y, request.block_z}),
                    check.block);
  const auto finish = [&](Result<void> launched, const Result<void>& checked) {
    if (!checked) check.detail = checked.error().reason;
    seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
    options_.report(check);
    return launched;
  };
  Module& module = modules_[function.module];
  Result<void> ready = parse(function.module, module);
  if (ready) ready = image_.take(inner(), readable(module));
  auto launched = inner().launch(stream, request, parameters);
  if (launched) launched = inner().wait_idle();
  if (!launched || !ready) return finish(launched, launched ? ready : launched);
  if ((request.flags & protocol::kLaunchCooperative) != 0) {
    check.detail = "a cooperative launch";
    return finish(launched, {});
  }
  auto traits = module.traits.find(function.name);
  if (traits == module.traits.end()) {
    auto read = traits_of(*module.ptx, function.name);
    if (!read) return finish(launched, std::unexpected(read.error()));
    traits = module.traits.emplace(function.name, *read).first;
  }
  check.approximate = traits->second.approximate;
  if (!run_oracle(module, function, request, parameters, check)) return finish(launched, {});
  const uint64_t blocks = uint64_t{request.grid_x} * request.grid_y * request.grid_z;
  return finish(launched, compare(inner(), image_, traits->second, check.blocks_checked == blocks, check));
}

// ---- the backend ----

class CheckedBackend final : public device::Backend {
 public:
  CheckedBackend(std::unique_ptr<device::Backend> inner, Options options)
      : inner_(std::move(inner)), options_(std::move(options)) {}

  const device::DeviceProperties& properties() const override { return inner_->properties(); }
  Result<std::unique_ptr<device::Context>> create_context(const device::Quota& quota) override {
    auto context = inner_->create_context(quota);
    if (!context) return context;
    const auto capability = properties().compute_major * 10 + properties().compute_minor;
    return std::make_unique<CheckedContext>(std::move(*context), options_, capability);
  }
  std::string statistics() const override { return inner_->statistics(); }
  device::BackendCounts counts() const override { return inner_->counts(); }

 private:
  std::unique_ptr<device::Backend> inner_;
  const Options options_;
};

}  // namespace

std::unique_ptr<device::Backend> check_backend(std::unique_ptr<device::Backend> inner, Options options) {
  return std::make_unique<CheckedBackend>(std::move(inner), std::move(options));
}

}  // namespace vgpu::software::checked
