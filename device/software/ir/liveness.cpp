// See liveness.h: the usual backward iteration, on one bit per value.
#include "device/software/ir/liveness.h"

#include <algorithm>
#include <ranges>

#include "device/software/ir/cfg.h"

namespace vgpu::software::ir {

LiveValues live_values(const Function& function) {
  using Bits = std::vector<bool>;
  const std::vector<BlockId> order = reverse_post_order(function);
  const std::size_t count = function.values.size();
  std::vector<Bits> in(function.blocks.size(), Bits(count, false));
  std::vector<Bits> behind_phis = in;
  std::vector<Bits> out = in;
  const auto add = [](Bits& to, const Bits& from) {
    bool grew = false;
    for (std::size_t i = 0; i < to.size(); ++i) {
      if (!from[i] || to[i]) continue;
      to[i] = true;
      grew = true;
    }
    return grew;
  };
  const auto read = [&](Bits& live, ValueId value) {
    if (function.values[value].instruction != kNone) live[value] = true;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (const BlockId id : std::views::reverse(order)) {
      const Block& block = function.blocks[id];
      for (const BlockId succ : block.succs) changed |= add(out[id], in[succ]);
      Bits live = out[id];
      for (const BlockId succ : block.succs) {
        const auto& preds = function.blocks[succ].preds;
        const auto slot = static_cast<std::size_t>(std::ranges::find(preds, id) - preds.begin());
        for (const InstructionId phi : function.blocks[succ].phis) {
          read(live, function.instructions[phi].operands[slot]);
        }
      }
      if (block.condition != kNone) read(live, block.condition);
      for (const InstructionId inst : std::views::reverse(block.body)) {
        for (const ValueId result : function.instructions[inst].results) live[result] = false;
        for (const ValueId operand : function.instructions[inst].operands) read(live, operand);
      }
      changed |= add(behind_phis[id], live);
      for (const InstructionId phi : block.phis) live[function.instructions[phi].results[0]] = false;
      changed |= add(in[id], live);
    }
  }
  const auto listed = [&](const std::vector<Bits>& sets) {
    std::vector<std::vector<ValueId>> values(sets.size());
    for (const BlockId id : order) {
      for (ValueId value = 0; value < count; ++value) {
        if (sets[id][value]) values[id].push_back(value);
      }
    }
    return values;
  };
  return {listed(behind_phis), listed(out)};
}

}  // namespace vgpu::software::ir
