// The steps of the code generator that only make code faster, and can be turned off one by one.
#pragma once

#include <algorithm>
#include <string_view>
#include <utility>

namespace vgpu::software::jit {

struct Passes {
  // Indices are taken not to wrap around where a check at run time says so (ir/wrap_guards.h).
  bool guards = true;
  // Where lanes differ by constants, wide loads and permutes instead of gathers (window_plan.h).
  bool windows = true;
  // Where lanes lie far apart and load some words each, a wide load for each lane and shuffles
  // (transpose_plan.h).
  bool transposes = true;
  // Where indices are compared with a bound all lanes are taken to agree; if they do not, the warp goes on by
  // code that does not take that (CodeGenerator::Form::masked).
  bool convergence = true;
  // Neighbouring halves of words are loaded together (ir::merge_loads).
  bool merging = true;
  // What is loaded from local or other memory is loaded where that is decided (ir::split_loads).
  bool splitting = true;
  // Where lanes go that is not foreseen, it is looked at whether they lie side by side (emit_row.cpp).
  bool rows = true;
  // Global memory that depends on the block is prefetched for the blocks behind it (Emitter::prefetch).
  bool prefetch = true;
  // Parameters that are null in a launch are known to be (LaunchShape::null_params).
  bool nulls = true;

  // Who only ends behind a barrier ends in front of it (ir::leave_before_barriers).
  bool leaving = true;
  // Kernels are compiled for several blocks at a time too (ir::coarsen).
  bool coarsening = true;
  // Or for several warps of a block at a time (ir::coarsen).
  bool warps = true;

  [[nodiscard]] static constexpr Passes none() {
    return {false, false, false, false, false, false, false, false, false, false, false, false};
  }
};

// All but those named in a list like "windows,guards"; "all" names all of them, other names none.
[[nodiscard]] inline Passes passes_without(std::string_view names) {
  Passes passes;
  const std::pair<std::string_view, bool Passes::*> known[] = {
      {"guards", &Passes::guards},
      {"windows", &Passes::windows},
      {"convergence", &Passes::convergence},
      {"merging", &Passes::merging},
      {"splitting", &Passes::splitting},
      {"prefetch", &Passes::prefetch},
      {"coarsening", &Passes::coarsening},
      {"warps", &Passes::warps},
      {"transposes", &Passes::transposes},
      {"leaving", &Passes::leaving},
      {"rows", &Passes::rows},
      {"nulls", &Passes::nulls},
  };
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find(','));
    if (name == "all") return Passes::none();
    for (const auto& [text, pass] : known) {
      if (name == text) passes.*pass = false;
    }
    names.remove_prefix(std::min(names.size(), name.size() + 1));
  }
  return passes;
}

}  // namespace vgpu::software::jit
