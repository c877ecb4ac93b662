// Staging slots and the allocator of pinned memory.
#include "shim/session/bulk_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>
#include <vector>

namespace vgpu::shim {
namespace {

struct Heap {
  std::vector<std::byte> memory = std::vector<std::byte>(4 << 20);
  BulkHeap heap{memory, 0, nullptr};
};

TEST(BulkHeap, SlotsAreDistinctAndComeBackOldestFirst) {
  Heap h;
  std::vector<uint32_t> taken;
  for (uint32_t i = 0; i < BulkHeap::kSlots; ++i) taken.push_back(*h.heap.take_slot());
  EXPECT_FALSE(h.heap.try_take_slot().has_value());
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(std::unique(taken.begin(), taken.end()), taken.end());
  h.heap.give_back(3, 100);
  h.heap.give_back(5, 50);
  EXPECT_EQ(h.heap.take_slot(), 3u);
  EXPECT_EQ(h.heap.position(3), 100u);
  h.heap.give_back(3, 0);
  EXPECT_EQ(h.heap.position(3), 100u) << "positions only grow";
}

TEST(BulkHeap, AWaiterGetsTheSlotThatIsGivenBack) {
  Heap h;
  for (uint32_t i = 0; i < BulkHeap::kSlots; ++i) ASSERT_TRUE(h.heap.take_slot());
  std::optional<uint32_t> got;
  std::thread waiter([&] { got = h.heap.take_slot(); });
  h.heap.give_back(2, 1);
  waiter.join();
  EXPECT_EQ(got, 2u);
}

TEST(BulkHeap, AllocationsNeverOverlapAndEverythingComesBack) {
  Heap h;
  const std::byte* first = h.heap.allocate(1);
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(h.heap.free(first));
  std::mt19937 random(1);
  std::map<std::byte*, uint64_t> held;
  for (int i = 0; i < 3000; ++i) {
    if (held.empty() || random() % 2 == 0) {
      const uint64_t bytes = 1 + random() % 200000;
      if (std::byte* pointer = h.heap.allocate(bytes)) {
        for (const auto& [other, size] : held) {
          ASSERT_TRUE(pointer + bytes <= other || other + size <= pointer);
        }
        ASSERT_LE(pointer + bytes, h.memory.data() + h.memory.size());
        held[pointer] = bytes;
      }
    } else {
      auto it = std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()));
      const auto range = h.heap.find(it->first + it->second - 1);
      ASSERT_TRUE(range.has_value());
      ASSERT_EQ(range->start, it->first);
      ASSERT_TRUE(h.heap.free(it->first));
      ASSERT_FALSE(h.heap.free(it->first));
      held.erase(it);
    }
  }
  for (const auto& [pointer, bytes] : held) ASSERT_TRUE(h.heap.free(pointer));
  const uint64_t all = h.memory.size() - BulkHeap::kSlots * h.heap.slot_bytes();
  EXPECT_EQ(h.heap.allocate(all), first) << "in one piece again";
  EXPECT_EQ(h.heap.allocate(1), nullptr);
}

TEST(BulkHeap, ForeignPointersAreRefused) {
  Heap h;
  std::byte* pointer = h.heap.allocate(100);
  EXPECT_FALSE(h.heap.free(pointer + 1));
  EXPECT_FALSE(h.heap.free(h.heap.data(0)));
  EXPECT_FALSE(h.heap.free(&h));
  EXPECT_FALSE(h.heap.find(&h).has_value());
}

}  // namespace
}  // namespace vgpu::shim
