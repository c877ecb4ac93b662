// Which values depend on what.
#pragma once

#include <functional>
#include <vector>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// By value: results of instructions that `is_source` names, and what is computed of them. `passes`: values
// that may depend at all; the others neither do nor hand it on. `order`: the blocks that count; any order is
// right, one that follows the control flow is fast.
[[nodiscard]] std::vector<bool> depending_values(
    const Function& function, const std::vector<BlockId>& order,
    const std::function<bool(const Instruction&)>& is_source,
    const std::function<bool(ValueId)>& passes = [](ValueId) { return true; });

// Its results are not what a thread knows of itself and of the parameters: loaded, or told by other threads.
[[nodiscard]] bool gives_data(const Instruction& instruction);

}  // namespace vgpu::software::ir
