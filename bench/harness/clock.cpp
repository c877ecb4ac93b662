// Finding out whether the time-stamp counter can be trusted, and how fast it runs.
#include "bench/harness/clock.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace vgpu::bench {
namespace {

constexpr uint64_t kCalibrationNs = 20'000'000;

bool has_invariant_tsc() noexcept {
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(0x8000'0007, &a, &b, &c, &d) != 0 && (d & (1U << 8)) != 0;
#else
  return false;
#endif
}

uint64_t timespec_ns(clockid_t clock) noexcept {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t Clock::system_ns() noexcept {
  return timespec_ns(CLOCK_MONOTONIC);
}

uint64_t process_cpu_ns() noexcept {
  return timespec_ns(CLOCK_PROCESS_CPUTIME_ID);
}

const Clock& Clock::get() {
  static const Clock kClock;
  return kClock;
}

Clock::Clock() {
  const char* forced = std::getenv("VGPU_BENCH_CLOCK");
  const bool fall_back = forced != nullptr && std::string_view(forced) == "clock_gettime";
  tsc_ = !fall_back && has_invariant_tsc();
  if (tsc_) {
    calibrate();
  }
  measure_overhead();
}

void Clock::calibrate() noexcept {
  // Both clocks read together; of several tries the one that was least disturbed.
  struct Instant {
    uint64_t ticks = 0;
    uint64_t ns = 0;
  };
  const auto read_both = [this] {
    Instant best;
    uint64_t least = ~uint64_t{0};
    for (int i = 0; i < 64; ++i) {
      const uint64_t before = begin();
      const uint64_t ns = system_ns();
      const uint64_t after = end();
      if (after - before < least) {
        least = after - before;
        best = {before + (after - before) / 2, ns};
      }
    }
    return best;
  };
  const Instant first = read_both();
  while (system_ns() - first.ns < kCalibrationNs) {
  }
  const Instant last = read_both();
  const double ps_per_tick =
      static_cast<double>(last.ns - first.ns) * 1000 / static_cast<double>(last.ticks - first.ticks);
  ps_per_tick_32_ = static_cast<uint64_t>(std::llround(std::ldexp(ps_per_tick, 32)));
}

void Clock::measure_overhead() noexcept {
  std::array<uint64_t, 1001> ticks;
  for (uint64_t& sample : ticks) {
    const uint64_t start = begin();
    sample = end() - start;
  }
  std::nth_element(ticks.begin(), ticks.begin() + ticks.size() / 2, ticks.end());
  overhead_ns_ = static_cast<double>(to_ps(ticks[ticks.size() / 2])) / 1000;

  // The steps show between intervals of slowly growing length.
  std::vector<uint64_t> lengths;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t start = begin();
    for (int j = 0; j < i % 200; ++j) {
      asm volatile("");
    }
    lengths.push_back(end() - start);
  }
  std::sort(lengths.begin(), lengths.end());
  uint64_t step = lengths.back();
  for (std::size_t i = 1; i < lengths.size(); ++i) {
    if (lengths[i] != lengths[i - 1]) {
      step = std::min(step, lengths[i] - lengths[i - 1]);
    }
  }
  step_ns_ = static_cast<double>(to_ps(step)) / 1000;
}

uint64_t Clock::to_ticks(uint64_t ns) const noexcept {
  return static_cast<uint64_t>((static_cast<WideTicks>(ns) * 1000 << 32) / ps_per_tick_32_);
}

double Clock::ticks_per_ns() const noexcept {
  return 1000 / std::ldexp(static_cast<double>(ps_per_tick_32_), -32);
}

}  // namespace vgpu::bench
