// Integer, bit and selection instructions: see arithmetic.h.
#include <algorithm>
#include <bit>
#include <limits>

#include "device/software/oracle/arithmetic.h"

namespace vgpu::software::oracle {
namespace {

using ptx::Instruction;
using ptx::MulPart;
using ptx::Opcode;
using ptx::PrmtMode;
using ptx::Type;

struct Product {
  std::uint64_t low;
  std::uint64_t high;
};

// 64 × 64 → 128 bits by halves.
Product multiply_unsigned(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t mask = 0xFFFF'FFFF;
  const std::uint64_t ll = (a & mask) * (b & mask);
  const std::uint64_t lh = (a & mask) * (b >> 32);
  const std::uint64_t hl = (a >> 32) * (b & mask);
  const std::uint64_t hh = (a >> 32) * (b >> 32);
  const std::uint64_t middle = (ll >> 32) + (lh & mask) + (hl & mask);
  return {(ll & mask) | (middle << 32), hh + (lh >> 32) + (hl >> 32) + (middle >> 32)};
}

Product multiply(std::uint64_t a, std::uint64_t b, bool is_signed) {
  Product product = multiply_unsigned(a, b);
  if (is_signed) {
    if (static_cast<std::int64_t>(a) < 0) product.high -= b;
    if (static_cast<std::int64_t>(b) < 0) product.high -= a;
  }
  return product;
}

// Value of `bits` as the type means it, in 64 bits.
std::uint64_t widen(std::uint64_t value, Type type) {
  const std::uint32_t bits = ptx::bits_of(type);
  return ptx::is_signed(type) ? static_cast<std::uint64_t>(sign_extend(value, bits)) : truncate(value, bits);
}

std::uint64_t product_part(std::uint64_t a, std::uint64_t b, Type type, MulPart part) {
  const std::uint32_t bits = ptx::bits_of(type);
  const Product product = multiply(widen(a, type), widen(b, type), ptx::is_signed(type));
  switch (part) {
    case MulPart::kWide:
      return truncate(product.low, 2 * bits);
    case MulPart::kHi:
      return bits == 64 ? product.high : truncate(product.low >> bits, bits);
    default:
      return truncate(product.low, bits);
  }
}

// a + b + carry_in in `bits` bits.
std::uint64_t add_carry(std::uint64_t a, std::uint64_t b, bool carry_in, std::uint32_t bits,
                        bool& carry_out) {
  a = truncate(a, bits);
  b = truncate(b, bits);
  const std::uint64_t sum = truncate(a + b + (carry_in ? 1 : 0), bits);
  carry_out = carry_in ? sum <= a : sum < a;
  return sum;
}

std::uint64_t saturate_s32(std::int64_t value) {
  using Limits = std::numeric_limits<std::int32_t>;
  return truncate(static_cast<std::uint64_t>(std::clamp<std::int64_t>(value, Limits::min(), Limits::max())),
                  32);
}

std::uint64_t divide(std::uint64_t a, std::uint64_t b, Type type, bool remainder) {
  const std::uint32_t bits = ptx::bits_of(type);
  a = widen(a, type);
  b = widen(b, type);
  // PTX leaves division by zero open; the hardware's answer is all ones, and the dividend as remainder.
  if (b == 0) return truncate(remainder ? a : ~std::uint64_t{0}, bits);
  if (!ptx::is_signed(type)) return truncate(remainder ? a % b : a / b, bits);
  if (b == ~std::uint64_t{0}) return remainder ? 0 : truncate(0 - a, bits);
  const auto sa = static_cast<std::int64_t>(a);
  const auto sb = static_cast<std::int64_t>(b);
  return truncate(static_cast<std::uint64_t>(remainder ? sa % sb : sa / sb), bits);
}

std::uint64_t shift_right(std::uint64_t a, std::uint64_t amount, Type type) {
  const std::uint32_t bits = ptx::bits_of(type);
  if (ptx::is_signed(type)) {
    return truncate(static_cast<std::uint64_t>(sign_extend(a, bits) >> std::min<std::uint64_t>(amount, 63)),
                    bits);
  }
  return amount >= bits ? 0 : truncate(a, bits) >> amount;
}

std::uint64_t extract_field(std::uint64_t a, std::uint64_t position, std::uint64_t length, Type type) {
  const std::uint32_t bits = ptx::bits_of(type);
  position &= 0xFF;
  length &= 0xFF;
  bool sign = false;
  if (ptx::is_signed(type) && length != 0) {
    sign = ((a >> std::min<std::uint64_t>(position + length - 1, bits - 1)) & 1) != 0;
  }
  std::uint64_t result = 0;
  for (std::uint32_t i = 0; i < bits; ++i) {
    const bool bit = i < length && position + i < bits ? ((a >> (position + i)) & 1) != 0 : sign;
    if (bit) result |= std::uint64_t{1} << i;
  }
  return result;
}

std::uint64_t insert_field(std::uint64_t a, std::uint64_t b, std::uint64_t position, std::uint64_t length,
                           std::uint32_t bits) {
  position &= 0xFF;
  length &= 0xFF;
  for (std::uint64_t i = 0; i < length && position + i < bits; ++i) {
    const std::uint64_t mask = std::uint64_t{1} << (position + i);
    b = ((a >> i) & 1) != 0 ? b | mask : b & ~mask;
  }
  return b;
}

std::uint64_t find_highest(std::uint64_t a, Type type, bool shift_amount) {
  const std::uint32_t bits = ptx::bits_of(type);
  if (ptx::is_signed(type) && sign_extend(a, bits) < 0) a = ~a;
  a = truncate(a, bits);
  if (a == 0) return 0xFFFF'FFFF;
  const auto position = static_cast<std::uint32_t>(63 - std::countl_zero(a));
  return shift_amount ? bits - 1 - position : position;
}

std::uint64_t permute(std::uint64_t a, std::uint64_t b, std::uint64_t c, PrmtMode mode) {
  const std::uint64_t bytes = truncate(a, 32) | (b << 32);
  const auto k = static_cast<std::uint32_t>(c & 3);
  std::uint32_t selectors[4];
  for (std::uint32_t i = 0; i < 4; ++i) {
    switch (mode) {
      case PrmtMode::kNone:
        selectors[i] = static_cast<std::uint32_t>(c >> (4 * i)) & 0xF;
        break;
      case PrmtMode::kF4e:
        selectors[i] = k + i;
        break;
      case PrmtMode::kB4e:
        selectors[i] = (k + 8 - i) & 7;
        break;
      case PrmtMode::kRc8:
        selectors[i] = k;
        break;
      case PrmtMode::kEcl:
        selectors[i] = std::max(i, k);
        break;
      case PrmtMode::kEcr:
        selectors[i] = std::min(i, k);
        break;
      case PrmtMode::kRc16:
        selectors[i] = 2 * (k & 1) + (i & 1);
        break;
    }
  }
  std::uint64_t result = 0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    std::uint64_t byte = (bytes >> (8 * (selectors[i] & 7))) & 0xFF;
    if (mode == PrmtMode::kNone && (selectors[i] & 8) != 0) byte = (byte & 0x80) != 0 ? 0xFF : 0;
    result |= byte << (8 * i);
  }
  return result;
}

std::uint64_t funnel_shift(const Instruction& i, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  const std::uint64_t n =
      i.has(ptx::kFlagWrap) ? truncate(c, 32) & 31 : std::min<std::uint64_t>(truncate(c, 32), 32);
  const std::uint64_t both = truncate(a, 32) | (b << 32);
  if (i.has(ptx::kFlagRight)) return truncate(n == 32 ? b : both >> n, 32);
  return n == 32 ? truncate(a, 32) : truncate((both << n) >> 32, 32);
}

std::uint64_t logic3(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint8_t table) {
  std::uint64_t result = 0;
  for (std::uint32_t i = 0; i < 32; ++i) {
    const std::uint64_t index = ((a >> i) & 1) << 2 | ((b >> i) & 1) << 1 | ((c >> i) & 1);
    result |= ((std::uint64_t{table} >> index) & 1) << i;
  }
  return result;
}

std::uint64_t dot_product(const Instruction& i, std::span<const std::uint64_t> s) {
  const bool four = i.opcode == Opcode::kDp4a;
  const std::uint32_t a_bits = four ? 8 : 16;
  const std::uint32_t b_offset = four || i.mul_part == MulPart::kLo ? 0 : 2;
  const auto element = [](std::uint64_t value, std::uint32_t bits, Type type) {
    return ptx::is_signed(type) ? sign_extend(value, bits) : static_cast<std::int64_t>(truncate(value, bits));
  };
  std::uint64_t sum = s[2];
  for (std::uint32_t k = 0; k < (four ? 4U : 2U); ++k) {
    const std::int64_t a = element(s[0] >> (a_bits * k), a_bits, i.type);
    const std::int64_t b = element(s[1] >> (8 * (k + b_offset)), 8, i.source_type);
    sum += static_cast<std::uint64_t>(a * b);
  }
  return truncate(sum, 32);
}

std::uint64_t multiply24(const Instruction& i, std::uint64_t a, std::uint64_t b) {
  const auto operand = [&](std::uint64_t v) {
    return ptx::is_signed(i.type) ? static_cast<std::uint64_t>(sign_extend(v, 24)) : truncate(v, 24);
  };
  const std::uint64_t product = operand(a) * operand(b);
  return truncate(i.mul_part == MulPart::kHi ? product >> 16 : product, 32);
}

// The position of the n-th set bit from `base`, upwards for positive offsets.
std::uint64_t find_nth_set(std::uint64_t mask, std::uint64_t base, std::uint64_t offset) {
  const auto n = static_cast<std::int32_t>(offset);
  const auto start = static_cast<std::int32_t>(base);
  std::int32_t left = n == 0 ? 1 : n < 0 ? -n : n;
  const std::int32_t step = n < 0 ? -1 : 1;
  if (n == 0) return start >= 0 && start < 32 && ((mask >> start) & 1) != 0 ? base : 0xFFFF'FFFF;
  for (std::int32_t at = start; at >= 0 && at < 32; at += step) {
    if (((mask >> at) & 1) != 0 && --left == 0) return static_cast<std::uint64_t>(at);
  }
  return 0xFFFF'FFFF;
}

}  // namespace

