// The fixed point: shapes of values (lane_transfer.cpp) and, from the branches whose condition is not
// uniform, the blocks that part of a warp may run. Both only ever get worse, so the iteration ends.
#include "device/software/ir/lane_shapes.h"

#include <algorithm>

#include "device/software/ir/dependence.h"
#include "device/software/ir/lane_transfer.h"
#include "device/software/ir/wrap_guards.h"

namespace vgpu::software::ir {

namespace {

class Analysis {
 public:
  Analysis(const Function& function, CheckedClaims claims)
      : function_(function), claims_(claims), transfer_(function, result_, guardable(function, claims)) {
    const std::size_t count = function.blocks.size();
    result_.tables.push_back({});
    result_.of.resize(function.values.size());
    result_.order = linear_order(function);
    result_.position.assign(count, kNone);
    for (std::uint32_t i = 0; i < result_.order.size(); ++i) result_.position[result_.order[i]] = i;
    result_.loops = find_loops(function);
    result_.partial.assign(count, false);
    result_.is_kill.assign(count, false);
    for (const BlockId id : result_.order) {
      const Block& block = function.blocks[id];
      result_.is_kill[id] =
          id != 0 && block.terminator == Terminator::kExit && block.body.empty() && block.phis.empty();
    }
    // Lanes that branch to a kill block stop there; for the others the branch does not part anything.
    flow_.resize(count);
    for (const BlockId id : result_.order) {
      for (const BlockId succ : function.blocks[id].succs) {
        if (!result_.is_kill[succ]) flow_[id].push_back(succ);
      }
    }
    post_ = post_dominators(flow_);
    loops_of_.resize(count);
    for (std::uint32_t i = 0; i < result_.loops.size(); ++i) {
      for (const BlockId id : result_.order) {
        if (result_.loops[i].contains[id]) loops_of_[id].push_back(i);
      }
    }
    if (claims_.convergence) depends_on_data_ = depending_values(function_, result_.order, gives_data);
    parting_.assign(count, false);
    joins_.assign(count, false);
    left_unevenly_.assign(result_.loops.size(), false);
  }

  LaneShapes run() {
    for (std::size_t i = 0; i < function_.values.size(); ++i) {
      if (function_.values[i].instruction == kNone) {
        result_.of[i] = transfer_.constant(function_.values[i]);
      }
    }
    std::vector<std::uint8_t> updates(function_.values.size(), 0);
    for (bool changed = true; changed;) {
      changed = false;
      for (const BlockId id : reverse_post_order(function_)) {
        for (const InstructionId phi : function_.blocks[id].phis) changed |= update_phi(id, phi, updates);
        for (const InstructionId inst : function_.blocks[id].body) changed |= update(inst, updates);
      }
      changed |= find_partings();
      if (changed) continue;
      // What the iteration never reached cannot be executed, or goes round from a value that is not defined;
      // say the safe thing, and see what follows from it.
      for (Shape& shape : result_.of) {
        if (shape.kind != ShapeKind::kUnreached) continue;
        shape.kind = ShapeKind::kVarying;
        changed = true;
      }
    }
    result_.converges.assign(function_.blocks.size(), false);
    for (const BlockId id : result_.order) result_.converges[id] = !parting_[id] && is_taken_to_converge(id);
    result_.guarded.assign(function_.values.size(), false);
    result_.guarded_on_entry = result_.guarded;
    for (const BlockId id : result_.order) {
      for (const InstructionId inst : function_.blocks[id].body) note_guard(function_.instructions[inst]);
    }
    form_chains();
    return std::move(result_);
  }

 private:
  static GuardableExtensions guardable(const Function& function, CheckedClaims claims) {
    const std::vector<bool> none(function.values.size(), false);
    if (!claims.guards) return {none, none};
    GuardableExtensions guardable = guardable_extensions(function);
    if (!claims.convergence) guardable.on_entry = none;
    return guardable;
  }

