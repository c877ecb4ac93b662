// The short lock excludes, and wakes who sleeps for it, with the fence on both sides and with the sleeper's.
#include "shim/session/lock.h"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "ring/wait.h"

namespace vgpu::shim {
namespace {

class ShortLockTest : public ::testing::TestWithParam<ring::Fences> {
 protected:
  void SetUp() override {
    if (GetParam() == ring::Fences::kSleeper) {
      ASSERT_TRUE(ring::register_for_remote_fences()) << "this kernel has no expedited membarrier";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Fences, ShortLockTest,
                         ::testing::Values(ring::Fences::kBoth, ring::Fences::kSleeper),
                         [](const auto& test) {
                           return test.param == ring::Fences::kBoth ? "Both" : "Sleeper";
                         });

TEST_P(ShortLockTest, ExcludesManyThreads) {
  constexpr int kThreads = 6;
  constexpr int kRounds = 50'000;
  ShortLock lock(GetParam());
  uint64_t counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        const std::lock_guard guard(lock);
        ++counter;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(counter, uint64_t{kThreads} * kRounds);
}

// A holder that keeps the lock for longer than anybody spins: the others sleep. A lost wake-up would cost
// them the sleep's bound of 100 ms each time.
TEST_P(ShortLockTest, WakesWhoSleeps) {
  constexpr int kRounds = 300;
  ShortLock lock(GetParam());
  uint64_t counter = 0;
  const auto hold = [&] {
    for (int i = 0; i < kRounds; ++i) {
      const std::lock_guard guard(lock);
      ++counter;
      ring::pause_for(50'000);
    }
  };
  const uint64_t start = ring::monotonic_ns();
  std::thread other(hold);
  hold();
  other.join();
  EXPECT_EQ(counter, 2U * kRounds);
  EXPECT_LT(ring::monotonic_ns() - start, uint64_t{kRounds} * 100'000'000) << "every wake-up was lost";
}

TEST(ShortLock, TryLockTellsWhetherItIsTaken) {
  ShortLock lock;
  EXPECT_TRUE(lock.try_lock());
  EXPECT_FALSE(lock.try_lock());
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
}

}  // namespace
}  // namespace vgpu::shim
