// Window loads: where the lanes' addresses differ by constants, a few wide loads fetch all bytes that the
// lanes want, and permutes put them in place; a gather would go through memory lane by lane. Loads of one
// block whose addresses differ by constants share their windows. This file plans; emit_window.cpp emits.
//
// A window may touch bytes that no lane asked for, never a page that no active lane asked for: all bytes
// between the first and the last wanted one are at most kMaxSpan, one page, apart, so each lies in the page
// of one or the other. With part of a warp, the bytes before the first and behind the last byte that an
// active lane wants are masked off.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"

namespace vgpu::software::jit {

inline constexpr std::int64_t kWindowBytes = 64;
inline constexpr std::uint32_t kHalfWarp = 16;

// What permutes take their granules from: vectors of 64 bytes, each loaded at once, or put together of pieces
// of 32 or 16 bytes that are each loaded from where bytes are wanted.
struct Windows {
  std::int64_t piece_bytes = kWindowBytes;
  // Where pieces begin, relative to the group's `low`, ascending. They fill one window after the other.
  std::vector<std::int64_t> pieces;

  [[nodiscard]] std::size_t pieces_of_window() const {
    return static_cast<std::size_t>(kWindowBytes / piece_bytes);
  }
  [[nodiscard]] std::size_t count() const {
    return (pieces.size() + pieces_of_window() - 1) / pieces_of_window();
  }
  // The window that holds a wanted byte, and where in it.
  [[nodiscard]] std::pair<std::size_t, std::int64_t> find(std::int64_t byte) const;
};

// Loads whose addresses are one scalar plus one table of constants plus a constant each.
struct WindowGroup {
  static constexpr std::int64_t kMaxSpan = 4096;

  ir::ValueId root = ir::kNone;  // lane 0's address is scalar(root) + an item's offset
  std::uint32_t table = 0;
  ir::Space space = ir::Space::kGlobal;
  std::uint8_t of_block = 0;
  bool is_constant = false;  // memory nobody writes during the launch
  std::int64_t first = 0;    // offset of the first element of any item, without the table
  std::int64_t end = 0;      // … behind the last
  std::int64_t low = 0;      // first wanted byte of all lanes, relative to scalar(root)
  std::int64_t high = 0;     // behind the last
  // Per half of the warp. Where high - low is less than a piece has, pieces are that much shorter.
  Windows windows[2];
};

struct WindowItem {
  std::size_t group = 0;
  std::int64_t offset = 0;  // of element 0, relative to scalar(root)
};

// Of one block: loads that are worth windows, by instruction.
struct WindowPlan {
  std::vector<WindowGroup> groups;
  std::map<ir::InstructionId, WindowItem> items;
};

// The address without the constants added to it, and their sum: the two have the same lane table. `has_home`
// as below.
[[nodiscard]] std::pair<ir::ValueId, std::int64_t> root_of(const ir::Function& function,
                                                           const ir::LaneShapes& shapes, ir::BlockId block,
                                                           const std::vector<bool>& has_home,
                                                           ir::ValueId address);

// Lanes lie side by side, so many bytes each.
[[nodiscard]] bool is_contiguous(const ir::LaneTable& table, std::int64_t bytes);

// `has_home`, by value: blocks other than its own can read it.
// `permute_cost`: what a permute of two sources costs, in plain instructions of vectors, if it moves bytes or
// words. Those of larger granules cost 1.
[[nodiscard]] WindowPlan plan_windows(const ir::Function& function, const ir::LaneShapes& shapes,
                                      ir::BlockId block, const std::vector<bool>& has_home,
                                      std::size_t permute_cost);

// Where the elements of some lanes come from: for each granule of `granule` bytes of the result, in order,
// the window (index into windows) and the granule in it.
struct Permute {
  std::int64_t granule = 0;
  std::vector<std::pair<std::size_t, int>> source;
  std::vector<std::size_t> windows;  // those that occur there, ascending
};
[[nodiscard]] Permute plan_permute(const Windows& windows, const std::vector<std::int64_t>& offsets,
                                   std::int64_t element_bytes);

// Lanes whose elements of so many bytes one permute puts in place.
[[nodiscard]] constexpr std::uint32_t lanes_of_permute(std::int64_t element_bytes) {
  return element_bytes == 8 ? 8 : kHalfWarp;
}
// Where the elements of such lanes lie, relative to the group's `low`; `offset`: of lane 0's, as WindowItem
// has it.
[[nodiscard]] std::vector<std::int64_t> element_offsets(const WindowGroup& group, const ir::LaneTable& table,
                                                        std::int64_t offset, std::int64_t element_bytes,
                                                        std::uint32_t first_lane);

}  // namespace vgpu::software::jit
