// Whether the warps of a block meet at one barrier at most, and only once: then nobody who was let go by a
// barrier ever waits again, and the block's warps can wait on top of each other on one stack.
#pragma once

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

// True only if the kernel has exactly one barrier, it is of the whole block with its name known, whoever
// comes to it waits, and compiled code runs it at most once for each warp, whichever lanes come. False says
// nothing.
[[nodiscard]] bool meets_once(const Function& function);

}  // namespace vgpu::software::ir
