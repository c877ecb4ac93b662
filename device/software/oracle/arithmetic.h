// The meaning of every PTX instruction that only computes: raw bits in, raw bits out. Nothing here knows of
// threads or memory. Values are zero-extended to 64 bits; results have only the bits of the result's type.
#pragma once

#include <cstdint>
#include <span>

#include "device/software/ptx/ast.h"

namespace vgpu::software::oracle {

[[nodiscard]] constexpr std::uint64_t truncate(std::uint64_t value, std::uint32_t bits) {
  return bits >= 64 ? value : value & ((std::uint64_t{1} << bits) - 1);
}
[[nodiscard]] constexpr std::int64_t sign_extend(std::uint64_t value, std::uint32_t bits) {
  if (bits >= 64) return static_cast<std::int64_t>(value);
  const std::uint64_t sign = std::uint64_t{1} << (bits - 1);
  return static_cast<std::int64_t>((truncate(value, bits) ^ sign) - sign);
}

// True if `instruction` is one that evaluate() knows: registers in, one register out.
[[nodiscard]] bool is_pure(ptx::Opcode opcode);
// `sources`: one per source operand. `carry` is the thread's carry flag.
[[nodiscard]] std::uint64_t evaluate(const ptx::Instruction& instruction,
                                     std::span<const std::uint64_t> sources, bool& carry);

// The three parts of evaluate().
[[nodiscard]] std::uint64_t evaluate_integer(const ptx::Instruction& instruction,
                                             std::span<const std::uint64_t> sources, bool& carry);
[[nodiscard]] std::uint64_t evaluate_float(const ptx::Instruction& instruction,
                                           std::span<const std::uint64_t> sources);
[[nodiscard]] std::uint64_t convert(const ptx::Instruction& instruction, std::uint64_t source);

// setp and set: the comparison alone, then with the third operand.
[[nodiscard]] bool compare(const ptx::Instruction& instruction, ptx::Type type, std::uint64_t a,
                           std::uint64_t b);
[[nodiscard]] bool combine(ptx::BoolOp op, bool a, bool b);

// What atom and red store: `old` is in memory, `b` and `c` the operands.
[[nodiscard]] std::uint64_t apply_atomic(ptx::AtomicOp op, ptx::Type type, std::uint64_t old, std::uint64_t b,
                                         std::uint64_t c);

// Half precision, in software: exact to double, rounded from double.
[[nodiscard]] double half_to_double(std::uint64_t bits);
[[nodiscard]] std::uint64_t double_to_half(double value, ptx::Rounding rounding);

// Flushes a subnormal f32 (or f16) to a zero of its sign.
[[nodiscard]] std::uint64_t flush(std::uint64_t bits, ptx::Type type);

}  // namespace vgpu::software::oracle