  // Within the loop every lane sees the same iteration; behind it, the one it left in.
  [[nodiscard]] Shape at_use(ValueId value, BlockId user) const {
    const Shape& shape = result_.of[value];
    const InstructionId id = function_.values[value].instruction;
    if (id == kNone || shape.is_varying() || shape.kind == ShapeKind::kUnreached) return shape;
    if (shape.known) return shape;
    for (const std::uint32_t loop : loops_of_[function_.instructions[id].block]) {
      if (left_unevenly_[loop] && !result_.loops[loop].contains[user])
        return Shape{.kind = ShapeKind::kVarying};
    }
    return shape;
  }

  void note_guard(const Instruction& inst) {
    if (inst.op != Op::kSExt && inst.op != Op::kZExt) return;
    const Shape& shape = result_.of[inst.results[0]];
    if (shape.kind != ShapeKind::kOffsets || shape.known) return;
    if (!LaneTransfer::needs_guard(inst, result_.of[inst.operands[0]])) return;
    result_.guarded[inst.results[0]] = true;
    result_.guarded_on_entry[inst.results[0]] = transfer_.is_guarded_on_entry(inst);
  }

  bool settle(ValueId value, Shape next, std::vector<std::uint8_t>& updates) {
    Shape& old = result_.of[value];
    if (next.kind == ShapeKind::kUnreached || old.is_varying()) return false;
    if (old.kind != ShapeKind::kUnreached) {
      if (old.kind != next.kind || (old.kind == ShapeKind::kOffsets && old.table != next.table)) {
        next = Shape{.kind = ShapeKind::kVarying};
      } else {
        if (!old.known || next.base != old.base) next.known = false;
        if (!old.exact) next.exact = false;
        next.align = std::min(old.align, next.align);
        next.low = std::min(old.low, next.low);
        next.high = std::max(old.high, next.high);
        if (next.known)
          next.base = old.base;
        else
          next.base = 0;
        if (next != old && ++updates[value] > 6) transfer_.forget_range(next, function_.values[value].type);
      }
    }
    if (next == old) return false;
    old = next;
    return true;
  }

  bool update(InstructionId id, std::vector<std::uint8_t>& updates) {
    const Instruction& inst = function_.instructions[id];
    shapes_.clear();
    for (const ValueId operand : inst.operands) shapes_.push_back(at_use(operand, inst.block));
    // A value kept for the lanes of a loop that they leave together is the value.
    if (inst.op == Op::kKeep && std::ranges::none_of(loops_of_[inst.block], [&](std::uint32_t loop) {
          return left_unevenly_[loop];
        })) {
      return settle(inst.results[0], shapes_[0], updates);
    }
    bool changed = false;
    for (std::uint32_t i = 0; i < inst.results.size(); ++i) {
      changed |= settle(inst.results[i], transfer_.apply(inst, i, shapes_), updates);
    }
    return changed;
  }

  bool update_phi(BlockId block, InstructionId id, std::vector<std::uint8_t>& updates) {
    const Instruction& phi = function_.instructions[id];
    const ValueId result = phi.results[0];
    Shape merged;
    bool same = true;
    ValueId first = kNone;
    for (const ValueId operand : phi.operands) {
      if (function_.values[operand].is_undef) continue;
      if (first == kNone) first = operand;
      if (operand != first) same = false;
      const Shape shape = at_use(operand, block);
      if (shape.kind == ShapeKind::kUnreached) continue;
      merged = merged.kind == ShapeKind::kUnreached ? shape : transfer_.join(merged, shape);
    }
    if (joins_[block] && !same && merged.kind != ShapeKind::kUnreached)
      merged = Shape{.kind = ShapeKind::kVarying};
    return settle(result, merged, updates);
  }

  bool find_partings() {
    bool changed = false;
    for (const BlockId id : result_.order) {
      const Block& block = function_.blocks[id];
      if (parting_[id] || block.terminator != Terminator::kBranch || flow_[id].size() < 2) continue;
      const Shape shape = at_use(block.condition, id);
      if (shape.kind == ShapeKind::kUnreached || shape.is_uniform() || is_taken_to_converge(id)) continue;
      parting_[id] = true;
      changed = true;
      part(id);
    }
    return changed;
  }

