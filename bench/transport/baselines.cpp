// What the calls are compared with, on the same two cores: a word that two processes pass to and fro, and a
// record of 256 bytes put into the ring by itself.
#include <atomic>
#include <cstring>
#include <span>
#include <stdexcept>

#include "bench/harness/child.h"
#include "bench/harness/shared_memory.h"
#include "bench/transport/cases.h"
#include "bench/transport/measure.h"
#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/region.h"
#include "ring/wait.h"

namespace vgpu::bench {
namespace {

// ---- one cache line ----

struct alignas(128) Word {
  std::atomic<uint64_t> value;  // odd: from here to the peer; even: back
};
constexpr uint64_t kStop = ~uint64_t{0};

int pass_back(Word& word) {
  pin_this_thread(Setup::cores().second);
  for (uint64_t seen = 0;;) {
    const uint64_t now = word.value.load(std::memory_order_acquire);
    if (now == kStop) {
      return 0;
    }
    if (now != seen && now % 2 == 1) {
      seen = now + 1;
      word.value.store(seen, std::memory_order_release);
    }
  }
}

void measure_bare_cache_line(Round& round) {
  const SharedMemory memory(4096);
  Word& word = *memory.at<Word>();
  Child peer = Child::start("the other side of the cache line", [&] { return pass_back(word); });
  const Pinned core(Setup::cores().first);
  uint64_t number = 0;
  measure_calls(
      round, [] {},
      [&] {
        word.value.store(number + 1, std::memory_order_release);
        number += 2;
        while (word.value.load(std::memory_order_acquire) != number) {
        }
      });
  word.value.store(kStop, std::memory_order_release);
  peer.join();
}

// ---- the ring by itself ----

constexpr uint64_t kRegionBytes = 1 << 20;
constexpr uint32_t kRecordBytes = 256;
constexpr uint16_t kRecord = 1;
constexpr uint16_t kLast = 2;

ring::ChannelView make_channel(const SharedMemory& memory) {
  const auto geometry = ring::RegionGeometry::compute({.region_bytes = kRegionBytes,
                                                       .channel_count = 1,
                                                       .ring_bytes = 256 << 10,
                                                       .reply_count = 64,
                                                       .reply_bytes = 1024});
  const ring::DeviceInfo info{};
  if (!geometry || !ring::format_region(memory.bytes(), *geometry, info, {})) {
    throw std::runtime_error("the baseline's region cannot be made");
  }
  return ring::RegionView(memory.bytes(), *geometry).channel(0);
}

// Takes records and gives their space back whenever it has caught up.
int take_records(const ring::ChannelView& view) {
  pin_this_thread(Setup::cores().second);
  ring::Consumer consumer(view.ring);
  alignas(64) static std::byte record[ring::kMaxRecordBytes];
  for (;;) {
    const auto bytes = consumer.try_read(record);
    if (!bytes) {
      return 1;
    }
    if (*bytes != 0) {
      ring::RecordHeader header;
      std::memcpy(&header, record, sizeof(header));
      if (header.opcode == kLast) {
        return 0;
      }
    } else if (ring::load_relaxed(view.control->consumer.consumed) != consumer.position()) {
      ring::store_release(view.control->consumer.consumed, consumer.position());
    }
  }
}

void measure_ring(Round& round, Timed timed) {
  const SharedMemory memory(kRegionBytes);
  const ring::ChannelView view = make_channel(memory);
  Child peer = Child::start("the ring's other side", [&] { return take_records(view); });
  const Pinned core(Setup::cores().first);
  ring::Producer producer(view.ring, &view.control->consumer.consumed, &view.control->producer.published);
  ring::GuestWaits waits(*view.control, ring::futex_wait_ops());
  alignas(64) std::byte payload[kRecordBytes - sizeof(ring::RecordHeader)] = {};
  const auto submit = [&](uint16_t opcode) {
    std::byte* record = nullptr;
    while ((record = producer.try_reserve(kRecordBytes)) == nullptr) {
    }
    auto* header = reinterpret_cast<ring::RecordHeader*>(record);
    header->opcode = opcode;
    header->reply_slot = ring::kNoReply;
    header->stream = 0;
    std::memcpy(record + sizeof(ring::RecordHeader), payload, sizeof(payload));
    producer.commit();
    producer.publish();
    waits.notify_consumer();
  };
  measure_bursts(
      round, timed, [&] { submit(kRecord); },
      [&] {
        while (ring::load_acquire(view.control->consumer.consumed) != producer.position()) {
        }
      });
  submit(kLast);
  peer.join();
}

}  // namespace

void add_bare_cache_line(Suite& suite) {
  suite.add({.name = "synchronous_call", .variant = "bare_cache_line"}, measure_bare_cache_line);
}

void add_ring_submit(Suite& suite) {
  for (const Timed timed : {Timed::kEach, Timed::kBurst}) {
    suite.add({.name = "ring_submit",
               .variant = "vgpu",
               .parameters = {{"bytes", int64_t{kRecordBytes}}, {"timed", timed_name(timed)}}},
              [timed](Round& round) { measure_ring(round, timed); });
  }
}

}  // namespace vgpu::bench
