// run_grid: gets the functions a kernel can reach, lays out shared memory, and runs the blocks in order.
#include "device/software/oracle/oracle.h"

#include <algorithm>
#include <deque>

#include "device/software/oracle/machine.h"

namespace vgpu::software::oracle {

bool Machine::fault(Outcome outcome, std::string message) {
  if (result.outcome == Outcome::kDone) {
    result.outcome = outcome;
    result.message = std::move(message);
  }
  return false;
}

bool Machine::load(std::uint32_t index) {
  if (functions.contains(index) || !module.functions()[index].is_defined) return true;
  auto function = module.parse_function(index);
  if (!function) return fault(Outcome::kInvalidPtx, function.error().describe());
  const ptx::Function& loaded = functions.emplace(index, std::move(*function)).first->second;
  for (const std::uint32_t callee : loaded.called_functions) {
    if (!load(callee)) return false;
  }
  // An indirect call may reach whatever has its address in memory.
  if (!loaded.prototypes.empty()) {
    for (std::uint32_t other = 0; other < module.functions().size(); ++other) {
      if (!module.functions()[other].is_entry && !load(other)) return false;
    }
  }
  return true;
}

bool Machine::prepare(std::string_view name) {
  const auto index = module.function_index(name);
  if (!index || !module.functions()[*index].is_entry) {
    return fault(Outcome::kUnsupported, "no kernel `" + std::string(name) + "`");
  }
  if (!load(*index)) return false;
  kernel = find(*index);
  if (kernel == nullptr)
    return fault(Outcome::kUnsupported, "kernel `" + std::string(name) + "` has no body");
  const std::uint64_t threads = config.block.count();
  if (threads == 0 || threads > 1024 || config.grid.count() == 0) {
    return fault(Outcome::kUnsupported, "a grid of " + std::to_string(config.grid.count()) + " blocks of " +
                                            std::to_string(threads) + " threads");
  }
  if (config.params.size() < module.functions()[*index].parameter_bytes) {
    return fault(Outcome::kUnsupported, "the parameter block is too short");
  }
  if (config.globals.size() < module.variables().size()) {
    return fault(Outcome::kUnsupported, "addresses of module variables are missing");
  }
  std::vector<const ptx::Function*> list;
  for (const auto& [number, function] : functions) list.push_back(&function);
  const ptx::SharedLayout layout = ptx::layout_shared(module, list);
  for (std::size_t i = 0; i < list.size(); ++i) function_shared[list[i]->index] = layout.function_offsets[i];
  for (const auto& [variable, offset] : layout.module_offsets) module_shared[variable] = offset;
  shared_bytes = layout.static_bytes;
  if (config.dynamic_shared_bytes != 0) shared_bytes = layout.dynamic_offset + config.dynamic_shared_bytes;
  if (shared_bytes > kMaxSharedBytes) return fault(Outcome::kUnsupported, "too much shared memory");
  return true;
}

const ptx::Function* Machine::find(std::uint32_t index) const {
  const auto found = functions.find(index);
  return found == functions.end() ? nullptr : &found->second;
}

std::uint64_t Machine::shared_offset(std::uint32_t module_variable) const {
  const auto found = module_shared.find(module_variable);
  return found == module_shared.end() ? 0 : found->second;
}

Result run_grid(const ptx::Module& module, std::string_view function, const LaunchConfig& config,
                Memory& memory) {
  Machine machine(module, config, memory);
  if (!machine.prepare(function)) return machine.result;
  constexpr std::uint64_t kSlice = 4096;  // instructions of a warp before the next one's turn
  std::deque<std::unique_ptr<Block>> resident;
  const std::uint64_t count = config.blocks.empty() ? config.grid.count() : config.blocks.size();
  std::uint64_t next = 0;
  while (next < count || !resident.empty()) {
    while (next < count && resident.size() < std::max(1U, config.resident_blocks)) {
      const std::uint64_t number = config.blocks.empty() ? next : config.blocks[next];
      if (number >= config.grid.count()) {
        machine.fault(Outcome::kUnsupported, "no block " + std::to_string(number) + " in the grid");
        return machine.result;
      }
      const Dim3 index{static_cast<std::uint32_t>(number % config.grid.x),
                       static_cast<std::uint32_t>(number / config.grid.x % config.grid.y),
                       static_cast<std::uint32_t>(number / config.grid.x / config.grid.y)};
      resident.push_back(std::make_unique<Block>(machine, index));
      ++next;
    }
    bool progress = false;
    for (const auto& block : resident) {
      if (!block->run(kSlice, progress)) return machine.result;
    }
    if (!progress && !resident.empty() && !resident.front()->finished()) {
      machine.result.block = resident.front()->index;
      machine.fault(Outcome::kDeadlock, "all threads that have not exited wait at barriers that cannot fill");
      return machine.result;
    }
    std::erase_if(resident, [](const auto& block) { return block->finished(); });
  }
  return machine.result;
}

}  // namespace vgpu::software::oracle
