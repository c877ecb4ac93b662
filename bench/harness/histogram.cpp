// Reading a histogram.
#include "bench/harness/histogram.h"

#include <algorithm>
#include <cmath>

namespace vgpu::bench {

void Histogram::merge(const Histogram& other) noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) {
    counts_[i] += other.counts_[i];
  }
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
  min_ = std::min(min_, other.min_);
}

double Histogram::lower_edge(std::size_t index) noexcept {
  if (index < 2 * kSubBuckets) {
    return static_cast<double>(index);
  }
  const auto shift = static_cast<int>(index / kSubBuckets) - 1;
  const auto mantissa = static_cast<double>(index % kSubBuckets + kSubBuckets);
  return std::ldexp(mantissa, shift);
}

double Histogram::percentile(double percent) const noexcept {
  if (empty()) {
    return 0;
  }
  const double share = std::clamp(percent, 0.0, 100.0) / 100;
  const auto rank = std::max<uint64_t>(
      1, std::min(count_, static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_) - 1e-9))));
  uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= rank) {
      // A bucket of width 1 holds one value, its lower edge.
      const double width = upper_edge(i) - lower_edge(i);
      const double middle = lower_edge(i) + (width - 1) / 2;
      return std::clamp(middle, static_cast<double>(min_), static_cast<double>(max_)) / 1000;
    }
  }
  return max();
}

std::vector<std::pair<double, uint64_t>> Histogram::buckets() const {
  std::vector<std::pair<double, uint64_t>> result;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    if (counts_[i] != 0) {
      result.emplace_back(upper_edge(i) / 1000, counts_[i]);
    }
  }
  return result;
}

}  // namespace vgpu::bench
