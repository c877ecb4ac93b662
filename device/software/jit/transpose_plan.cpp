// See transpose_plan.h.
#include "device/software/jit/transpose_plan.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

namespace vgpu::software::jit {

namespace {

using ir::Op;

constexpr std::int64_t kWordBytes = 4;
constexpr std::int64_t kChunkWords[] = {4, 2, 1};  // the longest first; one is always there

class Planner {
 public:
  Planner(const ir::Function& function, const ir::LaneShapes& shapes, ir::BlockId block,
          const std::vector<bool>& has_home, const WindowPlan& windows)
      : function_(function), shapes_(shapes), block_(block), has_home_(has_home), windows_(windows) {}

  TransposePlan run() {
    collect();
    for (const Candidate& candidate : candidates_) divide(candidate);
    return std::move(plan_);
  }

 private:
  struct Candidate {
    TransposeGroup group;
    std::vector<std::pair<ir::InstructionId, std::int64_t>> loads;  // … and where each begins
  };

  [[nodiscard]] bool is_eligible(ir::InstructionId id, const ir::Instruction& inst) const {
    if (inst.space != ir::Space::kGlobal && inst.space != ir::Space::kShared) return false;
    if (inst.is_volatile || ir::bits_of(inst.type) % 32 != 0 || windows_.items.contains(id)) return false;
    const ir::Shape& shape = shapes_.of[inst.operands[0]];
    if (shape.kind != ir::ShapeKind::kOffsets) return false;
    return !is_contiguous(shapes_.table_of(shape), ir::bits_of(inst.type) / 8 * inst.count);
  }

  void collect() {
    std::map<std::tuple<ir::ValueId, ir::Space, std::uint8_t, std::uint32_t>, std::size_t> open;
    std::uint32_t epoch = 1;  // loads of memory that may have been written in between have another
    for (const ir::InstructionId id : function_.blocks[block_].body) {
      const ir::Instruction& inst = function_.instructions[id];
      if (inst.op != Op::kLoad) {
        if (ir::has_effect(inst)) ++epoch;
        continue;
      }
      if (!is_eligible(id, inst)) continue;
      const auto [root, constant] = root_of(function_, shapes_, block_, has_home_, inst.operands[0]);
      const auto [least, most] = std::ranges::minmax(shapes_.table_of(shapes_.of[root]));
      const std::int64_t first = inst.imm + constant;
      const std::int64_t end = first + static_cast<std::int64_t>(ir::bits_of(inst.type) / 8) * inst.count;
      const auto key = std::tuple(root, inst.space, inst.of_block, inst.is_constant ? 0u : epoch);
      const auto fits = [&](std::int64_t from, std::int64_t to) {
        return to + most - from - least <= TransposeGroup::kMaxSpan;
      };
      if (const auto found = open.find(key); found != open.end()) {
        Candidate& candidate = candidates_[found->second];
        TransposeGroup& group = candidate.group;
        if (fits(std::min(group.low, first), std::max(group.end, end))) {
          group.low = std::min(group.low, first);
          group.end = std::max(group.end, end);
          candidate.loads.emplace_back(id, first);
          continue;
        }
      }
      if (!fits(first, end)) continue;
      open[key] = candidates_.size();
      candidates_.push_back({.group = {.root = root,
                                       .space = inst.space,
                                       .of_block = inst.of_block,
                                       .is_constant = inst.is_constant,
                                       .low = first,
                                       .end = end},
                             .loads = {{id, first}}});
    }
  }

  // The group's words to chunks, from the first on.
  void divide(const Candidate& candidate) {
    std::set<std::int64_t> wanted;
    for (const auto& [id, first] : candidate.loads) {
      const ir::Instruction& load = function_.instructions[id];
      const std::int64_t words = static_cast<std::int64_t>(ir::bits_of(load.type) / 32) * load.count;
      for (std::int64_t i = 0; i < words; ++i) wanted.insert(first + i * kWordBytes);
    }
    const std::size_t group = plan_.groups.size();
    std::map<std::int64_t, TransposeWord> places;
    for (const std::int64_t start : wanted) {
      if (places.contains(start)) continue;
      for (const std::int64_t words : kChunkWords) {
        if (!wanted.contains(start + (words - 1) * kWordBytes)) continue;
        for (std::int64_t i = 0; i < words; ++i) {
          places.try_emplace(start + i * kWordBytes,
                             TransposeWord{plan_.chunks.size(), static_cast<std::uint32_t>(i)});
        }
        plan_.chunks.push_back({.group = group, .offset = start, .words = static_cast<std::uint32_t>(words)});
        break;
      }
    }
    plan_.groups.push_back(candidate.group);
    for (const auto& [id, first] : candidate.loads) {
      const ir::Instruction& load = function_.instructions[id];
      const std::int64_t words = static_cast<std::int64_t>(ir::bits_of(load.type) / 32) * load.count;
      std::vector<TransposeWord> found;
      for (std::int64_t i = 0; i < words; ++i) found.push_back(places.at(first + i * kWordBytes));
      plan_.items[id] = std::move(found);
    }
  }

  const ir::Function& function_;
  const ir::LaneShapes& shapes_;
  ir::BlockId block_;
  const std::vector<bool>& has_home_;
  const WindowPlan& windows_;
  std::vector<Candidate> candidates_;
  TransposePlan plan_;
};

}  // namespace

TransposePlan plan_transposes(const ir::Function& function, const ir::LaneShapes& shapes, ir::BlockId block,
                              const std::vector<bool>& has_home, const WindowPlan& windows) {
  return Planner(function, shapes, block, has_home, windows).run();
}

}  // namespace vgpu::software::jit
