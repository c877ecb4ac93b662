// Placement: pairs are of two different processors this process may use, and pinning holds and ends.
#include "bench/harness/placement.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace vgpu::bench {
namespace {

TEST(Placement, PairsAreTwoUsableProcessors) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(::sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (const Placement placement : kPlacements) {
    const auto& pair = placements()[placement];
    if (pair) {
      EXPECT_NE(pair->first, pair->second) << placement_name(placement);
      EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(pair->first), &allowed));
      EXPECT_TRUE(CPU_ISSET(static_cast<std::size_t>(pair->second), &allowed));
    }
  }
}

TEST(Placement, SeveralProcessorsMakeAUsualPair) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ASSERT_EQ(::sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  EXPECT_EQ(placements().usual().has_value(), CPU_COUNT(&allowed) > 1);
}

TEST(Placement, PinningHoldsUntilItsEnd) {
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
  const int processor = ::sched_getcpu();
  {
    const Pinned pinned(processor);
    ASSERT_TRUE(pinned.ok());
    cpu_set_t now;
    ASSERT_EQ(::sched_getaffinity(0, sizeof(now), &now), 0);
    EXPECT_EQ(CPU_COUNT(&now), 1);
    EXPECT_EQ(::sched_getcpu(), processor);
  }
  cpu_set_t after;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(Placement, AProcessorThatIsNotThereIsRefused) {
  const Pinned pinned(CPU_SETSIZE - 1);
  EXPECT_FALSE(pinned.ok());
}

}  // namespace
}  // namespace vgpu::bench
