// Orders, dominators and loops. Graphs are small (a few thousand blocks at most): plain iteration is enough.
#include "device/software/ir/cfg.h"

#include <algorithm>

namespace vgpu::software::ir {

namespace {

// Post-order by an explicit stack: kernels have chains of thousands of blocks.
std::vector<std::uint32_t> post_order(std::uint32_t count, std::uint32_t root,
                                      const std::vector<std::vector<std::uint32_t>>& succs) {
  std::vector<std::uint32_t> order;
  std::vector<bool> seen(count, false);
  std::vector<std::pair<std::uint32_t, std::size_t>> stack{{root, 0}};
  seen[root] = true;
  while (!stack.empty()) {
    auto& [node, next] = stack.back();
    if (next < succs[node].size()) {
      const std::uint32_t child = succs[node][next++];
      if (!seen[child]) {
        seen[child] = true;
        stack.emplace_back(child, 0);
      }
    } else {
      order.push_back(node);
      stack.pop_back();
    }
  }
  return order;
}

// Cooper, Harvey and Kennedy's iteration. Nodes that the root does not reach keep kNone.
std::vector<std::uint32_t> immediate_dominators(std::uint32_t count, std::uint32_t root,
                                                const std::vector<std::vector<std::uint32_t>>& succs) {
  std::vector<std::uint32_t> order = post_order(count, root, succs);
  std::vector<std::uint32_t> number(count, kNone);
  for (std::uint32_t i = 0; i < order.size(); ++i) number[order[i]] = i;
  std::vector<std::vector<std::uint32_t>> preds(count);
  for (const std::uint32_t node : order) {
    for (const std::uint32_t succ : succs[node]) preds[succ].push_back(node);
  }
  std::vector<std::uint32_t> idom(count, kNone);
  idom[root] = root;
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t i = order.size(); i-- > 0;) {
      const std::uint32_t node = order[i];
      if (node == root) continue;
      std::uint32_t best = kNone;
      for (std::uint32_t pred : preds[node]) {
        if (idom[pred] == kNone) continue;
        if (best == kNone) {
          best = pred;
          continue;
        }
        std::uint32_t other = best;
        while (pred != other) {
          while (number[pred] < number[other]) pred = idom[pred];
          while (number[other] < number[pred]) other = idom[other];
        }
        best = other;
      }
      if (best != idom[node]) {
        idom[node] = best;
        changed = true;
      }
    }
  }
  return idom;
}

std::vector<std::vector<std::uint32_t>> successors(const Function& function) {
  std::vector<std::vector<std::uint32_t>> succs(function.blocks.size());
  for (std::size_t i = 0; i < succs.size(); ++i) succs[i] = function.blocks[i].succs;
  return succs;
}

}  // namespace

std::vector<BlockId> reverse_post_order(const Function& function) {
  auto order = post_order(static_cast<std::uint32_t>(function.blocks.size()), 0, successors(function));
  std::ranges::reverse(order);
  return order;
}

void rebuild_preds(Function& function) {
  std::vector<bool> reachable(function.blocks.size(), false);
  for (const BlockId block : reverse_post_order(function)) reachable[block] = true;
  std::vector<std::vector<BlockId>> old(function.blocks.size());
  for (std::size_t i = 0; i < old.size(); ++i) {
    old[i] = std::move(function.blocks[i].preds);
    function.blocks[i].preds.clear();
    if (!reachable[i]) {
      function.blocks[i].succs.clear();
      function.blocks[i].phis.clear();
      function.blocks[i].body.clear();
      function.blocks[i].terminator = Terminator::kExit;
      function.blocks[i].condition = kNone;
    }
  }
  for (BlockId i = 0; i < function.blocks.size(); ++i) {
    for (const BlockId succ : function.blocks[i].succs) function.blocks[succ].preds.push_back(i);
  }
  for (std::size_t i = 0; i < old.size(); ++i) {
    Block& block = function.blocks[i];
    for (const InstructionId id : block.phis) {
      Instruction& phi = function.instructions[id];
      std::vector<ValueId> operands;
      for (const BlockId pred : block.preds) {
        const auto at = std::ranges::find(old[i], pred) - old[i].begin();
        operands.push_back(phi.operands[static_cast<std::size_t>(at)]);
      }
      phi.operands = std::move(operands);
    }
  }
}

