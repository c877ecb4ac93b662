// See meets_once.h. Blocks of a warp run in linear order except along retreating edges (emit_control.cpp), so
// a block that no retreating edge leads over runs at most once.
#include "device/software/ir/meets_once.h"

#include <cstddef>
#include <vector>

#include "device/software/ir/cfg.h"
#include "device/software/kernel_abi.h"

namespace vgpu::software::ir {
namespace {

bool whole_block_waits(const Function& function, const Instruction& barrier) {
  const ValueId threads = barrier.operands[1];
  return function.is_constant(barrier.operands[0]) && function.is_constant(threads) &&
         function.values[threads].bits == 0 && barrier.sub != static_cast<std::uint8_t>(BarrierKind::kArrive);
}

}  // namespace

bool meets_once(const Function& function) {
  const std::vector<BlockId> order = linear_order(function);
  std::vector<std::size_t> position(function.blocks.size());
  for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = i;

  const Instruction* barrier = nullptr;
  std::size_t place = 0;
  for (const BlockId block : order) {
    for (const InstructionId id : function.blocks[block].body) {
      const Instruction& inst = function.instructions[id];
      if (inst.op != Op::kBarrier) continue;
      if (barrier != nullptr || !whole_block_waits(function, inst)) return false;
      barrier = &inst;
      place = position[block];
    }
  }
  if (barrier == nullptr) return false;
  for (const BlockId from : order) {
    for (const BlockId to : function.blocks[from].succs) {
      if (position[to] <= place && place <= position[from]) return false;
    }
  }
  return true;
}

}  // namespace vgpu::software::ir
