// Where the lane-shape analysis may take for granted that a narrow index does not wrap around, because the
// code checks it and goes on without the claim if it does.
#pragma once

#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// By value: results of kSExt and kZExt that are parts of addresses.
struct GuardableExtensions {
  // A warp cannot have done anything before that must not be done twice (stores to memory others see,
  // atomics, barriers, output): it may start anew.
  std::vector<bool> by_restart;
  // What is extended is known, or can be computed, where the block begins: the warp may go on from there.
  std::vector<bool> on_entry;
};
[[nodiscard]] GuardableExtensions guardable_extensions(const Function& function);

}  // namespace vgpu::software::ir
