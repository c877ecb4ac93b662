// Random valid PTX kernels, free by construction of data races and of results that PTX leaves open: what two
// implementations compute must be equal to the bit. docs/fuzzing.md says how that is kept.
#pragma once

#include <cstdint>

#include "tests/device/software/fuzz/fuzz_case.h"
#include "tests/device/software/fuzz/program.h"

namespace vgpu::testing::fuzz {

struct Generated {
  Program program;
  FuzzCase shape;  // everything but the PTX text, which is program.text()
};

// The same seed gives the same kernel.
[[nodiscard]] Generated generate(std::uint64_t seed);

}  // namespace vgpu::testing::fuzz
