// See wrap_guards.h. Blocks of a warp run in linear order except along retreating edges (emit_control.cpp),
// so what stands in front in that order may have run, for other lanes, even where no way leads from it.
#include "device/software/ir/wrap_guards.h"

#include <algorithm>

#include "device/software/ir/cfg.h"

namespace vgpu::software::ir {

namespace {

bool cannot_be_repeated(const Instruction& inst) {
  switch (inst.op) {
    case Op::kStore:
      return inst.space != Space::kLocal;  // local memory is the thread's own, and written before it is read
    case Op::kAtomic:
    case Op::kBarrier:
    case Op::kTrap:
    case Op::kPrintf:
      return true;
    case Op::kLoad:
      return inst.is_volatile;
    default:
      return false;
  }
}

// Values that addresses are made of.
std::vector<bool> parts_of_addresses(const Function& function, const std::vector<BlockId>& order) {
  std::vector<bool> part(function.values.size(), false);
  std::vector<ValueId> work;
  const auto mark = [&](ValueId value) {
    if (part[value]) return;
    part[value] = true;
    work.push_back(value);
  };
  for (const BlockId block : order) {
    for (const InstructionId id : function.blocks[block].body) {
      const Instruction& inst = function.instructions[id];
      if (inst.op == Op::kLoad || inst.op == Op::kStore) mark(inst.operands[0]);
    }
  }
  while (!work.empty()) {
    const Instruction* inst = function.definition(work.back());
    work.pop_back();
    if (inst == nullptr) continue;
    switch (inst->op) {
      case Op::kPhi:
      case Op::kKeep:
      case Op::kAdd:
      case Op::kSub:
      case Op::kMul:
      case Op::kShl:
      case Op::kOr:
      case Op::kSExt:
      case Op::kZExt:
        for (const ValueId operand : inst->operands) mark(operand);
        break;
      default:
        break;
    }
  }
  return part;
}

// Can the value be computed where the block begins, from what is there and without loads?
bool is_known_on_entry(const Function& function, ValueId value, BlockId block, int depth = 0) {
  constexpr int kDeepest = 8;
  const Instruction* inst = function.definition(value);
  if (inst == nullptr || inst->block != block || inst->op == Op::kPhi) return true;
  switch (inst->op) {
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kShl:
    case Op::kAShr:
    case Op::kLShr:
    case Op::kAnd:
    case Op::kOr:
    case Op::kXor:
    case Op::kSExt:
    case Op::kZExt:
    case Op::kTrunc:
    case Op::kSpecial:
      return depth < kDeepest &&
             std::ranges::all_of(
                 inst->operands,
                 [&](ValueId operand) { return is_known_on_entry(function, operand, block, depth + 1); });
    default:
      return false;
  }
}

}  // namespace

GuardableExtensions guardable_extensions(const Function& function) {
  GuardableExtensions guardable;
  guardable.by_restart.assign(function.values.size(), false);
  guardable.on_entry = guardable.by_restart;
  const std::vector<BlockId> order = linear_order(function);
  // Blocks that something may have been done before: all behind the first that does something, and what can
  // be reached from them again.
  std::vector<bool> late(function.blocks.size(), false);
  std::vector<bool> seen(function.blocks.size(), false);
  std::vector<BlockId> work;
  bool any = false;
  for (const BlockId block : order) {
    late[block] = any;
    if (std::ranges::any_of(function.blocks[block].body, [&](InstructionId id) {
          return cannot_be_repeated(function.instructions[id]);
        })) {
      any = true;
      work.push_back(block);
    }
  }
  while (!work.empty()) {
    const BlockId block = work.back();
    work.pop_back();
    for (const BlockId succ : function.blocks[block].succs) {
      late[succ] = true;
      if (seen[succ]) continue;
      seen[succ] = true;
      work.push_back(succ);
    }
  }
  const std::vector<bool> part = parts_of_addresses(function, order);
  for (const BlockId block : order) {
    bool is_late = late[block];
    for (const InstructionId id : function.blocks[block].body) {
      const Instruction& inst = function.instructions[id];
      if (cannot_be_repeated(inst)) is_late = true;
      if ((inst.op != Op::kSExt && inst.op != Op::kZExt) || !part[inst.results[0]]) continue;
      guardable.by_restart[inst.results[0]] = !is_late;
      guardable.on_entry[inst.results[0]] = is_known_on_entry(function, inst.operands[0], block);
    }
  }
  return guardable;
}

}  // namespace vgpu::software::ir