  // A branch of all live lanes whose condition compares indices with a bound: mostly all of them are on one
  // side.
  [[nodiscard]] bool is_taken_to_converge(BlockId id) const {
    const Block& block = function_.blocks[id];
    if (!claims_.convergence || result_.partial[id] || block.terminator != Terminator::kBranch) return false;
    const Shape shape = at_use(block.condition, id);
    if (shape.is_uniform() || shape.known) return false;
    return !depends_on_data_[block.condition] && !singles_out_a_lane(block.condition, id);
  }

  // An equality that at most one lane can meet: `tid == 0`. In the warp that has this lane it goes its own
  // way.
  [[nodiscard]] bool singles_out_a_lane(ValueId condition, BlockId where) const {
    const Instruction* inst = function_.definition(condition);
    if (inst == nullptr) return false;
    const auto any = [&](auto&& holds) { return std::ranges::any_of(inst->operands, holds); };
    if (inst->op == Op::kAnd || inst->op == Op::kOr || inst->op == Op::kXor)
      return any([&](ValueId operand) { return singles_out_a_lane(operand, where); });
    if (inst->op != Op::kICmp) return false;
    const auto compare = static_cast<Compare>(inst->imm);
    if (compare != Compare::kEq && compare != Compare::kNe) return false;
    return any([&](ValueId operand) { return differs_in_all_lanes(operand, where); });
  }

  // Or holds bits of something that does: `(tid.x | tid.y) == 0` asks for one thread too.
  [[nodiscard]] bool differs_in_all_lanes(ValueId value, BlockId where) const {
    const Shape shape = at_use(value, where);
    if (shape.kind == ShapeKind::kOffsets) {
      LaneTable table = result_.table_of(shape);
      std::ranges::sort(table);
      return std::ranges::adjacent_find(table) == table.end();
    }
    const Instruction* inst = function_.definition(value);
    return inst != nullptr && inst->op == Op::kOr && std::ranges::any_of(inst->operands, [&](ValueId part) {
             return differs_in_all_lanes(part, where);
           });
  }

  // The blocks behind the branch and before the meeting.
  std::vector<BlockId> between(BlockId branch, BlockId meet, std::vector<std::uint8_t>& sides) const {
    sides.assign(function_.blocks.size() + 1, 0);
    std::vector<BlockId> region;
    for (std::size_t side = 0; side < flow_[branch].size(); ++side) {
      const auto bit = static_cast<std::uint8_t>(1u << side);
      std::vector<BlockId> work{flow_[branch][side]};
      while (!work.empty()) {
        const BlockId id = work.back();
        work.pop_back();
        if (id == meet || (sides[id] & bit) != 0) continue;
        if (sides[id] == 0) region.push_back(id);
        sides[id] |= bit;
        for (const BlockId succ : flow_[id]) work.push_back(succ);
      }
    }
    return region;
  }

  // Lanes part at `branch` and meet at its post-dominator: blocks between run with part of them. A meeting in
  // a loop that some come to through the next round, and others not, would part them in time: they meet
  // behind the loop then.
  void part(BlockId branch) {
    BlockId meet = post_[branch];
    std::vector<std::uint8_t> sides;  // which of the two ways lead there
    std::vector<BlockId> region;
    for (;;) {
      region = between(branch, meet, sides);
      const auto is_out_of_step = [&](const std::uint32_t loop) {
        const Loop& around = result_.loops[loop];
        return meet != function_.blocks.size() && around.contains[meet] && sides[around.header] != 0;
      };
      const auto loop = std::ranges::find_if(loops_of_[branch], is_out_of_step);
      if (loop == loops_of_[branch].end()) break;
      while (meet != function_.blocks.size() && result_.loops[*loop].contains[meet]) meet = post_[meet];
    }
    for (const BlockId id : region) result_.partial[id] = true;
    sides[branch] = 3;
    if (meet != function_.blocks.size()) region.push_back(meet);
    for (const BlockId id : region) {
      // Lanes go round a loop in step: what comes from its latch does not mix with what enters.
      BlockId latch = kNone;
      for (const Loop& loop : result_.loops) {
        if (loop.header == id && loop.latches.size() == 1) latch = loop.latches[0];
      }
      // Where only one way leads, this branch brings nobody together.
      std::size_t from = 0;
      for (const BlockId pred : function_.blocks[id].preds) from += sides[pred] != 0 && pred != latch ? 1 : 0;
      if (from > 1 && (id == meet || sides[id] == 3)) joins_[id] = true;
    }
    for (const std::uint32_t loop : loops_of_[branch]) {
      const bool meets_inside = meet != function_.blocks.size() && result_.loops[loop].contains[meet];
      if (!meets_inside) left_unevenly_[loop] = true;
    }
  }

