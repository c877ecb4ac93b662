// elementwise.cu: every thread works alone.
#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {
namespace {

std::uint32_t blocks_for(std::size_t n, std::uint32_t threads) {
  return static_cast<std::uint32_t>((n + threads - 1) / threads);
}

void add_saxpy(std::vector<Case>& cases, std::uint32_t n, std::uint32_t threads) {
  Case test = compiled_case("saxpy_" + std::to_string(n) + "_by_" + std::to_string(threads), "elementwise");
  Random random(n);
  const auto x = random.reals(n, -10, 10);
  const auto y = random.reals(n, -10, 10);
  auto expected = y;
  for (std::size_t i = 0; i < n; ++i) expected[i] = std::fma(2.5F, x[i], y[i]);
  const std::size_t bx = test.in(x);
  const std::size_t by = test.in_out(y, expected, 1e-6);
  test.launch("saxpy", {blocks_for(n, threads)}, {threads}).pointer(bx).pointer(by).value(2.5F).value(n);
  cases.push_back(std::move(test));
}

void add_doubles(std::vector<Case>& cases) {
  Case test = compiled_case("daxpy", "elementwise");
  Random random(2);
  const std::uint32_t n = 100;
  std::vector<double> x(n);
  std::vector<double> y(n);
  std::vector<double> expected(n);
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = static_cast<double>(random.real(-3, 3)) * 1.000000001;
    y[i] = static_cast<double>(random.real(-3, 3));
    expected[i] = 1.75 / (x[i] * x[i] + 1.0) + y[i];
  }
  const std::size_t bx = test.in(x);
  const std::size_t by = test.in_out(y, expected, 1e-14);
  test.launch("daxpy", {2}, {64}).pointer(bx).pointer(by).value(1.75).value(n);
  cases.push_back(std::move(test));
}

