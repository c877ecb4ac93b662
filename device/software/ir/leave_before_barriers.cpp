// Who only ends behind a barrier of the whole block need not wait there: a barrier waits for those that have
// not ended. So `bar.sync; if (warp != 0) return;` is left by all warps but one before the barrier.
#include <algorithm>
#include <utility>
#include <vector>

#include "device/software/ir/passes.h"

namespace vgpu::software::ir {
namespace {

// It gives the same in front of a barrier as behind it.
bool may_move(const Instruction& inst) {
  return !has_effect(inst) && inst.op != Op::kClock && (inst.op != Op::kLoad || inst.is_constant);
}

bool only_ends(const Block& block) {
  return block.terminator == Terminator::kExit && block.body.empty() && block.phis.empty();
}

// Which of the ways from the block goes on, if the other one only ends.
std::uint32_t way_on(const Function& function, const Block& block) {
  if (block.terminator != Terminator::kBranch) return kNone;
  const bool ends[2] = {only_ends(function.blocks[block.succs[0]]),
                        only_ends(function.blocks[block.succs[1]])};
  return ends[0] == ends[1] ? kNone : ends[0] ? 1 : 0;
}

// The block's barrier, if nothing behind it has to stay there; else the end.
std::vector<InstructionId>::const_iterator movable_barrier(const Function& function, const Block& block) {
  const auto behind = std::ranges::find_if_not(block.body.rbegin(), block.body.rend(), [&](InstructionId id) {
    return may_move(function.instructions[id]);
  });
  if (behind == block.body.rend()) return block.body.cend();
  const Instruction& inst = function.instructions[*behind];
  return inst.op == Op::kBarrier && waits_for_all(function, inst) ? behind.base() - 1 : block.body.cend();
}

}  // namespace

std::uint32_t leave_before_barriers(Function& function) {
  std::uint32_t skipped = 0;
  if (!function.uses_barriers) return skipped;
  for (BlockId id = 0, count = static_cast<BlockId>(function.blocks.size()); id < count; ++id) {
    const std::uint32_t on = way_on(function, function.blocks[id]);
    if (on == kNone) continue;
    const auto found = movable_barrier(function, function.blocks[id]);
    if (found == function.blocks[id].body.end()) continue;
    const InstructionId barrier = *found;
    function.blocks[id].body.erase(found);
    const auto waiting = static_cast<BlockId>(function.blocks.size());
    Block& between = function.blocks.emplace_back();
    const BlockId next = std::exchange(function.blocks[id].succs[on], waiting);
    between.body = {barrier};
    between.terminator = Terminator::kJump;
    between.succs = {next};
    between.preds = {id};
    between.line = function.instructions[barrier].line;
    function.instructions[barrier].block = waiting;
    std::ranges::replace(function.blocks[next].preds, id, waiting);
    ++skipped;
  }
  return skipped;
}

}  // namespace vgpu::software::ir