  // Connected partial blocks become one chain, which all its lanes leave for the same block.
  void form_chains() {
    const std::size_t count = function_.blocks.size();
    for (;;) {
      result_.component.assign(count, kNone);
      result_.chains.clear();
      for (const BlockId start : result_.order) {
        if (!result_.partial[start] || result_.component[start] != kNone) continue;
        const auto number = static_cast<std::uint32_t>(result_.chains.size());
        result_.chains.emplace_back();
        std::vector<BlockId> work{start};
        while (!work.empty()) {
          const BlockId id = work.back();
          work.pop_back();
          if (!result_.partial[id] || result_.component[id] != kNone) continue;
          result_.component[id] = number;
          result_.chains[number].push_back(id);
          for (const BlockId succ : flow_[id]) work.push_back(succ);
          for (const BlockId pred : function_.blocks[id].preds) {
            work.push_back(pred);
            // Two chains entered by one branch would need two walks: make them one.
            for (const BlockId other : flow_[pred]) work.push_back(other);
          }
        }
        std::ranges::sort(result_.chains[number], {}, [&](BlockId id) { return result_.position[id]; });
      }
      result_.chain_exit.assign(result_.chains.size(), kNone);
      bool grew = false;
      for (std::size_t i = 0; i < result_.chains.size(); ++i) {
        std::vector<BlockId> exits;
        const auto note = [&](BlockId succ) {
          if (!result_.partial[succ] && std::ranges::find(exits, succ) == exits.end()) exits.push_back(succ);
        };
        for (const BlockId id : result_.chains[i]) {
          for (const BlockId succ : flow_[id]) note(succ);
          // A branch whose one side goes past the chain.
          for (const BlockId pred : function_.blocks[id].preds) {
            if (!result_.partial[pred] && parting_[pred]) {
              for (const BlockId succ : flow_[pred]) note(succ);
            }
          }
        }
        if (exits.size() > 1) {
          for (const BlockId id : exits) result_.partial[id] = true;
          grew = true;
        } else if (exits.size() == 1) {
          result_.chain_exit[i] = exits[0];
        }
      }
      if (!grew) break;
    }
  }

  const Function& function_;
  CheckedClaims claims_;
  LaneShapes result_;
  LaneTransfer transfer_;
  std::vector<std::vector<BlockId>> flow_;  // successors without kill blocks
  std::vector<BlockId> post_;
  std::vector<bool> depends_on_data_;  // by value
  std::vector<std::vector<std::uint32_t>> loops_of_;
  std::vector<bool> parting_;        // blocks whose branch parts lanes
  std::vector<bool> joins_;          // blocks where parted lanes meet
  std::vector<bool> left_unevenly_;  // loops that lanes leave in different iterations
  std::vector<Shape> shapes_;

