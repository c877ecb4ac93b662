// Which values are still wanted where a block begins, and where it ends.
#pragma once

#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// By block, in ascending order.
struct LiveValues {
  std::vector<std::vector<ValueId>> in;  // behind the block's phis, what those define included
  // What blocks behind it read. What their phis take from this block is not among them, unless somebody else
  // wants it too.
  std::vector<std::vector<ValueId>> out;
};
[[nodiscard]] LiveValues live_values(const Function& function);

}  // namespace vgpu::software::ir
