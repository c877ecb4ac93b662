// cvt between all types, half precision, and atomics' arithmetic: see arithmetic.h. Compiled with
// -frounding-math.
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

#include "device/software/oracle/arithmetic.h"

namespace vgpu::software::oracle {
namespace {

using ptx::Instruction;
using ptx::Rounding;
using ptx::Type;

double float_source(std::uint64_t bits, Type type) {
  switch (type) {
    case Type::kF16:
      return half_to_double(bits);
    case Type::kF32:
      return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
    default:
      return std::bit_cast<double>(bits);
  }
}

double round_integral(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::kRni: {
      const double floor = std::floor(value);
      const double fraction = value - floor;
      if (fraction < 0.5) return std::copysign(floor, value);
      if (fraction > 0.5) return std::copysign(floor + 1, value);
      return std::copysign(std::fmod(floor, 2) == 0 ? floor : floor + 1, value);
    }
    case Rounding::kRmi:
      return std::floor(value);
    case Rounding::kRpi:
      return std::ceil(value);
    default:
      return std::trunc(value);
  }
}

int host_rounding(Rounding rounding) {
  switch (rounding) {
    case Rounding::kRz:
      return FE_TOWARDZERO;
    case Rounding::kRm:
      return FE_DOWNWARD;
    case Rounding::kRp:
      return FE_UPWARD;
    default:
      return FE_TONEAREST;
  }
}

// T from a wider value, rounded as told.
template <typename T, typename From>
T rounded(From value, Rounding rounding) {
  const int before = std::fegetround();
  std::fesetround(host_rounding(rounding));
  volatile From source = value;
  volatile T result = static_cast<T>(source);
  std::fesetround(before);
  return result;
}

std::uint64_t saturate_unit(std::uint64_t bits, Type type) {
  const double value = float_source(bits, type);
  const double clamped = std::isnan(value) || value <= 0 ? 0.0 : value >= 1 ? 1.0 : value;
  if (clamped == value && clamped != 0) return bits;
  switch (type) {
    case Type::kF16:
      return double_to_half(clamped, Rounding::kRn);
    case Type::kF32:
      return std::bit_cast<std::uint32_t>(static_cast<float>(clamped));
    default:
      return std::bit_cast<std::uint64_t>(clamped);
  }
}

std::uint64_t float_to_float(const Instruction& i, std::uint64_t bits) {
  double value = float_source(bits, i.source_type);
  if (i.rounding >= Rounding::kRni) value = round_integral(value, i.rounding);
  switch (i.type) {
    case Type::kF16:
      return std::isnan(value) ? 0x7FFF : double_to_half(value, i.rounding);
    case Type::kF32:
      return std::isnan(value) ? 0x7FFF'FFFF
                               : std::bit_cast<std::uint32_t>(rounded<float>(value, i.rounding));
    default:
      return std::isnan(value) ? 0x7FF8'0000'0000'0000 : std::bit_cast<std::uint64_t>(value);
  }
}

// Out-of-range values clamp. NaN gives 0, or 1 << (width - 1) where f64 or a 64-bit integer is involved.
std::uint64_t float_to_integer(const Instruction& i, std::uint64_t bits) {
  const std::uint32_t width = ptx::bits_of(i.type);
  const double value = round_integral(float_source(bits, i.source_type), i.rounding);
  if (std::isnan(value)) {
    return i.source_type == Type::kF64 || width == 64 ? std::uint64_t{1} << (width - 1) : 0;
  }
  if (ptx::is_signed(i.type)) {
    const double limit = std::ldexp(1.0, static_cast<int>(width) - 1);
    if (value >= limit) return (std::uint64_t{1} << (width - 1)) - 1;
    if (value < -limit) return std::uint64_t{1} << (width - 1);
    return truncate(static_cast<std::uint64_t>(static_cast<std::int64_t>(value)), width);
  }
  if (value <= 0) return 0;
  if (value >= std::ldexp(1.0, static_cast<int>(width))) return truncate(~std::uint64_t{0}, width);
  return static_cast<std::uint64_t>(value);
}

std::uint64_t integer_to_float(const Instruction& i, std::uint64_t bits) {
  const bool is_signed = ptx::is_signed(i.source_type);
  const std::int64_t value = sign_extend(bits, ptx::bits_of(i.source_type));
  const auto to = [&]<typename T>(T) {
    return is_signed ? rounded<T>(value, i.rounding) : rounded<T>(bits, i.rounding);
  };
  switch (i.type) {
    // Integers beyond 2^53 are far above the largest half, whatever their low bits.
    case Type::kF16:
      return double_to_half(is_signed ? static_cast<double>(value) : static_cast<double>(bits), i.rounding);
    case Type::kF32:
      return std::bit_cast<std::uint32_t>(to(float{}));
    default:
      return std::bit_cast<std::uint64_t>(to(double{}));
  }
}

std::uint64_t integer_to_integer(const Instruction& i, std::uint64_t bits) {
  const std::uint32_t to_width = ptx::bits_of(i.type);
  const bool from_signed = ptx::is_signed(i.source_type);
  const std::int64_t value = sign_extend(bits, ptx::bits_of(i.source_type));
  if (i.has(ptx::kFlagSat)) {
    const std::uint64_t highest = truncate(~std::uint64_t{0}, to_width) >> (ptx::is_signed(i.type) ? 1 : 0);
    if (from_signed && value < 0) {
      if (!ptx::is_signed(i.type)) return 0;
      const std::int64_t lowest = -static_cast<std::int64_t>(highest) - 1;
      return truncate(static_cast<std::uint64_t>(value < lowest ? lowest : value), to_width);
    }
    return bits > highest ? highest : bits;
  }
  return truncate(from_signed ? static_cast<std::uint64_t>(value) : bits, to_width);
}

}  // namespace

