// Random choices of the kernel fuzzer: the same on every machine for the same seed.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <random>
#include <string>

namespace vgpu::testing::fuzz {

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : engine_(seed * 0x9E37'79B9'7F4A'7C15U + 0x1234'5678) {}

  std::uint64_t bits() { return engine_(); }
  // 0 … n - 1
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>((engine_() >> 11) % n); }
  // first … last, both included
  std::uint32_t between(std::uint32_t first, std::uint32_t last) { return first + below(last - first + 1); }
  bool chance(std::uint32_t percent) { return below(100) < percent; }
  std::string any(std::initializer_list<const char*> list) {
    return *std::next(list.begin(),
                      static_cast<std::ptrdiff_t>(below(static_cast<std::uint32_t>(list.size()))));
  }

  // A word that matters: small, near a power of two, or anything.
  std::uint32_t word() {
    switch (below(4)) {
      case 0:
        return below(40);
      case 1:
        return (1U << below(32)) - below(2);
      case 2:
        return static_cast<std::uint32_t>(-static_cast<std::int32_t>(below(40)));
      default:
        return static_cast<std::uint32_t>(bits() >> 16);
    }
  }
  std::uint32_t float_bits() {
    static constexpr std::uint32_t kEdges[] = {
        0,          0x80000000, 0x3F800000, 0xBF800000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000,
        0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x7F800001, 0x4EFFFFFF,
        0x4F000000, 0xCF000000, 0x4F800000, 0x3F000000, 0x477FE000, 0x33800000, 0x5F000000, 0x38800000};
    switch (below(4)) {
      case 0:
        return kEdges[below(static_cast<std::uint32_t>(std::size(kEdges)))];
      case 1:
        return static_cast<std::uint32_t>(bits() >> 16);
      default:  // magnitudes near one
        return (static_cast<std::uint32_t>(bits() >> 16) & 0x80FF'FFFF) | ((120 + below(16)) << 23);
    }
  }
  std::uint64_t double_bits() {
    static constexpr std::uint64_t kEdges[] = {0,
                                               0x8000000000000000,
                                               0x3FF0000000000000,
                                               1,
                                               0x000FFFFFFFFFFFFF,
                                               0x7FEFFFFFFFFFFFFF,
                                               0x7FF0000000000000,
                                               0xFFF0000000000000,
                                               0x7FF8000000000000,
                                               0x7FF0000000000001,
                                               0x36A0000000000001,
                                               0x47EFFFFFF0000000,
                                               0x41E0000000000000,
                                               0xC3E0000000000000};
    switch (below(4)) {
      case 0:
        return kEdges[below(static_cast<std::uint32_t>(std::size(kEdges)))];
      case 1:
        return bits();
      default:
        return (bits() & 0x800F'FFFF'FFFF'FFFF) | (std::uint64_t{1010 + below(30)} << 52);
    }
  }
  std::uint16_t half_bits() {
    static constexpr std::uint16_t kEdges[] = {0,      0x8000, 0x3C00, 0xBC00, 0x0001, 0x03FF,
                                               0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00};
    if (below(4) == 0) return kEdges[below(static_cast<std::uint32_t>(std::size(kEdges)))];
    return static_cast<std::uint16_t>(bits() >> 20);
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace vgpu::testing::fuzz
