// Floating-point instructions and comparisons: see arithmetic.h. Directed rounding is the host's, through
// <cfenv>; this file is compiled with -frounding-math, and operands pass through volatiles.
#include <bit>
#include <cfenv>
#include <cmath>
#include <limits>

#include "device/software/oracle/arithmetic.h"

namespace vgpu::software::oracle {
namespace {

using ptx::Compare;
using ptx::Instruction;
using ptx::Opcode;
using ptx::Rounding;
using ptx::Type;

constexpr std::uint64_t kCanonicalNan16 = 0x7FFF;
constexpr std::uint64_t kCanonicalNan32 = 0x7FFF'FFFF;
constexpr std::uint64_t kCanonicalNan64 = 0x7FF8'0000'0000'0000;

class RoundingScope {
 public:
  explicit RoundingScope(Rounding rounding) : before_(std::fegetround()) {
    switch (rounding) {
      case Rounding::kRz:
        std::fesetround(FE_TOWARDZERO);
        break;
      case Rounding::kRm:
        std::fesetround(FE_DOWNWARD);
        break;
      case Rounding::kRp:
        std::fesetround(FE_UPWARD);
        break;
      default:
        std::fesetround(FE_TONEAREST);
        break;
    }
  }
  ~RoundingScope() { std::fesetround(before_); }
  RoundingScope(const RoundingScope&) = delete;
  RoundingScope& operator=(const RoundingScope&) = delete;

 private:
  int before_;
};

template <typename T>
T from_bits(std::uint64_t bits) {
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<T>(static_cast<std::uint32_t>(bits));
  } else {
    return std::bit_cast<T>(bits);
  }
}

template <typename T>
std::uint64_t to_bits(T value) {
  if (std::isnan(value)) return sizeof(T) == 4 ? kCanonicalNan32 : kCanonicalNan64;
  if constexpr (sizeof(T) == 4) {
    return std::bit_cast<std::uint32_t>(value);
  } else {
    return std::bit_cast<std::uint64_t>(value);
  }
}

template <typename T>
T minimum_maximum(T a, T b, bool minimum, bool propagate_nan) {
  if (propagate_nan && (std::isnan(a) || std::isnan(b))) return std::numeric_limits<T>::quiet_NaN();
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  if (a == b) return std::signbit(a) == minimum ? a : b;  // -0 is less than +0
  return (a < b) == minimum ? a : b;
}

template <typename T>
T approximate(Opcode opcode, T a) {
  // In double, so that the result is the nearest float to the exact one; the hardware's is within a few ulp
  // of it.
  const auto x = static_cast<double>(a);
  switch (opcode) {
    case Opcode::kSin:
      return static_cast<T>(std::sin(x));
    case Opcode::kCos:
      return static_cast<T>(std::cos(x));
    case Opcode::kEx2:
      return static_cast<T>(std::exp2(x));
    case Opcode::kLg2:
      return static_cast<T>(std::log2(x));
    case Opcode::kTanh:
      return static_cast<T>(std::tanh(x));
    default:
      return static_cast<T>(1.0 / std::sqrt(x));  // rsqrt
  }
}

template <typename T>
std::uint64_t compute(const Instruction& i, std::span<const std::uint64_t> s) {
  volatile T a = from_bits<T>(s[0]);
  volatile T b = s.size() > 1 ? from_bits<T>(s[1]) : T{0};
  volatile T c = s.size() > 2 ? from_bits<T>(s[2]) : T{0};
  volatile T result = 0;
  {
    const RoundingScope scope(i.rounding);
    switch (i.opcode) {
      case Opcode::kAdd:
        result = a + b;
        break;
      case Opcode::kSub:
        result = a - b;
        break;
      case Opcode::kMul:
        result = a * b;
        break;
      case Opcode::kMad:
      case Opcode::kFma:
        result = std::fma(a, b, c);
        break;
      case Opcode::kDiv:
        result = a / b;
        break;
      case Opcode::kRcp:
        result = T{1} / a;
        break;
      case Opcode::kSqrt:
        result = std::sqrt(a);
        break;
      case Opcode::kMin:
      case Opcode::kMax:
        result = minimum_maximum<T>(a, b, i.opcode == Opcode::kMin, i.has(ptx::kFlagNan));
        break;
      default:
        result = approximate<T>(i.opcode, a);
        break;
    }
  }
  T value = result;
  if (i.has(ptx::kFlagSat)) value = std::isnan(value) || value <= T{0} ? T{0} : value >= T{1} ? T{1} : value;
  return to_bits<T>(value);
}

// a·b + c of three halves, rounded once. In double the product is exact and the sum is rounded to odd, which
// leaves enough bits for the final rounding to be the right one.
double fused_half(double a, double b, double c) {
  const double product = a * b;
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double c_part = sum - product;
  const double error = (product - (sum - c_part)) + (c - c_part);
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  if (error == 0 || (bits & 1) != 0) return sum;
  const bool away = (error > 0) == (sum > 0);
  return std::bit_cast<double>(away ? bits + 1 : bits - 1);
}

std::uint64_t compute_half(const Instruction& i, std::uint64_t x, std::uint64_t y, std::uint64_t z) {
  const bool ftz = i.has(ptx::kFlagFtz);
  const auto load = [&](std::uint64_t bits) { return half_to_double(ftz ? flush(bits, Type::kF16) : bits); };
  const double a = load(x);
  const double b = load(y);
  const double c = load(z);
  double value = 0;
  switch (i.opcode) {
    case Opcode::kAdd:
      value = a + b;
      break;
    case Opcode::kSub:
      value = a - b;
      break;
    case Opcode::kMul:
      value = a * b;
      break;
    default:
      value = fused_half(a, b, c);
      break;
  }
  if (i.has(ptx::kFlagSat)) value = std::isnan(value) || value <= 0 ? 0 : value >= 1 ? 1 : value;
  const std::uint64_t bits = std::isnan(value) ? kCanonicalNan16 : double_to_half(value, Rounding::kRn);
  return ftz ? flush(bits, Type::kF16) : bits;
}

std::uint64_t sign_bit(Type type) {
  return std::uint64_t{1} << (ptx::bits_of(type) - 1);
}

// abs, neg, copysign and testp work on the bits.
std::uint64_t evaluate_sign(const Instruction& i, std::span<const std::uint64_t> s) {
  const std::uint64_t mask = i.type == Type::kF16x2 ? 0x8000'8000 : sign_bit(i.type);
  std::uint64_t a = s[0];
  if (i.has(ptx::kFlagFtz)) {
    a = i.type == Type::kF16x2 ? flush(a & 0xFFFF, Type::kF16) | flush(a >> 16, Type::kF16) << 16
                               : flush(a, i.type);
  }
  switch (i.opcode) {
    case Opcode::kAbs:
      return a & ~mask;
    case Opcode::kNeg:
      return a ^ mask;
    default:
      return (a & mask) | (s[1] & ~mask);  // copysign: sign of a, magnitude of b
  }
}

bool test_property(const Instruction& i, double value, bool subnormal) {
  switch (i.testp) {
    case ptx::TestpOp::kFinite:
      return std::isfinite(value);
    case ptx::TestpOp::kInfinite:
      return std::isinf(value);
    case ptx::TestpOp::kNumber:
      return !std::isnan(value);
    case ptx::TestpOp::kNotANumber:
      return std::isnan(value);
    case ptx::TestpOp::kSubnormal:
      return subnormal;
    default:
      return std::isfinite(value) && !subnormal && value != 0;
  }
}

double as_double(std::uint64_t bits, Type type) {
  if (type == Type::kF16) return half_to_double(bits);
  return type == Type::kF32 ? static_cast<double>(from_bits<float>(bits)) : from_bits<double>(bits);
}

}  // namespace

