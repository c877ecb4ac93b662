// Construction helpers of the form, and the rules a pass must keep.
#include "device/software/ir/ir.h"

#include <algorithm>

#include "device/software/ir/cfg.h"

namespace vgpu::software::ir {

ValueId Function::constant(Type type, std::uint64_t bits) {
  const std::uint32_t width = bits_of(type);
  if (width < 64) bits &= (std::uint64_t{1} << width) - 1;
  const auto [at, inserted] = constants_.try_emplace(Key{type, bits}, static_cast<ValueId>(values.size()));
  if (inserted) values.push_back({.type = type, .bits = bits});
  return at->second;
}

ValueId Function::undef(Type type) {
  ValueId& slot = undefs_[static_cast<std::size_t>(type)];
  if (slot == kNone) {
    slot = static_cast<ValueId>(values.size());
    values.push_back({.type = type, .is_undef = true});
  }
  return slot;
}

InstructionId Function::create(Instruction instruction, std::uint32_t result_count) {
  const auto id = static_cast<InstructionId>(instructions.size());
  for (std::uint32_t i = 0; i < result_count; ++i) {
    instruction.results.push_back(static_cast<ValueId>(values.size()));
    values.push_back({.type = result_type(instruction, i), .instruction = id, .result = i});
  }
  instructions.push_back(std::move(instruction));
  return id;
}

Type result_type(const Instruction& instruction, std::uint32_t index) {
  switch (instruction.op) {
    case Op::kICmp:
    case Op::kFCmp:
    case Op::kTestP:
      return Type::kI1;
    case Op::kShfl:
      return index == 1 ? Type::kI1 : instruction.type;
    default:
      return instruction.type;
  }
}

bool has_effect(const Instruction& instruction) {
  switch (instruction.op) {
    case Op::kRegWrite:
    case Op::kStore:
    case Op::kAtomic:
    case Op::kFence:
    case Op::kBarrier:
    case Op::kTrap:
    case Op::kPrintf:
      return true;
    case Op::kLoad:
      return instruction.is_volatile;
    default:
      return false;
  }
}

bool waits_for_all(const Function& function, const Instruction& barrier) {
  const ValueId threads = barrier.operands[1];
  return barrier.sub == static_cast<std::uint8_t>(BarrierKind::kSync) && function.is_constant(threads) &&
         function.values[threads].bits == 0;
}

std::string verify(const Function& function) {
  const DominatorTree tree = dominators(function);
  const auto order = reverse_post_order(function);
  std::vector<std::uint32_t> number(function.blocks.size(), kNone);
  for (std::uint32_t i = 0; i < order.size(); ++i) number[order[i]] = i;
  std::vector<std::uint32_t> position(function.instructions.size(), kNone);
  std::uint32_t clock = 0;
  for (const BlockId block : order) {
    for (const InstructionId id : function.blocks[block].phis) position[id] = clock;
    ++clock;
    for (const InstructionId id : function.blocks[block].body) position[id] = clock++;
  }
  const auto at = [](BlockId block) { return " in block " + std::to_string(block); };
  // A value must be defined on every way to where it is used.
  const auto available = [&](ValueId value, BlockId block, std::uint32_t when) {
    if (value >= function.values.size()) return false;
    const InstructionId id = function.values[value].instruction;
    if (id == kNone) return true;
    if (position[id] == kNone) return false;
    const BlockId home = function.instructions[id].block;
    return home == block ? position[id] < when || function.instructions[id].op == Op::kPhi
                         : tree.dominates(home, block);
  };
  for (const BlockId id : order) {
    const Block& block = function.blocks[id];
    const std::size_t wanted = block.terminator == Terminator::kExit   ? 0
                               : block.terminator == Terminator::kJump ? 1
                                                                       : 2;
    if (block.succs.size() != wanted) return "wrong number of successors" + at(id);
    for (const BlockId succ : block.succs) {
      if (std::ranges::count(function.blocks[succ].preds, id) != 1) return "edges do not match" + at(id);
      if (number[succ] <= number[id] && !tree.dominates(succ, id))
        return "loop with several entries" + at(succ);
    }
    for (const InstructionId phi : block.phis) {
      const Instruction& inst = function.instructions[phi];
      if (inst.operands.size() != block.preds.size()) return "phi does not match predecessors" + at(id);
      for (std::size_t i = 0; i < inst.operands.size(); ++i) {
        if (!available(inst.operands[i], block.preds[i], kNone)) return "phi operand not available" + at(id);
        if (function.values[inst.operands[i]].type != inst.type) return "phi of mixed types" + at(id);
      }
    }
    for (const InstructionId body : block.body) {
      const Instruction& inst = function.instructions[body];
      if (inst.block != id) return "instruction in two blocks" + at(id);
      for (const ValueId operand : inst.operands) {
        if (!available(operand, id, position[body])) {
          return std::string("operand of ") + name_of(inst.op) + " not available" + at(id);
        }
      }
    }
    if (block.terminator == Terminator::kBranch &&
        (!available(block.condition, id, kNone) || function.values[block.condition].type != Type::kI1)) {
      return "bad condition" + at(id);
    }
  }
  return {};
}

}  // namespace vgpu::software::ir
