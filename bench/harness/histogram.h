// A histogram of durations, log-linear like HdrHistogram: fixed memory (58 KiB), no allocation after
// construction, every bucket at most 0.8 % wide, so that a percentile is off by at most 0.4 %. Values are
// kept in picoseconds (a stream's cost per record is a few nanoseconds and a bit) and read in nanoseconds.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace vgpu::bench {

// One thread at a time; merge() brings several together. Trivially copyable: it may stand in shared memory.
class Histogram {
 public:
  // A few cycles: one shift, one increment. Durations above 213 days are counted as such.
  void record_ps(uint64_t picoseconds) noexcept { record_ps(picoseconds, 1); }
  void record_ps(uint64_t picoseconds, uint64_t times) noexcept {
    counts_[index_of(picoseconds)] += times;
    count_ += times;
    if (picoseconds > max_) {
      max_ = picoseconds;
    }
    if (picoseconds < min_) {
      min_ = picoseconds;
    }
  }
  void record(uint64_t nanoseconds) noexcept {
    record_ps(nanoseconds < kMostNanoseconds ? nanoseconds * 1000 : ~uint64_t{0});
  }

  void merge(const Histogram& other) noexcept;
  void clear() noexcept { *this = Histogram(); }

  uint64_t count() const noexcept { return count_; }
  bool empty() const noexcept { return count_ == 0; }
  // The smallest value that at least `percent` (0..100) of all values do not exceed: the middle of its
  // bucket, never outside of what was recorded. 0 when empty. In nanoseconds.
  double percentile(double percent) const noexcept;
  double max() const noexcept { return empty() ? 0 : static_cast<double>(max_) / 1000; }  // exact, ns
  double min() const noexcept { return empty() ? 0 : static_cast<double>(min_) / 1000; }  // exact, ns

  // The buckets that hold something, ascending: upper edge in nanoseconds (not included), count.
  std::vector<std::pair<double, uint64_t>> buckets() const;

 private:
  static constexpr uint32_t kSubBits = 7;  // 128 buckets per power of two
  static constexpr uint64_t kSubBuckets = uint64_t{1} << kSubBits;
  static constexpr std::size_t kBuckets = (64 - kSubBits + 1) * kSubBuckets;
  static constexpr uint64_t kMostNanoseconds = ~uint64_t{0} / 1000;

  // Values below 256 have a bucket each; above, the leading 8 bits name the bucket.
  static std::size_t index_of(uint64_t value) noexcept {
    const uint32_t shift =
        value < 2 * kSubBuckets ? 0 : static_cast<uint32_t>(std::bit_width(value)) - kSubBits - 1;
    return static_cast<std::size_t>((uint64_t{shift} << kSubBits) + (value >> shift));
  }
  static double lower_edge(std::size_t index) noexcept;  // ps
  static double upper_edge(std::size_t index) noexcept { return lower_edge(index + 1); }

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
  uint64_t min_ = ~uint64_t{0};
};

}  // namespace vgpu::bench
