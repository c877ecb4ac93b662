// half.cu: half precision and packed bytes. The expectation has its own conversion, by search in a table of
// all halves, so that it shares nothing with the implementations under test.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {
namespace {

double half_value(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  return exponent == 0 ? sign * fraction * 0x1p-24 : sign * (1024 + fraction) * std::pow(2.0, exponent - 25);
}

// Nearest half, ties to the even one.
std::uint16_t nearest_half(double value) {
  if (std::isnan(value)) return 0x7FFF;
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double magnitude = std::fabs(value);
  if (magnitude >= 65520) return sign | 0x7C00;
  std::uint16_t low = 0;
  std::uint16_t high = 0x7BFF;
  while (low < high) {
    const auto middle = static_cast<std::uint16_t>((low + high + 1) / 2);
    if (half_value(middle) <= magnitude) {
      low = middle;
    } else {
      high = static_cast<std::uint16_t>(middle - 1);
    }
  }
  const double below = magnitude - half_value(low);
  const double above = (low == 0x7BFF ? 65536 : half_value(static_cast<std::uint16_t>(low + 1))) - magnitude;
  const bool up = above < below || (above == below && (low & 1) != 0);
  return static_cast<std::uint16_t>(sign | (low + (up ? 1 : 0)));
}

void add_conversions(std::vector<Case>& cases) {
  Case test = compiled_case("half_to_float", "half");
  std::vector<std::uint16_t> in;
  for (std::uint32_t bits = 0; bits < 0x10000; bits += 13) in.push_back(static_cast<std::uint16_t>(bits));
  std::vector<float> expected;
  for (const std::uint16_t bits : in) expected.push_back(static_cast<float>(half_value(bits)) * 0.5F);
  const auto n = static_cast<std::uint32_t>(in.size());
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected, 1e-12);
  test.launch("half_to_float", {(n + 127) / 128}, {128}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));

  Case back = compiled_case("float_to_half", "half");
  Random random(70);
  std::vector<float> floats = {0,
                               -0.0F,
                               1,
                               65504,
                               65519.99F,
                               65520,
                               -65520,
                               1e10F,
                               6e-8F,
                               2.9e-8F,
                               3e-8F,
                               -6e-8F,
                               6.1e-5F,
                               6.0975e-5F,
                               1.00048828125F,
                               1.00146484375F,
                               std::numeric_limits<float>::infinity(),
                               -std::numeric_limits<float>::infinity()};
  while (floats.size() < 300) {
    floats.push_back(static_cast<float>(std::ldexp(random.real(-2, 2), random.integer(-26, 17))));
  }
  std::vector<std::uint16_t> halves;
  for (const float f : floats) halves.push_back(nearest_half(static_cast<double>(f)));
  const std::size_t fi = back.in(floats);
  const std::size_t ho = back.out(halves);
  back.launch("float_to_half", {3}, {100}).pointer(fi).pointer(ho).value(300U);
  cases.push_back(std::move(back));
}

void add_arithmetic(std::vector<Case>& cases) {
  Case test = compiled_case("half2_arithmetic", "half");
  Random random(71);
  const std::uint32_t n = 256;
  const auto finite_half = [&] {
    return static_cast<std::uint16_t>(random.bits() & 0xBBFF);
  };  // below 2 in magnitude
  std::vector<std::uint32_t> a;
  std::vector<std::uint32_t> b;
  std::vector<std::uint32_t> expected;
  for (std::uint32_t i = 0; i < n; ++i) {
    std::uint32_t results[3] = {};
    std::uint32_t both[2] = {};
    for (unsigned half = 0; half < 2; ++half) {
      const std::uint16_t x = finite_half();
      const std::uint16_t y = finite_half();
      both[0] |= std::uint32_t{x} << (16 * half);
      both[1] |= std::uint32_t{y} << (16 * half);
      const std::uint16_t sum = nearest_half(half_value(x) + half_value(y));
      const std::uint16_t product = nearest_half(half_value(x) * half_value(y));
      // Exact: 22 bits of product and 11 of sum, no more than 2^26 apart.
      const std::uint16_t fused = nearest_half(half_value(x) * half_value(y) + half_value(sum));
      results[0] |= std::uint32_t{sum} << (16 * half);
      results[1] |= std::uint32_t{product} << (16 * half);
      results[2] |= std::uint32_t{fused} << (16 * half);
    }
    a.push_back(both[0]);
    b.push_back(both[1]);
    expected.insert(expected.end(), results, results + 3);
  }
  const std::size_t ba = test.in(a);
  const std::size_t bb = test.in(b);
  const std::size_t bo = test.out(expected);
  test.launch("half2_arithmetic", {2}, {128}).pointer(ba).pointer(bb).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_dot_products(std::vector<Case>& cases) {
  Case test = compiled_case("byte_dot_products", "half");
  Random random(72);
  const std::uint32_t rows = 40;
  const std::uint32_t words = 9;
  std::vector<std::uint8_t> a(rows * words * 4);
  std::vector<std::uint8_t> b(words * 4);
  for (auto* list : {&a, &b}) {
    for (auto& v : *list) v = static_cast<std::uint8_t>(random.bits());
  }
  std::vector<std::int32_t> expected;
  for (std::size_t row = 0; row < rows; ++row) {
    std::int32_t sum = 0;
    std::int32_t unsigned_sum = 0;
    for (std::size_t k = 0; k < words * 4; ++k) {
      const std::uint8_t x = a[row * words * 4 + k];
      sum += static_cast<std::int8_t>(x) * static_cast<std::int8_t>(b[k]);
      unsigned_sum += x * b[k];
    }
    expected.insert(expected.end(), {sum, unsigned_sum});
  }
  const std::size_t ba = test.in(a);
  const std::size_t bb = test.in(b);
  const std::size_t bo = test.out(expected);
  test.launch("byte_dot_products", {1}, {rows}).pointer(ba).pointer(bb).pointer(bo).value(words);
  cases.push_back(std::move(test));
}

void add_dequantise(std::vector<Case>& cases) {
  Case test = compiled_case("dequantise", "half");
  Random random(73);
  const std::uint32_t blocks = 11;
  std::vector<std::uint8_t> in;
  std::vector<float> expected;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    const auto scale = static_cast<std::uint16_t>(0x2000 + (random.bits() & 0xFFF));
    in.push_back(static_cast<std::uint8_t>(scale));
    in.push_back(static_cast<std::uint8_t>(scale >> 8));
    std::array<std::uint8_t, 16> nibbles{};
    for (auto& v : nibbles) v = static_cast<std::uint8_t>(random.bits());
    in.insert(in.end(), nibbles.begin(), nibbles.end());
    const auto factor = static_cast<float>(half_value(scale));
    for (const auto v : nibbles) expected.push_back((static_cast<float>(v & 15) - 8) * factor);
    for (const auto v : nibbles) expected.push_back((static_cast<float>(v >> 4) - 8) * factor);
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("dequantise", {3}, {64}).pointer(bi).pointer(bo).value(blocks);
  cases.push_back(std::move(test));
}

}  // namespace

void add_half_cases(std::vector<Case>& cases) {
  add_conversions(cases);
  add_arithmetic(cases);
  add_dot_products(cases);
  add_dequantise(cases);
}

}  // namespace vgpu::testing::kernels
