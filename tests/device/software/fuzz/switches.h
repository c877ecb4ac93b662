// The compiler's switches as the fuzzer knows them: the one place to name a new pass in.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "device/software/jit/jit.h"

namespace vgpu::testing::fuzz {

struct Switch {
  const char* name;
  void (*turn_off)(software::jit::Options& options);
};

// Everything that only makes code faster, and can be turned off.
[[nodiscard]] std::span<const Switch> switches();

// The compiler's options with these passes off, its own checks on. An unknown name changes nothing: a
// regression may name a pass that is gone.
[[nodiscard]] software::jit::Options options_without(const std::vector<std::string>& names, int opt_level);

}  // namespace vgpu::testing::fuzz
