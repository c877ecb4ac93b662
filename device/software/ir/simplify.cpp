// Constants, copies, dead code. Enough that lane shapes see through what compilers leave behind and that
// branches on the block's size disappear; LLVM does the rest.
#include <algorithm>
#include <optional>

#include "device/software/ir/cfg.h"
#include "device/software/ir/fold.h"
#include "device/software/ir/passes.h"

namespace vgpu::software::ir {

namespace {

class Simplifier {
 public:
  explicit Simplifier(Function& function) : function_(function) {}

  void run() {
    // Each round removes something; a few settle all but contrived input.
    for (int round = 0; round < 8; ++round) {
      changed_ = false;
      alias_.assign(function_.values.size(), kNone);
      for (const BlockId block : reverse_post_order(function_)) visit(block);
      if (!changed_) break;
      apply();
      rebuild_preds(function_);
    }
    drop_flushes();
    drop_dead();
  }

 private:
  [[nodiscard]] ValueId resolve(ValueId value) const {
    while (value < alias_.size() && alias_[value] != kNone) value = alias_[value];
    return value;
  }
  void replace(ValueId value, ValueId by) {
    if (alias_.size() < function_.values.size()) alias_.resize(function_.values.size(), kNone);
    alias_[value] = by;
    changed_ = true;
  }
  [[nodiscard]] bool is_constant(ValueId value, std::uint64_t bits) const {
    return function_.is_constant(value) && function_.values[value].bits == bits;
  }
  [[nodiscard]] std::optional<std::uint64_t> constant_of(ValueId value) const {
    if (!function_.is_constant(value)) return std::nullopt;
    return function_.values[value].bits;
  }
  void visit(BlockId id) {
    for (const InstructionId phi : function_.blocks[id].phis) visit_phi(phi);
    for (std::size_t i = 0; i < function_.blocks[id].body.size(); ++i)
      visit_instruction(function_.blocks[id].body[i]);
    Block& block = function_.blocks[id];
    if (block.terminator != Terminator::kBranch) return;
    block.condition = resolve(block.condition);
    // !p: swap the targets.
    const Instruction* def = function_.definition(block.condition);
    if (def != nullptr && def->op == Op::kXor && is_constant(def->operands[1], 1)) {
      block.condition = def->operands[0];
      std::swap(block.succs[0], block.succs[1]);
      changed_ = true;
    }
    if (const auto known = constant_of(block.condition)) {
      block.succs = {block.succs[*known != 0 ? 0 : 1]};
      block.terminator = Terminator::kJump;
      block.condition = kNone;
      changed_ = true;
    }
  }

  void visit_phi(InstructionId id) {
    Instruction& phi = function_.instructions[id];
    ValueId same = kNone;
    for (ValueId& operand : phi.operands) {
      operand = resolve(operand);
      if (operand == phi.results[0] || operand == same) continue;
      if (same != kNone) return;
      same = operand;
    }
    if (same == kNone) same = function_.undef(phi.type);
    if (resolve(phi.results[0]) == phi.results[0]) replace(phi.results[0], same);
  }

  void visit_instruction(InstructionId id) {
    for (ValueId& operand : function_.instructions[id].operands) operand = resolve(operand);
    const Instruction& inst = function_.instructions[id];
    if (inst.results.size() != 1 || resolve(inst.results[0]) != inst.results[0]) return;
    const ValueId result = inst.results[0];
    if (const auto bits = fold_constants(inst)) {
      const ValueId by = function_.constant(function_.values[result].type, *bits);
      return replace(result, by);
    }
    const ValueId copy = identity(inst);
    if (copy != kNone) replace(result, copy);
  }

  // A value the result always equals.
  [[nodiscard]] ValueId identity(const Instruction& inst) {
    const auto& ops = inst.operands;
    const auto rhs = [&](std::uint64_t bits) { return ops.size() > 1 && is_constant(ops[1], bits); };
    const std::uint64_t ones =
        bits_of(inst.type) == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits_of(inst.type)) - 1;
    switch (inst.op) {
      case Op::kAdd:
        if (is_constant(ops[0], 0)) return ops[1];
        [[fallthrough]];
      case Op::kSub:
      case Op::kShl:
      case Op::kLShr:
      case Op::kAShr:
        return rhs(0) ? ops[0] : kNone;
      case Op::kOr:
        if (is_constant(ops[0], 0) || ops[0] == ops[1]) return ops[1];
        return rhs(0) ? ops[0] : kNone;
      case Op::kXor:
        if (is_constant(ops[0], 0)) return ops[1];
        return rhs(0) ? ops[0] : kNone;
      case Op::kAnd:
        if (ops[0] == ops[1] || rhs(ones)) return ops[0];
        return rhs(0) ? ops[1] : kNone;
      case Op::kMul:
        if (rhs(0)) return ops[1];
        return rhs(1) ? ops[0] : is_constant(ops[0], 1) ? ops[1] : kNone;
      case Op::kDivS:
      case Op::kDivU:
        return rhs(1) ? ops[0] : kNone;
      case Op::kSelect:
        if (ops[1] == ops[2]) return ops[1];
        if (const auto condition = constant_of(ops[0])) return ops[*condition != 0 ? 1 : 2];
        return kNone;
      case Op::kBitcast:
      case Op::kTrunc: {
        // The way back from a conversion.
        const Instruction* def = function_.definition(ops[0]);
        if (def == nullptr) return kNone;
        const bool widened = def->op == Op::kZExt || def->op == Op::kSExt;
        if ((inst.op == Op::kBitcast && def->op == Op::kBitcast) || (inst.op == Op::kTrunc && widened)) {
          const ValueId source = def->operands[0];
          if (function_.values[source].type == inst.type) return source;
        }
        return kNone;
      }
      default:
        return kNone;
    }
  }