std::uint64_t flush(std::uint64_t bits, Type type) {
  if (type == Type::kF32) return (bits & 0x7F80'0000) == 0 ? bits & 0x8000'0000 : bits;
  if (type == Type::kF16) return (bits & 0x7C00) == 0 ? bits & 0x8000 : bits;
  return bits;
}

bool compare(const Instruction& i, Type type, std::uint64_t a, std::uint64_t b) {
  if (!ptx::is_float(type)) {
    const std::uint32_t bits = ptx::bits_of(type);
    a = truncate(a, bits);
    b = truncate(b, bits);
    const bool less = ptx::is_signed(type) ? sign_extend(a, bits) < sign_extend(b, bits) : a < b;
    switch (i.compare) {
      case Compare::kEq:
        return a == b;
      case Compare::kNe:
        return a != b;
      case Compare::kLt:
        return less;
      case Compare::kLe:
        return less || a == b;
      case Compare::kGt:
        return !less && a != b;
      default:
        return !less;
    }
  }
  if (i.has(ptx::kFlagFtz)) {
    a = flush(a, type);
    b = flush(b, type);
  }
  const double x = as_double(a, type);
  const double y = as_double(b, type);
  const bool unordered = std::isnan(x) || std::isnan(y);
  switch (i.compare) {
    case Compare::kEq:
      return x == y;
    case Compare::kNe:
      return !unordered && x != y;
    case Compare::kLt:
      return x < y;
    case Compare::kLe:
      return x <= y;
    case Compare::kGt:
      return x > y;
    case Compare::kGe:
      return x >= y;
    case Compare::kEqu:
      return unordered || x == y;
    case Compare::kNeu:
      return unordered || x != y;
    case Compare::kLtu:
      return unordered || x < y;
    case Compare::kLeu:
      return unordered || x <= y;
    case Compare::kGtu:
      return unordered || x > y;
    case Compare::kGeu:
      return unordered || x >= y;
    case Compare::kNum:
      return !unordered;
    default:
      return unordered;
  }
}

std::uint64_t evaluate_float(const Instruction& i, std::span<const std::uint64_t> sources) {
  const bool ftz = i.has(ptx::kFlagFtz);
  if (i.opcode == Opcode::kAbs || i.opcode == Opcode::kNeg || i.opcode == Opcode::kCopysign) {
    return evaluate_sign(i, sources);
  }
  if (i.opcode == Opcode::kTestp) {
    const bool subnormal = i.type == Type::kF32
                               ? flush(sources[0], Type::kF32) != sources[0]
                               : std::fpclassify(from_bits<double>(sources[0])) == FP_SUBNORMAL;
    return test_property(i, as_double(sources[0], i.type), subnormal) ? 1 : 0;
  }
  const auto source = [&](std::size_t n) { return n < sources.size() ? sources[n] : 0; };
  switch (i.type) {
    case Type::kF16:
      return compute_half(i, source(0), source(1), source(2));
    case Type::kF16x2: {
      const std::uint64_t low = compute_half(i, source(0) & 0xFFFF, source(1) & 0xFFFF, source(2) & 0xFFFF);
      return low | compute_half(i, source(0) >> 16, source(1) >> 16, source(2) >> 16) << 16;
    }
    case Type::kF64:
      return compute<double>(i, sources);
    default:
      break;
  }
  std::uint64_t flushed[3] = {};
  for (std::size_t n = 0; n < sources.size(); ++n)
    flushed[n] = ftz ? flush(sources[n], Type::kF32) : sources[n];
  const std::uint64_t result = compute<float>(i, std::span(flushed, sources.size()));
  return ftz ? flush(result, Type::kF32) : result;
}

}  // namespace vgpu::software::oracle
