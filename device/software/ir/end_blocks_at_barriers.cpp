// A barrier as the last instruction of its block: whatever is wanted behind it then leaves the block, and can
// be kept while the warp waits.
#include <algorithm>
#include <utility>
#include <vector>

#include "device/software/ir/passes.h"

namespace vgpu::software::ir {
namespace {

// Neither the branch nor the phis behind it read what the block computes.
bool just_ends(const Function& function, const Block& block) {
  return block.terminator == Terminator::kExit ||
         (block.terminator == Terminator::kJump && function.blocks[block.succs[0]].phis.empty());
}

void cut_behind(Function& function, BlockId id, std::size_t barrier) {
  const auto rest = static_cast<BlockId>(function.blocks.size());
  function.blocks.emplace_back();
  Block& first = function.blocks[id];
  Block& second = function.blocks[rest];
  const auto cut = first.body.begin() + static_cast<std::ptrdiff_t>(barrier) + 1;
  second.body.assign(cut, first.body.end());
  first.body.erase(cut, first.body.end());
  for (const InstructionId moved : second.body) function.instructions[moved].block = rest;
  second.terminator = std::exchange(first.terminator, Terminator::kJump);
  second.condition = std::exchange(first.condition, kNone);
  second.succs = std::exchange(first.succs, {rest});
  second.preds = {id};
  second.line = first.line;
  for (const BlockId succ : second.succs) std::ranges::replace(function.blocks[succ].preds, id, rest);
}

}  // namespace

void end_blocks_at_barriers(Function& function) {
  if (!function.uses_barriers) return;
  for (BlockId id = 0; id < function.blocks.size(); ++id) {  // what is cut off is looked at in its turn
    const Block& block = function.blocks[id];
    const auto barrier = std::ranges::find_if(
        block.body, [&](InstructionId inst) { return function.instructions[inst].op == Op::kBarrier; });
    if (barrier == block.body.end()) continue;
    if (barrier + 1 == block.body.end() && just_ends(function, block)) continue;
    cut_behind(function, id, static_cast<std::size_t>(barrier - block.body.begin()));
  }
}

}  // namespace vgpu::software::ir
