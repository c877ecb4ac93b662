// Which values are still wanted where a block ends.
#pragma once

#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// By block: values that the blocks behind it read, in ascending order. What their phis take from this block
// is not among them, unless somebody else wants it too.
[[nodiscard]] std::vector<std::vector<ValueId>> live_out_values(const Function& function);

}  // namespace vgpu::software::ir