double half_to_double(std::uint64_t bits) {
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  const auto exponent = static_cast<int>((bits >> 10) & 0x1F);
  const auto fraction = static_cast<double>(bits & 0x3FF);
  if (exponent == 0x1F) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  }
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

std::uint64_t double_to_half(double value, Rounding rounding) {
  const std::uint64_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return 0x7FFF;
  if (std::isinf(value)) return sign | 0x7C00;
  if (magnitude == 0) return sign;
  // In units of the last place of a half of this size, the magnitude is an integer below 2048 and a rest.
  int exponent = std::ilogb(magnitude);
  if (exponent < -14) exponent = -14;
  const double scaled = std::ldexp(magnitude, 10 - exponent);
  const double whole = std::floor(scaled);
  const double rest = scaled - whole;
  bool up = false;
  switch (rounding) {
    case Rounding::kRz:
      break;
    case Rounding::kRm:
      up = sign != 0 && rest > 0;
      break;
    case Rounding::kRp:
      up = sign == 0 && rest > 0;
      break;
    default:
      up = rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2) != 0);
      break;
  }
  const auto units = static_cast<std::uint64_t>(whole) + (up ? 1 : 0);
  // Adding the fraction carries into the exponent as it should, for subnormals too.
  const std::uint64_t biased =
      units < 1024 ? units : (static_cast<std::uint64_t>(exponent + 15) << 10) + (units - 1024);
  if (biased >= 0x7C00) {
    const bool to_infinity = rounding == Rounding::kRz   ? false
                             : rounding == Rounding::kRm ? sign != 0
                             : rounding == Rounding::kRp ? sign == 0
                                                         : true;
    return sign | (to_infinity ? 0x7C00 : 0x7BFF);
  }
  return sign | biased;
}

std::uint64_t convert(const Instruction& i, std::uint64_t source) {
  const bool ftz = i.has(ptx::kFlagFtz);
  const bool from_float = ptx::is_float(i.source_type);
  if (ftz && i.source_type == Type::kF32) source = flush(source, Type::kF32);
  if (!ptx::is_float(i.type)) return from_float ? float_to_integer(i, source) : integer_to_integer(i, source);
  std::uint64_t result = from_float ? float_to_float(i, source) : integer_to_float(i, source);
  if (ftz && i.type == Type::kF32) result = flush(result, Type::kF32);
  return i.has(ptx::kFlagSat) ? saturate_unit(result, i.type) : result;
}

