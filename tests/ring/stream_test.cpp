// What goes into the ring comes out of it: every wrap offset, padding, full rings, batches, threads,
// processes.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/wait.h"
#include "tests/ring/ring_memory.h"

namespace vgpu::ring::test {
namespace {

constexpr std::size_t kRing = 64 * 1024;

struct Pair {
  explicit Pair(uint64_t start = 0, std::size_t bytes = kRing, bool weak = false)
      : memory(bytes),
        consumed(start),
        producer(memory.bytes(), &consumed, &published, weak, start),
        consumer(memory.bytes(), start),
        buffer(kMaxRecordBytes / 8) {}

  std::span<std::byte> out() { return std::as_writable_bytes(std::span(buffer)); }

  bool put(uint32_t bytes, uint64_t number) {
    std::byte* record = producer.try_reserve(bytes);
    if (record == nullptr) {
      return false;
    }
    auto* header = reinterpret_cast<RecordHeader*>(record);
    header->opcode = static_cast<uint16_t>(1 + number % 100);
    header->reply_slot = kNoReply;
    header->stream = static_cast<uint32_t>(number);
    fill_payload({record + sizeof(RecordHeader), bytes - sizeof(RecordHeader)}, number);
    producer.commit();
    return true;
  }

  // Takes the next record and checks every byte of it.
  void expect(uint32_t bytes, uint64_t number) {
    const auto got = consumer.try_read(out());
    ASSERT_TRUE(got.has_value()) << read_error_text(got.error());
    ASSERT_EQ(*got, bytes);
    RecordHeader header;
    std::memcpy(&header, out().data(), sizeof(header));
    ASSERT_EQ(header.commit, make_commit(bytes, consumer.record_position()));
    ASSERT_EQ(header.opcode, 1 + number % 100);
    ASSERT_EQ(header.stream, static_cast<uint32_t>(number));
    ASSERT_TRUE(payload_is(out().subspan(sizeof(header), bytes - sizeof(header)), number));
  }
  void expect_empty() {
    const auto got = consumer.try_read(out());
    ASSERT_TRUE(got.has_value()) << read_error_text(got.error());
    ASSERT_EQ(*got, 0U);
    ASSERT_FALSE(consumer.ready());
  }
  void give_back() { store_release(consumed, consumer.position()); }