void add_grid_stride(std::vector<Case>& cases) {
  Case test = compiled_case("grid_stride", "elementwise");
  const std::uint32_t n = 1000;
  const auto in = Random(3).integers(n, -1000, 1000);
  auto expected = in;
  for (auto& v : expected) v = v * 3 - 7;
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("grid_stride", {3}, {96}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

std::vector<std::int32_t> edge_integers(Random& random, std::size_t n) {
  std::vector<std::int32_t> values = {0,          1,   -1,  2,  -2, INT32_MAX, INT32_MIN, INT32_MIN + 1,
                                      0x55555555, 255, 256, 31, 32, 33};
  while (values.size() < n)
    values.push_back(static_cast<std::int32_t>(random.bits() >> (random.bits() % 31)));
  return values;
}

void add_integers(std::vector<Case>& cases) {
  Case test = compiled_case("integers", "elementwise");
  Random random(4);
  const std::uint32_t n = 120;
  auto a = edge_integers(random, n);
  auto b = edge_integers(random, n);
  std::ranges::reverse(b);
  std::vector<std::int32_t> out;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t x = a[i];
    const std::int64_t y = b[i];
    const auto ux = static_cast<std::uint32_t>(a[i]);
    const auto uy = static_cast<std::uint32_t>(b[i]);
    const std::int64_t odd = b[i] | 1;
    std::uint32_t reversed = 0;
    for (int k = 0; k < 32; ++k) reversed |= (ux >> k & 1U) << (31 - k);
    const std::uint32_t values[16] = {
        static_cast<std::uint32_t>(x / odd),
        static_cast<std::uint32_t>(x % odd),
        ux / (uy | 1),
        ux % (uy | 1),
        static_cast<std::uint32_t>((x * y) >> 32),
        static_cast<std::uint32_t>((std::uint64_t{ux} * uy) >> 32),
        static_cast<std::uint32_t>(a[i] >> (uy & 31)),
        ux >> (uy & 31),
        ux << (uy & 31),
        static_cast<std::uint32_t>(std::countl_zero(ux | 1)),
        static_cast<std::uint32_t>(std::popcount(ux)),
        reversed,
        static_cast<std::uint32_t>(std::min(a[i], b[i])),
        std::max(ux, uy),
        (ux ^ uy) & ~(ux | 0xF0F0U),
        std::rotl(ux, 7),
    };
    for (const std::uint32_t v : values) out.push_back(static_cast<std::int32_t>(v));
  }
  const std::size_t ba = test.in(a);
  const std::size_t bb = test.in(b);
  const std::size_t bo = test.out(out);
  test.launch("integers", {2}, {64}).pointer(ba).pointer(bb).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_wide_integers(std::vector<Case>& cases) {
  Case test = compiled_case("wide_integers", "elementwise");
  Random random(5);
  const std::uint32_t n = 70;
  std::vector<std::int64_t> a = {0, 1, -1, INT64_MAX, INT64_MIN + 1, 0x100000000};
  std::vector<std::int64_t> b = {3, -1, INT64_MAX, INT64_MIN, 7, -0x100000001};
  while (a.size() < n) {
    a.push_back(static_cast<std::int64_t>(random.bits() >> (random.bits() % 60)));
    b.push_back(-static_cast<std::int64_t>(random.bits() >> (1 + random.bits() % 60)));
  }
  std::vector<std::int64_t> out;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t x = a[i];
    const std::int64_t y = b[i];
    const auto ux = static_cast<std::uint64_t>(x);
    const auto uy = static_cast<std::uint64_t>(y);
    out.push_back(static_cast<std::int64_t>(ux * uy));
    out.push_back(x / (y | 1));
    out.push_back(x % (y | 1));
    out.push_back(static_cast<std::int64_t>(ux / (uy | 1)));
    out.push_back(x >> (y & 63));
    out.push_back(static_cast<std::int64_t>(x < y ? ux - uy : uy - ux));
  }
  const std::size_t ba = test.in(a);
  const std::size_t bb = test.in(b);
  const std::size_t bo = test.out(out);
  test.launch("wide_integers", {3}, {32}).pointer(ba).pointer(bb).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_conversions(std::vector<Case>& cases) {
  Case test = compiled_case("conversions", "elementwise");
  Random random(6);
  std::vector<float> in = {0.0F,  -0.0F, 0.5F,        1.5F,       2.5F,    -0.5F,
                           -1.5F, -2.5F, 0.49999997F, 8388607.5F, -126.7F, 127.2F};
  while (in.size() < 64) in.push_back(random.real(-2000, 2000));
  std::vector<std::int32_t> out;
  const auto push_float = [&](float v) { out.push_back(std::bit_cast<std::int32_t>(v)); };
  for (const float x : in) {
    const auto whole = static_cast<std::int32_t>(x);
    out.push_back(whole);
    out.push_back(static_cast<std::int8_t>(whole));
    out.push_back(static_cast<std::uint16_t>(whole));
    push_float(static_cast<float>(static_cast<std::int32_t>(static_cast<std::uint32_t>(whole) * 16777217U)));
    push_float(std::floor(x));
    push_float(std::trunc(x));
    push_float(std::nearbyint(x));
    out.push_back(
        static_cast<std::int32_t>(std::clamp(static_cast<double>(x) * 1000.0, -2147483648.0, 2147483647.0)));
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(out);
  test.launch("conversions", {1}, {64}).pointer(bi).pointer(bo).value(64U);
  cases.push_back(std::move(test));
}

void add_polynomial(std::vector<Case>& cases) {
  Case test = compiled_case("constants_and_globals", "elementwise");
  const std::uint32_t n = 50;
  const auto in = Random(7).reals(n, -2, 2);
  const float coefficients[5] = {1.0F, -0.5F, 0.25F, -0.125F, 0.0625F};
  std::vector<float> expected(n);
  for (std::size_t i = 0; i < n; ++i) {
    float sum = 0;
    for (int k = 4; k >= 0; --k) sum = sum * in[i] + coefficients[k];
    expected[i] = sum + (i % 2 == 0 ? 30.0F : 40.0F);
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected, 1e-5);
  test.launch("polynomial", {1}, {64}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_approximations(std::vector<Case>& cases) {
  Case test = compiled_case("approximations", "elementwise");
  const std::uint32_t n = 64;
  auto in = Random(8).reals(n, 0.01F, 3.0F);
  std::vector<float> expected;
  for (const float x : in) {
    for (const float v : {std::exp2(x), std::log2(x), std::sin(x), std::cos(x), 1 / std::sqrt(x),
                          std::sqrt(x), 1 / x, 1.5F / x}) {
      expected.push_back(v);
    }
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected, 4e-6);
  test.launch("approximations", {2}, {32}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_vectors(std::vector<Case>& cases) {
  Case test = compiled_case("vectors", "elementwise");
  const std::uint32_t n = 45;
  Random random(9);
  const auto in = random.reals(n * 4, -5, 5);
  std::vector<std::uint8_t> bytes(n * 4);
  for (auto& b : bytes) b = static_cast<std::uint8_t>(random.bits());
  std::vector<float> expected;
  std::vector<std::uint8_t> bytes_expected;
  for (std::size_t i = 0; i < n; ++i) {
    const float* v = &in[i * 4];
    expected.insert(expected.end(), {v[3], v[2], v[1] + v[0], v[0]});
    const std::uint8_t* b = &bytes[i * 4];
    bytes_expected.insert(bytes_expected.end(), {b[3], b[0], static_cast<std::uint8_t>(b[1] + 200),
                                                 static_cast<std::uint8_t>(b[2] * 3)});
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  const std::size_t bb = test.in(bytes);
  const std::size_t bbo = test.out(bytes_expected);
  test.launch("vectors", {1}, {64}).pointer(bi).pointer(bo).pointer(bb).pointer(bbo).value(n);
  cases.push_back(std::move(test));
}

void add_parameters(std::vector<Case>& cases) {
  struct Mixed {
    std::int8_t a;
    std::uint16_t b;
    double c;
    std::int32_t d[3];
  };
  Case test = compiled_case("parameters", "elementwise");
  Mixed mixed{};
  mixed.a = -5;
  mixed.b = 60000;
  mixed.c = 1.25;
  mixed.d[0] = 11;
  mixed.d[1] = 22;
  mixed.d[2] = 33;
  std::vector<float> expected;
  for (std::size_t i = 0; i < 10; ++i) {
    expected.push_back(static_cast<float>(-5 + -7) + 60000.0F + 50000.0F);
    expected.push_back(1.25F * 8);
    expected.push_back(static_cast<float>(mixed.d[i % 3]));
  }
  const std::size_t bo = test.out(expected);
  test.launch("parameters", {1}, {10})
      .value(mixed)
      .value(std::int8_t{-7})
      .value(std::uint16_t{50000})
      .value(true)
      .value(8.0)
      .pointer(bo);
  cases.push_back(std::move(test));
}

}  // namespace

void add_elementwise_cases(std::vector<Case>& cases) {
  add_saxpy(cases, 256, 128);
  add_saxpy(cases, 1, 1);
  add_saxpy(cases, 100, 33);  // partial warps, and a partial block
  add_saxpy(cases, 1000, 1024);
  add_doubles(cases);
  add_grid_stride(cases);
  add_integers(cases);
  add_wide_integers(cases);
  add_conversions(cases);
  add_polynomial(cases);
  add_approximations(cases);
  add_vectors(cases);
  add_parameters(cases);
}

}  // namespace vgpu::testing::kernels
