// Which parameters a kernel asks whether they are null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/software/ptx/ast.h"

namespace vgpu::software::ptx {

// Bit i: the 64 bits at byte 8 * i of the kernel's parameter block are loaded, and somewhere compared with 0.
// Only the first 64 such words are looked at, and only loads that name them. Which of them are null is worth
// knowing at a launch; that one is missing here has no effect but time.
[[nodiscard]] std::uint64_t null_tested_words(const Function& kernel);

// Those of the words `tested` that are 0 in a launch's parameters.
[[nodiscard]] std::uint64_t null_words(std::uint64_t tested, std::span<const std::byte> parameters);

}  // namespace vgpu::software::ptx
