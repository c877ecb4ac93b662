// How a channel's thread sleeps when its guest is a VM: on an eventfd that the guest's ivshmem doorbell, the
// supervisor and the worker's own main thread write to. A guest without a doorbell, or one whose doorbell
// does not arrive, is met by short sleeps that back off for a second, and then by the main thread's look at
// the word the guest changes before it rings: one thread that polls, however many owners idle.
#pragma once

#include <atomic>
#include <cstdint>

#include "ring/access.h"
#include "ring/wait.h"

namespace vgpu::device {

// One channel's. The operations refer to it, so it stays where it is. sleep: the channel's thread. wake: any.
// listen: the worker's main thread.
class Doorbell {
 public:
  // Longest sleep in the first second after work that nobody may announce.
  static constexpr uint64_t kPollNs = 5'000'000;
  static constexpr uint64_t kFirstSleepNs = 50'000;
  static constexpr uint32_t kPolls = 240;  // about a second of them

  // `event`: a non-blocking eventfd that only this channel's thread reads. `word`: the channel's
  // DoorbellBlock::doorbell. `connected`: not 0 while the guest's doorbell reaches `event`; the supervisor
  // writes it. All of them outlive the Doorbell.
  Doorbell(int event, const uint32_t* word, const uint32_t* connected) noexcept;
  Doorbell(const Doorbell&) = delete;
  Doorbell& operator=(const Doorbell&) = delete;

  // While an owner is served: sleeps grow with the attempts from kFirstSleepNs: doubling up to the caller's
  // bound while a doorbell is there, else slowly to kPollNs, and after about a second to the caller's bound.
  const ring::WaitOps& serving() const noexcept { return serving_; }
  // While nobody is served, and another thread looks for a claim: sleeps are the caller's.
  const ring::WaitOps& idle() const noexcept { return idle_; }
  // Ends a sleep that is under way or about to begin.
  void ring() const noexcept;
  // Rings if the guest has changed the word since the last look. Now and then: more often where nothing else
  // tells.
  void listen() noexcept;
  // Whether a guest has changed the word again and again without its doorbell arriving. Any thread.
  bool deaf() const noexcept { return missed_.load(std::memory_order_relaxed) >= kMissedUntilDeaf; }

 private:
  // One may be on its way when the sleep ends; a second one is not.
  static constexpr uint32_t kMissedUntilDeaf = 2;

  bool connected() const noexcept { return ring::load_relaxed(*connected_) != 0; }
  static void sleep_serving(void* self, const uint32_t* word, uint32_t expected, uint64_t max_ns,
                            uint32_t attempt);
  static void sleep_idle(void* self, const uint32_t* word, uint32_t expected, uint64_t max_ns,
                         uint32_t attempt);
  static void wake(void* self, const uint32_t* word);
  // Whether it was rung.
  bool sleep(uint64_t ns) const noexcept;

  int event_;
  const uint32_t* word_;
  const uint32_t* connected_;
  ring::WaitOps serving_;
  ring::WaitOps idle_;
  uint32_t heard_ = 0;                // the word at the last listen()
  std::atomic<bool> relayed_{false};  // listen() rang
  std::atomic<uint32_t> missed_{0};
};

}  // namespace vgpu::device