std::uint64_t apply_atomic(ptx::AtomicOp op, Type type, std::uint64_t old, std::uint64_t b, std::uint64_t c) {
  Instruction i;
  i.type = type;
  i.rounding = ptx::is_float(type) ? Rounding::kRn : Rounding::kNone;
  const std::uint64_t sources[2] = {old, b};
  switch (op) {
    case ptx::AtomicOp::kAdd:
      i.opcode = ptx::Opcode::kAdd;
      break;
    case ptx::AtomicOp::kMin:
      i.opcode = ptx::Opcode::kMin;
      break;
    case ptx::AtomicOp::kMax:
      i.opcode = ptx::Opcode::kMax;
      break;
    case ptx::AtomicOp::kAnd:
      return old & b;
    case ptx::AtomicOp::kOr:
      return old | b;
    case ptx::AtomicOp::kXor:
      return old ^ b;
    case ptx::AtomicOp::kExch:
      return b;
    case ptx::AtomicOp::kCas:
      return old == b ? c : old;
    case ptx::AtomicOp::kInc:
      return old >= b ? 0 : old + 1;
    case ptx::AtomicOp::kDec:
      return old == 0 || old > b ? b : old - 1;
    case ptx::AtomicOp::kNone:
      return old;
  }
  bool carry = false;
  return evaluate(i, sources, carry);
}

bool is_pure(ptx::Opcode opcode) {
  using ptx::Opcode;
  switch (opcode) {
    case Opcode::kAbs:
    case Opcode::kAdd:
    case Opcode::kAddc:
    case Opcode::kAnd:
    case Opcode::kBfe:
    case Opcode::kBfi:
    case Opcode::kBfind:
    case Opcode::kBrev:
    case Opcode::kClz:
    case Opcode::kCnot:
    case Opcode::kCopysign:
    case Opcode::kCos:
    case Opcode::kCvt:
    case Opcode::kDiv:
    case Opcode::kDp2a:
    case Opcode::kDp4a:
    case Opcode::kEx2:
    case Opcode::kFma:
    case Opcode::kFns:
    case Opcode::kLg2:
    case Opcode::kLop3:
    case Opcode::kMad:
    case Opcode::kMad24:
    case Opcode::kMadc:
    case Opcode::kMax:
    case Opcode::kMin:
    case Opcode::kMul:
    case Opcode::kMul24:
    case Opcode::kNeg:
    case Opcode::kNot:
    case Opcode::kOr:
    case Opcode::kPopc:
    case Opcode::kPrmt:
    case Opcode::kRcp:
    case Opcode::kRem:
    case Opcode::kRsqrt:
    case Opcode::kSad:
    case Opcode::kSelp:
    case Opcode::kSet:
    case Opcode::kShf:
    case Opcode::kShl:
    case Opcode::kShr:
    case Opcode::kSin:
    case Opcode::kSlct:
    case Opcode::kSqrt:
    case Opcode::kSub:
    case Opcode::kSubc:
    case Opcode::kTanh:
    case Opcode::kTestp:
    case Opcode::kXor:
      return true;
    default:
      return false;
  }
}

std::uint64_t evaluate(const Instruction& i, std::span<const std::uint64_t> sources, bool& carry) {
  using ptx::Opcode;
  switch (i.opcode) {
    case Opcode::kCvt:
      return convert(i, sources[0]);
    case Opcode::kSelp:
      return evaluate_integer(i, sources, carry);
    case Opcode::kSet: {
      const bool compared = compare(i, i.source_type, sources[0], sources[1]);
      const bool value = combine(i.bool_op, compared, sources.size() > 2 && sources[2] != 0);
      if (!value) return 0;
      return i.type == Type::kF32 ? std::bit_cast<std::uint32_t>(1.0F) : 0xFFFF'FFFF;
    }
    case Opcode::kSlct: {
      std::uint64_t selector = sources[2];
      if (i.source_type == Type::kS32) return (selector & 0x8000'0000) == 0 ? sources[0] : sources[1];
      if (i.has(ptx::kFlagFtz)) selector = flush(selector, Type::kF32);
      return std::bit_cast<float>(static_cast<std::uint32_t>(selector)) >= 0 ? sources[0] : sources[1];
    }
    default:
      break;
  }
  return ptx::is_float(i.type) ? evaluate_float(i, sources) : evaluate_integer(i, sources, carry);
}

}  // namespace vgpu::software::oracle
