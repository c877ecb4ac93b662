// Facts about the shape of the control-flow graph, recomputed when asked for: order, dominators, loops.
#pragma once

#include <cstdint>
#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// Blocks reachable from the entry in reverse post-order.
[[nodiscard]] std::vector<BlockId> reverse_post_order(const Function& function);

// Drops unreachable blocks (they lose their edges) and rebuilds Block::preds, keeping phi operands in step.
void rebuild_preds(Function& function);

struct DominatorTree {
  std::vector<BlockId> idom;  // kNone for unreachable blocks; the root's is itself
  std::vector<std::uint32_t> in, out;

  [[nodiscard]] bool dominates(BlockId a, BlockId b) const { return in[a] <= in[b] && out[b] <= out[a]; }
};
[[nodiscard]] DominatorTree dominators(const Function& function);

// Immediate post-dominators over the virtual exit, which has the number succs.size(). Blocks from which no
// exit can be reached (endless loops) are taken to leave to the exit.
[[nodiscard]] std::vector<BlockId> post_dominators(const std::vector<std::vector<BlockId>>& succs);

// A natural loop: there are no others behind reduce_loops.
struct Loop {
  BlockId header = 0;
  std::vector<BlockId> latches;
  std::vector<bool> contains;  // per block
};
// Outer loops before inner ones.
[[nodiscard]] std::vector<Loop> find_loops(const Function& function);

// An order of the reachable blocks in which every edge goes forward, except those back to a loop's header,
// and the blocks of a loop stand together.
[[nodiscard]] std::vector<BlockId> linear_order(const Function& function);

// Gives every loop a single latch, in none of its inner loops, and a single entering edge. So when a loop's
// latch is run, all lanes that go round have come to it, and none reads this round's values any more.
void normalise_loops(Function& function);

}  // namespace vgpu::software::ir
