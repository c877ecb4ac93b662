// SoftwareContext::launch: the checks of a launch, the code for its shape, and its way to the launcher.
#include <fmt/format.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <future>
#include <system_error>
#include <thread>

#include "device/software/runtime/device_attributes.h"
#include "device/software/runtime/fault_guard.h"
#include "device/software/runtime/software_context.h"
#include "device/software/runtime/warp_frames.h"

namespace vgpu::software {
namespace {

// What cooperative groups keep in the workspace of a grid: its size, then the word that grid.sync() counts
// on.
constexpr uint64_t kGridWorkspaceBytes = 256;
// A kernel that has run this long is compiled for several blocks or warps at a time.
constexpr uint64_t kWorthCoarsening = 20'000'000;  // ns
// Kernels that are announced at a time.
constexpr std::size_t kMostAhead = 64;

std::unexpected<Error> refuse(Status status, std::string_view kernel, std::string why) {
  return std::unexpected(Error{status, fmt::format("launch of {}: {}", kernel, why)});
}

jit::LaunchShape shape_of(LoadedFunction& kernel, const protocol::LaunchRequest& request,
                          std::span<const std::byte> parameters) {
  auto shape = jit::LaunchShape::of({request.block_x, request.block_y, request.block_z},
                                    {request.grid_x, request.grid_y, request.grid_z});
  shape.null_params = kernel.null_params(parameters);
  return shape;
}

CoarserCodes compile_coarser(KernelCompiler& compiler, const ptx::Module& module, const std::string& kernel,
                             jit::LaunchShape shape) {
  CoarserCodes made;
  for (shape.at_a_time = 2; shape.at_a_time <= kMostAtATime; shape.at_a_time *= 2) {
    auto compiled = compiler.compile(module, kernel, shape);
    if (!compiled) {
      if (compiled.error().kind != jit::ErrorKind::kUnsupported) made.fault = compiled.error().message;
      break;
    }
    // Of several a warp keeps more at barriers; a launch must not fail for that.
    if ((*compiled)->frame_bytes > WarpFrames::kMostBytes) break;
    made.codes.push_back(std::move(*compiled));
  }
  return made;
}

}  // namespace

Result<void> SoftwareContext::check_launch(const LoadedFunction& function,
                                           const protocol::LaunchRequest& request,
                                           std::size_t parameter_bytes) const {
  const auto& attributes = function.info().attributes;
  const uint64_t threads = uint64_t{request.block_x} * request.block_y * request.block_z;
  if (threads == 0 || request.grid_x == 0 || request.grid_y == 0 || request.grid_z == 0 ||
      request.grid_x > 0x7fffffffu || request.grid_y > 65535 || request.grid_z > 65535 ||
      request.block_z > 64) {
    return refuse(Status::kInvalidValue, function.name(),
                  fmt::format("grid ({}, {}, {}), block ({}, {}, {})", request.grid_x, request.grid_y,
                              request.grid_z, request.block_x, request.block_y, request.block_z));
  }
  if (threads > attributes.max_threads_per_block) {
    return refuse(Status::kInvalidValue, function.name(),
                  fmt::format("{} threads per block; at most {}", threads, attributes.max_threads_per_block));
  }
  if (request.shared_bytes > function.max_dynamic_shared()) {
    return refuse(
        Status::kInvalidValue, function.name(),
        fmt::format("{} bytes of dynamic shared memory beside {} static ones; at most {}",
                    request.shared_bytes, attributes.static_shared_bytes, function.max_dynamic_shared()));
  }
  if (parameter_bytes != attributes.parameter_bytes) {
    return refuse(Status::kInvalidValue, function.name(),
                  fmt::format("{} bytes of parameters; the kernel has {}", parameter_bytes,
                              attributes.parameter_bytes));
  }
  return {};
}

Result<uint64_t> SoftwareContext::grid_workspace() {
  if (grid_workspace_ == 0) {
    const auto address = memory_.allocate(kGridWorkspaceBytes, RangeKind::kModule);
    if (!address) return address;
    grid_workspace_ = *address;
  }
  auto* words = reinterpret_cast<uint32_t*>(grid_workspace_);
  std::memset(words, 0, kGridWorkspaceBytes);
  words[0] = kGridWorkspaceBytes;
  return grid_workspace_;
}

// Code for several blocks or warps at a time takes its time to compile, so only what runs long gets it, from
// a thread of its own, one kernel after the other.
Result<void> SoftwareContext::coarsen_if_worth_it(const LoadedFunction& kernel, LoadedFunction::Code& code,
                                                  bool has_several) {
  const bool always = device_.always_coarsen;
  const bool worth = always || code.record->nanoseconds.load(std::memory_order_relaxed) >= kWorthCoarsening;
  try {
    if (!code.coarsened && worth && has_several && !device_.coarsening.exchange(true)) {
      code.coarsened = true;
      std::packaged_task<CoarserCodes()> task(
          [&compiler = *device_.compiler, ptx = kernel.module().shared_ptx(), name = kernel.name(),
           shape = code.shape] { return compile_coarser(compiler, *ptx, name, shape); });
      code.coarser = task.get_future();
      try {
        device_.coarsener = std::jthread([&busy = device_.coarsening, task = std::move(task)]() mutable {
          block_asynchronous_signals();
          task();
          busy.store(false);
        });
      } catch (const std::system_error&) {  // no thread to be had; nor will the future have anything
        device_.coarsening.store(false);
      }
    }
    using namespace std::chrono_literals;
    if (!code.coarser.valid() || (!always && code.coarser.wait_for(0s) != std::future_status::ready))
      return {};
    CoarserCodes made = code.coarser.get();
    for (KernelCodes::Code& coarser : made.codes) {
      device_.kernels.record(kernel.name(), code.shape, *coarser);
      code.codes.add(std::move(coarser));
    }
    if (always) code.codes.choose_last();
    // The code there is does as well; who asked for the other is told.
    if (always && !made.fault.empty()) return refuse(Status::kLaunchFailed, kernel.name(), made.fault);
  } catch (const std::exception&) {  // no thread, or no memory to compile in: the code there is does as well
  }
  return {};
}

void SoftwareContext::compile_ahead(LoadedFunction& needed, const jit::LaunchShape& needed_shape) {
  if (!upcoming_ || !ahead_.available()) return;
  CompileAhead::Kernels coming;
  try {
    // This thread asks for it next; whoever else will want it waits for that.
    (void)needed.announce(*device_.compiler, needed_shape);
    upcoming_([&](const protocol::LaunchRequest& request, std::span<const std::byte> parameters) {
      const auto kernel = function(request.function);
      if (!kernel || !check_launch(**kernel, request, parameters.size())) return true;
      auto announced = (*kernel)->announce(*device_.compiler, shape_of(**kernel, request, parameters));
      if (announced) coming.push_back(std::move(announced));
      return coming.size() < kMostAhead;
    });
    ahead_.start(std::move(coming));
  } catch (const std::exception&) {  // no memory: each is compiled when its turn comes
  }
}

Result<void> SoftwareContext::launch(uint32_t stream, const protocol::LaunchRequest& request,
                                     std::span<const std::byte> parameters) {
  if (auto ok = usable(stream); !ok) return ok;
  const auto found = function(request.function);
  if (!found) return std::unexpected(found.error());
  LoadedFunction& kernel = **found;
  if (auto ok = check_launch(kernel, request, parameters.size()); !ok) return ok;

  const uint32_t ntid[3] = {request.block_x, request.block_y, request.block_z};
  const uint32_t nctaid[3] = {request.grid_x, request.grid_y, request.grid_z};
  const auto shape = shape_of(kernel, request, parameters);
  LoadedFunction::Code* code = kernel.find_code(shape);
  if (code == nullptr) {
    compile_ahead(kernel, shape);
    const auto compiled = kernel.compile(*device_.compiler, shape);
    if (!compiled) return std::unexpected(compiled.error());
    code = *compiled;
  }
  KernelCodes& codes = code->codes;
  const jit::CompiledKernel& compiled = codes.one();
  const uint64_t shared_bytes = uint64_t{compiled.dynamic_shared_offset} + request.shared_bytes;
  if (shared_bytes > kMaxSharedBytes || compiled.local_bytes > kMaxLocalBytes) {
    return refuse(Status::kInvalidValue, kernel.name(),
                  fmt::format("{} bytes of shared memory, {} of local memory; at most {} and {}",
                              shared_bytes, compiled.local_bytes, kMaxSharedBytes, kMaxLocalBytes));
  }

  LaunchPlan plan;
  plan.codes = &codes;
  plan.kind = &codes.kind(launch_key(parameters));
  plan.mxcsr = compiled.mxcsr;
  plan.threads = ntid[0] * ntid[1] * ntid[2];
  plan.local_stride = static_cast<uint32_t>(round_up(compiled.local_bytes, 16));
  plan.shared_bytes = static_cast<uint32_t>(shared_bytes);
  plan.blocks = uint64_t{nctaid[0]} * nctaid[1] * nctaid[2];
  plan.context_id = id_;
  plan.kernel = kernel.name();
  plan.print = &device_.print;
  plan.stop = &stop_;

  if (!parameters.empty()) std::memcpy(parameters_.data(), parameters.data(), parameters.size());
  BlockState& state = plan.prototype;
  state.params = parameters_.data();
  state.globals = kernel.module().globals();
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  state.cancel = reinterpret_cast<const uint32_t*>(&stop_);
  state.dynamic_shared_bytes = request.shared_bytes;
  std::memcpy(state.ntid, ntid, sizeof ntid);
  std::memcpy(state.nctaid, nctaid, sizeof nctaid);
  state.grid_id = ++launches_;

  device_.launches.fetch_add(1, std::memory_order_relaxed);
  device_.blocks.fetch_add(plan.blocks, std::memory_order_relaxed);
  if (!code->record) code->record = device_.kernels.record(kernel.name(), code->shape, compiled);
  if (auto ok = coarsen_if_worth_it(kernel, *code, nctaid[0] > 1 || ntid[1] > 1); !ok) return ok;
  const TimedLaunch timed(*code->record, plan.blocks, &codes, plan.kind);
  if ((request.flags & protocol::kLaunchCooperative) == 0) return keep(device_.launcher->run(plan, runner_));

  const uint64_t resident =
      uint64_t{resident_blocks(plan.threads, plan.shared_bytes)} * device_.launcher->threads();
  if (plan.blocks > resident) {
    return refuse(Status::kCooperativeLaunchTooLarge, kernel.name(),
                  fmt::format("{} blocks at the same time; at most {}", plan.blocks, resident));
  }
  const auto workspace = grid_workspace();
  if (!workspace) return std::unexpected(workspace.error());
  state.grid_workspace = *workspace;
  return keep(device_.launcher->run_cooperative(plan, runner_));
}

}  // namespace vgpu::software
