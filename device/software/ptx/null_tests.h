// Which parameters a kernel asks whether they are null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/software/ptx/ast.h"

namespace vgpu::software::ptx {

// Sets of words of a kernel's parameter block: bit i stands for the 64 bits at byte 8 * i. What lies behind
// the first 64 words is in none.
inline constexpr std::uint64_t kNullWordBytes = 8;

// The set of the one word that begins at `byte`; empty if none does, or it lies behind the first 64.
[[nodiscard]] constexpr std::uint64_t null_word_at(std::uint64_t byte) {
  const std::uint64_t word = byte / kNullWordBytes;
  return byte % kNullWordBytes == 0 && word < 64 ? std::uint64_t{1} << word : 0;
}

// The words that are loaded, by loads that name them, and somewhere compared with 0. Which of them are null
// is worth knowing at a launch; that one is missing here has no effect but time.
[[nodiscard]] std::uint64_t null_tested_words(const Function& kernel);

// Those of the words `tested` that are 0 in a launch's parameters.
[[nodiscard]] std::uint64_t null_words(std::uint64_t tested, std::span<const std::byte> parameters);

}  // namespace vgpu::software::ptx
