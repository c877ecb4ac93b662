// shared.cu and half.cu's addressing: shared and local memory, generic pointers, 64-bit strides, faults.
#include <algorithm>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

void add_transpose(std::vector<Case>& cases, std::uint32_t width, std::uint32_t height) {
  Case test = compiled_case("transpose_" + std::to_string(width) + "x" + std::to_string(height), "shared");
  const Ints in = Random(width).integers(std::size_t{width} * height, -1000000, 1000000);
  Ints expected(in.size());
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) expected[x * height + y] = in[y * width + x];
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("transpose", {(width + 31) / 32, (height + 31) / 32}, {32, 8})
      .pointer(bi)
      .pointer(bo)
      .value(width)
      .value(height);
  cases.push_back(std::move(test));
}

void add_dynamic(std::vector<Case>& cases) {
  Case test = compiled_case("dynamic_shared_memory", "shared");
  const std::uint32_t n = 90;
  const Ints in = Random(40).integers(n, -1000, 1000);
  Ints expected(n);
  for (std::size_t i = 0; i < n; ++i) expected[i] = in[n - 1 - i] + in[(i + 1) % n] * 2;
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  auto& launch = test.launch("reverse_block", {1}, {96}).pointer(bi).pointer(bo).value(n);
  launch.dynamic_shared_bytes = n * 6;
  cases.push_back(std::move(test));

  Case both = compiled_case("static_and_dynamic_shared_memory", "shared");
  const Ints small = Random(41).integers(64, -1000, 1000);
  Ints sums(64);
  for (std::size_t i = 0; i < 64; ++i) {
    sums[i] = small[(i + 1) % 64] * 3 - small[(i + 2) % 64] + static_cast<std::int32_t>(i % 3) * 2;
  }
  const std::size_t si = both.in(small);
  const std::size_t so = both.out(sums);
  both.launch("static_and_dynamic", {1}, {64}).pointer(si).pointer(so).dynamic_shared_bytes = 256;
  cases.push_back(std::move(both));
}

void add_local(std::vector<Case>& cases) {
  Case test = compiled_case("local_array_of_ints", "shared");
  const std::uint32_t n = 100;
  const Ints in = Random(42).integers(n, 0, 500);
  Ints expected;
  for (std::size_t i = 0; i < n; ++i) {
    Ints sorted;
    for (std::size_t k = 0; k < 16; ++k) sorted.push_back(in[(i * 7 + k * 13) % n]);
    std::ranges::sort(sorted);
    expected.push_back(sorted[static_cast<std::size_t>(in[i] & 15)] * 1000 + sorted[7]);
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("local_arrays", {2}, {64}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));

  Case bytes = compiled_case("local_array_of_bytes", "shared");
  Random random(43);
  std::vector<std::uint8_t> input(70);
  std::vector<std::uint8_t> output;
  for (auto& b : input) {
    b = static_cast<std::uint8_t>(random.bits());
    std::uint8_t table[40];
    for (unsigned k = 0; k < 40; ++k) table[k] = static_cast<std::uint8_t>(b + k * 3);
    for (unsigned k = 0; k < 40; ++k) std::swap(table[k], table[(k * 11 + b) % 40]);
    output.push_back(table[b % 40]);
  }
  const std::size_t byte_in = bytes.in(input);
  const std::size_t byte_out = bytes.out(output);
  bytes.launch("local_bytes", {1}, {96}).pointer(byte_in).pointer(byte_out).value(70U);
  cases.push_back(std::move(bytes));
}

void add_generic(std::vector<Case>& cases) {
  Case test = compiled_case("generic_pointers", "shared");
  Ints data = Random(44).integers(96, -1000, 1000);
  Ints expected = data;
  Ints block(32);
  for (std::size_t t = 0; t < 32; ++t) {
    std::int32_t own[2] = {static_cast<std::int32_t>(t) + 100, 7};
    block[t] = static_cast<std::int32_t>(t) * 10;
    std::swap(expected[t], block[t]);
    std::swap(own[t & 1], block[t]);
    expected[64 + t] = own[0] - own[1];
  }
  for (std::size_t t = 0; t < 32; ++t) expected[32 + t] = block[(t + 1) % 32];
  const std::size_t bd = test.in_out(data, expected);
  test.launch("generic_pointers", {1}, {32}).pointer(bd);
  cases.push_back(std::move(test));
}

void add_strides(std::vector<Case>& cases) {
  Case test = compiled_case("strided_rows_of_either_sign", "half");
  const Ints in = Random(45).integers(500, -1000, 1000);
  Ints forward;
  Ints backward;
  for (std::size_t row = 0; row < 5; ++row) {
    for (std::size_t column = 0; column < 40; ++column) {
      forward.push_back(in[row * 100 + column * 2]);
      backward.push_back(in[499 - row * 100 - column]);
    }
  }
  const std::size_t bi = test.in(in);
  const std::size_t bf = test.out(forward);
  const std::size_t bb = test.out(backward);
  const auto launch = [&](std::size_t to, std::int64_t row, std::int64_t column, std::int64_t first) {
    test.launch("strided_rows", {5}, {40}).pointer(bi).pointer(to).value(row).value(column).value(first);
  };
  launch(bf, 100, 2, 0);
  launch(bb, -100, -1, 499);
  cases.push_back(std::move(test));

  for (const bool forwards : {true, false}) {
    Case far = compiled_case(forwards ? "distance_forwards" : "distance_backwards", "half");
    const Ints a = Random(46).integers(32, 0, 1000);
    const Ints b = Random(47).integers(32, 0, 1000);
    Ints sum;
    for (std::size_t i = 0; i < 32; ++i) sum.push_back(a[i] + b[i]);
    const std::size_t ba = far.in(a);
    far.in(Ints(5000));
    const std::size_t bb2 = far.in(b);
    const std::size_t bs = far.out(sum);
    const std::size_t from = forwards ? ba : bb2;
    const std::size_t to = forwards ? bb2 : ba;
    far.launch("far_apart", {1}, {32}).pointer(from).distance(from, to).pointer(bs);
    cases.push_back(std::move(far));
  }
}

void add_faults(std::vector<Case>& cases) {
  const auto add = [&](const char* name, std::uint64_t address) {
    Case test = compiled_case(name, "half");
    const std::size_t bo = test.in(Ints(32));
    test.launch("load_absolute", {1}, {32}).value(address).pointer(bo).expected = Status::kIllegalAddress;
    cases.push_back(std::move(test));
  };
  add("load_from_null", 0);
  add("load_from_nowhere", 0x1234'5678'9ABC);
  add("load_from_the_end_of_the_address_space", 0xFFFF'FFFF'FFFF'FF00);

  Case trap = compiled_case("trap_in_one_lane", "diverge");
  Ints in(32, 5);
  in[19] = -1;
  const std::size_t bi = trap.in(in);
  const std::size_t bo = trap.in(Ints(32));
  trap.launch("stop_if_negative", {1}, {32}).pointer(bi).pointer(bo).expected = Status::kTrap;
  cases.push_back(std::move(trap));
}

}  // namespace

void add_memory_cases(std::vector<Case>& cases) {
  add_transpose(cases, 64, 32);
  add_transpose(cases, 50, 71);
  add_dynamic(cases);
  add_local(cases);
  add_generic(cases);
  add_strides(cases);
  add_faults(cases);
}

}  // namespace vgpu::testing::kernels
