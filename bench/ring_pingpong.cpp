// The ring against the machine's own limit. BareCacheLine: two threads on two cores pass one 8-byte word to
// and fro. RoundTrip: a record there, a reply slot back, both sides polling. RoundTripNotify: the same with
// the look for sleepers on both sides. OneWay*: a stream of small records, nobody waits for any of them.
// Ratios between rows of one run are what counts: the base drifts between runs of a shared machine.
#include <benchmark/benchmark.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/region.h"
#include "ring/reply.h"
#include "ring/wait.h"

namespace {

using namespace vgpu::ring;

// Holds the calling thread on one core for its own life, so that threads made later do not inherit the core.
class Pinned {
 public:
  explicit Pinned(int cpu) {
    ::pthread_getaffinity_np(::pthread_self(), sizeof(before_), &before_);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
  }
  ~Pinned() { ::pthread_setaffinity_np(::pthread_self(), sizeof(before_), &before_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

 private:
  cpu_set_t before_;
};

// A formatted region of one channel in shared memory.
class Memory {
 public:
  Memory() {
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    const auto geometry = RegionGeometry::compute({kBytes, 1, 256 << 10, 64, 1024});
    const DeviceInfo info{};
    if (data_ == MAP_FAILED || !geometry || !format_region({data_, kBytes}, *geometry, info, {})) {
      std::abort();
    }
    view_ = RegionView({data_, kBytes}, *geometry).channel(0);
  }
  ~Memory() { ::munmap(data_, kBytes); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  const ChannelView& view() const { return view_; }

 private:
  static constexpr std::size_t kBytes = 1 << 20;
  std::byte* data_;
  ChannelView view_;
};

void BareCacheLine(benchmark::State& state) {
  struct alignas(128) Line {
    uint64_t word = 0;
  };
  const auto lines = std::make_unique<Line[]>(2);
  std::atomic<bool> stop = false;
  std::thread peer([&] {
    const Pinned core(1);
    for (uint64_t expected = 1;; ++expected) {
      while (load_acquire(lines[0].word) != expected) {
        if (stop.load(std::memory_order_relaxed)) {
          return;
        }
      }
      store_release(lines[1].word, expected);
    }
  });
  const Pinned core(0);
  uint64_t number = 0;
  for (auto _ : state) {
    store_release(lines[0].word, ++number);
    while (load_acquire(lines[1].word) != number) {
    }
  }
  stop = true;
  peer.join();
}

// The device's side: copies each record out; answers those that want it.
void serve(const ChannelView& view, const std::atomic<bool>& stop, bool notify) {
  const Pinned core(1);
  Consumer consumer(view.ring);
  const ConsumerWaits waits(*view.control, futex_wait_ops());
  alignas(64) std::byte record[kMaxRecordBytes];
  uint64_t given_back = 0;
  while (!stop.load(std::memory_order_relaxed)) {
    const auto got = consumer.try_read(record);
    if (!got) {
      std::abort();
    }
    if (*got == 0) {
      if (given_back != consumer.position()) {
        given_back = consumer.position();
        store_release(view.control->consumer.consumed, given_back);
      }
      continue;
    }
    RecordHeader header;
    std::memcpy(&header, record, sizeof(header));
    if (header.reply_slot != kNoReply) {
      write_reply(view, header.reply_slot, consumer.record_position(), 0, {});
      if (notify) {
        waits.notify_guest(GuestWait::kReply, view.reply_slot(header.reply_slot)->tag);
      }
    }
    if (consumer.position() - given_back >= consumer.capacity() / 4) {
      given_back = consumer.position();
      store_release(view.control->consumer.consumed, given_back);
    }
  }
}

void fill(std::byte* record, uint16_t slot, uint32_t bytes, uint64_t number) {
  auto* header = reinterpret_cast<RecordHeader*>(record);
  header->opcode = 1;
  header->reply_slot = slot;
  header->stream = 0;
  for (uint32_t at = sizeof(RecordHeader); at + sizeof(number) <= bytes; at += sizeof(number)) {
    std::memcpy(record + at, &number, sizeof(number));
  }
}

void round_trip(benchmark::State& state, bool notify) {
  const Memory memory;
  const ChannelView& view = memory.view();
  std::atomic<bool> stop = false;
  std::thread device([&] { serve(view, stop, notify); });
  const Pinned core(0);
  Producer producer(view.ring, &view.control->consumer.consumed, &view.control->producer.published);
  GuestWaits waits(*view.control, futex_wait_ops());
  uint64_t number = 0;
  for (auto _ : state) {
    const auto slot = static_cast<uint16_t>(++number % 64);
    std::byte* record = producer.try_reserve(64);
    while (record == nullptr) {
      record = producer.try_reserve(64);
    }
    fill(record, slot, 64, number);
    const uint64_t tag = reply_tag(producer.commit());
    producer.publish();
    if (notify) {
      waits.notify_consumer();
    }
    const uint64_t& word = view.reply_slot(slot)->tag;
    while (load_acquire(word) != tag) {
    }
  }
  stop = true;
  device.join();
}
void RoundTrip(benchmark::State& state) {
  round_trip(state, false);
}
void RoundTripNotify(benchmark::State& state) {
  round_trip(state, true);
}

void one_way(benchmark::State& state, bool notify, bool weakly_ordered) {
  const auto bytes = static_cast<uint32_t>(state.range(0));
  const auto batch = static_cast<uint64_t>(state.range(1));
  const Memory memory;
  const ChannelView& view = memory.view();
  std::atomic<bool> stop = false;
  std::thread device([&] { serve(view, stop, false); });
  const Pinned core(0);
  Producer producer(view.ring, &view.control->consumer.consumed, &view.control->producer.published,
                    weakly_ordered);
  GuestWaits waits(*view.control, futex_wait_ops());
  uint64_t number = 0;
  for (auto _ : state) {
    std::byte* record = producer.try_reserve(bytes);
    while (record == nullptr) {
      producer.publish();
      record = producer.try_reserve(bytes);
    }
    fill(record, kNoReply, bytes, ++number);
    producer.commit();
    if (number % batch == 0) {
      producer.publish();
      if (notify) {
        waits.notify_consumer();
      }
    }
  }
  producer.publish();
  while (load_acquire(view.control->consumer.consumed) != producer.position()) {
  }
  stop = true;
  device.join();
  state.SetItemsProcessed(state.iterations());
}
void OneWay(benchmark::State& state) {
  one_way(state, false, false);
}
void OneWayNotify(benchmark::State& state) {
  one_way(state, true, false);
}
void OneWayStoreFence(benchmark::State& state) {
  one_way(state, false, true);
}

BENCHMARK(BareCacheLine)->UseRealTime();
BENCHMARK(RoundTrip)->UseRealTime();
BENCHMARK(RoundTripNotify)->UseRealTime();
BENCHMARK(OneWay)->ArgNames({"bytes", "batch"})->Args({64, 1})->Args({64, 8})->Args({256, 1})->UseRealTime();
BENCHMARK(OneWayNotify)->ArgNames({"bytes", "batch"})->Args({64, 1})->Args({64, 8})->UseRealTime();
BENCHMARK(OneWayStoreFence)->ArgNames({"bytes", "batch"})->Args({64, 1})->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
