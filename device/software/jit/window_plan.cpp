// See window_plan.h.
#include "device/software/jit/window_plan.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace vgpu::software::jit {

namespace {

using ir::Op;

std::int64_t element_bytes(const ir::Instruction& load) {
  return ir::bits_of(load.type) / 8;
}

class Planner {
 public:
  Planner(const ir::Function& function, const ir::LaneShapes& shapes, ir::BlockId block,
          const std::vector<bool>& has_home, std::size_t permute_cost)
      : function_(function),
        shapes_(shapes),
        block_(block),
        has_home_(has_home),
        permute_cost_(permute_cost) {}

  WindowPlan run() {
    collect();
    for (Candidate& candidate : candidates_) accept(candidate);
    return std::move(plan_);
  }

 private:
  struct Candidate {
    WindowGroup group;
    std::vector<std::pair<ir::InstructionId, std::int64_t>> loads;
  };

  void collect() {
    std::map<std::tuple<ir::ValueId, ir::Space, std::uint8_t, std::uint32_t, std::uint32_t>, std::size_t>
        open;
    std::uint32_t epoch = 1;  // loads of memory that may have been written in between have another
    for (const ir::InstructionId id : function_.blocks[block_].body) {
      const ir::Instruction& inst = function_.instructions[id];
      if (inst.op != Op::kLoad) {
        if (ir::has_effect(inst)) ++epoch;
        continue;
      }
      const ir::Shape& shape = shapes_.of[inst.operands[0]];
      if (inst.space != ir::Space::kGlobal && inst.space != ir::Space::kShared) continue;
      if (inst.is_volatile || shape.kind != ir::ShapeKind::kOffsets) continue;
      const std::int64_t bytes = element_bytes(inst);
      if (bytes == 0 || is_contiguous(shapes_.table_of(shape), bytes * inst.count)) continue;
      const auto [root, constant] = root_of(function_, shapes_, block_, has_home_, inst.operands[0]);
      const std::int64_t first = inst.imm + constant;
      const std::int64_t end = first + bytes * inst.count;
      const auto [least, most] = std::ranges::minmax(shapes_.table_of(shape));
      const auto key =
          std::tuple(root, inst.space, inst.of_block, shape.table, inst.is_constant ? 0u : epoch);
      const auto found = open.find(key);
      if (found != open.end()) {
        Candidate& candidate = candidates_[found->second];
        WindowGroup& group = candidate.group;
        const std::int64_t from = std::min(group.first, first);
        const std::int64_t to = std::max(group.end, end);
        if (to + most - from - least <= WindowGroup::kMaxSpan) {
          group.first = from;
          group.end = to;
          candidate.loads.emplace_back(id, first);
          continue;
        }
      }
      if (end + most - first - least > WindowGroup::kMaxSpan) continue;
      Candidate candidate;
      candidate.group.root = root;
      candidate.group.table = shape.table;
      candidate.group.space = inst.space;
      candidate.group.of_block = inst.of_block;
      candidate.group.is_constant = inst.is_constant;
      candidate.group.first = first;
      candidate.group.end = end;
      candidate.loads.emplace_back(id, first);
      open[key] = candidates_.size();
      candidates_.push_back(std::move(candidate));
    }
  }

  void accept(Candidate& candidate) {
    WindowGroup& group = candidate.group;
    const ir::LaneTable& table = shapes_.tables[group.table];
    const auto [least, most] = std::ranges::minmax(table);
    group.low = group.first + least;
    group.high = group.end + most;
    std::size_t whole = 0;    // windows, were none put together
    std::size_t gathers = 0;  // of 16 lanes
    for (std::size_t half = 0; half < 2; ++half) {
      std::set<std::int64_t> wanted;
      for (const auto& [id, offset] : candidate.loads) {
        const ir::Instruction& load = function_.instructions[id];
        gathers += std::max<std::size_t>(1, static_cast<std::size_t>(element_bytes(load)) * load.count / 4);
        for (std::size_t lane = half * kHalfWarp; lane < (half + 1) * kHalfWarp; ++lane) {
          for (std::int64_t byte = 0; byte < element_bytes(load) * load.count; ++byte)
            wanted.insert(offset + table[lane] + byte - group.low);
        }
      }
      std::size_t least_cost = SIZE_MAX;
      for (const std::int64_t piece_bytes : {kWindowBytes, kWindowBytes / 2, kWindowBytes / 4}) {
        Windows windows = cover(wanted, piece_bytes, group.high - group.low);
        if (piece_bytes == kWindowBytes) whole += windows.count();
        const std::size_t cost = cost_of(windows, candidate, half);
        if (cost >= least_cost) continue;
        least_cost = cost;
        group.windows[half] = std::move(windows);
      }
    }
    // A gather of 16 lanes costs as much as a dozen loads and permutes. What is put together costs less
    // still.
    if (whole > 4 * gathers + 4 || whole > 24) return;
    for (const auto& [id, offset] : candidate.loads)
      plan_.items[id] = {.group = plan_.groups.size(), .offset = offset};
    plan_.groups.push_back(std::move(group));
  }

