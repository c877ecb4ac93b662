// A clock for intervals of nanoseconds: the processor's time-stamp counter where it is invariant, calibrated
// against CLOCK_MONOTONIC, and clock_gettime elsewhere. Reading it costs 10 to 30 ns (overhead_ns() says how
// much here): time many calls at once where one call costs less. Nothing is subtracted from what is measured.
#pragma once

#include <time.h>

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace vgpu::bench {

__extension__ using WideTicks = unsigned __int128;

class Clock {
 public:
  // Calibrated at the first call (20 ms), thread-safe. Call it once before fork(): children inherit it.
  // VGPU_BENCH_CLOCK=clock_gettime in the environment forces the fall-back.
  static const Clock& get();

  // Ticks. What stands before begin() in the program is done when it reads, and nothing behind it has begun;
  // what stands before end() is done when it reads. Any thread.
  uint64_t begin() const noexcept {
#if defined(__x86_64__)
    if (tsc_) [[likely]] {
      _mm_lfence();
      const uint64_t ticks = __rdtsc();
      _mm_lfence();
      return ticks;
    }
#endif
    return system_ns();
  }
  uint64_t end() const noexcept {
#if defined(__x86_64__)
    if (tsc_) [[likely]] {
      unsigned processor = 0;
      const uint64_t ticks = __rdtscp(&processor);
      _mm_lfence();
      return ticks;
    }
#endif
    return system_ns();
  }

  // An interval in ticks as time. Rounded down; exact to the calibration (about 2 parts in a million).
  uint64_t to_ps(uint64_t ticks) const noexcept {
    return static_cast<uint64_t>((static_cast<WideTicks>(ticks) * ps_per_tick_32_) >> 32);
  }
  uint64_t to_ns(uint64_t ticks) const noexcept { return to_ps(ticks) / 1000; }
  uint64_t to_ticks(uint64_t ns) const noexcept;

  bool is_tsc() const noexcept { return tsc_; }
  const char* source() const noexcept { return tsc_ ? "tsc" : "clock_gettime"; }
  double ticks_per_ns() const noexcept;
  // Median of end() - begin() around nothing.
  double overhead_ns() const noexcept { return overhead_ns_; }
  // The smallest difference between two readings that is not 0.
  double step_ns() const noexcept { return step_ns_; }

 private:
  Clock();
  static uint64_t system_ns() noexcept;
  void calibrate() noexcept;
  void measure_overhead() noexcept;

  bool tsc_ = false;
  uint64_t ps_per_tick_32_ = uint64_t{1000} << 32;  // 32.32 fixed point
  double overhead_ns_ = 0;
  double step_ns_ = 0;
};

// CPU time of the calling process, all its threads, user and system, in nanoseconds.
uint64_t process_cpu_ns() noexcept;

}  // namespace vgpu::bench
