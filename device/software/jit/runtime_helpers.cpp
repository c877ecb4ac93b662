// Rare arithmetic that is simplest as a call.
#include "device/software/jit/runtime_helpers.h"

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstring>

#include "device/software/jit/generic_copy.h"

namespace vgpu::software::jit {

namespace {

// `volatile` keeps the operations between the changes of the rounding mode.
template <typename Float>
Float compute(RoundedOp op, Float a, Float b, Float c, std::uint64_t word) {
  volatile Float x = a;
  volatile Float y = b;
  volatile Float z = c;
  volatile std::uint64_t integer = word;
  volatile Float result = 0;
  switch (op) {
    case RoundedOp::kAdd:
      result = x + y;
      break;
    case RoundedOp::kSub:
      result = x - y;
      break;
    case RoundedOp::kMul:
      result = x * y;
      break;
    case RoundedOp::kFma:
      result = std::fma(x, y, z);
      break;
    case RoundedOp::kDiv:
      result = x / y;
      break;
    case RoundedOp::kSqrt:
      result = std::sqrt(x);
      break;
    case RoundedOp::kFromSigned:
      result = static_cast<Float>(static_cast<std::int64_t>(integer));
      break;
    default:
      result = static_cast<Float>(integer);
      break;
  }
  return result;
}

// A double to f16 bits in the given direction (0 nearest, 1 zero, 2 down, 3 up).
std::uint16_t to_half(double value, std::uint32_t rounding) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return 0x7FFF;
  double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return static_cast<std::uint16_t>(sign | 0x7C00);
  const bool up = rounding == 3 ? sign == 0 : rounding == 2 && sign != 0;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  if (exponent < -13) exponent = -13;  // subnormals share the least exponent
  const double scaled = std::ldexp(magnitude, 11 - exponent);
  double integer = std::floor(scaled);
  if (up && integer != scaled) integer += 1;
  magnitude = std::ldexp(integer, exponent - 11);
  if (magnitude > 65504.0) return static_cast<std::uint16_t>(sign | (up ? 0x7C00 : 0x7BFF));
  std::frexp(magnitude, &exponent);
  if (magnitude < 0x1p-14)
    return static_cast<std::uint16_t>(sign | static_cast<unsigned>(std::ldexp(magnitude, 24)));
  const auto fraction = static_cast<unsigned>(std::ldexp(magnitude, 11 - exponent)) - 1024;
  return static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent + 14) << 10 | fraction);
}

}  // namespace

extern "C" std::uint64_t vgpu_rounded(std::uint32_t code, std::uint64_t a, std::uint64_t b, std::uint64_t c) {
  constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  const auto op = static_cast<RoundedOp>(code & 0xFF);
  const std::uint32_t rounding = (code >> 8) & 3;
  const bool f64 = (code >> 16) != 0;
  if (op == RoundedOp::kToHalf) {
    const double value = f64 ? std::bit_cast<double>(a)
                             : static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(a)));
    return to_half(value, rounding);
  }
  const int before = std::fegetround();
  std::fesetround(kModes[rounding]);
  std::uint64_t result;
  if (f64) {
    result = std::bit_cast<std::uint64_t>(
        compute<double>(op, std::bit_cast<double>(a), std::bit_cast<double>(b), std::bit_cast<double>(c), a));
  } else {
    const auto f = [](std::uint64_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits)); };
    result = std::bit_cast<std::uint32_t>(compute<float>(op, f(a), f(b), f(c), a));
  }
  std::fesetround(before);
  return result;
}

std::span<const std::pair<const char*, const void*>> runtime_symbols() {
  static const std::pair<const char*, const void*> kSymbols[] = {
      {kRoundedSymbol, reinterpret_cast<const void*>(&vgpu_rounded)},
      {kRunGenericSymbol, reinterpret_cast<const void*>(&vgpu_run_generic)},
      {"memcpy",
       reinterpret_cast<const void*>(static_cast<void* (*)(void*, const void*, std::size_t)>(&std::memcpy))},
      {"memset",
       reinterpret_cast<const void*>(static_cast<void* (*)(void*, int, std::size_t)>(&std::memset))},
  };
  return kSymbols;
}

}  // namespace vgpu::software::jit
