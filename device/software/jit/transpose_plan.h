// Transposed loads: where every lane loads a few neighbouring words and the lanes lie far apart (rows of a
// tile, one to a lane), each lane's words come by one wide load, and shuffles turn them about; gathers would
// go through memory once for each word. Loads of one block whose addresses differ by constants share the wide
// loads. This file plans; emit_transpose.cpp emits. Only for blocks that run with all lanes.
//
// A wide load begins and ends with a word that its lane asks for, and is far shorter than a page: it touches
// no page that the loads themselves would not.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"
#include "device/software/jit/window_plan.h"
#include "device/software/kernel_abi.h"

namespace vgpu::software::jit {

// Loads whose addresses are one value plus a constant each.
struct TransposeGroup {
  // From the first byte that any lane wants to the last: at most the guards' size (kernel_abi.h), so that if
  // one of them is wanted beyond an end of memory, all behind it are in the guard.
  static constexpr std::int64_t kMaxSpan = 32 * 1024;
  static_assert(kMaxSpan <= std::int64_t{kSharedGuardBytes} &&
                kMaxSpan <= std::int64_t{kDeviceWindowGuardBytes});

  ir::ValueId root = ir::kNone;
  ir::Space space = ir::Space::kGlobal;
  std::uint8_t of_block = 0;
  bool is_constant = false;  // memory nobody writes during the launch
  std::int64_t low = 0;      // the first byte of any load, relative to the root, without its table
  std::int64_t end = 0;      // behind the last
};

// What a lane loads at once: words of 32 bits from its place in the group on.
struct TransposeChunk {
  std::size_t group = 0;
  std::int64_t offset = 0;  // relative to the root
  std::uint32_t words = 0;  // 1, 2 or 4
};

struct TransposeWord {
  std::size_t chunk = 0;
  std::uint32_t word = 0;  // in the chunk
};

// Of one block: loads that are worth it, by instruction; where each of their words comes from, in order.
struct TransposePlan {
  std::vector<TransposeGroup> groups;
  std::vector<TransposeChunk> chunks;
  std::map<ir::InstructionId, std::vector<TransposeWord>> items;
};

// Loads that `windows` has are left to it.
[[nodiscard]] TransposePlan plan_transposes(const ir::Function& function, const ir::LaneShapes& shapes,
                                            ir::BlockId block, const std::vector<bool>& has_home,
                                            const WindowPlan& windows);

}  // namespace vgpu::software::jit
