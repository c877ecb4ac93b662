// Integer operations on constants, as the form defines them.
#include "device/software/ir/fold.h"

#include <algorithm>
#include <bit>

namespace vgpu::software::ir {

namespace {

std::uint64_t zero_extended(std::uint64_t bits, std::uint32_t width) {
  return width >= 64 ? bits : bits & ((std::uint64_t{1} << width) - 1);
}
std::int64_t sign_extended(std::uint64_t bits, std::uint32_t width) {
  return static_cast<std::int64_t>(bits << (64 - width)) >> (64 - width);
}

}  // namespace

bool can_fold(Op op) {
  switch (op) {
    case Op::kAdd:
    case Op::kSub:
    case Op::kMul:
    case Op::kAnd:
    case Op::kOr:
    case Op::kXor:
    case Op::kShl:
    case Op::kLShr:
    case Op::kAShr:
    case Op::kDivU:
    case Op::kRemU:
    case Op::kDivS:
    case Op::kRemS:
    case Op::kMinS:
    case Op::kMaxS:
    case Op::kMinU:
    case Op::kMaxU:
    case Op::kTrunc:
    case Op::kZExt:
    case Op::kSExt:
    case Op::kBitcast:
    case Op::kPopc:
    case Op::kClz:
    case Op::kICmp:
      return true;
    default:
      return false;
  }
}

std::optional<std::uint64_t> fold(Op op, Type type, std::int64_t imm, Type a_type, std::uint64_t a_bits,
                                  Type b_type, std::uint64_t b_bits) {
  const std::uint32_t source_width = bits_of(a_type);
  const std::uint64_t a = zero_extended(a_bits, source_width);
  const std::uint64_t b = zero_extended(b_bits, bits_of(b_type));
  const std::int64_t sa = sign_extended(a, source_width);
  const std::int64_t sb = sign_extended(b, bits_of(b_type));
  if (type == Type::kVoid) return std::nullopt;
  switch (op) {
    case Op::kAdd:
      return a + b;
    case Op::kSub:
      return a - b;
    case Op::kMul:
      return a * b;
    case Op::kAnd:
      return a & b;
    case Op::kOr:
      return a | b;
    case Op::kXor:
      return a ^ b;
    case Op::kShl:
      return b >= source_width ? 0 : a << b;
    case Op::kLShr:
      return b >= source_width ? 0 : a >> b;
    case Op::kAShr:
      return static_cast<std::uint64_t>(sa >> std::min<std::uint64_t>(b, source_width - 1));
    case Op::kDivU:
      return b == 0 ? std::nullopt : std::optional(a / b);
    case Op::kRemU:
      return b == 0 ? std::nullopt : std::optional(a % b);
    case Op::kDivS:
      return sb == 0 || sb == -1 ? std::nullopt : std::optional(static_cast<std::uint64_t>(sa / sb));
    case Op::kRemS:
      return sb == 0 || sb == -1 ? std::nullopt : std::optional(static_cast<std::uint64_t>(sa % sb));
    case Op::kMinS:
      return sa < sb ? a : b;
    case Op::kMaxS:
      return sa > sb ? a : b;
    case Op::kMinU:
      return std::min(a, b);
    case Op::kMaxU:
      return std::max(a, b);
    case Op::kTrunc:
    case Op::kZExt:
    case Op::kBitcast:
      return a;
    case Op::kSExt:
      return static_cast<std::uint64_t>(sa);
    case Op::kPopc:
      return static_cast<std::uint64_t>(std::popcount(a));
    case Op::kClz:
      return static_cast<std::uint64_t>(std::countl_zero(a)) - (64 - source_width);
    case Op::kICmp:
      switch (static_cast<Compare>(imm)) {
        case Compare::kEq:
          return a == b;
        case Compare::kNe:
          return a != b;
        case Compare::kLtS:
          return sa < sb;
        case Compare::kLeS:
          return sa <= sb;
        case Compare::kGtS:
          return sa > sb;
        case Compare::kGeS:
          return sa >= sb;
        case Compare::kLtU:
          return a < b;
        case Compare::kLeU:
          return a <= b;
        case Compare::kGtU:
          return a > b;
        default:
          return a >= b;
      }
    default:
      return std::nullopt;
  }
}

}  // namespace vgpu::software::ir
