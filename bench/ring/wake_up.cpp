// From the waker's first instruction to the sleeper's first look at what it was woken for, the sleeper asleep
// in the kernel for at least 100 us on another core. `vgpu_device`: a parked consumer is woken by a published
// record. `vgpu_guest`: a parked guest is woken by a reply. `eventfd` and `futex`: the kernel's own, bare.
// The sleeper's time stamp is taken on its own core: both counters must agree, and clock_skew_ns in the notes
// says how well.
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <memory>
#include <stdexcept>

#include "bench/ring/measure.h"
#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/region.h"
#include "ring/reply.h"
#include "ring/unique_fd.h"
#include "ring/wait.h"

namespace vgpu::bench {
namespace {

using ring::load_acquire;
using ring::store_release;

constexpr uint64_t kAsleepNs = 100'000;
constexpr std::size_t kRegionBytes = 1 << 20;
constexpr uint64_t kParkNs = 100'000'000;

// What sleeper and waker tell each other. Numbers count the wake-ups from 1.
struct Meeting {
  alignas(128) uint64_t sleeping = 0;  // the sleeper is about to sleep for this one
  alignas(128) uint64_t woken = 0;     // and was woken
  uint64_t woken_ticks = 0;
  alignas(128) uint64_t ping = 0;
  alignas(128) uint64_t pong = 0;
  uint64_t pong_ticks = 0;
};

class Region {
 public:
  Region() {
    const auto geometry = ring::RegionGeometry::compute({kRegionBytes, 1, kQueueBytes, 64, 1024});
    if (!geometry || !ring::format_region(memory_.bytes(), *geometry, {}, {})) {
      throw std::runtime_error("the region cannot be formatted");
    }
    view_ = ring::RegionView(memory_.bytes(), *geometry).channel(0);
    if (ring::register_for_remote_fences()) {
      fences_ = ring::Fences::kSleeper;
    }
  }
  const ring::ChannelView& view() const noexcept { return view_; }
  // For each side, in its own process.
  ring::Fences fences() const {
    if (fences_ == ring::Fences::kSleeper && !ring::register_for_remote_fences()) {
      throw std::runtime_error("the peer cannot be fenced from here");
    }
    return fences_;
  }

 private:
  SharedMemory memory_{kRegionBytes};
  ring::ChannelView view_;
  ring::Fences fences_ = ring::Fences::kBoth;
};

// A scheme has a Sleeper, whose sleep(number) returns when it was woken, and a Waker with asleep(number),
// which may be true a little early, and wake(number).

class DeviceScheme {
 public:
  static constexpr const char* kVariant = "vgpu_device";
  class Sleeper {
   public:
    Sleeper(DeviceScheme& scheme, Meeting& /*meeting*/)
        : consumer_(scheme.region_.view().ring),
          waits_(*scheme.region_.view().control, ring::futex_wait_ops()),
          record_(std::make_unique<Record>()),
          control_(*scheme.region_.view().control) {
      waits_.set_fences(scheme.region_.fences());
    }
    void sleep(uint64_t /*number*/) {
      for (;;) {
        const auto bytes = consumer_.try_read(record_->bytes);
        if (!bytes) {
          throw std::runtime_error(ring::read_error_text(bytes.error()));
        }
        if (*bytes != 0) {
          break;
        }
        waits_.wait([&] { return consumer_.ready(); }, kParkNs);
      }
      store_release(control_.consumer.consumed, consumer_.position());
    }

   private:
    struct alignas(64) Record {
      std::byte bytes[ring::kMaxRecordBytes];
    };
    ring::Consumer consumer_;
    ring::ConsumerWaits waits_;
    std::unique_ptr<Record> record_;
    ring::ChannelControl& control_;
  };
  class Waker {
   public:
    Waker(DeviceScheme& scheme, Meeting& /*meeting*/)
        : control_(*scheme.region_.view().control),
          producer_(scheme.region_.view().ring, &control_.consumer.consumed, &control_.producer.published),
          waits_(control_, ring::futex_wait_ops(), ring::kDefaultSpinNs, scheme.region_.fences()) {}
    bool asleep(uint64_t /*number*/) const { return ring::load_relaxed(control_.park.consumer_parked) != 0; }
    void wake(uint64_t number) {
      std::byte* record = producer_.try_reserve(64);
      while (record == nullptr) {
        record = producer_.try_reserve(64);
      }
      auto* header = reinterpret_cast<ring::RecordHeader*>(record);
      header->opcode = 1;
      header->reply_slot = ring::kNoReply;
      header->stream = 0;
      *reinterpret_cast<uint64_t*>(record + sizeof(*header)) = number;
      producer_.commit();
      producer_.publish();
      waits_.notify_consumer();
    }