DominatorTree dominators(const Function& function) {
  const auto count = static_cast<std::uint32_t>(function.blocks.size());
  DominatorTree tree;
  tree.idom = immediate_dominators(count, 0, successors(function));
  std::vector<std::vector<std::uint32_t>> children(count);
  for (std::uint32_t i = 1; i < count; ++i) {
    if (tree.idom[i] != kNone) children[tree.idom[i]].push_back(i);
  }
  tree.in.assign(count, 0);
  tree.out.assign(count, 0);
  std::uint32_t clock = 1;
  std::vector<std::pair<std::uint32_t, std::size_t>> stack{{0, 0}};
  tree.in[0] = clock++;
  while (!stack.empty()) {
    auto& [node, next] = stack.back();
    if (next < children[node].size()) {
      const std::uint32_t child = children[node][next++];
      tree.in[child] = clock++;
      stack.emplace_back(child, 0);
    } else {
      tree.out[node] = clock++;
      stack.pop_back();
    }
  }
  return tree;
}

std::vector<BlockId> post_dominators(const std::vector<std::vector<BlockId>>& succs) {
  const auto exit = static_cast<std::uint32_t>(succs.size());
  const auto order = post_order(exit, 0, succs);
  std::vector<std::vector<std::uint32_t>> reversed(exit + 1);
  for (const BlockId block : order) {
    if (succs[block].empty()) reversed[exit].push_back(block);
    for (const BlockId succ : succs[block]) reversed[succ].push_back(block);
  }
  // Endless loops: let their last blocks leave, until every block reaches the exit.
  for (;;) {
    std::vector<bool> seen(exit + 1, false);
    for (const std::uint32_t node : post_order(exit + 1, exit, reversed)) seen[node] = true;
    const auto stuck = std::ranges::find_if(order, [&](BlockId b) { return !seen[b]; });
    if (stuck == order.end()) break;
    reversed[exit].push_back(*stuck);
  }
  return immediate_dominators(exit + 1, exit, reversed);
}

std::vector<Loop> find_loops(const Function& function) {
  const auto order = reverse_post_order(function);
  std::vector<std::uint32_t> number(function.blocks.size(), kNone);
  for (std::uint32_t i = 0; i < order.size(); ++i) number[order[i]] = i;
  std::vector<Loop> loops;
  for (const BlockId header : order) {
    Loop loop;
    loop.header = header;
    for (const BlockId pred : function.blocks[header].preds) {
      if (number[pred] < number[header]) continue;
      loop.latches.push_back(pred);
    }
    if (loop.latches.empty()) continue;
    loop.contains.assign(function.blocks.size(), false);
    loop.contains[header] = true;
    std::vector<BlockId> work = loop.latches;
    while (!work.empty()) {
      const BlockId block = work.back();
      work.pop_back();
      if (loop.contains[block]) continue;
      loop.contains[block] = true;
      for (const BlockId pred : function.blocks[block].preds) work.push_back(pred);
    }
    loops.push_back(std::move(loop));
  }
  // Headers were met in reverse post-order: an outer loop's header comes first.
  return loops;
}