  static Windows cover(const std::set<std::int64_t>& wanted, std::int64_t piece_bytes, std::int64_t span) {
    Windows windows{.piece_bytes = piece_bytes, .pieces = {}};
    std::int64_t covered = 0;
    for (const std::int64_t byte : wanted) {
      if (!windows.pieces.empty() && byte < covered) continue;
      windows.pieces.push_back(byte);
      covered = byte + piece_bytes;
    }
    // The last one must not reach behind what is wanted.
    const std::int64_t last = std::max<std::int64_t>(0, span - piece_bytes);
    for (std::int64_t& start : windows.pieces) start = std::min(start, last);
    return windows;
  }

  // What loading the windows and permuting takes, in instructions of vectors: a load for each piece, and one
  // more to insert it if it is not the first of its window.
  [[nodiscard]] std::size_t cost_of(const Windows& windows, const Candidate& candidate,
                                    std::size_t half) const {
    std::size_t cost = 2 * windows.pieces.size() - windows.count();
    const ir::LaneTable& table = shapes_.tables[candidate.group.table];
    for (const auto& [id, offset] : candidate.loads) {
      const ir::Instruction& load = function_.instructions[id];
      const std::int64_t bytes = element_bytes(load);
      for (std::int64_t element = 0; element < load.count; ++element) {
        for (std::uint32_t lane = 0; lane < kHalfWarp; lane += lanes_of_permute(bytes)) {
          const Permute permute =
              plan_permute(windows,
                           element_offsets(candidate.group, table, offset + element * bytes, bytes,
                                           static_cast<std::uint32_t>(half) * kHalfWarp + lane),
                           bytes);
          const std::size_t permutes = permute.windows.size() - 1;
          cost += permutes == 0 ? 1 : permutes * (permute.granule < 4 ? permute_cost_ : 1);
        }
      }
    }
    return cost;
  }

  const ir::Function& function_;
  const ir::LaneShapes& shapes_;
  ir::BlockId block_;
  const std::vector<bool>& has_home_;
  std::size_t permute_cost_;
  std::vector<Candidate> candidates_;
  WindowPlan plan_;
};

}  // namespace

bool is_contiguous(const ir::LaneTable& table, std::int64_t bytes) {
  for (std::size_t i = 0; i < kWarpSize; ++i) {
    if (table[i] != static_cast<std::int64_t>(i) * bytes) return false;
  }
  return true;
}

std::pair<ir::ValueId, std::int64_t> root_of(const ir::Function& function, const ir::LaneShapes& shapes,
                                             ir::BlockId block, const std::vector<bool>& has_home,
                                             ir::ValueId address) {
  std::int64_t offset = 0;
  for (;;) {
    const ir::Instruction* inst = function.definition(address);
    if (inst == nullptr || inst->op != Op::kAdd || !function.is_constant(inst->operands[1])) break;
    const ir::ValueId next = inst->operands[0];
    const ir::Instruction* from = function.definition(next);
    const auto constant = static_cast<std::int64_t>(function.values[inst->operands[1]].bits);
    const ir::Shape& shape = shapes.of[next];
    if (from == nullptr || (from->block != block && !has_home[next]) || shape.known || shape.is_varying() ||
        shape.kind != shapes.of[address].kind || shape.table != shapes.of[address].table ||
        constant > WindowGroup::kMaxSpan || constant < -WindowGroup::kMaxSpan) {
      break;
    }
    offset += constant;
    address = next;
  }
  return {address, offset};
}

WindowPlan plan_windows(const ir::Function& function, const ir::LaneShapes& shapes, ir::BlockId block,
                        const std::vector<bool>& has_home, std::size_t permute_cost) {
  return Planner(function, shapes, block, has_home, permute_cost).run();
}

std::pair<std::size_t, std::int64_t> Windows::find(std::int64_t byte) const {
  // The last piece that begins at or before a byte holds it, if any does.
  const auto piece = static_cast<std::size_t>(std::ranges::upper_bound(pieces, byte) - pieces.begin()) - 1;
  const std::int64_t start = static_cast<std::int64_t>(piece % pieces_of_window()) * piece_bytes;
  return {piece / pieces_of_window(), start + byte - pieces[piece]};
}

std::vector<std::int64_t> element_offsets(const WindowGroup& group, const ir::LaneTable& table,
                                          std::int64_t offset, std::int64_t bytes, std::uint32_t first_lane) {
  std::vector<std::int64_t> offsets;
  for (std::uint32_t lane = first_lane; lane < first_lane + lanes_of_permute(bytes); ++lane)
    offsets.push_back(offset + table[lane] - group.low);
  return offsets;
}

Permute plan_permute(const Windows& windows, const std::vector<std::int64_t>& offsets, std::int64_t bytes) {
  Permute permute;
  for (permute.granule = bytes; permute.granule > 1; permute.granule /= 2) {
    const bool fits = std::ranges::all_of(offsets, [&](std::int64_t offset) {
      for (std::int64_t at = offset; at < offset + bytes; at += permute.granule) {
        if (windows.find(at).second % permute.granule != 0) return false;
      }
      return true;
    });
    if (fits) break;
  }
  std::set<std::size_t> used;
  for (const std::int64_t offset : offsets) {
    for (std::int64_t at = offset; at < offset + bytes; at += permute.granule) {
      const auto [window, position] = windows.find(at);
      permute.source.emplace_back(window, static_cast<int>(position / permute.granule));
      used.insert(window);
    }
  }
  permute.windows.assign(used.begin(), used.end());
  return permute;
}

}  // namespace vgpu::software::jit
