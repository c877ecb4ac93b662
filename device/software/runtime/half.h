// 16-bit floating point as bits, to and from float: round to nearest even, subnormals kept, NaN stays NaN.
#pragma once

#include <bit>
#include <cstdint>

namespace vgpu::software {

inline float float_from_half(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16;
  const uint32_t exponent = (half >> 10) & 0x1f;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f80'0000u | (fraction << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
  // Zero or subnormal: fraction * 2^-24, exact in float.
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -magnitude : magnitude;
}

inline uint16_t half_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fff'ffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f80'0000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477f'f000u) {  // rounds to 2^16 or more
    half = 0x7c00u;
  } else if (magnitude < 0x3880'0000u) {  // below 2^-14: a multiple of 2^-24
    // Adding 0.5 leaves the fraction, rounded to even, in the low bits of the sum.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  } else {
    const uint32_t odd = (magnitude >> 13) & 1;
    half = (magnitude - 0x3800'0000u + 0xfffu + odd) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

inline float float_from_bfloat(uint16_t value) {
  return std::bit_cast<float>(uint32_t{value} << 16);
}

inline uint16_t bfloat_from_float(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fff'ffffu) > 0x7f80'0000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

}  // namespace vgpu::software