std::vector<BlockId> linear_order(const Function& function) {
  const auto loops = find_loops(function);
  const auto order = reverse_post_order(function);
  std::vector<std::uint32_t> number(function.blocks.size(), kNone);
  for (std::uint32_t i = 0; i < order.size(); ++i) number[order[i]] = i;
  // Innermost natural loop per block, as a path of loops from the outside in.
  std::vector<std::vector<std::uint32_t>> path(function.blocks.size());
  std::vector<std::ptrdiff_t> sizes;
  for (const Loop& loop : loops) sizes.push_back(std::ranges::count(loop.contains, true));
  for (std::uint32_t i = 0; i < loops.size(); ++i) {
    for (const BlockId block : order) {
      if (loops[i].contains[block]) path[block].push_back(i);
    }
  }
  for (const BlockId block : order) {
    std::ranges::sort(path[block], [&](std::uint32_t a, std::uint32_t b) {
      return sizes[a] != sizes[b] ? sizes[a] > sizes[b] : a < b;
    });
  }
  // Forward edges only; ready blocks of the current innermost loop go before those outside of it.
  std::vector<std::uint32_t> waiting(function.blocks.size(), 0);
  for (const BlockId block : order) {
    for (const BlockId succ : function.blocks[block].succs) {
      if (number[succ] > number[block]) ++waiting[succ];
    }
  }
  std::vector<BlockId> result;
  std::vector<BlockId> ready{0};
  std::vector<std::uint32_t> current;
  while (!ready.empty()) {
    std::size_t best = 0;
    std::size_t best_depth = 0;
    for (std::size_t i = 0; i < ready.size(); ++i) {
      std::size_t depth = 0;
      while (depth < current.size() && depth < path[ready[i]].size() &&
             path[ready[i]][depth] == current[depth]) {
        ++depth;
      }
      if (i == 0 || depth > best_depth || (depth == best_depth && number[ready[i]] < number[ready[best]])) {
        best = i;
        best_depth = depth;
      }
    }
    const BlockId block = ready[best];
    ready.erase(ready.begin() + static_cast<std::ptrdiff_t>(best));
    result.push_back(block);
    current = path[block];
    for (const BlockId succ : function.blocks[block].succs) {
      if (number[succ] > number[block] && --waiting[succ] == 0) ready.push_back(succ);
    }
  }
  return result;
}

void normalise_loops(Function& function) {
  // Sends all edges from `group` to `header` through one new block.
  const auto merge = [&](BlockId target, const std::vector<BlockId>& group) {
    const auto merged = static_cast<BlockId>(function.blocks.size());
    function.blocks.emplace_back();
    Block& fresh = function.blocks.back();
    fresh.terminator = Terminator::kJump;
    fresh.succs = {target};
    fresh.line = function.blocks[group.front()].line;
    const auto in_group = [&](BlockId pred) { return std::ranges::find(group, pred) != group.end(); };
    Block& header = function.blocks[target];
    for (const InstructionId id : header.phis) {
      Instruction joined;
      joined.op = Op::kPhi;
      joined.type = function.instructions[id].type;
      joined.line = function.instructions[id].line;
      joined.block = merged;
      std::vector<ValueId> others;
      for (std::size_t i = 0; i < header.preds.size(); ++i) {
        const ValueId operand = function.instructions[id].operands[i];
        (in_group(header.preds[i]) ? joined.operands : others).push_back(operand);
      }
      const InstructionId phi = function.create(std::move(joined), 1);
      others.push_back(function.instructions[phi].results[0]);
      function.instructions[id].operands = std::move(others);
      fresh.phis.push_back(phi);
    }
    std::vector<BlockId> others;
    for (const BlockId pred : header.preds) (in_group(pred) ? fresh.preds : others).push_back(pred);
    others.push_back(merged);
    header.preds = std::move(others);
    for (const BlockId pred : group) std::ranges::replace(function.blocks[pred].succs, target, merged);
  };
  const std::vector<Loop> loops = find_loops(function);
  for (const Loop& loop : loops) {
    std::vector<BlockId> latches;
    std::vector<BlockId> entries;
    for (const BlockId pred : function.blocks[loop.header].preds) {
      const bool inside = pred < loop.contains.size() && loop.contains[pred];
      (inside ? latches : entries).push_back(pred);
    }
    const bool goes_round_from_within = std::ranges::any_of(loops, [&](const Loop& inner) {
      return inner.header != loop.header && loop.contains[inner.header] && inner.contains[latches.front()];
    });
    if (latches.size() > 1 || goes_round_from_within) merge(loop.header, latches);
    if (entries.size() > 1) merge(loop.header, entries);
  }
}

}  // namespace vgpu::software::ir
