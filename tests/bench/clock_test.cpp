// Clock: agrees with CLOCK_MONOTONIC, and never runs backwards.
#include "bench/harness/clock.h"

#include <gtest/gtest.h>

namespace vgpu::bench {
namespace {

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

TEST(Clock, AgreesWithTheSystemsClock) {
  const Clock& clock = Clock::get();
  const uint64_t outer_start = monotonic_ns();
  const uint64_t start = clock.begin();
  const uint64_t inner_start = monotonic_ns();
  while (monotonic_ns() - inner_start < 20'000'000) {
  }
  const uint64_t inner = monotonic_ns() - inner_start;
  const uint64_t ticks = clock.end() - start;
  const uint64_t outer = monotonic_ns() - outer_start;
  // Between what the system's clock saw inside and outside of it, give or take a thousandth.
  EXPECT_GE(clock.to_ns(ticks), inner - inner / 1000);
  EXPECT_LE(clock.to_ns(ticks), outer + outer / 1000);
}

TEST(Clock, NeverRunsBackwards) {
  const Clock& clock = Clock::get();
  uint64_t before = clock.begin();
  for (int i = 0; i < 100'000; ++i) {
    const uint64_t now = i % 2 == 0 ? clock.end() : clock.begin();
    ASSERT_GE(now, before);
    before = now;
  }
}

TEST(Clock, ConvertsBothWays) {
  const Clock& clock = Clock::get();
  for (const uint64_t ns :
       {uint64_t{1000}, uint64_t{1'000'000}, uint64_t{60'000'000'000}, uint64_t{1} << 50}) {
    const uint64_t back = clock.to_ns(clock.to_ticks(ns));
    EXPECT_NEAR(static_cast<double>(back), static_cast<double>(ns), 2 + static_cast<double>(ns) * 1e-9);
  }
}

TEST(Clock, KnowsWhatReadingItCosts) {
  const Clock& clock = Clock::get();
  EXPECT_GE(clock.overhead_ns(), 0);
  EXPECT_LT(clock.overhead_ns(), 10'000);
  EXPECT_GT(clock.step_ns(), 0);
  EXPECT_GT(clock.ticks_per_ns(), 0);
}

TEST(Clock, ProcessCpuTimeGrowsWithWork) {
  const uint64_t before = process_cpu_ns();
  uint64_t now = before;
  while (now == before) {
    now = process_cpu_ns();
  }
  EXPECT_GT(now, before);
}

}  // namespace
}  // namespace vgpu::bench