  GuardedMemory memory;
  alignas(128) uint64_t consumed;
  alignas(128) uint64_t published = 0;
  Producer producer;
  Consumer consumer;
  std::vector<uint64_t> buffer;
};

TEST(Stream, RecordOfEverySizeArrivesWhole) {
  Pair pair;
  for (uint32_t bytes = sizeof(RecordHeader); bytes <= kMaxRecordBytes; bytes += bytes < 300 ? 1 : 61) {
    ASSERT_TRUE(pair.put(bytes, bytes));
    pair.producer.publish();
    ASSERT_NO_FATAL_FAILURE(pair.expect(bytes, bytes));
    ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
    pair.give_back();
  }
}

TEST(Stream, WrapsAtEveryOffset) {
  // From each slot of the ring, a record that just fits the rest, one that does not, and one of the greatest
  // size.
  for (uint64_t start = 0; start < kRing; start += kSlotBytes) {
    Pair pair(start);
    const uint64_t rest = kRing - start;
    uint64_t number = start;
    for (const uint64_t bytes : {std::min<uint64_t>(rest, kMaxRecordBytes),
                                 std::min<uint64_t>(rest + 64, kMaxRecordBytes), uint64_t{kMaxRecordBytes}}) {
      ASSERT_TRUE(pair.put(static_cast<uint32_t>(bytes), ++number));
      pair.producer.publish();
      ASSERT_NO_FATAL_FAILURE(pair.expect(static_cast<uint32_t>(bytes), number)) << "start " << start;
      ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
      pair.give_back();
    }
  }
}

TEST(Stream, SequenceWrapsPast32Bits) {
  // The sequence number is the low half of position / 64 + 1: cross the point where it becomes 0.
  const uint64_t start = (uint64_t{1} << 32) * kSlotBytes - 16 * kSlotBytes;
  Pair pair(start);
  for (uint64_t number = 0; number < 64; ++number) {
    ASSERT_TRUE(pair.put(64, number));
    pair.producer.publish();
    ASSERT_NO_FATAL_FAILURE(pair.expect(64, number));
    ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
    pair.give_back();
  }
}

TEST(Stream, PaddingIsNotHandedToTheCaller) {
  Pair pair(kRing - 128);
  ASSERT_TRUE(pair.put(1000, 7));  // 128 bytes of padding, then the record at the ring's start
  pair.producer.publish();
  ASSERT_NO_FATAL_FAILURE(pair.expect(1000, 7));
  EXPECT_EQ(pair.consumer.record_position(), kRing);
  EXPECT_EQ(pair.producer.position(), pair.consumer.position());
}

TEST(Stream, CommitReturnsTheStartBehindThePadding) {
  Pair pair(kRing - 64);
  std::byte* record = pair.producer.try_reserve(100);
  ASSERT_EQ(record, pair.memory.bytes().data());
  reinterpret_cast<RecordHeader*>(record)->opcode = 1;
  EXPECT_EQ(pair.producer.commit(), kRing);
}

TEST(Stream, FullRingRefusesAndChangesNothing) {
  Pair pair;
  uint64_t number = 0;
  while (pair.put(64, number)) {
    ++number;
  }
  // One slot stays free for the cleared word.
  EXPECT_EQ(number, kRing / kSlotBytes - 1);
  EXPECT_EQ(pair.producer.position(), kRing - kSlotBytes);
  EXPECT_EQ(pair.producer.try_reserve(16), nullptr);
  pair.producer.publish();
  for (uint64_t i = 0; i < number; ++i) {
    ASSERT_NO_FATAL_FAILURE(pair.expect(64, i));
  }
  ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
  EXPECT_EQ(pair.producer.try_reserve(16), nullptr) << "space came back before the consumer gave it back";
  pair.give_back();
  EXPECT_TRUE(pair.put(64, number));
}

TEST(Stream, GreatestRecordAlwaysFitsAnEmptyRing) {
  for (uint64_t start = 0; start < kRing; start += kSlotBytes) {
    Pair pair(start);
    ASSERT_NE(pair.producer.try_reserve(kMaxRecordBytes), nullptr) << start;
  }
}

TEST(Stream, BatchIsInvisibleUntilPublished) {
  Pair pair(kRing - 192);  // the batch crosses the end, with padding inside
  for (uint64_t number = 0; number < 10; ++number) {
    ASSERT_TRUE(pair.put(100, number));
    ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
  }
  EXPECT_LT(pair.producer.published(), pair.producer.position());
  pair.producer.publish();
  EXPECT_EQ(pair.producer.published(), pair.producer.position());
  EXPECT_EQ(pair.published, pair.producer.position());
  for (uint64_t number = 0; number < 10; ++number) {
    ASSERT_NO_FATAL_FAILURE(pair.expect(100, number));
  }
  ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
}

TEST(Stream, PublishOfNothingChangesNothing) {
  Pair pair;
  pair.producer.publish();
  ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
  ASSERT_TRUE(pair.put(64, 1));
  pair.producer.publish();
  pair.producer.publish();
  ASSERT_NO_FATAL_FAILURE(pair.expect(64, 1));
  ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
}

TEST(Stream, ReserveTwiceKeepsTheSecond) {
  Pair pair;
  ASSERT_NE(pair.producer.try_reserve(5000), nullptr);
  ASSERT_TRUE(pair.put(64, 3));
  pair.producer.publish();
  ASSERT_NO_FATAL_FAILURE(pair.expect(64, 3));
}

TEST(Stream, OldBytesNeverPassForRecords) {
  // Payloads full of what would be valid commit words of later positions; random sizes and batches over many
  // laps; after each drain the ring must look empty.
  for (const bool weak : {false, true}) {
    Pair pair(0, kRing, weak);
    std::mt19937_64 random(1);
    for (int round = 0; round < 3000; ++round) {
      std::vector<uint32_t> sizes;
      for (uint64_t batch = 1 + random() % 8; batch > 0; --batch) {
        const auto bytes = static_cast<uint32_t>(16 + random() % (random() % 10 == 0 ? 8000 : 200));
        std::byte* record = pair.producer.try_reserve(bytes);
        if (record == nullptr) {
          break;
        }
        for (uint32_t at = 64; at + 8 <= bytes; at += 64) {
          const uint64_t forged = make_commit(64, pair.producer.position() + at + kRing);
          std::memcpy(record + at, &forged, sizeof(forged));
        }
        reinterpret_cast<RecordHeader*>(record)->opcode = 9;
        pair.producer.commit();
        sizes.push_back(bytes);
      }
      pair.producer.publish();
      for (const uint32_t bytes : sizes) {
        const auto got = pair.consumer.try_read(pair.out());
        ASSERT_TRUE(got.has_value()) << read_error_text(got.error());
        ASSERT_EQ(*got, bytes);
      }
      ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
      if (random() % 3 == 0) {
        pair.give_back();
      }
    }
  }
}

TEST(Stream, DrainHandsOverAllThatIsThereUpToTheLimit) {
  Pair pair;
  for (uint64_t number = 0; number < 20; ++number) {
    ASSERT_TRUE(pair.put(80, number));
  }
  pair.producer.publish();
  uint64_t seen = 0;
  const auto take = [&](std::span<const std::byte> record, uint64_t position) {
    EXPECT_EQ(record.size(), 80U);
    EXPECT_EQ(position, seen * 128);
    EXPECT_TRUE(payload_is(record.subspan(sizeof(RecordHeader)), seen));
    ++seen;
  };
  EXPECT_EQ(pair.consumer.drain(pair.out(), 15, take), 15U);
  EXPECT_EQ(pair.consumer.drain(pair.out(), 15, take), 5U);
  EXPECT_EQ(pair.consumer.drain(pair.out(), 15, take), 0U);
  EXPECT_EQ(seen, 20U);
}

TEST(Stream, SmallBufferIsRefusedAndTheRecordStays) {
  Pair pair;
  ASSERT_TRUE(pair.put(64, 1));
  pair.producer.publish();
  EXPECT_EQ(pair.consumer.try_read(pair.out().first(64)).error(), ReadError::kOutTooSmall);
  ASSERT_NO_FATAL_FAILURE(pair.expect(64, 1));
}

// Sizes both ends derive from the same seed.
uint32_t next_size(std::mt19937_64& random) {
  const uint64_t kind = random() % 100;
  return static_cast<uint32_t>(16 + random() % (kind < 80 ? 48 : kind < 98 ? 600 : kMaxRecordBytes - 15));
}

void produce(Producer& producer, uint64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (uint64_t number = 0; number < count; ++number) {
    const uint32_t bytes = next_size(random);
    std::byte* record = producer.try_reserve(bytes);
    while (record == nullptr) {
      producer.publish();
      std::this_thread::yield();
      record = producer.try_reserve(bytes);
    }
    auto* header = reinterpret_cast<RecordHeader*>(record);
    header->opcode = 5;
    header->reply_slot = kNoReply;
    header->stream = static_cast<uint32_t>(number);
    fill_payload({record + sizeof(RecordHeader), bytes - sizeof(RecordHeader)}, number);
    producer.commit();
    if (number % 7 != 0) {
      producer.publish();
    }
  }
  producer.publish();
}

// Returns how many records arrived whole and in order.
uint64_t consume(Consumer& consumer, uint64_t* consumed, uint64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> buffer(kMaxRecordBytes / 8);
  const auto out = std::as_writable_bytes(std::span(buffer));
  uint64_t good = 0;
  uint64_t given_back = 0;
  uint64_t idle_since = monotonic_ns();
  while (good < count) {
    const auto got = consumer.try_read(out);
    if (!got) {
      ADD_FAILURE() << "record " << good << ": " << read_error_text(got.error());
      return good;
    }
    if (*got == 0) {
      store_release(*consumed, consumer.position());
      if (monotonic_ns() - idle_since > 60'000'000'000) {
        ADD_FAILURE() << "nothing came for a minute";
        return good;
      }
      std::this_thread::yield();
      continue;
    }
    RecordHeader header;
    std::memcpy(&header, out.data(), sizeof(header));
    if (*got != next_size(random) || header.stream != static_cast<uint32_t>(good) ||
        !payload_is(out.subspan(sizeof(header), *got - sizeof(header)), good)) {
      ADD_FAILURE() << "record " << good << " is wrong";
      return good;
    }
    ++good;
    idle_since = monotonic_ns();
    if (consumer.position() - given_back > consumer.capacity() / 4) {
      given_back = consumer.position();
      store_release(*consumed, given_back);
    }
  }
  return good;
}

TEST(Stream, ThreadsSeeEveryRecordWholeAndInOrder) {
  constexpr uint64_t kCount = 60'000;
  Pair pair;
  std::thread producer([&] { produce(pair.producer, kCount, 42); });
  EXPECT_EQ(consume(pair.consumer, &pair.consumed, kCount, 42), kCount);
  producer.join();
  ASSERT_NO_FATAL_FAILURE(pair.expect_empty());
}

TEST(Stream, ProcessesSeeEveryRecordWholeAndInOrder) {
  constexpr uint64_t kCount = 60'000;
  GuardedMemory ring(kRing);
  GuardedMemory words(4096);
  auto* consumed = reinterpret_cast<uint64_t*>(words.bytes().data());
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Producer producer(ring.bytes(), consumed, nullptr);
    produce(producer, kCount, 43);
    ::_exit(0);
  }
  Consumer consumer(ring.bytes());
  EXPECT_EQ(consume(consumer, consumed, kCount, 43), kCount);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace vgpu::ring::test
