// Histogram: percentiles within the promised error of exact ones, whatever the values.
#include "bench/harness/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace vgpu::bench {
namespace {

double exact_percentile(std::vector<uint64_t> sorted, double percent) {
  const auto rank = static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::max<std::size_t>(rank, 1) - 1]);
}

TEST(Histogram, IsEmptyAtFirst) {
  const Histogram histogram;
  EXPECT_TRUE(histogram.empty());
  EXPECT_EQ(histogram.percentile(50), 0);
  EXPECT_EQ(histogram.max(), 0);
  EXPECT_TRUE(histogram.buckets().empty());
}

TEST(Histogram, OneValueIsEveryPercentile) {
  Histogram histogram;
  histogram.record_ps(123'456'789);
  for (const double percent : {0.0, 50.0, 99.9, 100.0}) {
    EXPECT_DOUBLE_EQ(histogram.percentile(percent), 123'456.789);
  }
}

TEST(Histogram, NanosecondsAndPicosecondsAreOneScale) {
  Histogram histogram;
  histogram.record(1'000'000);
  EXPECT_DOUBLE_EQ(histogram.max(), 1e6);
  histogram.record_ps(2'000'000'500);
  EXPECT_DOUBLE_EQ(histogram.max(), 2'000'000.5);
  EXPECT_DOUBLE_EQ(histogram.min(), 1e6);
}

TEST(Histogram, PercentilesAreWithinOnePercentOfExactOnes) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> spread(11, 3);
  std::vector<uint64_t> values;
  Histogram histogram;
  for (int i = 0; i < 100'000; ++i) {
    const auto value = static_cast<uint64_t>(spread(random));
    values.push_back(value);
    histogram.record_ps(value);
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const double exact = exact_percentile(values, percent) / 1000;
    EXPECT_NEAR(histogram.percentile(percent), exact, exact * 0.01) << percent;
  }
  EXPECT_DOUBLE_EQ(histogram.max(), static_cast<double>(values.back()) / 1000);
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (uint64_t ps = 0; ps < 256; ++ps) {
    histogram.record_ps(ps);
  }
  EXPECT_DOUBLE_EQ(histogram.percentile(50), 0.127);
  EXPECT_EQ(histogram.buckets().size(), 256U);
}

TEST(Histogram, EveryMagnitudeFindsItsBucket) {
  for (uint32_t bit = 0; bit < 64; ++bit) {
    for (const uint64_t value : {(uint64_t{1} << bit) - 1, uint64_t{1} << bit, (uint64_t{1} << bit) + 1}) {
      Histogram histogram;
      histogram.record_ps(value);
      const auto buckets = histogram.buckets();
      ASSERT_EQ(buckets.size(), 1U);
      const double upper = buckets[0].first * 1000;
      const auto exact = static_cast<double>(value);
      EXPECT_GE(upper, exact) << value;
      EXPECT_LE(upper, exact * 1.008 + 1.001) << value;
    }
  }
}

TEST(Histogram, BucketsHoldAllThatWasRecordedInOrder) {
  Histogram histogram;
  for (uint64_t ns = 1; ns < 10'000; ns += 7) {
    histogram.record(ns);
  }
  uint64_t count = 0;
  double before = 0;
  for (const auto& [upper, in_bucket] : histogram.buckets()) {
    EXPECT_GT(upper, before);
    EXPECT_GT(in_bucket, 0U);
    before = upper;
    count += in_bucket;
  }
  EXPECT_EQ(count, histogram.count());
}

TEST(Histogram, MergingEqualsRecordingIntoOne) {
  Histogram one;
  Histogram left;
  Histogram right;
  for (uint64_t i = 0; i < 5000; ++i) {
    const uint64_t value = i * i * 31;
    one.record_ps(value);
    (i % 3 == 0 ? left : right).record_ps(value);
  }
  left.merge(right);
  EXPECT_EQ(left.count(), one.count());
  EXPECT_EQ(left.buckets(), one.buckets());
  EXPECT_EQ(left.min(), one.min());
  EXPECT_EQ(left.max(), one.max());
  left.clear();
  EXPECT_TRUE(left.empty());
}

TEST(Histogram, WeightsCountAsSoManyValues) {
  Histogram histogram;
  histogram.record_ps(100, 99);
  histogram.record_ps(200, 1);
  EXPECT_DOUBLE_EQ(histogram.percentile(99), 0.1);
  EXPECT_DOUBLE_EQ(histogram.percentile(99.5), 0.2);
}

}  // namespace
}  // namespace vgpu::bench
