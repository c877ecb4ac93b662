// A producer that writes what it likes: the consumer reports an error or hands over bounded records; it never
// reads beyond the ring (an unmapped page lies behind it) or the caller's buffer, and never runs for ever.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "tests/ring/ring_memory.h"

namespace vgpu::ring::test {
namespace {

constexpr std::size_t kRing = 64 * 1024;

class Hostile : public ::testing::Test {
 protected:
  Hostile() : ring(kRing), buffer(kMaxRecordBytes) {}
  void write_commit(uint64_t position, uint64_t commit, uint16_t opcode) {
    std::byte* slot = ring.bytes().data() + position % kRing;
    std::memcpy(slot, &commit, sizeof(commit));
    std::memcpy(slot + offsetof(RecordHeader, opcode), &opcode, sizeof(opcode));
  }
  std::expected<uint32_t, ReadError> read_at(uint64_t position) {
    Consumer consumer(ring.bytes(), position);
    return consumer.try_read(buffer.bytes());
  }
  GuardedMemory ring;
  GuardedMemory buffer;
};

TEST_F(Hostile, LengthsThatCannotBeAreErrors) {
  for (const uint32_t bytes : {0U, 1U, 15U, kMaxRecordBytes + 1, 0x7fff'ffffU, 0xffff'ffffU}) {
    write_commit(0, make_commit(bytes, 0), 1);
    EXPECT_EQ(read_at(0).error(), ReadError::kBadLength) << bytes;
  }
}

TEST_F(Hostile, RecordBeyondTheEndIsAnError) {
  for (uint64_t rest = 64; rest < kMaxRecordBytes; rest += 64) {
    const uint64_t position = kRing - rest;
    write_commit(position, make_commit(static_cast<uint32_t>(rest + 1), position), 1);
    EXPECT_EQ(read_at(position).error(), ReadError::kBadLength);
    write_commit(position, make_commit(static_cast<uint32_t>(rest), position), 1);
    EXPECT_EQ(read_at(position), static_cast<uint32_t>(rest));
  }
}

TEST_F(Hostile, SequenceOfAnotherPositionIsAnError) {
  write_commit(0, make_commit(64, 64), 1);
  EXPECT_EQ(read_at(0).error(), ReadError::kBadSequence);
  write_commit(0, make_commit(64, kRing), 1);
  EXPECT_EQ(read_at(0).error(), ReadError::kBadSequence);
}

TEST_F(Hostile, PaddingThatDoesNotEndTheRingIsAnError) {
  for (const uint32_t bytes : {16U, 64U, 4096U, kMaxRecordBytes}) {
    write_commit(0, make_commit(bytes, 0), kPaddingOpcode);
    EXPECT_EQ(read_at(0).error(), ReadError::kBadPadding) << bytes;
  }
}

TEST_F(Hostile, PaddingAloneMovesToTheStartAndEnds) {
  write_commit(kRing - 64, make_commit(64, kRing - 64), kPaddingOpcode);
  EXPECT_EQ(read_at(kRing - 64), 0U);
  write_commit(kRing, make_commit(64, kRing), kPaddingOpcode);
  EXPECT_EQ(read_at(kRing - 64).error(), ReadError::kBadPadding);
}

TEST_F(Hostile, RandomBytesEndInAnErrorOrAnEmptyRing) {
  std::mt19937_64 random(7);
  uint64_t records = 0;
  uint64_t errors = 0;
  for (int round = 0; round < 400; ++round) {
    for (uint64_t position = 0; position < kRing; position += 64) {
      // Mostly valid words, so that the reader gets far before it meets a bad one.
      const auto bytes =
          static_cast<uint32_t>(random() % 20 == 0 ? random() : random() % (kMaxRecordBytes + 64));
      const uint64_t commit =
          random() % 50 == 0 ? random() : make_commit(bytes, position + (random() % 9 == 0) * kRing);
      write_commit(position, commit, static_cast<uint16_t>(random() % 4));
    }
    Consumer consumer(ring.bytes());
    for (;;) {
      const auto got = consumer.try_read(buffer.bytes());
      if (!got) {
        ++errors;
        break;
      }
      if (*got == 0) {
        break;
      }
      ASSERT_LE(*got, kMaxRecordBytes);
      ASSERT_GE(*got, sizeof(RecordHeader));
      ASSERT_LE(consumer.record_position() % kRing + *got, kRing);
      ++records;
    }
  }
  EXPECT_GT(records, 0U);
  EXPECT_GT(errors, 0U);
}

TEST_F(Hostile, WhatWasCheckedIsWhatTheCopyHolds) {
  // Another thread flips the length between a good and an impossible one all the time: whatever is handed
  // over is consistent in itself.
  if (kThreadSanitizer) {
    GTEST_SKIP() << "the race is this test's point, and the thread sanitizer rightly reports it";
  }
  std::atomic<bool> stop = false;
  auto& word = *reinterpret_cast<uint64_t*>(ring.bytes().data());
  write_commit(0, make_commit(128, 0), 3);
  std::thread guest([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      store_relaxed(word, make_commit(0xffff'fff0, 0));
      store_relaxed(word, make_commit(128, 0));
    }
  });
  uint64_t good = 0;
  uint64_t bad = 0;
  for (int i = 0; i < 20'000'000 && (good < 1000 || bad < 1000); ++i) {
    const auto got = read_at(0);
    if (got) {
      ASSERT_EQ(*got, 128U);
      uint64_t in_copy = 0;
      std::memcpy(&in_copy, buffer.bytes().data(), sizeof(in_copy));
      ASSERT_EQ(in_copy, make_commit(128, 0));
      ++good;
    } else {
      ASSERT_EQ(got.error(), ReadError::kBadLength);
      ++bad;
    }
  }
  stop = true;
  guest.join();
  EXPECT_GE(good, 1000U);
  EXPECT_GE(bad, 1000U);
}

}  // namespace
}  // namespace vgpu::ring::test
