// A function that waits at barriers becomes one that leaves there, and goes on when it is called again: what
// is wanted behind a barrier is kept in the warp's frame (WarpFrame) meanwhile.
#pragma once

#include <llvm/IR/Function.h>

#include <cstdint>
#include <span>

namespace vgpu::software::jit {

struct ResumePoint {
  llvm::BasicBlock* wait;    // ends by jumping to `resume`
  llvm::BasicBlock* resume;  // entered from there only
  llvm::Value* stop;         // what the function says when it leaves
};

// Rebuilds `code`, a WarpFunction whose values all live in slots of the entry block wherever they are wanted
// behind a point. What the entry block itself does is done again each time. Gives back the bytes of a frame.
[[nodiscard]] std::uint32_t leave_and_resume(llvm::Function& code, std::span<const ResumePoint> points);

}  // namespace vgpu::software::jit
