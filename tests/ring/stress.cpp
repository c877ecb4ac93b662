// Both ends of the stress test.
#include "tests/ring/stress.h"

#include <time.h>

#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/reply.h"
#include "ring/wait.h"

namespace vgpu::ring::stress {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
// Longer than any stall: a sleep that lasts so long is a lost wake-up.
constexpr uint64_t kLongestSleep = 30 * kSecond;
constexpr uint16_t kLastOpcode = 0x7fff;
constexpr uint64_t kWordStep = 0x9e37'79b9'7f4a'7c15;

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58'476d'1ce4'e5b9;
  value = (value ^ (value >> 27)) * 0x94d0'49bb'1331'11eb;
  return value ^ (value >> 31);
}

// The record with a number: both sides know it.
struct Plan {
  uint32_t bytes;
  uint16_t opcode;
  bool wants_reply;
  uint32_t reply_bytes;
  uint64_t first_word;  // of the payload
};

Plan plan_of(uint64_t seed, uint64_t number) {
  const uint64_t random = mix(seed * 0xd134'2543'de82'ef95 + number);
  const uint64_t more = mix(random);
  const uint64_t kind = random % 1000;
  const uint64_t range = kind < 900   ? 49
                         : kind < 980 ? 600
                         : kind < 998 ? 4096
                                      : kMaxRecordBytes - sizeof(RecordHeader) + 1;
  return {.bytes = static_cast<uint32_t>(sizeof(RecordHeader) + (more >> 32) % range),
          .opcode = static_cast<uint16_t>(1 + (random >> 20) % 100),
          .wants_reply = (random >> 40) % 128 == 0,
          .reply_bytes = static_cast<uint32_t>((random >> 48) % (kReplyBytes - kReplyHeaderBytes + 1)),
          .first_word = more};
}

void fill(std::span<std::byte> bytes, uint64_t word) {
  const std::size_t whole = bytes.size() / 8;
  std::byte* at = bytes.data();
  for (std::size_t i = 0; i < whole; ++i) {
    const uint64_t value = word + i * kWordStep;
    std::memcpy(at + i * 8, &value, 8);
  }
  const uint64_t value = word + whole * kWordStep;
  if (bytes.size() % 8 != 0) {
    std::memcpy(at + whole * 8, &value, bytes.size() % 8);
  }
}

bool is_filled(std::span<const std::byte> bytes, uint64_t word) {
  const std::size_t whole = bytes.size() / 8;
  const std::byte* at = bytes.data();
  uint64_t difference = 0;
  for (std::size_t i = 0; i < whole; ++i) {
    uint64_t value = 0;
    std::memcpy(&value, at + i * 8, 8);
    difference |= value ^ (word + i * kWordStep);
  }
  const uint64_t value = word + whole * kWordStep;
  return difference == 0 &&
         (bytes.size() % 8 == 0 || std::memcmp(at + whole * 8, &value, bytes.size() % 8) == 0);
}

// Futexes whose sleeps nothing ends but a wake-up, for as long as makes no difference to a real one.
WaitOps long_sleeps() {
  WaitOps ops = futex_wait_ops();
  ops.recheck_ns = kLongestSleep;
  return ops;
}

// A stall now and then: the load, never a way to wait for something. Mostly short, some long enough for the
// other side to fall asleep, or for the ring to fill.
void stall_sometimes(uint64_t random) {
  if (random % 8192 != 0) {
    return;
  }
  random >>= 13;
  const uint64_t longest = random % 64 == 0 ? 3'000'000 : 100'000;
  const timespec time{0, static_cast<long>((random >> 6) % longest)};
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

class Guest {
 public:
  Guest(const ChannelView& channel, const Options& options)
      : channel_(channel),
        options_(options),
        ops_(long_sleeps()),
        producer_(channel.ring, &channel.control->consumer.consumed, &channel.control->producer.published,
                  false, options.start),
        waits_(*channel.control, ops_, options.spin_ns, options.fences),
        slots_(kReplyCount),
        end_ns_(options.seconds == 0 ? kNoTimeout : monotonic_ns() + options.seconds * kSecond) {}

  std::string run(Figures& figures) {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < options_.guest_threads; ++i) {
      threads.emplace_back([this, i] { send(i); });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    if (problem_.empty()) {
      finish();
    }
    figures = figures_;
    return problem_;
  }

 private:
  struct Call {
    uint16_t slot = kNoReply;
    uint64_t number = 0;
    uint64_t position = 0;
  };

  void send(uint32_t thread) {
    uint64_t random = mix(options_.seed + 1000 + thread);
    for (;;) {
      random = mix(random + kWordStep);
      Call call;
      if (!send_batch(random, call)) {
        return;
      }
      if (call.slot != kNoReply && !take_reply(call)) {
        return;
      }
      stall_sometimes(random >> 8);
    }
  }

  // Some records published by one store; the last one may want an answer. False at the end.
  bool send_batch(uint64_t random, Call& call) {
    const std::lock_guard lock(mutex_);
    if (!problem_.empty() || next_ >= options_.records ||
        ((++batches_ & 255) == 0 && monotonic_ns() > end_ns_)) {
      next_ = options_.records;  // for the other threads
      return false;
    }
    for (uint64_t left = random % 4 == 0 ? 1 : 1 + (random >> 2) % 24; left > 0 && next_ < options_.records;
         --left) {
      const Plan plan = plan_of(options_.seed, next_);
      const uint16_t slot = plan.wants_reply ? slots_.try_take() : kNoReply;
      std::byte* record = reserve(plan.bytes);
      if (record == nullptr) {
        return false;
      }
      auto* header = reinterpret_cast<RecordHeader*>(record);
      header->opcode = plan.opcode;
      header->reply_slot = slot;
      header->stream = static_cast<uint32_t>(next_);
      fill({record + sizeof(RecordHeader), plan.bytes - sizeof(RecordHeader)}, plan.first_word);
      const uint64_t position = producer_.commit();
      ++figures_.records;
      figures_.bytes += plan.bytes;
      const uint64_t number = next_++;
      if (slot != kNoReply) {
        ++figures_.replies;
        call = {slot, number, position};
        break;
      }
    }
    producer_.publish();
    waits_.notify_consumer();
    return true;
  }

  std::byte* reserve(uint32_t bytes) {
    std::byte* record = producer_.try_reserve(bytes);
    if (record != nullptr) {
      return record;
    }
    ++figures_.full_waits;
    producer_.publish();
    waits_.notify_consumer();
    waits_.wait(
        GuestWait::kConsumed, channel_.control->consumer.consumed,
        [&](uint64_t) { return (record = producer_.try_reserve(bytes)) != nullptr; }, kLongestSleep);
    if (record == nullptr) {
      problem_ = "the ring stayed full: a wake-up was lost, or the device stopped";
    }
    return record;
  }

  bool take_reply(const Call& call) {
    const uint64_t tag = reply_tag(call.position);
    const bool answered = waits_.wait(
        GuestWait::kReply, channel_.reply_slot(call.slot)->tag, [&](uint64_t value) { return value == tag; },
        kLongestSleep);
    const Plan plan = plan_of(options_.seed, call.number);
    const ReplyView reply = read_reply(channel_, call.slot);
    const bool right = answered && reply.status == static_cast<int32_t>(call.number) &&
                       reply.payload.size() == plan.reply_bytes &&
                       is_filled(reply.payload, plan.first_word + 1);
    slots_.give_back(call.slot);
    if (!right) {
      const std::lock_guard lock(mutex_);
      problem_ = "record " + std::to_string(call.number) +
                 (answered ? ": a wrong reply" : ": no reply: a wake-up was lost, or the device stopped");
    }
    return right;
  }

  // Says that nothing more comes, and waits until all of it is done.
  void finish() {
    std::byte* record = reserve(sizeof(RecordHeader));
    if (record == nullptr) {
      return;
    }
    auto* header = reinterpret_cast<RecordHeader*>(record);
    header->opcode = kLastOpcode;
    header->reply_slot = kNoReply;
    header->stream = static_cast<uint32_t>(figures_.records);
    producer_.commit();
    producer_.publish();
    waits_.notify_consumer();
    if (!waits_.wait(
            GuestWait::kCompleted, channel_.control->consumer.completed,
            [&](uint64_t completed) { return completed == producer_.position(); }, kLongestSleep)) {
      problem_ = "the last record was not completed: a wake-up was lost, or the device stopped";
    }
  }

  const ChannelView channel_;
  const Options options_;
  const WaitOps ops_;
  Producer producer_;
  GuestWaits waits_;
  ReplySlots slots_;
  const uint64_t end_ns_;
  std::mutex mutex_;  // guards all that follows, and the producer
  uint64_t next_ = 0;
  uint64_t batches_ = 0;
  Figures figures_;
  std::string problem_;
};

std::string check_record(std::span<const std::byte> record, uint64_t seed, uint64_t number, Plan& plan,
                         RecordHeader& header) {
  plan = plan_of(seed, number);
  std::memcpy(&header, record.data(), sizeof(header));
  const char* wrong = nullptr;
  if (header.stream != static_cast<uint32_t>(number)) {
    wrong = "another record in its place";
  } else if (record.size() != plan.bytes || header.opcode != plan.opcode) {
    wrong = "a wrong length or opcode";
  } else if (plan.wants_reply != (header.reply_slot != kNoReply)) {
    wrong = "a wrong reply slot";
  } else if (!is_filled(record.subspan(sizeof(header)), plan.first_word)) {
    wrong = "a wrong payload";
  }
  return wrong == nullptr ? "" : "record " + std::to_string(number) + ": " + wrong;
}

}  // namespace

ChannelView channel_in(std::span<std::byte> memory) {
  ChannelView view;
  view.control = reinterpret_cast<ChannelControl*>(memory.data());
  view.ring = memory.subspan(sizeof(ChannelControl), kRingBytes);
  view.replies = memory.subspan(sizeof(ChannelControl) + kRingBytes, std::size_t{kReplyCount} * kReplyBytes);
  view.reply_count = kReplyCount;
  view.reply_bytes = kReplyBytes;
  return view;
}

void set_start(const ChannelView& channel, uint64_t start) {
  store_relaxed(channel.control->consumer.consumed, start);
  store_relaxed(channel.control->consumer.completed, start);
}

std::string run_guest(const ChannelView& channel, const Options& options, Figures& figures) {
  return Guest(channel, options).run(figures);
}

std::string run_device(const ChannelView& channel, const Options& options, Figures& figures) {
  const WaitOps ops = long_sleeps();
  Consumer consumer(channel.ring, options.start);
  ConsumerWaits waits(*channel.control, ops, options.spin_ns);
  waits.set_fences(options.fences);
  std::vector<uint64_t> buffer(kMaxRecordBytes / 8);
  const auto out = std::as_writable_bytes(std::span(buffer));
  std::vector<std::byte> reply(kReplyBytes - kReplyHeaderBytes);
  uint64_t random = mix(options.seed + 2000);
  uint64_t told = options.start;
  for (;;) {
    const auto bytes = consumer.try_read(out);
    if (!bytes) {
      return "record " + std::to_string(figures.records) + ": " + read_error_text(bytes.error());
    }
    if (*bytes == 0) {
      if (told != consumer.position()) {
        told = consumer.position();
        waits.store_progress(told, told);
      }
      // A return without a record may be a wake-up that came late; only a sleep to its end is a lost one.
      const uint64_t start = monotonic_ns();
      const auto ready = [&] { return consumer.ready(); };
      if (!waits.spin(ready, consumer.streaming() ? kStreamGapNs : 0) && !waits.park(ready, kLongestSleep) &&
          monotonic_ns() - start > kLongestSleep - kSecond) {
        return "the device slept to the end: a wake-up was lost, or the guest stopped";
      }
      continue;
    }
    RecordHeader header;
    Plan plan{};
    const auto record = std::span<const std::byte>(out).first(*bytes);
    std::memcpy(&header, record.data(), sizeof(header));
    if (header.opcode == kLastOpcode) {
      waits.store_progress(consumer.position(), consumer.position());
      return header.stream == static_cast<uint32_t>(figures.records) ? "" : "records are missing at the end";
    }
    if (auto wrong = check_record(record, options.seed, figures.records, plan, header); !wrong.empty()) {
      return wrong;
    }
    ++figures.records;
    figures.bytes += *bytes;
    if (plan.wants_reply) {
      const auto payload = std::span(reply).first(plan.reply_bytes);
      fill(payload, plan.first_word + 1);
      if (!write_reply(channel, header.reply_slot, consumer.record_position(),
                       static_cast<int32_t>(figures.records - 1), payload)) {
        return "record " + std::to_string(figures.records - 1) + ": its reply cannot be written";
      }
      waits.notify_guest(GuestWait::kReply, channel.reply_slot(header.reply_slot)->tag);
      ++figures.replies;
    }
    random = mix(random + kWordStep);
    if (random % 512 == 0 || consumer.position() - told > consumer.capacity() / 4) {
      told = consumer.position();
      waits.store_progress(told, told);
    }
    stall_sometimes(random >> 9);
  }
}

}  // namespace vgpu::ring::stress
