// diverge.cu: lanes that part and meet again, block shapes, calls.
#include <algorithm>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

// A kernel (in, out, n) whose thread i computes f(in[i], i) into out[i], or leaves it.
template <typename F>
void add_map(std::vector<Case>& cases, const char* kernel, const Ints& in, std::uint32_t threads, F f) {
  Case test = compiled_case(std::string(kernel) + "_by_" + std::to_string(threads), "diverge");
  const auto n = static_cast<std::uint32_t>(in.size());
  const Ints before(n, -77);
  Ints expected = before;
  for (std::size_t i = 0; i < n; ++i) f(in[i], static_cast<std::int32_t>(i), expected[i]);
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.in_out(before, expected);
  test.launch(kernel, {(n + threads - 1) / threads}, {threads}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void early_exit(std::int32_t v, std::int32_t, std::int32_t& out) {
  if (v < 0) {
    out = -1;
    return;
  }
  if ((v & 3) == 0) return;
  for (int k = 0;; ++k) {
    if (v * k > 1000) {
      out = k;
      return;
    }
    if (k == 60) break;
  }
  out = -2;
}

void collatz(std::int32_t start, std::int32_t, std::int32_t& out) {
  auto v = static_cast<std::uint64_t>(start);
  out = 0;
  for (; v > 1; ++out) v = v % 2 == 1 ? 3 * v + 1 : v / 2;
}

void nested_loops(std::int32_t v, std::int32_t, std::int32_t& out) {
  int sum = 0;
  for (int a = 0; a < v % 7; ++a) {
    for (int b = a; b < 10; ++b) {
      if ((a * b + v) % 5 == 0) continue;
      if (b == v % 11) break;
      for (int c = 0; c < b - a; c += 2) sum += c * a - b;
    }
    sum ^= a;
  }
  out = sum;
}

void switches(std::int32_t v, std::int32_t i, std::int32_t& out) {
  for (int round = 0; round < 4; ++round) {
    switch (v & 7) {
      case 0:
        v = v * 3 + 1;
        break;
      case 1:
        v ^= 0x55;
        break;
      case 2:
        v = v - 17 + i;
        break;
      case 3:
        v += i;
        break;
      case 4:
        v = v / 3;
        break;
      case 5:
        v = static_cast<std::int32_t>(static_cast<std::uint32_t>(v) << 1);
        break;
      case 6:
        round += v & 1;
        v += 9;
        break;
      default:
        v = -v;
        break;
    }
  }
  out = v;
}

void add_divergent_shuffle(std::vector<Case>& cases) {
  Case test = compiled_case("divergent_then_shuffle", "diverge");
  const Ints in = Random(60).integers(64, -20, 50);
  Ints changed;
  for (std::int32_t start : in) {
    auto v = static_cast<std::uint32_t>(start);
    for (std::uint32_t k = 0; k < (v & 7); ++k) v = v * 5 + k;
    changed.push_back(static_cast<std::int32_t>((v & 1) != 0 ? v + 3 : v - 3));
  }
  Ints expected;
  for (std::size_t i = 0; i < 64; ++i) {
    expected.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(changed[i ^ 1]) -
                                                 static_cast<std::uint32_t>(changed[i])));
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("divergent_then_shuffle", {1}, {64}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_barriers(std::vector<Case>& cases, std::uint32_t threads) {
  Case test = compiled_case("loop_of_barriers_by_" + std::to_string(threads), "diverge");
  const Ints in = Random(61).integers(threads, -1000, 1000);
  Ints v = in;
  for (int k = 0; k < 5; ++k) {
    const Ints cell = v;
    for (std::size_t t = 0; t < threads; ++t) {
      v[t] = (v[t] & 1) != 0 ? v[t] + cell[(t + 1) % threads] : cell[(t + 7) % threads] >> 1;
    }
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(v);
  test.launch("loop_of_barriers", {1}, {threads}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_exit_before_barrier(std::vector<Case>& cases) {
  Case test = compiled_case("warps_exit_before_a_barrier", "diverge");
  const Ints in = Random(62).integers(128, -1000, 1000);
  Ints expected;
  for (std::size_t t = 0; t < 128; ++t) expected.push_back(t >= 64 ? -in[t] : in[63 - t] + 1);
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("exit_before_barrier", {1}, {128}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_shape(std::vector<Case>& cases, Dim grid, Dim block) {
  const auto text = [](Dim d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
  };
  Case test = compiled_case("block_" + text(block) + "_grid_" + text(grid), "diverge");
  Ints expected;
  for (std::uint32_t b = 0; b < grid.x * grid.y * grid.z; ++b) {
    for (std::uint32_t t = 0; t < block.x * block.y * block.z; ++t) {
      const std::uint32_t x = t % block.x;
      const std::uint32_t y = t / block.x % block.y;
      const std::uint32_t z = t / block.x / block.y;
      expected.push_back(static_cast<std::int32_t>(x * 10000 + y * 100 + z));
      expected.push_back(static_cast<std::int32_t>(
          t % 32 + 100 * (b % grid.x + 10 * (b / grid.x % grid.y) + 100 * (b / grid.x / grid.y))));
    }
  }
  const std::size_t bo = test.out(expected);
  test.launch("lanes_by_block_shape", grid, block).pointer(bo);
  cases.push_back(std::move(test));
}

std::int32_t ackermann(std::int32_t m, std::int32_t n) {
  if (m == 0) return n + 1;
  return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

void add_calls(std::vector<Case>& cases) {
  add_map(cases, "calls", Random(63).integers(80, -200, 200), 64,
          [](std::int32_t v, std::int32_t i, std::int32_t& out) {
            if (v & 1) v = std::clamp(v, -50, 50);
            out = (v + i) * 3 - (v - i) + static_cast<std::int32_t>((std::int64_t{v} * i) >> 3);
          });

  Case recursion = compiled_case("recursion", "diverge");
  recursion.recursive = true;
  Ints results;
  for (std::int32_t t = 0; t < 40; ++t) results.push_back(ackermann(t % 3, t % 5));
  const std::size_t br = recursion.out(results);
  recursion.launch("recursion", {1}, {40}).pointer(br);
  cases.push_back(std::move(recursion));

  Case pointers = compiled_case("function_pointers", "diverge");
  pointers.recursive = true;
  Ints values;
  for (std::int32_t t = 0; t < 32; ++t) values.push_back(t % 3 == 0 ? t * 2 : t % 3 == 1 ? t * t : -t);
  const std::size_t bp = pointers.out(values);
  pointers.launch("function_pointers", {1}, {32}).pointer(bp);
  cases.push_back(std::move(pointers));
}

}  // namespace

void add_control_cases(std::vector<Case>& cases) {
  for (const std::uint32_t threads : {32U, 41U, 128U}) {
    add_map(cases, "early_exit", Random(50).integers(150, -50, 300), threads, early_exit);
    add_map(cases, "collatz", Random(51).integers(100, 0, 5000), threads, collatz);
    add_map(cases, "nested_loops", Random(52).integers(100, 0, 500), threads, nested_loops);
    add_map(cases, "switches", Random(53).integers(120, -5000, 5000), threads, switches);
  }
  add_divergent_shuffle(cases);
  add_barriers(cases, 64);
  add_barriers(cases, 45);
  add_exit_before_barrier(cases);
  add_shape(cases, {3, 2, 2}, {5, 3, 4});
  add_shape(cases, {1, 3, 1}, {32, 4, 1});
  add_shape(cases, {2, 1, 1}, {8, 16, 2});
  add_calls(cases);
}

}  // namespace vgpu::testing::kernels