 public:
  [[nodiscard]] const std::vector<bool>& left_unevenly() const { return left_unevenly_; }
};

}  // namespace

LaneShapes analyse_lanes(const Function& function, CheckedClaims claims) {
  Analysis analysis(function, claims);
  LaneShapes shapes = analysis.run();
  shapes.left_unevenly = analysis.left_unevenly();
  return shapes;
}

bool refines(const LaneShapes& better, const LaneShapes& worse) {
  for (std::size_t i = 0; i < worse.of.size(); ++i) {
    const Shape& a = better.of[i];
    const Shape& b = worse.of[i];
    if (b.is_varying()) continue;
    if (a.kind != b.kind || better.table_of(a) != worse.table_of(b)) return false;
    if (b.known && (!a.known || a.base != b.base)) return false;
  }
  return true;
}

void keep_live_outs(Function& function, LaneShapes& shapes) {
  std::vector<std::vector<std::uint32_t>> uneven(function.blocks.size());
  for (std::uint32_t i = 0; i < shapes.loops.size(); ++i) {
    if (!shapes.left_unevenly[i]) continue;
    for (const BlockId id : shapes.order) {
      if (shapes.loops[i].contains[id]) uneven[id].push_back(i);
    }
  }
  std::vector<ValueId> kept(function.values.size(), kNone);
  const auto use = [&](ValueId value, BlockId user) {
    const InstructionId id = function.values[value].instruction;
    if (id == kNone || shapes.of[value].known) return value;
    const BlockId home = function.instructions[id].block;
    const bool outside = std::ranges::any_of(
        uneven[home], [&](std::uint32_t loop) { return !shapes.loops[loop].contains[user]; });
    if (!outside) return value;
    if (kept[value] == kNone) {
      Instruction keep;
      keep.op = Op::kKeep;
      keep.type = function.values[value].type;
      keep.block = home;
      keep.line = function.instructions[id].line;
      keep.operands = {value};
      const bool is_phi = function.instructions[id].op == Op::kPhi;
      const InstructionId keep_id = function.create(std::move(keep), 1);
      auto& body = function.blocks[home].body;
      const auto at = is_phi ? body.begin() : std::ranges::find(body, id) + 1;
      body.insert(at, keep_id);
      kept[value] = function.instructions[keep_id].results[0];
      shapes.of.resize(function.values.size(), Shape{.kind = ShapeKind::kVarying});
    }
    return kept[value];
  };
  for (const BlockId id : shapes.order) {
    for (const InstructionId phi : function.blocks[id].phis) {
      for (std::size_t i = 0; i < function.blocks[id].preds.size(); ++i) {
        const ValueId by = use(function.instructions[phi].operands[i], function.blocks[id].preds[i]);
        function.instructions[phi].operands[i] = by;
      }
    }
    const std::vector<InstructionId> body = function.blocks[id].body;
    for (const InstructionId inst : body) {
      for (std::size_t i = 0; i < function.instructions[inst].operands.size(); ++i) {
        const ValueId by = use(function.instructions[inst].operands[i], id);
        function.instructions[inst].operands[i] = by;
      }
    }
    if (function.blocks[id].condition != kNone) {
      const ValueId by = use(function.blocks[id].condition, id);
      function.blocks[id].condition = by;
    }
  }
}

std::string print(const LaneShapes& shapes, const Function& function) {
  std::string text;
  for (const BlockId id : shapes.order) {
    const Block& block = function.blocks[id];
    text += "b" + std::to_string(id) + (shapes.partial[id] ? " partial" : "") +
            (shapes.is_kill[id] ? " kill" : "") + "\n";
    const auto line = [&](InstructionId i) {
      const Instruction& inst = function.instructions[i];
      for (const ValueId value : inst.results) {
        const Shape& shape = shapes.of[value];
        constexpr const char* kKinds[] = {"unreached", "uniform", "offsets", "varying"};
        text += "  %" + std::to_string(value) + " " + name_of(inst.op) + ": " +
                kKinds[static_cast<std::uint8_t>(shape.kind)];
        if (shape.known) text += " base " + std::to_string(shape.base);
        if (shape.kind == ShapeKind::kOffsets) {
          text += " +";
          for (const std::int64_t entry : shapes.table_of(shape)) text += " " + std::to_string(entry);
        }
        text += "\n";
      }
    };
    for (const InstructionId i : block.phis) line(i);
    for (const InstructionId i : block.body) line(i);
  }
  return text;
}

}  // namespace vgpu::software::ir
