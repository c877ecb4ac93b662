// How calls are timed. A call of 100 ns is timed by itself, to see how it varies, with the clock's own 10 to
// 30 ns in it; and in bursts, to see what it costs. Nothing is subtracted.
#pragma once

#include <cstdint>

#include "bench/harness/clock.h"
#include "bench/harness/suite.h"

namespace vgpu::bench {

// Few enough that the ring and the device's spinning thread take them as they come.
inline constexpr unsigned kBurstCalls = 16;
inline constexpr unsigned kWarmUps = 64;

// Between bursts, for each call: as for the record that ring_submit puts into the ring, so that both find the
// lines of the ring and the device's thread alike. Together they are less than the device spins for.
inline constexpr uint64_t kPauseNsEach = 250;

enum class Timed { kEach, kBurst };
inline const char* timed_name(Timed timed) noexcept {
  return timed == Timed::kEach ? "each" : "burst";
}

class Deadline {
 public:
  explicit Deadline(uint64_t budget_ns)
      : clock_(Clock::get()), end_(clock_.begin() + clock_.to_ticks(budget_ns)) {}
  bool over() const noexcept { return clock_.begin() >= end_; }

 private:
  const Clock& clock_;
  uint64_t end_;
};

inline void spin_for(uint64_t ns) {
  for (const Deadline deadline(ns); !deadline.over();) {
  }
}

// call() in bursts; settle() after each, not timed, brings everything to rest but keeps the device awake.
template <typename Call, typename Settle>
void measure_bursts(Round& round, Timed timed, Call&& call, Settle&& settle) {
  const Clock& clock = Clock::get();
  for (unsigned i = 0; i < kWarmUps; ++i) {
    call();
    settle();
  }
  const Deadline deadline(round.budget_ns());
  do {
    if (timed == Timed::kEach) {
      for (unsigned i = 0; i < kBurstCalls; ++i) {
        const uint64_t start = clock.begin();
        call();
        const uint64_t end = clock.end();
        round.latencies().record_ps(clock.to_ps(end - start));
      }
    } else {
      const uint64_t start = clock.begin();
      for (unsigned i = 0; i < kBurstCalls; ++i) {
        call();
      }
      const uint64_t end = clock.end();
      round.latencies().record_ps(clock.to_ps(end - start) / kBurstCalls, kBurstCalls);
    }
    settle();
  } while (!deadline.over());
}

// prepare(), not timed, then call(), timed.
template <typename Prepare, typename Call>
void measure_calls(Round& round, Prepare&& prepare, Call&& call) {
  const Clock& clock = Clock::get();
  for (unsigned i = 0; i < kWarmUps; ++i) {
    prepare();
    call();
  }
  const Deadline deadline(round.budget_ns());
  do {
    prepare();
    const uint64_t start = clock.begin();
    call();
    const uint64_t end = clock.end();
    round.latencies().record_ps(clock.to_ps(end - start));
  } while (!deadline.over());
}

// How often a second call() runs for the whole budget; finish() belongs to it.
template <typename Call, typename Finish>
double calls_per_second(uint64_t budget_ns, Call&& call, Finish&& finish) {
  const Clock& clock = Clock::get();
  const Deadline deadline(budget_ns);
  uint64_t calls = 0;
  const uint64_t start = clock.begin();
  do {
    for (unsigned i = 0; i < 256; ++i) {
      call();
    }
    calls += 256;
  } while (!deadline.over());
  finish();
  return static_cast<double>(calls) * 1e12 / static_cast<double>(clock.to_ps(clock.end() - start));
}

}  // namespace vgpu::bench