   private:
    ring::ChannelControl& control_;
    ring::Producer producer_;
    ring::GuestWaits waits_;
  };

 private:
  Region region_;
};

class GuestScheme {
 public:
  static constexpr const char* kVariant = "vgpu_guest";
  class Sleeper {
   public:
    Sleeper(GuestScheme& scheme, Meeting& meeting)
        : view_(scheme.region_.view()),
          waits_(*view_.control, ring::futex_wait_ops(), ring::kDefaultSpinNs, scheme.region_.fences()),
          meeting_(meeting) {}
    // The record that is answered does not matter here: its position is the number.
    void sleep(uint64_t number) {
      store_release(meeting_.sleeping, number);
      const uint64_t tag = ring::reply_tag(number);
      waits_.wait(
          ring::GuestWait::kReply, view_.reply_slot(0)->tag, [tag](uint64_t value) { return value == tag; },
          ring::kNoTimeout);
    }

   private:
    ring::ChannelView view_;
    ring::GuestWaits waits_;
    Meeting& meeting_;
  };
  class Waker {
   public:
    Waker(GuestScheme& scheme, Meeting& meeting)
        : view_(scheme.region_.view()), waits_(*view_.control, ring::futex_wait_ops()), meeting_(meeting) {
      waits_.set_fences(scheme.region_.fences());
    }
    bool asleep(uint64_t number) const {
      return load_acquire(meeting_.sleeping) == number &&
             ring::load_relaxed(view_.control->guest_park.on_reply) != 0;
    }
    void wake(uint64_t number) {
      ring::write_reply(view_, 0, number, 0, {});
      waits_.notify_guest(ring::GuestWait::kReply, view_.reply_slot(0)->tag);
    }

   private:
    ring::ChannelView view_;
    ring::ConsumerWaits waits_;
    Meeting& meeting_;
  };

 private:
  Region region_;
};

class EventfdScheme {
 public:
  static constexpr const char* kVariant = "eventfd";
  class Sleeper {
   public:
    Sleeper(EventfdScheme& scheme, Meeting& meeting) : fd_(scheme.fd_.get()), meeting_(meeting) {}
    void sleep(uint64_t number) {
      store_release(meeting_.sleeping, number);
      uint64_t count = 0;
      if (::read(fd_, &count, sizeof(count)) != sizeof(count)) {
        throw std::runtime_error("reading an eventfd");
      }
    }

   private:
    int fd_;
    Meeting& meeting_;
  };
  class Waker {
   public:
    Waker(EventfdScheme& scheme, Meeting& meeting) : fd_(scheme.fd_.get()), meeting_(meeting) {}
    bool asleep(uint64_t number) const { return load_acquire(meeting_.sleeping) == number; }
    void wake(uint64_t /*number*/) {
      const uint64_t one = 1;
      if (::write(fd_, &one, sizeof(one)) != sizeof(one)) {
        throw std::runtime_error("writing an eventfd");
      }
    }

   private:
    int fd_;
    Meeting& meeting_;
  };

 private:
  ring::UniqueFd fd_{::eventfd(0, EFD_CLOEXEC)};
};

class FutexScheme {
 public:
  static constexpr const char* kVariant = "futex";
  class Sleeper {
   public:
    Sleeper(FutexScheme& scheme, Meeting& meeting) : word_(scheme.word()), meeting_(meeting) {}
    void sleep(uint64_t number) {
      store_release(meeting_.sleeping, number);
      while (load_acquire(word_) != number) {
        ::syscall(SYS_futex, &word_, FUTEX_WAIT, static_cast<uint32_t>(number - 1), nullptr, nullptr, 0);
      }
    }

