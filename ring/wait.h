// Waiting and waking, both ways: spin for a budget, announce that one sleeps, fence, look once more, sleep.
// The other side stores, fences (ring/fence.h says who pays), and looks for the announcement. Every sleep is
// bounded, so a lost wake-up costs a re-check and never a hang. How one sleeps and wakes is a table of
// operations: futexes on the mapped word where both sides share a kernel, a timed back-off where they do not.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "ring/access.h"
#include "ring/fence.h"
#include "ring/region_layout.h"

namespace vgpu::ring {

// `word` lies in the region and is changed by the other side. Both operations may be called from any thread.
struct WaitOps {
  // Returns when `*word` may differ from `expected`, when woken, after `max_ns`, or early for no reason.
  // `attempt` counts the sleeps of one wait from 0: a poller backs off by it.
  void (*sleep)(void* context, const uint32_t* word, uint32_t expected, uint64_t max_ns, uint32_t attempt);
  // Wakes everybody who sleeps on `word`.
  void (*wake)(void* context, const uint32_t* word);
  void* context = nullptr;
  uint64_t recheck_ns = 0;  // longest single sleep
};

// Futexes on the shared mapping: needs memory with pages behind it (a file), not a device's BAR.
const WaitOps& futex_wait_ops() noexcept;
// Sleeps an eighth of what the attempts before slept, 50 us to 5 ms; waking does nothing.
const WaitOps& polling_wait_ops() noexcept;

uint64_t monotonic_ns() noexcept;

// The low half of a 64-bit word, which is the futex that stands for it.
inline const uint32_t* futex_of(const uint64_t& word) noexcept {
  return reinterpret_cast<const uint32_t*>(&word);
}

inline constexpr uint64_t kDefaultSpinNs = 20'000;
// Between two looks at a ring whose producer streams (Consumer::streaming()): at most so much longer takes a
// synchronising call behind a stream.
inline constexpr uint64_t kStreamGapNs = 200;
inline constexpr uint64_t kNoTimeout = ~uint64_t{0};

// Spends about `ns` without touching memory that the other side uses.
inline void pause_for(uint64_t ns) noexcept {
  const uint64_t start = monotonic_ns();
  do {
    cpu_relax();
  } while (monotonic_ns() - start < ns);
}

// Calls ready() until it holds or `budget_ns` are over; looks at least once. The first looks follow each
// other closely, since a pause takes longer (50 ns and more) than an answer may; with `gap_ns` every look is
// preceded by a gap instead.
template <typename Ready>
bool spin_until(Ready&& ready, uint64_t budget_ns, uint64_t gap_ns = 0) {
  constexpr int kCloseLooks = 512;
  constexpr int kPausedLooks = 16;  // between two looks at the clock
  if (ready()) {
    return true;
  }
  if (budget_ns == 0) {
    return false;
  }
  if (gap_ns == 0) {
    for (int i = 0; i < kCloseLooks; ++i) {
      finish_loads();
      if (ready()) {
        return true;
      }
    }
  }
  const uint64_t start = monotonic_ns();
  do {
    if (gap_ns != 0) {
      pause_for(gap_ns);
      if (ready()) {
        return true;
      }
      continue;
    }
    for (int i = 0; i < kPausedLooks; ++i) {
      cpu_relax();
      if (ready()) {
        return true;
      }
    }
  } while (monotonic_ns() - start < budget_ns);
  return false;
}

// What a guest thread waits for.
enum class GuestWait : uint32_t { kReply, kCompleted, kConsumed, kServed };

// Guest side of one channel. wait() may be called by several threads at once; notify_consumer() and
// ring_doorbell() only under the lock that guards the producer.
class GuestWaits {
 public:
  GuestWaits(ChannelControl& control, const WaitOps& ops, uint64_t spin_ns = kDefaultSpinNs,
             Fences fences = Fences::kBoth) noexcept
      : control_(&control), ops_(&ops), spin_ns_(spin_ns), fences_(fences) {}
  GuestWaits(const GuestWaits&) = delete;
  GuestWaits& operator=(const GuestWaits&) = delete;

  // After Producer::publish: wakes the consumer if it announced that it sleeps, once for each announcement:
  // it may be a while until a woken consumer gets a processor. One load else, and a fence unless the sleeper
  // pays for it.
  void notify_consumer() noexcept {
    waker_fence(fences_);  // pairs with the one in ConsumerWaits::park
    const uint32_t park = load_relaxed(control_->park.consumer_parked);
    if (park != 0 && park != rung_for_) {
      rung_for_ = park;
      ring_doorbell();
    }
  }
  // Wakes the consumer's thread whether or not it announced anything (claim, release).
  void ring_doorbell() noexcept;

  // Waits until ready(value of word) holds, at most `timeout_ns`. `word` is the device-written word that
  // `kind` names (a ReplySlot::tag, ConsumerBlock::completed, ::consumed, or ServedBlock::served_nonce).
  // Returns whether it held; then everything the device stored before the word is visible.
  template <typename Ready>
  bool wait(GuestWait kind, const uint64_t& word, Ready&& ready, uint64_t timeout_ns) {
    const auto holds = [&] { return ready(load_acquire(word)); };
    if (kind == GuestWait::kReply) {
      // The question leaves first: looking earlier would take the answer's line from the device.
      full_fence();
    }
    if (spin_until(holds, timeout_ns < spin_ns_ ? timeout_ns : spin_ns_)) {
      return true;
    }
    const uint64_t start = monotonic_ns();
    announce(kind, +1);
    // Pairs with the one in ConsumerWaits::notify_guest. Once: the announcement stands until the wait is
    // over.
    sleeper_fence(fences_);
    bool done = false;
    for (uint32_t attempt = 0;; ++attempt) {
      const uint64_t value = load_acquire(word);
      done = ready(value);
      const uint64_t waited = monotonic_ns() - start;
      if (done || waited >= timeout_ns) {
        break;
      }
      const uint64_t left = timeout_ns - waited;
      ops_->sleep(ops_->context, futex_of(word), static_cast<uint32_t>(value),
                  left < ops_->recheck_ns ? left : ops_->recheck_ns, attempt);
    }
    announce(kind, -1);
    return done;
  }

