// Neighbouring blocks, or warps of a block, are joined: what depends on ctaid.x, or on which warp it is, is
// there once for each member, side by side, and the rest once for all. What a member costs before it comes to
// its own data is shared, and the processor gets several independent chains of work. Where members may go
// different ways, they do so in turn, one behind the other until all have come to where the ways meet.
#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "device/software/ir/cfg.h"
#include "device/software/ir/passes.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

namespace {

enum class Member : std::uint8_t { kBlock, kWarp };

bool is_of_shared_memory(const Instruction& inst) {
  return (inst.op == Op::kLoad || inst.op == Op::kStore) && inst.space == Space::kShared;
}

// Which of the members it is.
bool is_index(const Instruction& inst, Member member) {
  using SR = ptx::SpecialRegister;
  if (inst.op != Op::kSpecial) return false;
  const auto reg = static_cast<SR>(inst.imm);
  return member == Member::kBlock ? reg == SR::kCtaidX : reg == SR::kTidY || reg == SR::kWarpid;
}

// What members cannot do in one place, or not at the same time.
const char* obstacle(const Function& function, const Instruction& inst, Member member) {
  if (inst.is_volatile) return "volatile accesses";
  switch (inst.op) {
    case Op::kAtomic:
    case Op::kFence:
      return "atomic operations";
    case Op::kSharedWindow:
    case Op::kSharedEnd:
      return member == Member::kBlock ? "generic addresses of shared memory" : nullptr;
    case Op::kLocalWindow:
    case Op::kLocalStart:
    case Op::kLocalEnd:
      return "local memory";
    case Op::kClock:
    case Op::kPrintf:
    case Op::kTrap:
      return "clocks, printf or traps";
    case Op::kLoad:
    case Op::kStore:
      return inst.space == Space::kLocal ? "local memory" : nullptr;
    case Op::kBarrier:
      if (inst.sub != static_cast<std::uint8_t>(BarrierKind::kSync)) return "barriers that reduce";
      return member == Member::kBlock || waits_for_all(function, inst) ? nullptr : "barriers of some warps";
    default:
      return nullptr;
  }
}

class Coarsening {
 public:
  Coarsening(Function& function, std::uint32_t factor, Member member)
      : function_(function), factor_(factor), member_(member) {}

  // What stands in the way; nullptr: nothing. The function stays as it is.
  const char* find_obstacle() {
    if (member_ == Member::kWarp && (function_.ntid[0] != kWarpSize || function_.ntid[1] % factor_ != 0))
      return "warps that are not rows of the block";
    if (function_.local_bytes != 0) return "local memory";
    for (const Block& block : function_.blocks) {
      for (const InstructionId id : block.body) {
        const char* reason = obstacle(function_, function_.instructions[id], member_);
        if (reason != nullptr) return reason;
      }
    }
    if (const char* reason = find_what_differs()) return reason;
    weigh_copied();
    return copies_effects_ ? nullptr : of_member("blocks that all do the same", "warps that all do the same");
  }

  // The weight of what each member has of its own. After find_obstacle().
  [[nodiscard]] double copied() const { return copied_; }

  // If nothing stands in the way.
  void run() {
    if (member_ == Member::kWarp) number_warps();
    make_copies();
    place_copies();
    for (const Detour& detour : detours_) take_in_turn(detour);
    (member_ == Member::kBlock ? function_.blocks_at_a_time : function_.warps_at_a_time) = factor_;
  }

 private:
  // The ways from a branch on which members may part to where they meet.
  struct Detour {
    BlockId branch = kNone;
    BlockId meeting = kNone;
    std::vector<BlockId> blocks;  // between the two
  };

  // Each member's own by itself: which it is, and shared memory where members are blocks.
  [[nodiscard]] bool is_of_member(const Instruction& inst) const {
    return is_index(inst, member_) || (member_ == Member::kBlock && is_of_shared_memory(inst));
  }

  [[nodiscard]] bool is_each_members(const Instruction& inst) const {
    return is_of_member(inst) || on_detour_[inst.block] ||
           std::ranges::any_of(inst.operands, [&](ValueId operand) { return differs_[operand]; });
  }

