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

// A natural loop, or the blocks between the ends of a retreating edge of an irreducible graph.
struct Loop {
  BlockId header = 0;
  bool is_natural = true;
  std::vector<BlockId> latches;
  std::vector<bool> contains;  // per block
};
// Outer loops before inner ones.
[[nodiscard]] std::vector<Loop> find_loops(const Function& function);

// An order of the reachable blocks in which every edge goes forward, except retreating ones, and the blocks
// of a natural loop stand together.
[[nodiscard]] std::vector<BlockId> linear_order(const Function& function);

// Gives every natural loop a single latch and a single entering edge.
void normalise_loops(Function& function);

}  // namespace vgpu::software::ir