 private:
  void announce(GuestWait kind, int32_t change) noexcept;

  ChannelControl* control_;
  const WaitOps* ops_;
  uint64_t spin_ns_;
  Fences fences_;
  uint32_t rung_for_ = 0;      // the newest announcement that was answered
  std::mutex announce_mutex_;  // several threads, one announcement word each kind
  uint32_t sleepers_[4] = {};
  uint64_t parks_ = 0;
};

// Device side of one channel. wait() is for the consumer's thread; the notify functions are for any thread.
class ConsumerWaits {
 public:
  ConsumerWaits(ChannelControl& control, const WaitOps& ops, uint64_t spin_ns = kDefaultSpinNs) noexcept
      : control_(&control), ops_(&ops), spin_ns_(spin_ns) {}

  // What the owner of the channel and the device have agreed on; kBoth at first.
  void set_fences(Fences fences) noexcept { fences_ = fences; }

  // Looks for the spin budget. ready() is typically Consumer::ready() || a stop flag. With `gap_ns` it looks
  // only that often: a producer that streams is slowed down by each look at the line it is about to write.
  template <typename Ready>
  bool spin(Ready&& ready, uint64_t gap_ns = 0) const {
    return spin_until(ready, spin_ns_, gap_ns);
  }
  // Sleeps once, until ready() or the doorbell or `max_sleep_ns` (cut to the table's recheck_ns). Returns
  // ready(): false after a wake-up that came late, too.
  template <typename Ready>
  bool park(Ready&& ready, uint64_t max_sleep_ns, uint32_t attempt = 0) {
    // Read before the announcement: a doorbell rung after it makes the sleep return at once.
    const uint32_t seen = load_acquire(control_->doorbell.doorbell);
    if (++announcement_ == 0) {
      announcement_ = 1;
    }
    store_relaxed(control_->park.consumer_parked, announcement_);
    sleeper_fence(fences_);  // pairs with the one in GuestWaits::notify_consumer
    if (!ready()) {
      store_relaxed(control_->park.parks, ++parks_);
      ops_->sleep(ops_->context, &control_->doorbell.doorbell, seen,
                  max_sleep_ns < ops_->recheck_ns ? max_sleep_ns : ops_->recheck_ns, attempt);
    }
    store_relaxed(control_->park.consumer_parked, 0U);
    return ready();
  }
  template <typename Ready>
  bool wait(Ready&& ready, uint64_t max_sleep_ns, uint32_t attempt = 0) {
    return spin(ready) || park(ready, max_sleep_ns, attempt);
  }

  // After storing (release) a word that a guest may sleep on. One load when nobody sleeps, and a fence unless
  // the sleeper pays for it.
  // An answer is fenced in any case: it leaves sooner, and the next record's line, which the guest that gets
  // it will write at once, is not taken from it in the meantime.
  void notify_guest(GuestWait kind, const uint64_t& word) const noexcept {
    waker_fence(kind == GuestWait::kReply ? Fences::kBoth : fences_);  // pairs with GuestWaits::wait's
    wake_sleepers(kind, word);
  }
  // The same without the fence, for a caller that stored several words and fenced once.
  void wake_sleepers(GuestWait kind, const uint64_t& word) const noexcept {
    if (load_relaxed(sleepers(kind)) != 0) {
      ops_->wake(ops_->context, futex_of(word));
    }
  }
  // Stores ConsumerBlock::completed and ::consumed (both only grow) and wakes who waits for them.
  void store_progress(uint64_t completed, uint64_t consumed) const noexcept {
    store_release(control_->consumer.completed, completed);
    store_release(control_->consumer.consumed, consumed);
    waker_fence(Fences::kBoth);  // as in notify_guest: there is nothing else to do now
    wake_sleepers(GuestWait::kCompleted, control_->consumer.completed);
    wake_sleepers(GuestWait::kConsumed, control_->consumer.consumed);
  }
  // The same for ConsumerBlock::completed alone.
  void store_completed(uint64_t completed) const noexcept {
    store_release(control_->consumer.completed, completed);
    notify_guest(GuestWait::kCompleted, control_->consumer.completed);
  }
  // From another thread of the device: makes wait() return early so that it sees a stop flag. It may come a
  // moment before the sleep: the bound on the sleep then ends it.
  void wake_consumer() const noexcept { ops_->wake(ops_->context, &control_->doorbell.doorbell); }

 private:
  const uint32_t& sleepers(GuestWait kind) const noexcept {
    switch (kind) {
      case GuestWait::kReply:
        return control_->guest_park.on_reply;
      case GuestWait::kCompleted:
        return control_->guest_park.on_completed;
      case GuestWait::kConsumed:
        return control_->guest_park.on_consumed;
      case GuestWait::kServed:
        break;
    }
    return control_->guest_park.on_served;
  }

  ChannelControl* control_;
  const WaitOps* ops_;
  uint64_t spin_ns_;
  Fences fences_ = Fences::kBoth;
  uint32_t announcement_ = 0;  // never the same twice in a row: who rang for one must ring for the next
  uint64_t parks_ = 0;
};

}  // namespace vgpu::ring
