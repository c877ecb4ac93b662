// Bounds and alignments of integers, for the rules of the lane-shape analysis.
#pragma once

#include <algorithm>
#include <cstdint>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"

namespace vgpu::software::ir {

__extension__ typedef __int128 Wide;

inline constexpr std::uint64_t kMaxAlign = std::uint64_t{1} << 32;
inline constexpr std::int64_t kMaxOffset = std::int64_t{1} << 40;

inline std::int64_t lowest(Type type) {
  return bits_of(type) >= 64 ? INT64_MIN : -(std::int64_t{1} << (bits_of(type) - 1));
}
inline std::int64_t highest(Type type) {
  return bits_of(type) >= 64 ? INT64_MAX : (std::int64_t{1} << (bits_of(type) - 1)) - 1;
}
inline bool fits(Wide low, Wide high, Type type) {
  return low >= lowest(type) && high <= highest(type);
}
inline std::int64_t wrap(std::int64_t value, Type type) {
  const std::uint32_t unused = 64 - bits_of(type);
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << unused) >> unused;
}
inline std::uint64_t align_of(std::int64_t value) {
  if (value == 0) return kMaxAlign;
  const auto bits = static_cast<std::uint64_t>(value);
  return std::min(kMaxAlign, bits & (~bits + 1));
}
inline bool is_integer(Type type) {
  return type >= Type::kI8 && type <= Type::kI64;
}
inline std::int64_t low_of(const LaneTable& table) {
  return *std::ranges::min_element(table);
}
inline std::int64_t high_of(const LaneTable& table) {
  return *std::ranges::max_element(table);
}

}  // namespace vgpu::software::ir
