// Sleeping and waking: no wake-up is lost however the two sides race, and no wait outlasts its limit.
#include "ring/wait.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/region.h"
#include "ring/reply.h"
#include "tests/ring/ring_memory.h"

namespace vgpu::ring::test {
namespace {

constexpr std::size_t kRing = 64 * 1024;
constexpr uint64_t kSecond = 1'000'000'000;

// A channel in shared memory: control page, ring, replies.
struct Channel {
  Channel() : memory(sizeof(ChannelControl) + kRing + 64 * 1024) {
    std::byte* data = memory.bytes().data();
    view.control = reinterpret_cast<ChannelControl*>(data);
    view.ring = {data + sizeof(ChannelControl), kRing};
    view.replies = {data + sizeof(ChannelControl) + kRing, 64 * 1024};
    view.reply_count = 64;
    view.reply_bytes = 1024;
  }
  GuardedMemory memory;
  ChannelView view;
};

// Sleeps that never end early by themselves, so that a lost wake-up shows as a time-out and is not papered
// over by the re-check.
struct LongSleeps {
  LongSleeps() : ops(futex_wait_ops()) { ops.recheck_ns = 20 * kSecond; }
  WaitOps ops;
};

// Answers every record with its stream number in slot reply_slot, `count` times; parks when idle.
void serve(const Channel& channel, const WaitOps& ops, uint64_t count, uint64_t spin_ns, Fences fences) {
  Consumer consumer(channel.view.ring);
  ConsumerWaits waits(*channel.view.control, ops, spin_ns);
  waits.set_fences(fences);
  std::vector<uint64_t> buffer(kMaxRecordBytes / 8);
  const auto out = std::as_writable_bytes(std::span(buffer));
  for (uint64_t done = 0; done < count;) {
    const auto got = consumer.try_read(out);
    if (!got) {
      ADD_FAILURE() << read_error_text(got.error());
      return;
    }
    if (*got == 0) {
      waits.store_progress(consumer.position(), consumer.position());
      // A wake-up may come late, for a record that was found meanwhile: only a sleep to its end is a lost
      // one.
      const uint64_t start = monotonic_ns();
      if (!waits.wait([&] { return consumer.ready(); }, 20 * kSecond) &&
          monotonic_ns() - start > 19 * kSecond) {
        ADD_FAILURE() << "the consumer slept for 20 s: a wake-up was lost";
        return;
      }
      continue;
    }
    const auto* header = reinterpret_cast<const RecordHeader*>(out.data());
    const ChannelView& view = channel.view;
    if (header->reply_slot != kNoReply) {
      EXPECT_TRUE(write_reply(view, header->reply_slot, consumer.record_position(),
                              static_cast<int32_t>(header->stream),
                              std::as_bytes(std::span(&header->stream, 1))));
      waits.notify_guest(GuestWait::kReply, view.reply_slot(header->reply_slot)->tag);
    }
    ++done;
  }
  waits.store_progress(consumer.position(), consumer.position());
}

uint64_t post(Producer& producer, GuestWaits& waits, uint16_t slot, uint32_t number) {
  std::byte* record = producer.try_reserve(sizeof(RecordHeader));
  while (record == nullptr) {
    std::this_thread::yield();
    record = producer.try_reserve(sizeof(RecordHeader));
  }
  auto* header = reinterpret_cast<RecordHeader*>(record);
  header->opcode = 1;
  header->reply_slot = slot;
  header->stream = number;
  const uint64_t start = producer.commit();
  producer.publish();
  waits.notify_consumer();
  return start;
}

// One guest thread: post, wait for the reply, check it.
void call(const Channel& channel, Producer& producer, GuestWaits& waits, uint16_t slot, uint32_t number) {
  const uint64_t start = post(producer, waits, slot, number);
  const ReplySlot* reply = channel.view.reply_slot(slot);
  ASSERT_TRUE(waits.wait(
      GuestWait::kReply, reply->tag, [&](uint64_t tag) { return tag == reply_tag(start); }, 20 * kSecond))
      << "call " << number << ": a wake-up was lost";
  const ReplyView answer = read_reply(channel.view, slot);
  ASSERT_EQ(answer.status, static_cast<int32_t>(number));
  ASSERT_EQ(answer.payload.size(), sizeof(uint32_t));
}

// With the fence on both sides, and with the sleeper's remote fence alone.
class Waiting : public ::testing::TestWithParam<Fences> {
 protected:
  void SetUp() override {
    if (GetParam() == Fences::kSleeper) {
      ASSERT_TRUE(register_for_remote_fences()) << "this kernel has no expedited membarrier";
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Fences, Waiting, ::testing::Values(Fences::kBoth, Fences::kSleeper),
                         [](const auto& test) { return test.param == Fences::kBoth ? "Both" : "Sleeper"; });

TEST_P(Waiting, NoWakeUpIsLostWhenBothSidesSleepAtOnce) {
  // Without any spinning both sides announce, re-check and sleep on nearly every call: the race of the
  // handshake.
  constexpr uint32_t kCalls = 20'000;
  Channel channel;
  const LongSleeps sleeps;
  std::thread device([&] { serve(channel, sleeps.ops, kCalls, 0, GetParam()); });
  Producer producer(channel.view.ring, &channel.view.control->consumer.consumed, nullptr);
  GuestWaits waits(*channel.view.control, sleeps.ops, 0, GetParam());
  for (uint32_t number = 0; number < kCalls; ++number) {
    call(channel, producer, waits, static_cast<uint16_t>(number % 64), number);
    if (::testing::Test::HasFatalFailure()) {
      break;
    }
  }
  device.join();
  EXPECT_GT(channel.view.control->producer.guest_parks, 0U) << "the guest never slept: nothing was tested";
  EXPECT_GT(channel.view.control->park.parks, 0U) << "the consumer never slept: nothing was tested";
}

TEST_P(Waiting, NoWakeUpIsLostBetweenProcesses) {
  constexpr uint32_t kCalls = 5'000;
  Channel channel;
  const LongSleeps sleeps;
  const pid_t device = ::fork();
  ASSERT_GE(device, 0);
  if (device == 0) {
    if (GetParam() == Fences::kSleeper && !register_for_remote_fences()) {
      ::_exit(2);
    }
    serve(channel, sleeps.ops, kCalls, 0, GetParam());
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  Producer producer(channel.view.ring, &channel.view.control->consumer.consumed, nullptr);
  GuestWaits waits(*channel.view.control, sleeps.ops, 0, GetParam());
  for (uint32_t number = 0; number < kCalls && !HasFatalFailure(); ++number) {
    call(channel, producer, waits, 0, number);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(device, &status, 0), device);
  EXPECT_EQ(status, 0);
}

TEST_P(Waiting, SeveralThreadsOfOneGuestSleepOnTheirOwnReplies) {
  constexpr uint32_t kThreads = 4;
  constexpr uint32_t kCalls = 2'000;
  Channel channel;
  const LongSleeps sleeps;
  std::thread device([&] { serve(channel, sleeps.ops, uint64_t{kThreads} * kCalls, 0, GetParam()); });
  Producer producer(channel.view.ring, &channel.view.control->consumer.consumed, nullptr);
  GuestWaits waits(*channel.view.control, sleeps.ops, 0, GetParam());
  std::mutex ring_lock;  // as the shim has one
  ReplySlots slots(64);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < kCalls; ++i) {
        uint16_t slot = kNoReply;
        uint64_t start = 0;
        const uint32_t number = t * kCalls + i;
        {
          const std::lock_guard lock(ring_lock);
          slot = slots.try_take();
          ASSERT_NE(slot, kNoReply);
          start = post(producer, waits, slot, number);
        }
        const ReplySlot* reply = channel.view.reply_slot(slot);
        ASSERT_TRUE(waits.wait(
            GuestWait::kReply, reply->tag, [&](uint64_t tag) { return tag == reply_tag(start); },
            20 * kSecond));
        ASSERT_EQ(read_reply(channel.view, slot).status, static_cast<int32_t>(number));
        slots.give_back(slot);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  device.join();
  EXPECT_EQ(channel.view.control->guest_park.on_reply, 0U) << "an announcement was left behind";
}

TEST_P(Waiting, FullRingIsWaitedOutAsleep) {
  constexpr uint32_t kRecords = 20'000;  // many laps of the ring
  Channel channel;
  const LongSleeps sleeps;
  std::thread device([&] { serve(channel, sleeps.ops, kRecords, 0, GetParam()); });
  const uint64_t& consumed = channel.view.control->consumer.consumed;
  Producer producer(channel.view.ring, &consumed, nullptr);
  GuestWaits waits(*channel.view.control, sleeps.ops, 0, GetParam());
  uint64_t full = 0;
  for (uint32_t number = 0; number < kRecords; ++number) {
    std::byte* record = nullptr;
    for (;;) {
      const uint64_t before = load_acquire(consumed);
      record = producer.try_reserve(1024);
      if (record != nullptr) {
        break;
      }
      ++full;
      producer.publish();
      waits.notify_consumer();
      ASSERT_TRUE(waits.wait(
          GuestWait::kConsumed, consumed, [&](uint64_t now) { return now != before; }, 20 * kSecond));
    }
    auto* header = reinterpret_cast<RecordHeader*>(record);
    header->opcode = 1;
    header->reply_slot = kNoReply;
    producer.commit();
  }
  producer.publish();
  waits.notify_consumer();
  ASSERT_TRUE(waits.wait(
      GuestWait::kCompleted, channel.view.control->consumer.completed,
      [&](uint64_t now) { return now == producer.position(); }, 20 * kSecond));
  device.join();
  EXPECT_GT(full, 0U) << "the ring was never full: nothing was tested";
}

TEST(Wait, GuestWaitEndsAtItsLimit) {
  Channel channel;
  GuestWaits waits(*channel.view.control, futex_wait_ops(), 1000);
  const uint64_t start = monotonic_ns();
  EXPECT_FALSE(waits.wait(
      GuestWait::kReply, channel.view.reply_slot(0)->tag, [](uint64_t tag) { return tag != 0; }, 30'000'000));
  EXPECT_GE(monotonic_ns() - start, 30'000'000U);
  EXPECT_EQ(channel.view.control->guest_park.on_reply, 0U);
}

TEST(Wait, ConsumerSleepIsBoundedWithoutADoorbell) {
  Channel channel;
  for (const WaitOps* ops : {&futex_wait_ops(), &polling_wait_ops()}) {
    ConsumerWaits waits(*channel.view.control, *ops, 0);
    EXPECT_FALSE(waits.wait([] { return false; }, 2'000'000));
    EXPECT_EQ(channel.view.control->park.consumer_parked, 0U);
  }
}

TEST(Wait, PollingSidesMeetWithoutDoorbells) {
  constexpr uint32_t kCalls = 200;
  Channel channel;
  // The device's sleep is bounded by the table; each bounded sleep that finds nothing is not an error here.
  std::thread device([&] {
    Consumer consumer(channel.view.ring);
    ConsumerWaits waits(*channel.view.control, polling_wait_ops(), 0);
    std::vector<uint64_t> buffer(kMaxRecordBytes / 8);
    const auto out = std::as_writable_bytes(std::span(buffer));
    for (uint32_t done = 0; done < kCalls;) {
      const auto got = consumer.try_read(out);
      ASSERT_TRUE(got.has_value());
      if (*got == 0) {
        waits.wait([&] { return consumer.ready(); }, kSecond);
        continue;
      }
      ++done;
      ASSERT_TRUE(write_reply(channel.view, 0, consumer.record_position(), static_cast<int32_t>(done - 1),
                              std::as_bytes(std::span(&done, 1))));
      waits.notify_guest(GuestWait::kReply, channel.view.reply_slot(0)->tag);
    }
  });
  Producer producer(channel.view.ring, &channel.view.control->consumer.consumed, nullptr);
  GuestWaits waits(*channel.view.control, polling_wait_ops(), 0);
  for (uint32_t number = 0; number < kCalls && !HasFatalFailure(); ++number) {
    call(channel, producer, waits, 0, number);
  }
  device.join();
}

TEST(Replies, SlotOrPayloadOutOfRangeIsRefused) {
  Channel channel;
  std::vector<std::byte> payload(1009);
  EXPECT_FALSE(write_reply(channel.view, 64, 0, 0, {}));
  EXPECT_FALSE(write_reply(channel.view, kNoReply, 0, 0, {}));
  EXPECT_FALSE(write_reply(channel.view, 0, 0, 0, payload));
  EXPECT_EQ(channel.view.reply_slot(0)->tag, 0U);
  EXPECT_TRUE(write_reply(channel.view, 63, 0, 0, std::span(payload).first(1008)));
  EXPECT_EQ(read_reply(channel.view, 63).payload.size(), 1008U);
}

TEST(Replies, LengthBeyondTheSlotIsCut) {
  Channel channel;
  channel.view.reply_slot(63)->bytes = 0xffff'ffff;
  EXPECT_EQ(read_reply(channel.view, 63).payload.size(), 1008U);
}

TEST(Replies, SlotsAreGivenOutOnce) {
  ReplySlots slots(5);
  uint32_t taken = 0;
  for (int i = 0; i < 5; ++i) {
    const uint16_t slot = slots.try_take();
    ASSERT_LT(slot, 5);
    EXPECT_EQ(taken & (1U << slot), 0U);
    taken |= 1U << slot;
  }
  EXPECT_EQ(slots.try_take(), kNoReply);
  slots.give_back(3);
  EXPECT_EQ(slots.try_take(), 3);
}

}  // namespace
}  // namespace vgpu::ring::test