  const char* find_what_differs() {
    differs_.assign(function_.values.size(), false);
    on_detour_.assign(function_.blocks.size(), false);
    std::vector<std::vector<BlockId>> succs;
    for (const Block& block : function_.blocks) succs.push_back(block.succs);
    post_ = post_dominators(succs);
    const std::vector<BlockId> order = reverse_post_order(function_);
    for (bool changed = true; changed;) {
      changed = false;
      const auto visit = [&](InstructionId id) {
        const Instruction& inst = function_.instructions[id];
        if (inst.results.empty() || differs_[inst.results[0]] || !is_each_members(inst)) return;
        for (const ValueId result : inst.results) differs_[result] = true;
        changed = true;
      };
      for (const BlockId id : order) {
        const Block& block = function_.blocks[id];
        std::ranges::for_each(block.phis, visit);
        std::ranges::for_each(block.body, visit);
        const bool parts = block.terminator == Terminator::kBranch && differs_[block.condition];
        if (!parts || on_detour_[id] || std::ranges::find(detours_, id, &Detour::branch) != detours_.end())
          continue;
        if (!add_detour(id))
          return of_member("branches on the block's index", "branches on the warp's index");
        changed = true;
      }
    }
    // What lies within another needs none of its own.
    std::erase_if(detours_, [&](const Detour& detour) { return on_detour_[detour.branch]; });
    for (const BlockId id : order) {
      for (const InstructionId inst : function_.blocks[id].body) {
        const Instruction& each = function_.instructions[inst];
        if (each.op == Op::kBarrier && is_each_members(each))
          return of_member("barriers by the block's index", "barriers by the warp's index");
      }
    }
    return nullptr;
  }

  [[nodiscard]] const char* of_member(const char* block, const char* warp) const {
    return member_ == Member::kBlock ? block : warp;
  }

  // What is done in a loop counts ten times as much as what is done around it.
  void weigh_copied() {
    std::vector<double> weights(function_.blocks.size(), 1);
    for (const Loop& loop : find_loops(function_)) {
      for (BlockId id = 0; id < weights.size(); ++id) weights[id] *= loop.contains[id] ? 10 : 1;
    }
    for (BlockId block = 0; block < function_.blocks.size(); ++block) {
      for (const InstructionId id : function_.blocks[block].body) {
        const Instruction& inst = function_.instructions[id];
        if (!is_each_members(inst)) continue;
        copied_ += weights[block];
        copies_effects_ |= has_effect(inst);
      }
    }
  }

  // Which warp it is was the number of the row; now that is the number of the group times `factor`, and the
  // warp's in the group, for which the first member's stands until there are copies.
  void number_warps() {
    for (std::uint32_t which = 0; which < factor_; ++which)
      numbers_.push_back(function_.constant(Type::kI32, which));
    const ValueId factor = function_.constant(Type::kI32, factor_);
    is_warp_index_.assign(function_.instructions.size(), false);
    for (BlockId block = 0; block < function_.blocks.size(); ++block) {
      std::vector<InstructionId> body;
      for (const InstructionId id : function_.blocks[block].body) {
        if (is_index(function_.instructions[id], member_)) {
          Instruction group = function_.instructions[id];
          group.results.clear();
          body.push_back(function_.create(group, 1));
          Instruction first = group;
          first.op = Op::kMul;
          first.imm = 0;
          first.operands = {function_.instructions[body.back()].results[0], factor};
          body.push_back(function_.create(std::move(first), 1));
          Instruction& number = function_.instructions[id];
          number.op = Op::kAdd;
          number.imm = 0;
          number.operands = {function_.instructions[body.back()].results[0], numbers_[0]};
          is_warp_index_[id] = true;
        }
        body.push_back(id);
      }
      function_.blocks[block].body = std::move(body);
      // On a detour all is each member's own; elsewhere the group's number is that of all.
      differs_.resize(function_.values.size(), on_detour_[block]);
    }
    is_warp_index_.resize(function_.instructions.size());
    function_.ntid[1] /= factor_;
  }

