// reduce.cu and atomics.cu: lanes, warps and blocks that work together.
#include <algorithm>
#include <numeric>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {
namespace {

using Ints = std::vector<std::int32_t>;

void add_shuffles(std::vector<Case>& cases) {
  Case test = compiled_case("warp_shuffles", "reduce");
  const std::size_t n = 128;
  const Ints in = Random(20).integers(n, -1000, 1000);
  Ints expected;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t base = i / 32 * 32;
    const std::size_t lane = i % 32;
    expected.push_back(std::accumulate(&in[base], &in[base] + 32, 0));
    expected.push_back(in[lane + 3 < 32 ? i + 3 : i]);
    expected.push_back(in[base + 7]);
    expected.push_back(in[base + lane * 5 % 32]);
    expected.push_back(std::accumulate(&in[base], &in[base] + lane + 1, 0));
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("warp_shuffles", {2}, {64}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_votes(std::vector<Case>& cases) {
  Case test = compiled_case("warp_votes", "reduce");
  const std::size_t n = 96;
  Ints in = Random(21).integers(n, -90, 90);
  in[40] = -500;
  in[70] = 95;
  std::vector<std::uint32_t> expected;
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t odd = 0;
    bool every = true;
    bool some = false;
    for (std::size_t k = 0; k < 32; ++k) {
      const std::int32_t v = in[i / 32 * 32 + k];
      odd |= static_cast<std::uint32_t>(v & 1) << k;
      every = every && v > -100;
      some = some || v > 90;
    }
    expected.insert(expected.end(), {odd, every ? 1U : 0U, some ? 1U : 0U});
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("warp_votes", {1}, {96}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_float_sum(std::vector<Case>& cases) {
  Case test = compiled_case("float_sum", "reduce");
  const std::uint32_t n = 777;
  const auto in = Random(22).reals(n * 3, -1, 1);
  std::vector<float> expected;
  for (std::size_t b = 0; b < 3; ++b) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(in[b * n + i]);
    expected.push_back(static_cast<float>(sum));
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected, 1e-4);
  test.launch("float_sum", {3}, {256}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_barrier_sum(std::vector<Case>& cases) {
  Case test = compiled_case("barrier_sum", "reduce");
  const Ints in = Random(23).integers(1024, -1000, 1000);
  Ints expected;
  for (std::size_t b = 0; b < 4; ++b)
    expected.push_back(std::accumulate(&in[b * 256], &in[b * 256] + 256, 0));
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("barrier_sum", {4}, {256}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_block_scan(std::vector<Case>& cases, std::uint32_t threads) {
  Case test = compiled_case("block_scan_of_" + std::to_string(threads), "reduce");
  const Ints in = Random(24).integers(threads * 3, -50, 50);
  Ints expected(in.size());
  std::partial_sum(in.begin(), in.end(), expected.begin());
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("block_scan", {1}, {threads}).pointer(bi).pointer(bo).value(3);
  cases.push_back(std::move(test));
}

void add_barrier_votes(std::vector<Case>& cases, std::uint32_t threads) {
  Case test = compiled_case("barrier_votes_of_" + std::to_string(threads), "reduce");
  Ints in = Random(25).integers(threads * 2, -40, 40);
  in[1] = 42;
  in[threads + 2] = -2000;
  for (std::size_t i = threads; i < in.size(); ++i) {
    if (in[i] == 42) in[i] = 41;
  }
  Ints expected;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const auto* begin = &in[i / threads * threads];
    const auto count = std::count_if(begin, begin + threads, [](std::int32_t v) { return v > 0; });
    expected.insert(expected.end(),
                    {static_cast<std::int32_t>(count), i < threads ? 1 : 0, i < threads ? 1 : 0});
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("barrier_votes", {2}, {threads}).pointer(bi).pointer(bo);
  cases.push_back(std::move(test));
}

void add_histogram(std::vector<Case>& cases) {
  Case test = compiled_case("histogram", "atomics");
  const std::uint32_t n = 3000;
  Random random(30);
  std::vector<std::uint8_t> in(n);
  std::vector<std::uint32_t> expected(64, 5);
  for (auto& v : in) {
    v = static_cast<std::uint8_t>(random.bits());
    ++expected[v & 63];
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.in_out(std::vector<std::uint32_t>(64, 5), expected);
  test.launch("histogram", {3}, {128}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

void add_every_atomic(std::vector<Case>& cases) {
  Case test = compiled_case("every_atomic", "atomics");
  const std::uint32_t n = 250;
  const Ints in = Random(31).integers(n, -100000, 100000);
  Ints before = {0, INT32_MAX, INT32_MIN, -1, 0, -1, 0, 0x1234, 0, 7};
  Ints after = before;
  const auto u = [](std::int32_t v) { return static_cast<std::uint32_t>(v); };
  for (const std::int32_t v : in) {
    after[0] += v;
    after[1] = std::min(after[1], v);
    after[2] = std::max(after[2], v);
    after[3] = u(v) < u(after[3]) ? v : after[3];
    after[4] = u(v) > u(after[4]) ? v : after[4];
    after[5] &= v | 0x0F0F;
    after[6] |= v & 0xFFF;
    after[7] ^= v;
    after[8] = u(after[8]) >= 99 ? 0 : after[8] + 1;
    after[9] = after[9] == 0 || u(after[9]) > 49 ? 49 : after[9] - 1;
  }
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.in_out(before, after);
  test.launch("every_atomic", {2}, {128}).pointer(bi).pointer(bo).value(n);
  cases.push_back(std::move(test));
}

// What atomics return: the sums are the same for every order.
void add_atomic_results(std::vector<Case>& cases) {
  Case test = compiled_case("atomic_results", "atomics");
  const std::int32_t n = 1;  // one thread: the returned values themselves are known
  const std::size_t slots = test.in_out(Ints{41, 9, 9, 9, 9, 100}, Ints{42, 0, 9, 9, 9, 109});
  const std::size_t seen = test.out(Ints{41});
  test.launch("atomic_results", {1}, {32}).pointer(slots).pointer(seen).value(n);
  cases.push_back(std::move(test));
}

void add_compare_and_swap(std::vector<Case>& cases) {
  Case test = compiled_case("compare_and_swap", "atomics");
  const std::int32_t n = 200;
  const Ints in = Random(32).integers(n, -5000, 5000);
  std::int64_t sum = 1;
  for (const std::int32_t v : in) sum += v;
  const std::size_t total = test.in_out(std::vector<std::int64_t>{1}, {sum});
  const std::size_t maximum = test.in_out(Ints{-9999}, Ints{*std::ranges::max_element(in)});
  const std::size_t bi = test.in(in);
  test.launch("compare_and_swap", {2}, {128}).pointer(total).pointer(maximum).pointer(bi).value(n);
  cases.push_back(std::move(test));
}

void add_float_atomics(std::vector<Case>& cases) {
  Case test = compiled_case("float_atomics", "atomics");
  const std::uint32_t n = 150;
  float f = 1;
  double d = 2;
  std::uint64_t u = 3;
  for (std::uint32_t i = 0; i < n; ++i) {
    f += static_cast<float>(i & 7) * 0.25F;
    d += i * 0.5;
    u += std::uint64_t{i} << 33;
  }
  // Sums of small multiples of powers of two: exact in every order.
  const std::size_t bf = test.in_out(std::vector<float>{1}, {f});
  const std::size_t bd = test.in_out(std::vector<double>{2}, {d});
  const std::size_t bu = test.in_out(std::vector<std::uint64_t>{3}, {u});
  test.launch("float_atomics", {2}, {96}).pointer(bf).pointer(bd).pointer(bu).value(n);
  cases.push_back(std::move(test));
}

void add_tickets(std::vector<Case>& cases) {
  Case test = compiled_case("last_block_sums", "atomics");
  const Ints in = Random(33).integers(7 * 64, -100, 100);
  Ints partial;
  for (std::size_t b = 0; b < 7; ++b) partial.push_back(std::accumulate(&in[b * 64], &in[b * 64] + 64, 0));
  const std::size_t bi = test.in(in);
  const std::size_t bp = test.out(partial);
  const std::size_t bt = test.out(Ints{std::accumulate(partial.begin(), partial.end(), 0)});
  // Twice: the ticket wraps around by itself.
  for (int k = 0; k < 2; ++k) test.launch("last_block_sums", {7}, {64}).pointer(bi).pointer(bp).pointer(bt);
  cases.push_back(std::move(test));

  Case ordered = compiled_case("blocks_in_order_of_ticket", "atomics");
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < 9; ++i) order.push_back(i * 3 + 1);
  const std::size_t next = ordered.in_out(std::vector<std::uint32_t>{0}, {9});
  const std::size_t bo = ordered.out(order);
  ordered.launch("ordered_blocks", {9}, {32}).pointer(next).pointer(bo).blocks_wait_for_each_other = true;
  cases.push_back(std::move(ordered));
}

}  // namespace

void add_cooperation_cases(std::vector<Case>& cases) {
  add_shuffles(cases);
  add_votes(cases);
  add_float_sum(cases);
  add_barrier_sum(cases);
  add_block_scan(cases, 128);
  add_block_scan(cases, 50);
  add_barrier_votes(cases, 64);
  add_barrier_votes(cases, 75);
  add_histogram(cases);
  add_every_atomic(cases);
  add_atomic_results(cases);
  add_compare_and_swap(cases);
  add_float_atomics(cases);
  add_tickets(cases);
}

}  // namespace vgpu::testing::kernels
