// A loop that is entered in several places gets one header: a block that all ways into those places lead
// through, and that goes on to where each wanted to go. So every loop behind this pass is natural: lanes go
// round it in step, and nobody waits in it while others come back to where his values were computed. Done on
// registers: where a way leads is one register more, and SSA form is built afterwards.
#include <algorithm>
#include <ranges>
#include <utility>

#include "device/software/ir/cfg.h"
#include "device/software/ir/passes.h"

namespace vgpu::software::ir {

namespace {

class Reducer {
 public:
  explicit Reducer(Function& function) : function_(function) {}

  void run() {
    std::vector<std::vector<BlockId>> regions{reverse_post_order(function_)};
    while (!regions.empty()) {
      const std::vector<BlockId> region = std::move(regions.back());
      regions.pop_back();
      for (std::vector<BlockId>& loop : cycles(region)) {
        const std::vector<BlockId> entries = entries_of(loop);
        if (entries.size() == 1) {
          std::erase(loop, entries.front());
        } else {
          enter_by_one(entries);
        }
        regions.push_back(std::move(loop));  // what goes round without its header is an inner loop
      }
    }
    rebuild_preds(function_);
  }

 private:
  // Sets of blocks of the region that reach each other within it (Kosaraju's algorithm); those of one block
  // that does not lead to itself left out.
  [[nodiscard]] std::vector<std::vector<BlockId>> cycles(const std::vector<BlockId>& region) const {
    const std::size_t count = function_.blocks.size();
    std::vector<bool> inside(count, false);
    for (const BlockId id : region) inside[id] = true;
    std::vector<std::vector<BlockId>> preds(count);
    for (const BlockId id : region) {
      for (const BlockId succ : function_.blocks[id].succs) {
        if (inside[succ]) preds[succ].push_back(id);
      }
    }
    std::vector<BlockId> finished;
    std::vector<bool> seen(count, false);
    std::vector<std::pair<BlockId, std::size_t>> stack;
    for (const BlockId root : region) {
      if (seen[root]) continue;
      seen[root] = true;
      stack.emplace_back(root, 0);
      while (!stack.empty()) {
        const BlockId id = stack.back().first;
        const auto& succs = function_.blocks[id].succs;
        if (stack.back().second == succs.size()) {
          finished.push_back(id);
          stack.pop_back();
          continue;
        }
        const BlockId succ = succs[stack.back().second++];
        if (!inside[succ] || seen[succ]) continue;
        seen[succ] = true;
        stack.emplace_back(succ, 0);
      }
    }
    std::vector<std::vector<BlockId>> found;
    std::vector<bool> taken(count, false);
    for (const BlockId root : std::views::reverse(finished)) {
      if (taken[root]) continue;
      std::vector<BlockId> set;
      std::vector<BlockId> work{root};
      taken[root] = true;
      while (!work.empty()) {
        const BlockId id = work.back();
        work.pop_back();
        set.push_back(id);
        for (const BlockId pred : preds[id]) {
          if (taken[pred]) continue;
          taken[pred] = true;
          work.push_back(pred);
        }
      }
      if (set.size() > 1 || std::ranges::find(preds[root], root) != preds[root].end())
        found.push_back(std::move(set));
    }
    return found;
  }

  // Blocks of the loop that others lead to.
  [[nodiscard]] std::vector<BlockId> entries_of(const std::vector<BlockId>& loop) const {
    std::vector<bool> inside(function_.blocks.size(), false);
    for (const BlockId id : loop) inside[id] = true;
    std::vector<BlockId> entries;
    for (const BlockId id : reverse_post_order(function_)) {
      if (inside[id]) continue;
      for (const BlockId succ : function_.blocks[id].succs) {
        if (inside[succ] && std::ranges::find(entries, succ) == entries.end()) entries.push_back(succ);
      }
    }
    return entries;
  }

  BlockId new_block(std::uint32_t line) {
    Block block;
    block.line = line;
    function_.blocks.push_back(std::move(block));
    return static_cast<BlockId>(function_.blocks.size() - 1);
  }

  InstructionId emit(BlockId block, Op op, Type type, std::vector<ValueId> operands, std::int64_t imm,
                     std::uint32_t results) {
    Instruction inst;
    inst.op = op;
    inst.type = type;
    inst.block = block;
    inst.line = function_.blocks[block].line;
    inst.operands = std::move(operands);
    inst.imm = imm;
    const InstructionId id = function_.create(std::move(inst), results);
    function_.blocks[block].body.push_back(id);
    return id;
  }

  void jump(BlockId from, BlockId to) {
    function_.blocks[from].terminator = Terminator::kJump;
    function_.blocks[from].succs = {to};
  }

  void enter_by_one(const std::vector<BlockId>& entries) {
    const auto wanted = static_cast<std::int64_t>(function_.registers.size());
    function_.registers.push_back(Type::kI32);
    const std::vector<BlockId> sources = reverse_post_order(function_);
    const BlockId header = new_block(function_.blocks[entries.front()].line);
    for (const BlockId source : sources) {
      for (std::size_t slot = 0; slot < function_.blocks[source].succs.size(); ++slot) {
        const auto entry = std::ranges::find(entries, function_.blocks[source].succs[slot]);
        if (entry == entries.end()) continue;
        const BlockId way = new_block(function_.blocks[*entry].line);
        const auto number = static_cast<std::uint64_t>(entry - entries.begin());
        emit(way, Op::kRegWrite, Type::kI32, {function_.constant(Type::kI32, number)}, wanted, 0);
        jump(way, header);
        function_.blocks[source].succs[slot] = way;
      }
    }
    // The header asks for one entry after the other; the last is what is left.
    BlockId asking = header;
    for (std::size_t i = 0; i + 1 < entries.size(); ++i) {
      const InstructionId read = emit(asking, Op::kRegRead, Type::kI32, {}, wanted, 1);
      const ValueId number = function_.constant(Type::kI32, i);
      const InstructionId is_it =
          emit(asking, Op::kICmp, Type::kI32, {function_.instructions[read].results[0], number},
               static_cast<std::int64_t>(Compare::kEq), 1);
      const BlockId others =
          i + 2 == entries.size() ? entries.back() : new_block(function_.blocks[header].line);
      Block& block = function_.blocks[asking];
      block.terminator = Terminator::kBranch;
      block.condition = function_.instructions[is_it].results[0];
      block.succs = {entries[i], others};
      asking = others;
    }
  }

  Function& function_;
};

}  // namespace

void reduce_loops(Function& function) {
  Reducer(function).run();
}

}  // namespace vgpu::software::ir
