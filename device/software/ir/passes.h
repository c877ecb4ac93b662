// The passes over the form, in the order prepare() runs them. Each keeps the rules that verify() checks.
#pragma once

#include <expected>
#include <functional>
#include <string>
#include <string_view>

#include "device/software/ir/ir.h"
#include "device/software/ir/lower.h"

namespace vgpu::software::ir {

// Loops with several entries get a single one, so that all behind this are natural. On registers, before
// build_ssa.
void reduce_loops(Function& function);

// Registers to values: phis where lives meet (pruned), uninitialised reads to undef.
void build_ssa(Function& function);

// Folds constants, copies and branches known at compile time, drops what nobody uses.
void simplify(Function& function);

// Two loads of neighbouring halves of a word, put together, become one load of the word.
void merge_loads(Function& function);

// A load from local or other memory, as a branch chose, becomes a load on each of the ways to it.
void split_loads(Function& function);

// What coarsen() may join.
struct Members {
  bool blocks = true;
  bool warps = true;
};

// One function for `factor` neighbours (2 to kMostAtATime): blocks that are neighbours in x, of which ctaid
// is the first's, or warps that are neighbours in y, of a block whose rows are warps: then the function is
// one for a block with so many times fewer rows. What has more in common is joined;
// Function::blocks_at_a_time and warps_at_a_time say which it was. Only of kernels whose loops, ends and
// barriers do not depend on ctaid.x, or on the warp, and that share nothing but memory, without atomic
// operations. An error says what stands in the way; the function is then as it was.
[[nodiscard]] std::expected<void, std::string> coarsen(Function& function, std::uint32_t factor,
                                                       Members allowed = {});

// Where a thread that came through a barrier of the whole block may only end, it ends in front of the
// barrier. Gives back at how many barriers.
std::uint32_t leave_before_barriers(Function& function);

// Cuts blocks behind their barriers, so that nothing in a block, its branch included, reads what was computed
// in it before a barrier. Behind this, blocks must not be joined again.
void end_blocks_at_barriers(Function& function);

// Everything between PTX and lane shapes: lower, reduce_loops, build_ssa, simplify, merge_loads and
// split_loads (if wanted), normalise_loops. `after`, if set, is called with the name of each pass when it is
// done.
[[nodiscard]] std::expected<Function, LowerError> prepare(
    const ptx::Module& module, std::string_view kernel, const LowerOptions& options,
    const std::function<void(std::string_view pass, const Function&)>& after = {});

}  // namespace vgpu::software::ir
