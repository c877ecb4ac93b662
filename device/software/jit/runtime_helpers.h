// The functions compiled code calls by name: the only addresses object code from the disk cache is bound to.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

namespace vgpu::software::jit {

enum class RoundedOp : std::uint32_t {
  kAdd,
  kSub,
  kMul,
  kFma,
  kDiv,
  kSqrt,
  kFromSigned,
  kFromUnsigned,
  kToHalf
};

inline constexpr const char* kRoundedSymbol = "vgpu_rounded";

// What vgpu_rounded is to do: operation, ir::Rounding, and whether it works in f64.
[[nodiscard]] constexpr std::uint32_t rounded_code(RoundedOp op, std::uint32_t rounding, bool f64) {
  return static_cast<std::uint32_t>(op) | rounding << 8 | (f64 ? 1u << 16 : 0);
}

// Arithmetic in a rounding mode other than to nearest, on the bits of its operands.
extern "C" std::uint64_t vgpu_rounded(std::uint32_t code, std::uint64_t a, std::uint64_t b, std::uint64_t c);

// Every symbol code may refer to, with its address.
[[nodiscard]] std::span<const std::pair<const char*, const void*>> runtime_symbols();

}  // namespace vgpu::software::jit