   private:
    uint32_t& word_;
    Meeting& meeting_;
  };
  class Waker {
   public:
    Waker(FutexScheme& scheme, Meeting& meeting) : word_(scheme.word()), meeting_(meeting) {}
    bool asleep(uint64_t number) const { return load_acquire(meeting_.sleeping) == number; }
    void wake(uint64_t number) {
      store_release(word_, static_cast<uint32_t>(number));
      ::syscall(SYS_futex, &word_, FUTEX_WAKE, 1, nullptr, nullptr, 0);
    }

   private:
    uint32_t& word_;
    Meeting& meeting_;
  };

 private:
  uint32_t& word() const noexcept { return *memory_.at<uint32_t>(); }
  SharedMemory memory_{4096};
};

constexpr uint64_t kSkewTrips = 2000;

// How far the peer's clock is ahead of this one's, in ticks, as the quickest exchange says.
int64_t clock_skew(Meeting& meeting, const Clock& clock) {
  uint64_t quickest = ~uint64_t{0};
  int64_t skew = 0;
  for (uint64_t i = 1; i <= kSkewTrips; ++i) {
    const uint64_t before = clock.begin();
    store_release(meeting.ping, i);
    while (load_acquire(meeting.pong) != i) {
    }
    const uint64_t after = clock.end();
    if (after - before < quickest) {
      quickest = after - before;
      skew = static_cast<int64_t>(meeting.pong_ticks) - static_cast<int64_t>(before + quickest / 2);
    }
  }
  return skew;
}

void answer_clock(Meeting& meeting, const Clock& clock) {
  for (uint64_t i = 1; i <= kSkewTrips; ++i) {
    while (load_acquire(meeting.ping) != i) {
    }
    meeting.pong_ticks = clock.begin();
    store_release(meeting.pong, i);
  }
}

template <typename Scheme>
void measure_wake_up(Round& round, CorePair cores) {
  Scheme scheme;
  SharedMemory memory(sizeof(Meeting));
  Meeting& meeting = *new (memory.data()) Meeting;
  const Clock& clock = Clock::get();
  const uint64_t wake_ups = std::max<uint64_t>(5, round.budget_ns() / (kAsleepNs + 30'000));
  Peer<false> peer(cores.second, [&] {
    answer_clock(meeting, clock);
    typename Scheme::Sleeper sleeper(scheme, meeting);
    for (uint64_t number = 1; number <= wake_ups; ++number) {
      sleeper.sleep(number);
      meeting.woken_ticks = clock.end();
      store_release(meeting.woken, number);
    }
  });
  {
    const Pinned core(cores.first);
    const int64_t skew = clock_skew(meeting, clock);
    typename Scheme::Waker waker(scheme, meeting);
    const uint64_t asleep = clock.to_ticks(kAsleepNs);
    for (uint64_t number = 1; number <= wake_ups; ++number) {
      while (!waker.asleep(number)) {
      }
      const uint64_t seen = clock.begin();
      while (clock.begin() - seen < asleep) {
      }
      const uint64_t start = clock.begin();
      waker.wake(number);
      while (load_acquire(meeting.woken) != number) {
      }
      const int64_t ticks = static_cast<int64_t>(meeting.woken_ticks - start) - skew;
      round.latencies().record_ps(clock.to_ps(static_cast<uint64_t>(std::max<int64_t>(ticks, 0))));
    }
    round.note("clock_skew_ns", static_cast<double>(skew) / clock.ticks_per_ns());
  }
  peer.join();
}

template <typename Scheme>
void add_scheme(Suite& suite, const Where& where) {
  suite.add({"wake_up",
             Scheme::kVariant,
             {{"asleep_us", int64_t{kAsleepNs / 1000}},
              {"placement", std::string(placement_name(where.placement))}}},
            [cores = where.cores](Round& round) { measure_wake_up<Scheme>(round, cores); });
}

}  // namespace

void add_wake_up(Suite& suite, const Where& where) {
  if (!Clock::get().is_tsc()) {
    suite.note("wake_up", "clock_gettime stands in for the time-stamp counter");
  }
  add_scheme<DeviceScheme>(suite, where);
  add_scheme<GuestScheme>(suite, where);
  add_scheme<EventfdScheme>(suite, where);
  add_scheme<FutexScheme>(suite, where);
}

}  // namespace vgpu::bench
