// Two halves of a word that are loaded one by one and put together become one load of the word: kernels that
// read what is only aligned to two bytes do so. Nothing here minds how an address is aligned.
#include <algorithm>
#include <optional>

#include "device/software/ir/passes.h"

namespace vgpu::software::ir {

namespace {

class Merger {
 public:
  explicit Merger(Function& function) : function_(function) {}

  void run() {
    for (BlockId id = 0; id < function_.blocks.size(); ++id) {
      for (const InstructionId inst : function_.blocks[id].body) {
        if (function_.instructions[inst].op == Op::kOr) visit(inst);
      }
    }
  }

 private:
  // The load whose zero-extended result this value is.
  [[nodiscard]] InstructionId extended_load(ValueId value) const {
    const Instruction* extension = function_.definition(value);
    if (extension == nullptr || extension->op != Op::kZExt) return kNone;
    const InstructionId id = function_.values[extension->operands[0]].instruction;
    if (id == kNone) return kNone;
    const Instruction& load = function_.instructions[id];
    const bool fits = load.op == Op::kLoad && load.count == 1 && !load.is_volatile && !is_float(load.type);
    return fits ? id : kNone;
  }

  void visit(InstructionId id) {
    const Instruction& both = function_.instructions[id];
    for (std::size_t i = 0; i < 2; ++i) {
      const Instruction* shifted = function_.definition(both.operands[1 - i]);
      if (shifted == nullptr || shifted->op != Op::kShl || !function_.is_constant(shifted->operands[1]))
        continue;
      const InstructionId low = extended_load(both.operands[i]);
      const InstructionId high = extended_load(shifted->operands[0]);
      if (low == kNone || high == kNone || !are_halves(low, high)) continue;
      const Instruction& first = function_.instructions[low];
      const std::uint32_t half = bits_of(first.type);
      if (bits_of(both.type) != 2 * half || function_.values[shifted->operands[1]].bits != half) continue;
      if (!first.is_constant && is_written_since(low, high, id)) continue;
      Instruction word = first;
      word.type = both.type;
      word.block = both.block;
      word.line = both.line;
      word.results = both.results;
      function_.instructions[id] = std::move(word);
      return;
    }
  }

  [[nodiscard]] bool are_halves(InstructionId low, InstructionId high) const {
    const Instruction& a = function_.instructions[low];
    const Instruction& b = function_.instructions[high];
    return a.type == b.type && a.space == b.space && a.is_constant == b.is_constant && a.block == b.block &&
           a.operands[0] == b.operands[0] && b.imm == a.imm + bits_of(a.type) / 8;
  }

  // Could memory be written between the first of the loads and the place where the word is put together?
  [[nodiscard]] bool is_written_since(InstructionId low, InstructionId high, InstructionId last) const {
    const BlockId block = function_.instructions[last].block;
    if (function_.instructions[low].block != block) return true;
    const auto& body = function_.blocks[block].body;
    const auto from = std::min(std::ranges::find(body, low), std::ranges::find(body, high));
    return std::any_of(from, std::ranges::find(body, last),
                       [&](InstructionId id) { return has_effect(function_.instructions[id]); });
  }

  Function& function_;
};

}  // namespace

void merge_loads(Function& function) {
  Merger(function).run();
  simplify(function);  // the halves are not wanted any more
}

}  // namespace vgpu::software::ir