  // False: the ways do not meet, or somebody else comes in between.
  bool add_detour(BlockId branch) {
    Detour detour{.branch = branch, .meeting = post_[branch], .blocks = {}};
    if (detour.meeting == function_.blocks.size()) return false;
    std::vector<BlockId> work = function_.blocks[branch].succs;
    while (!work.empty()) {
      const BlockId id = work.back();
      work.pop_back();
      if (id == detour.meeting || std::ranges::find(detour.blocks, id) != detour.blocks.end()) continue;
      if (id == branch) return false;
      detour.blocks.push_back(id);
      for (const BlockId succ : function_.blocks[id].succs) work.push_back(succ);
    }
    for (const BlockId id : detour.blocks) {
      for (const BlockId pred : function_.blocks[id].preds) {
        if (pred != branch && std::ranges::find(detour.blocks, pred) == detour.blocks.end()) return false;
      }
      on_detour_[id] = true;
    }
    for (const InstructionId phi : function_.blocks[detour.meeting].phis)
      differs_[function_.instructions[phi].results[0]] = true;
    detours_.push_back(std::move(detour));
    return true;
  }

  // own_[k][v]: what the value v of the first member is in member k; copies_[k][i]: likewise of instructions.
  void make_copies() {
    const std::size_t values = function_.values.size();
    const std::size_t instructions = function_.instructions.size();
    copies_.assign(factor_, std::vector<InstructionId>(instructions, kNone));
    own_.assign(factor_, std::vector<ValueId>(values));
    for (std::uint8_t which = 0; which < factor_; ++which) {
      auto& own = own_[which];
      std::iota(own.begin(), own.end(), ValueId{0});
      if (which == 0) continue;
      const auto copy = [&](InstructionId id) {
        Instruction made = function_.instructions[id];
        const std::vector<ValueId> results = std::exchange(made.results, {});
        if (results.empty() ? !is_each_members(made) : !differs_[results[0]]) return;
        if (member_ == Member::kBlock && is_of_member(made)) made.of_block = which;
        if (member_ == Member::kWarp && is_warp_index_[id]) made.operands[1] = numbers_[which];
        copies_[which][id] = function_.create(std::move(made), static_cast<std::uint32_t>(results.size()));
        for (std::size_t i = 0; i < results.size(); ++i)
          own[results[i]] = function_.instructions[copies_[which][id]].results[i];
      };
      for (const Block& block : function_.blocks) {
        std::ranges::for_each(block.phis, copy);
        std::ranges::for_each(block.body, copy);
      }
      for (const InstructionId id : copies_[which]) {
        if (id == kNone) continue;
        for (ValueId& operand : function_.instructions[id].operands) operand = own[operand];
      }
    }
  }

  // Behind the first member's instruction, where all go together.
  void place_copies() {
    for (BlockId id = 0; id < on_detour_.size(); ++id) {
      if (on_detour_[id]) continue;
      for (auto* list : {&function_.blocks[id].phis, &function_.blocks[id].body}) {
        std::vector<InstructionId> placed;
        for (const InstructionId inst : *list) {
          for (std::uint32_t which = 0; which < factor_; ++which) {
            const InstructionId each = which == 0 ? inst : copies_[which][inst];
            if (each != kNone) placed.push_back(each);
          }
        }
        *list = std::move(placed);
      }
    }
  }

  BlockId new_block(std::uint32_t line) {
    Block block;
    block.line = line;
    function_.blocks.push_back(std::move(block));
    return static_cast<BlockId>(function_.blocks.size() - 1);
  }

