// Where the lane-shape analysis may take for granted that a narrow index does not wrap around, because the
// code checks it when it gets there and starts the warp anew, without the claim, if it does.
#pragma once

#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// By value: results of kSExt and kZExt that are parts of addresses, and before which a warp cannot have done
// anything that must not be done twice: stores to memory others see, atomics, barriers, output.
[[nodiscard]] std::vector<bool> guardable_extensions(const Function& function);

}  // namespace vgpu::software::ir
