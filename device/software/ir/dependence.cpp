// See dependence.h.
#include "device/software/ir/dependence.h"

#include <algorithm>

namespace vgpu::software::ir {

std::vector<bool> depending_values(const Function& function, const std::vector<BlockId>& order,
                                   const std::function<bool(const Instruction&)>& is_source,
                                   const std::function<bool(ValueId)>& passes) {
  std::vector<bool> depends(function.values.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    const auto visit = [&](InstructionId id) {
      const Instruction& inst = function.instructions[id];
      if (!is_source(inst) &&
          std::ranges::none_of(inst.operands, [&](ValueId operand) { return depends[operand]; })) {
        return;
      }
      for (const ValueId result : inst.results) {
        if (depends[result] || !passes(result)) continue;
        depends[result] = true;
        changed = true;
      }
    };
    for (const BlockId id : order) {
      std::ranges::for_each(function.blocks[id].phis, visit);
      std::ranges::for_each(function.blocks[id].body, visit);
    }
  }
  return depends;
}

bool gives_data(const Instruction& instruction) {
  return has_effect(instruction) || (instruction.op == Op::kLoad && instruction.space != Space::kParam) ||
         instruction.op == Op::kShfl;
}

}  // namespace vgpu::software::ir