bool combine(ptx::BoolOp op, bool a, bool b) {
  switch (op) {
    case ptx::BoolOp::kAnd:
      return a && b;
    case ptx::BoolOp::kOr:
      return a || b;
    case ptx::BoolOp::kXor:
      return a != b;
    case ptx::BoolOp::kNone:
      break;
  }
  return a;
}

std::uint64_t evaluate_integer(const Instruction& i, std::span<const std::uint64_t> s, bool& carry) {
  const Type type = i.type;
  const std::uint32_t bits = type == Type::kPred ? 1 : ptx::bits_of(type);
  const auto source = [&](std::size_t n) { return s[n]; };
  const auto with_flag = [&](std::uint64_t a, std::uint64_t b, bool carry_in) {
    bool out = false;
    const std::uint64_t sum = add_carry(a, b, carry_in, bits, out);
    if (i.has(ptx::kFlagCarryOut)) carry = out;
    return sum;
  };
  // a - b - borrow as a + ~b + !borrow; the flag holds the borrow.
  const auto subtract = [&](std::uint64_t a, std::uint64_t b, bool borrow_in) {
    bool out = false;
    const std::uint64_t difference = add_carry(a, ~b, !borrow_in, bits, out);
    if (i.has(ptx::kFlagCarryOut)) carry = !out;
    return difference;
  };
  switch (i.opcode) {
    case Opcode::kAbs: {
      const std::int64_t value = sign_extend(source(0), bits);
      return truncate(value < 0 ? 0 - source(0) : source(0), bits);
    }
    case Opcode::kNeg:
      return truncate(0 - source(0), bits);
    case Opcode::kAdd:
      if (i.has(ptx::kFlagSat)) return saturate_s32(sign_extend(source(0), 32) + sign_extend(source(1), 32));
      return with_flag(source(0), source(1), false);
    case Opcode::kAddc:
      return with_flag(source(0), source(1), carry);
    case Opcode::kSub:
      if (i.has(ptx::kFlagSat)) return saturate_s32(sign_extend(source(0), 32) - sign_extend(source(1), 32));
      return subtract(source(0), source(1), false);
    case Opcode::kSubc:
      return subtract(source(0), source(1), carry);
    case Opcode::kMul:
      return product_part(source(0), source(1), type, i.mul_part);
    case Opcode::kMad:
    case Opcode::kMadc: {
      const std::uint64_t product = product_part(source(0), source(1), type, i.mul_part);
      if (i.mul_part == MulPart::kWide) return truncate(product + source(2), 2 * bits);
      if (i.has(ptx::kFlagSat)) return saturate_s32(sign_extend(product, 32) + sign_extend(source(2), 32));
      return with_flag(product, source(2), i.opcode == Opcode::kMadc && carry);
    }
    case Opcode::kMul24:
      return multiply24(i, source(0), source(1));
    case Opcode::kMad24: {
      const std::uint64_t product = multiply24(i, source(0), source(1));
      if (i.has(ptx::kFlagSat)) return saturate_s32(sign_extend(product, 32) + sign_extend(source(2), 32));
      return truncate(product + source(2), 32);
    }
    case Opcode::kSad: {
      const std::uint64_t a = widen(source(0), type);
      const std::uint64_t b = widen(source(1), type);
      const bool less =
          ptx::is_signed(type) ? static_cast<std::int64_t>(a) < static_cast<std::int64_t>(b) : a < b;
      return truncate((less ? b - a : a - b) + source(2), bits);
    }
    case Opcode::kDiv:
      return divide(source(0), source(1), type, false);
    case Opcode::kRem:
      return divide(source(0), source(1), type, true);
    case Opcode::kMin:
    case Opcode::kMax: {
      const std::uint64_t a = widen(source(0), type);
      const std::uint64_t b = widen(source(1), type);
      const bool less =
          ptx::is_signed(type) ? static_cast<std::int64_t>(a) < static_cast<std::int64_t>(b) : a < b;
      return truncate(less == (i.opcode == Opcode::kMin) ? a : b, bits);
    }
    case Opcode::kAnd:
      return source(0) & source(1);
    case Opcode::kOr:
      return source(0) | source(1);
    case Opcode::kXor:
      return source(0) ^ source(1);
    case Opcode::kNot:
      return truncate(~source(0), bits);
    case Opcode::kCnot:
      return source(0) == 0 ? 1 : 0;
    case Opcode::kShl: {
      const std::uint64_t amount = truncate(source(1), 32);
      return amount >= bits ? 0 : truncate(source(0) << amount, bits);
    }
    case Opcode::kShr:
      return shift_right(source(0), truncate(source(1), 32), type);
    case Opcode::kShf:
      return funnel_shift(i, source(0), source(1), source(2));
    case Opcode::kLop3:
      return logic3(source(0), source(1), source(2), i.lop3_table);
    case Opcode::kPrmt:
      return permute(source(0), source(1), source(2), i.prmt);
    case Opcode::kBfe:
      return extract_field(source(0), source(1), source(2), type);
    case Opcode::kBfi:
      return insert_field(source(0), source(1), source(2), source(3), bits);
    case Opcode::kBfind:
      return find_highest(source(0), type, i.has(ptx::kFlagShiftAmount));
    case Opcode::kBrev: {
      std::uint64_t result = 0;
      for (std::uint32_t k = 0; k < bits; ++k) result |= ((source(0) >> k) & 1) << (bits - 1 - k);
      return result;
    }
    case Opcode::kClz:
      return static_cast<std::uint64_t>(std::countl_zero(source(0))) - (64 - bits);
    case Opcode::kPopc:
      return static_cast<std::uint64_t>(std::popcount(source(0)));
    case Opcode::kFns:
      return find_nth_set(source(0), truncate(source(1), 32), truncate(source(2), 32));
    case Opcode::kDp4a:
    case Opcode::kDp2a:
      return dot_product(i, s);
    case Opcode::kSelp:
      return source(2) != 0 ? source(0) : source(1);
    default:
      return 0;
  }
}

}  // namespace vgpu::software::oracle