  [[nodiscard]] std::optional<std::uint64_t> fold_constants(const Instruction& inst) const {
    if (inst.operands.empty() || inst.operands.size() > 2 || has_effect(inst)) return std::nullopt;
    if (is_float(inst.type) && inst.op != Op::kBitcast) return std::nullopt;
    const auto left = constant_of(inst.operands.front());
    const auto right = constant_of(inst.operands.back());
    if (!left || !right) return std::nullopt;
    return fold(inst.op, inst.type, inst.imm, function_.values[inst.operands.front()].type, *left,
                function_.values[inst.operands.back()].type, *right);
  }

  void apply() {
    for (Block& block : function_.blocks) {
      const auto gone = [&](InstructionId id) {
        const Instruction& inst = function_.instructions[id];
        return !has_effect(inst) && inst.results.size() == 1 && resolve(inst.results[0]) != inst.results[0];
      };
      std::erase_if(block.phis, gone);
      std::erase_if(block.body, gone);
      for (const InstructionId id : block.phis) resolve_operands(id);
      for (const InstructionId id : block.body) resolve_operands(id);
      if (block.condition != kNone) block.condition = resolve(block.condition);
    }
  }
  void resolve_operands(InstructionId id) {
    for (ValueId& operand : function_.instructions[id].operands) operand = resolve(operand);
  }

  // Where the processor flushes, a flushed value that only arithmetic reads need not be flushed twice.
  void drop_flushes() {
    if (function_.flush != FlushMode::kAlways) return;
    alias_.assign(function_.values.size(), kNone);
    std::vector<bool> observed(function_.values.size(), false);
    for (const Block& block : function_.blocks) {
      for (const InstructionId id : block.phis) mark_observed(id, observed);
      for (const InstructionId id : block.body) mark_observed(id, observed);
    }
    for (const Block& block : function_.blocks) {
      for (const InstructionId id : block.body) {
        const Instruction& inst = function_.instructions[id];
        if (inst.op == Op::kFlush && !observed[inst.results[0]]) alias_[inst.results[0]] = inst.operands[0];
      }
    }
    apply();
  }
  void mark_observed(InstructionId id, std::vector<bool>& observed) const {
    const Instruction& inst = function_.instructions[id];
    switch (inst.op) {
      case Op::kFAdd:
      case Op::kFSub:
      case Op::kFMul:
      case Op::kFFma:
      case Op::kFDiv:
      case Op::kFSqrt:
      case Op::kFCmp:
      case Op::kEx2:
        return;
      default:
        for (const ValueId operand : inst.operands) observed[operand] = true;
    }
  }

  void drop_dead() {
    std::vector<bool> live(function_.instructions.size(), false);
    std::vector<InstructionId> work;
    const auto mark = [&](ValueId value) {
      const InstructionId id = function_.values[value].instruction;
      if (id == kNone || live[id]) return;
      live[id] = true;
      work.push_back(id);
    };
    for (const Block& block : function_.blocks) {
      for (const InstructionId id : block.body) {
        if (has_effect(function_.instructions[id]) && !live[id]) {
          live[id] = true;
          work.push_back(id);
        }
      }
      if (block.condition != kNone) mark(block.condition);
    }
    while (!work.empty()) {
      const InstructionId id = work.back();
      work.pop_back();
      for (const ValueId operand : function_.instructions[id].operands) mark(operand);
    }
    for (Block& block : function_.blocks) {
      std::erase_if(block.phis, [&](InstructionId id) { return !live[id]; });
      std::erase_if(block.body, [&](InstructionId id) { return !live[id]; });
    }
  }

  Function& function_;
  std::vector<ValueId> alias_;
  bool changed_ = false;
};

}  // namespace

void simplify(Function& function) {
  Simplifier(function).run();
}

std::expected<Function, LowerError> prepare(
    const ptx::Module& module, std::string_view kernel, const LowerOptions& options,
    const std::function<void(std::string_view pass, const Function&)>& after) {
  auto lowered = lower(module, kernel, options);
  if (!lowered) return lowered;
  const auto done = [&](std::string_view pass) {
    if (after) after(pass, *lowered);
  };
  done("lower");
  reduce_loops(*lowered);
  build_ssa(*lowered);
  done("build_ssa");
  simplify(*lowered);
  done("simplify");
  if (options.merge_loads) {
    merge_loads(*lowered);
    done("merge_loads");
  }
  if (options.split_loads) {
    split_loads(*lowered);
    done("split_loads");
  }
  normalise_loops(*lowered);
  done("normalise_loops");
  return lowered;
}

}  // namespace vgpu::software::ir