  // Each member's own copy of the detour's blocks, and behind them a join, from which the next one sets out.
  void take_in_turn(const Detour& detour) {
    const auto is_inside = [&](BlockId id) {
      return id == detour.branch || std::ranges::find(detour.blocks, id) != detour.blocks.end();
    };
    const std::uint32_t line = function_.blocks[detour.branch].line;
    std::vector<std::vector<BlockId>> place(factor_, std::vector<BlockId>(function_.blocks.size(), kNone));
    for (std::uint32_t which = 0; which < factor_; ++which) {
      for (const BlockId id : detour.blocks)
        place[which][id] = which == 0 ? id : new_block(function_.blocks[id].line);
      place[which][detour.meeting] = new_block(line);
    }
    const auto join_of = [&](std::uint32_t which) { return place[which][detour.meeting]; };
    for (std::uint32_t which = 0; which < factor_; ++which)
      place[which][detour.branch] = which == 0 ? detour.branch : join_of(which - 1);

    // The meeting: what came from the detour comes from the last join.
    const std::vector<BlockId> before = function_.blocks[detour.meeting].preds;
    std::vector<std::size_t> slots;  // of before: those of the detour
    std::vector<BlockId> preds;
    for (std::size_t slot = 0; slot < before.size(); ++slot) {
      if (is_inside(before[slot])) {
        slots.push_back(slot);
      } else {
        preds.push_back(before[slot]);
      }
    }
    preds.push_back(join_of(factor_ - 1));
    for (std::uint32_t which = 0; which < factor_; ++which) {
      const BlockId join = join_of(which);
      for (const std::size_t slot : slots) function_.blocks[join].preds.push_back(place[which][before[slot]]);
    }
    const std::vector<InstructionId> phis = function_.blocks[detour.meeting].phis;  // of all members
    for (const InstructionId phi : phis) {
      const auto owner = [&] {
        for (std::uint32_t which = 1; which < factor_; ++which) {
          if (std::ranges::find(copies_[which], phi) != copies_[which].end()) return which;
        }
        return std::uint32_t{0};
      }();
      Instruction joined;
      joined.op = Op::kPhi;
      joined.type = function_.instructions[phi].type;
      joined.line = function_.instructions[phi].line;
      joined.block = join_of(owner);
      std::vector<ValueId> operands;
      for (std::size_t slot = 0; slot < before.size(); ++slot) {
        const ValueId operand = function_.instructions[phi].operands[slot];
        (is_inside(before[slot]) ? joined.operands : operands).push_back(operand);
      }
      const InstructionId id = function_.create(std::move(joined), 1);
      function_.blocks[join_of(owner)].phis.push_back(id);
      operands.push_back(function_.instructions[id].results[0]);
      function_.instructions[phi].operands = std::move(operands);
    }
    function_.blocks[detour.meeting].preds = std::move(preds);

    // The copies of the blocks, then all edges of the first member's.
    const Block branch = function_.blocks[detour.branch];
    for (std::uint32_t which = factor_; which-- > 0;) {
      const auto moved = [&](std::vector<BlockId> ids) {
        for (BlockId& id : ids) id = place[which][id];
        return ids;
      };
      for (const BlockId id : detour.blocks) {
        const BlockId at = place[which][id];
        if (which != 0) {
          Block copy = function_.blocks[id];
          for (auto* list : {&copy.phis, &copy.body}) {
            for (InstructionId& inst : *list) {
              inst = copies_[which][inst];
              function_.instructions[inst].block = at;
            }
          }
          if (copy.condition != kNone) copy.condition = own_[which][copy.condition];
          function_.blocks[at] = std::move(copy);
        }
        function_.blocks[at].succs = moved(function_.blocks[at].succs);
        function_.blocks[at].preds = moved(function_.blocks[at].preds);
      }
      Block& start = function_.blocks[place[which][detour.branch]];
      start.terminator = Terminator::kBranch;
      start.condition = own_[which][branch.condition];
      start.succs = moved(branch.succs);
    }
    Block& last = function_.blocks[join_of(factor_ - 1)];
    last.terminator = Terminator::kJump;
    last.succs = {detour.meeting};
  }

  Function& function_;
  std::uint32_t factor_;
  Member member_;
  double copied_ = 0;
  bool copies_effects_ = false;
  std::vector<ValueId> numbers_;     // of the warps of a group: 0, 1, …
  std::vector<bool> is_warp_index_;  // instructions whose second operand is one of these
  std::vector<BlockId> post_;
  std::vector<bool> differs_;    // values that are not the same in all members
  std::vector<bool> on_detour_;  // blocks that each member takes by itself
  std::vector<Detour> detours_;
  std::vector<std::vector<ValueId>> own_;
  std::vector<std::vector<InstructionId>> copies_;
};

}  // namespace

std::expected<void, std::string> coarsen(Function& function, std::uint32_t factor, Members allowed) {
  std::optional<Coarsening> best;
  std::string reason = "it is turned off";
  for (const auto& [member, is_allowed] :
       {std::pair(Member::kBlock, allowed.blocks), std::pair(Member::kWarp, allowed.warps)}) {
    if (!is_allowed) continue;
    Coarsening candidate(function, factor, member);
    if (const char* obstacle = candidate.find_obstacle()) {
      reason = obstacle;
    } else if (!best || candidate.copied() < best->copied()) {
      best.emplace(std::move(candidate));
    }
  }
  if (!best) return std::unexpected(std::move(reason));
  best->run();
  return {};
}

}  // namespace vgpu::software::ir
