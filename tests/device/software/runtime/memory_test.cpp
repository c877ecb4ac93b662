// The pieces of device memory one by one: address space, window, ranges, 16-bit floats, barriers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "device/software/runtime/address_space.h"
#include "device/software/runtime/barrier.h"
#include "device/software/runtime/device_attributes.h"
#include "device/software/runtime/fault_guard.h"
#include "device/software/runtime/half.h"
#include "device/software/runtime/range_table.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/backend_conformance.h"
#include "tests/device/software/runtime/hand_kernels.h"

namespace vgpu::software {
namespace {

TEST(AddressSpace, MergesWhatComesBackInAnyOrder) {
  AddressSpace space(0x1000, 0x10000);
  const auto a = space.take(0x1000, 0x1000);
  const auto b = space.take(0x2000, 0x1000);
  const auto c = space.take(0x3000, 0x4000);
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(*c % 0x4000, 0u);
  EXPECT_FALSE(space.take(0x10000, 1));
  space.give_back(*b, 0x2000);
  space.give_back(*a, 0x1000);
  space.give_back(*c, 0x3000);
  EXPECT_EQ(space.free_bytes(), 0x10000u);
  EXPECT_EQ(space.take(0x10000, 0x1000), 0x1000u);
}

TEST(AddressSpace, TakesAWantedRangeOnlyIfAllOfItIsFree) {
  AddressSpace space(0, 0x10000);
  EXPECT_TRUE(space.take_at(0x4000, 0x1000));
  EXPECT_FALSE(space.take_at(0x3000, 0x2000));
  EXPECT_FALSE(space.take_at(0x4000, 0x1000));
  EXPECT_FALSE(space.take_at(0xf000, 0x2000));
  EXPECT_FALSE(space.take_at(0x20000, 0x1000));
  EXPECT_TRUE(space.take_at(0x3000, 0x1000));
  EXPECT_FALSE(space.take(0x1000, uint64_t{1} << 63 | 1 << 20).value_or(0) != 0);
}

TEST(RangeTable, NumbersThatOverflowAreRefused) {
  RangeTable ranges;
  ranges.add({.address = kDeviceWindowBase,
              .bytes = 1 << 20,
              .kind = RangeKind::kAllocation,
              .access = PageAccess::kReadWrite});
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  EXPECT_TRUE(ranges.check_rows(kDeviceWindowBase, 1024, 1024, 1024, PageAccess::kReadWrite, "rows"));
  EXPECT_FALSE(ranges.check_rows(kDeviceWindowBase, 1024, 1024, 1025, PageAccess::kReadWrite, "rows"));
  EXPECT_FALSE(ranges.check_rows(kDeviceWindowBase, kMost, 2, 2, PageAccess::kReadWrite, "rows"));
  EXPECT_FALSE(ranges.check_rows(kDeviceWindowBase, 1024, 1, kMost, PageAccess::kReadWrite, "rows"));
  EXPECT_FALSE(ranges.check_rows(kDeviceWindowBase, kMost, kMost, kMost, PageAccess::kReadWrite, "rows"));
  EXPECT_FALSE(ranges.check(kDeviceWindowBase, kMost, PageAccess::kRead, "range"));
  EXPECT_FALSE(ranges.check(kMost, 2, PageAccess::kRead, "range"));
  EXPECT_TRUE(ranges.check(kMost, 0, PageAccess::kRead, "range"));
}

TEST(DeviceMemory, RangesBeyondFourGigabytesAreOneRange) {
  auto backend = make_backend({.memory_bytes = uint64_t{16} << 30, .threads = 1},
                              std::make_unique<testing::HandCompiler>());
  ASSERT_TRUE(backend) << backend.error().reason;
  const auto context = std::move(*(*backend)->create_context({}));
  const uint64_t bytes = (uint64_t{5} << 30) + 12345;
  const auto address = context->allocate(bytes);
  ASSERT_TRUE(address) << address.error().reason;
  // Rows of one byte, a gigabyte apart: 5 pages of memory, all of the range.
  const std::vector<uint8_t> values{1, 2, 3, 4, 5, 6};
  ASSERT_DONE(context->copy_to_device(*address, uint64_t{1} << 30, std::as_bytes(std::span(values)), 1,
                                      {.width = 1, .height = 6}));
  std::vector<uint8_t> back(1);
  ASSERT_DONE(context->copy_from_device(std::as_writable_bytes(std::span(back)), 1,
                                        *address + (uint64_t{5} << 30), 0, {.width = 1, .height = 1}));
  EXPECT_EQ(back[0], 6);
  ASSERT_DONE(context->memset({.destination = *address + (uint64_t{5} << 30),
                               .width = 12345,
                               .height = 1,
                               .pitch = 0,
                               .value = 9,
                               .element_bytes = 1}));
  EXPECT_STATUS(context->memset({.destination = *address,
                                 .width = bytes + 1,
                                 .height = 1,
                                 .pitch = 0,
                                 .value = 0,
                                 .element_bytes = 1}),
                kInvalidValue);
  // One byte more than allocated is refused, the last byte is not.
  EXPECT_STATUS(context->copy_on_device(*address + 1, 0, *address, 0, {.width = bytes, .height = 1}),
                kInvalidValue);
  ASSERT_DONE(context->copy_on_device(*address + bytes - 1, 0, *address, 0, {.width = 1, .height = 1}));
  EXPECT_EQ(context->memory_in_use(), round_up(bytes, kPageBytes));
}

TEST(Half, EveryValueSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = float_from_half(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(float_from_half(half_from_float(value))));
    } else {
      ASSERT_EQ(half_from_float(value), half) << bits;
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(half_from_float(1.0f + 0x1p-11f), 0x3c00);
  EXPECT_EQ(half_from_float(1.0f + 0x3p-11f), 0x3c02);
  EXPECT_EQ(half_from_float(1.0f + 0x1.1p-11f), 0x3c01);
  EXPECT_EQ(half_from_float(65519.0f), 0x7bff);
  EXPECT_EQ(half_from_float(65520.0f), 0x7c00);
  EXPECT_EQ(half_from_float(-1e30f), 0xfc00);
  EXPECT_EQ(half_from_float(0x1p-25f), 0x0000);
  EXPECT_EQ(half_from_float(0x1.1p-25f), 0x0001);
  EXPECT_EQ(half_from_float(0x1.ff8p-15f), 0x03ff);
  EXPECT_EQ(half_from_float(0x1.ffap-15f), 0x03ff);
  EXPECT_EQ(half_from_float(0x1.ffcp-15f), 0x0400);
  EXPECT_EQ(half_from_float(0x1.fffp-15f), 0x0400);
  EXPECT_EQ(bfloat_from_float(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(bfloat_from_float(1.0f + 0x3p-8f), 0x3f82);
}

TEST(Barriers, AnExitCompletesWhatTheOthersWaitFor) {
  Barriers barriers;
  barriers.start(3);
  EXPECT_FALSE(barriers.arrive(0, 0, 0, BarrierKind::kSync, 0, ~0u).complete);
  EXPECT_FALSE(barriers.arrive(2, 0, 0, BarrierKind::kSync, 0, ~0u).complete);
  uint32_t released = 0;
  barriers.exit([&](const Barriers::Completion& completion) { released |= completion.released; });
  EXPECT_EQ(released, 0b101u);
  EXPECT_EQ(barriers.alive(), 2u);
}

TEST(Barriers, AnArrivalCountsAndDoesNotWait) {
  Barriers barriers;
  barriers.start(2);
  EXPECT_FALSE(barriers.arrive(0, 1, 64, BarrierKind::kArrive, 0, ~0u).complete);
  EXPECT_EQ(barriers.waiting(1), 0u);
  const auto last = barriers.arrive(1, 1, 64, BarrierKind::kSync, 0, ~0u);
  EXPECT_TRUE(last.complete);
  EXPECT_EQ(last.released, 0b10u);
  EXPECT_FALSE(barriers.arrive(1, 1, 64, BarrierKind::kReducePopcount, 3, ~0u).complete);
  EXPECT_EQ(barriers.arrive(0, 1, 64, BarrierKind::kArrive, 0, ~0u).result, 2u);
}

TEST(Barriers, ACountedBarrierDoesNotCountExits) {
  Barriers barriers;
  barriers.start(3);
  EXPECT_FALSE(barriers.arrive(0, 3, 64, BarrierKind::kSync, 0, ~0u).complete);
  uint32_t released = 0;
  barriers.exit([&](const Barriers::Completion& completion) { released |= completion.released; });
  barriers.exit([&](const Barriers::Completion& completion) { released |= completion.released; });
  EXPECT_EQ(released, 0u);
  EXPECT_EQ(barriers.waiting(3), 1u);
}

TEST(Attributes, OccupancyFollowsTheLimits) {
  EXPECT_EQ(resident_blocks(1024, 0), 2u);
  EXPECT_EQ(resident_blocks(1, 0), 32u);
  EXPECT_EQ(resident_blocks(256, 48 * 1024), 2u);
  EXPECT_EQ(resident_blocks(257, 1), 7u);
  EXPECT_EQ(stable_uuid(0), stable_uuid(0));
  EXPECT_NE(stable_uuid(0), stable_uuid(1));
}

TEST(FaultGuard, ARealCrashIsStillACrash) {
  ASSERT_TRUE(install_fault_handlers());
  EXPECT_DEATH(
      {
        const volatile uintptr_t nowhere = 64;
        *reinterpret_cast<volatile int*>(nowhere) = 1;
      },
      "");
  EXPECT_DEATH(
      {
        auto crash = [] {
          const volatile uintptr_t nowhere = 64;
          *reinterpret_cast<volatile int*>(nowhere) = 1;
        };
        static_cast<void>(run_guarded({}, crash, nullptr));
      },
      "");
}

}  // namespace
}  // namespace vgpu::software
