// A load from one of two addresses, chosen by a branch, becomes a load from each, on the two ways to it.
// Kernels read what lies behind the end of their data from zeros in local memory that way; chosen first and
// loaded then, the address has no shape that is known, and the load is a gather even where everybody reads
// data.
#include <algorithm>

#include "device/software/ir/passes.h"

namespace vgpu::software::ir {

namespace {

class Splitter {
 public:
  explicit Splitter(Function& function) : function_(function) {}

  void run() {
    const std::size_t count = function_.blocks.size();
    for (BlockId id = 0; id < count; ++id) {
      if (function_.blocks[id].preds.size() < 2) continue;
      for (const InstructionId load : loads_by_phi(id)) split(id, load);
    }
  }

 private:
  [[nodiscard]] bool is_local(ValueId address) const {
    const Instruction* inst = function_.definition(address);
    if (inst == nullptr) return false;
    if (inst->op == Op::kLocalWindow) return true;
    return inst->op == Op::kAdd && std::ranges::any_of(inst->operands, [&](ValueId operand) {
             const Instruction* part = function_.definition(operand);
             return part != nullptr && part->op == Op::kLocalWindow;
           });
  }

  // Loads with nothing in front of them in their block that memory could change by.
  [[nodiscard]] std::vector<InstructionId> loads_by_phi(BlockId id) const {
    std::vector<InstructionId> loads;
    for (const InstructionId i : function_.blocks[id].body) {
      const Instruction& inst = function_.instructions[i];
      if (has_effect(inst)) break;
      if (inst.op != Op::kLoad) continue;
      const Instruction* address = function_.definition(inst.operands[0]);
      if (address == nullptr || address->op != Op::kPhi || address->block != id) continue;
      const auto locals =
          std::ranges::count_if(address->operands, [&](ValueId value) { return is_local(value); });
      if (locals == 0 || static_cast<std::size_t>(locals) == address->operands.size()) continue;
      loads.push_back(i);
    }
    return loads;
  }

  // The block that only leads from the predecessor to `id`; made if there is none.
  BlockId edge(BlockId id, std::size_t slot) {
    const BlockId pred = function_.blocks[id].preds[slot];
    if (function_.blocks[pred].succs.size() == 1) return pred;
    const auto between = static_cast<BlockId>(function_.blocks.size());
    Block block;
    block.terminator = Terminator::kJump;
    block.succs = {id};
    block.preds = {pred};
    block.line = function_.blocks[id].line;
    function_.blocks.push_back(std::move(block));
    *std::ranges::find(function_.blocks[pred].succs, id) = between;
    function_.blocks[id].preds[slot] = between;
    return between;
  }

  void split(BlockId id, InstructionId load) {
    const std::size_t ways = function_.blocks[id].preds.size();
    const Instruction chosen = function_.instructions[load];
    const std::vector<ValueId> addresses = function_.definition(chosen.operands[0])->operands;
    std::vector<std::vector<ValueId>> loaded(chosen.results.size());
    for (std::size_t slot = 0; slot < ways; ++slot) {
      const BlockId way = edge(id, slot);
      Instruction copy = chosen;
      copy.block = way;
      copy.operands = {addresses[slot]};
      copy.results.clear();
      const InstructionId made =
          function_.create(std::move(copy), static_cast<std::uint32_t>(chosen.results.size()));
      function_.blocks[way].body.push_back(made);
      for (std::size_t i = 0; i < loaded.size(); ++i)
        loaded[i].push_back(function_.instructions[made].results[i]);
    }
    std::erase(function_.blocks[id].body, load);
    for (std::size_t i = 0; i < loaded.size(); ++i) {
      Instruction phi;
      phi.op = Op::kPhi;
      phi.type = chosen.type;
      phi.block = id;
      phi.line = chosen.line;
      phi.operands = std::move(loaded[i]);
      const InstructionId made = function_.create(std::move(phi), 0);
      // It defines what the load did.
      function_.instructions[made].results = {chosen.results[i]};
      function_.values[chosen.results[i]].instruction = made;
      function_.values[chosen.results[i]].result = 0;
      function_.blocks[id].phis.push_back(made);
    }
  }

  Function& function_;
};

}  // namespace

void split_loads(Function& function) {
  Splitter(function).run();
  simplify(function);  // the chosen addresses are not wanted any more
}

}  // namespace vgpu::software::ir
