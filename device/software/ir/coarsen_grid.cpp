// Neighbouring blocks become one: what depends on ctaid.x is there once for each, side by side, and the rest
// once for all. What a block costs before it comes to its own data is shared, and the processor gets several
// independent chains of work.
#include <algorithm>
#include <numeric>
#include <utility>

#include "device/software/ir/passes.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

namespace {

bool is_of_shared_memory(const Instruction& inst) {
  return (inst.op == Op::kLoad || inst.op == Op::kStore) && inst.space == Space::kShared;
}

// What blocks cannot do in one place, or not at the same time.
const char* obstacle(const Instruction& inst) {
  if (inst.is_volatile) return "volatile accesses";
  switch (inst.op) {
    case Op::kAtomic:
    case Op::kFence:
      return "atomic operations";
    case Op::kSharedWindow:
    case Op::kSharedEnd:
      return "generic addresses of shared memory";
    case Op::kLocalWindow:
    case Op::kLocalStart:
    case Op::kLocalEnd:
      return "local memory";
    case Op::kClock:
    case Op::kPrintf:
    case Op::kTrap:
      return "clocks, printf or traps";
    case Op::kLoad:
    case Op::kStore:
      return inst.space == Space::kLocal ? "local memory" : nullptr;
    case Op::kBarrier:
      return inst.sub == static_cast<std::uint8_t>(BarrierKind::kSync) ? nullptr : "barriers that reduce";
    default:
      return nullptr;
  }
}

class Coarsening {
 public:
  Coarsening(Function& function, std::uint32_t factor) : function_(function), factor_(factor) {}

  std::expected<void, std::string> run() {
    if (function_.local_bytes != 0) return std::unexpected("local memory");
    for (const Block& block : function_.blocks) {
      for (const InstructionId id : block.body) {
        if (const char* reason = obstacle(function_.instructions[id])) return std::unexpected(reason);
      }
    }
    find_what_differs();
    bool any = false;
    for (const Block& block : function_.blocks) {
      if (block.terminator == Terminator::kBranch && differs_[block.condition])
        return std::unexpected("branches on the block's index");
      for (const InstructionId id : block.body) {
        if (!is_each_blocks(function_.instructions[id])) continue;
        if (function_.instructions[id].op == Op::kBarrier)
          return std::unexpected("barriers by the block's index");
        any = true;
      }
    }
    if (!any) return std::unexpected("blocks that all do the same");
    write_copies();
    return {};
  }

 private:
  [[nodiscard]] bool is_each_blocks(const Instruction& inst) const {
    using SR = ptx::SpecialRegister;
    return (inst.op == Op::kSpecial && static_cast<SR>(inst.imm) == SR::kCtaidX) ||
           is_of_shared_memory(inst) ||
           std::ranges::any_of(inst.operands, [&](ValueId operand) { return differs_[operand]; });
  }

  void find_what_differs() {
    differs_.assign(function_.values.size(), false);
    for (bool changed = true; changed;) {
      changed = false;
      const auto visit = [&](const Instruction& inst) {
        if (inst.results.empty() || differs_[inst.results[0]] || !is_each_blocks(inst)) return;
        for (const ValueId result : inst.results) differs_[result] = true;
        changed = true;
      };
      for (const Block& block : function_.blocks) {
        for (const InstructionId id : block.phis) visit(function_.instructions[id]);
        for (const InstructionId id : block.body) visit(function_.instructions[id]);
      }
    }
  }

  void write_copies() {
    const std::size_t values = function_.values.size();
    std::vector<std::vector<InstructionId>> copies(function_.instructions.size());
    for (std::uint8_t which = 1; which < factor_; ++which) {
      std::vector<ValueId> own(values);  // by the first block's value
      std::iota(own.begin(), own.end(), ValueId{0});
      const auto copy = [&](InstructionId id) {
        Instruction made = function_.instructions[id];
        if (!is_each_blocks(made)) return;
        const std::vector<ValueId> results = std::exchange(made.results, {});
        if (made.op == Op::kSpecial || is_of_shared_memory(made)) made.of_block = which;
        copies[id].push_back(function_.create(std::move(made), static_cast<std::uint32_t>(results.size())));
        for (std::size_t i = 0; i < results.size(); ++i)
          own[results[i]] = function_.instructions[copies[id].back()].results[i];
      };
      for (const Block& block : function_.blocks) {
        std::ranges::for_each(block.phis, copy);
        std::ranges::for_each(block.body, copy);
      }
      for (const auto& made : copies) {
        if (made.empty()) continue;
        for (ValueId& operand : function_.instructions[made.back()].operands) operand = own[operand];
      }
    }
    for (Block& block : function_.blocks) {
      for (auto* list : {&block.phis, &block.body}) {
        std::vector<InstructionId> placed;
        for (const InstructionId id : *list) {
          placed.push_back(id);
          placed.insert(placed.end(), copies[id].begin(), copies[id].end());
        }
        *list = std::move(placed);
      }
    }
  }

  Function& function_;
  std::uint32_t factor_;
  std::vector<bool> differs_;  // values that are not the same in all blocks
};

}  // namespace

std::expected<void, std::string> coarsen_grid(Function& function, std::uint32_t factor) {
  return Coarsening(function, factor).run();
}

}  // namespace vgpu::software::ir
