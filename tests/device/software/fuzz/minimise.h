// Cuts a failing case down: leaves out statements, then blocks and threads, as long as it fails the same way.
#pragma once

#include <chrono>

#include "tests/device/software/fuzz/differ.h"
#include "tests/device/software/fuzz/generator.h"

namespace vgpu::testing::fuzz {

// `failing` fails with `verdict`. The result does too, and has its PTX in place.
[[nodiscard]] FuzzCase minimise(Generated failing, Verdict verdict, Differ& differ,
                                std::chrono::seconds budget);

// A random kernel with random passes off.
[[nodiscard]] Generated generate_with_switches(std::uint64_t seed);

// Generates and compares one case; the minimised text of what failed, else empty.
struct Finding {
  Verdict verdict = Verdict::kSame;
  std::string what;
  FuzzCase smallest;
  [[nodiscard]] std::string report() const;
};
[[nodiscard]] Finding fuzz_one(std::uint64_t seed, Differ& differ, std::chrono::seconds budget);

}  // namespace vgpu::testing::fuzz
