// Sleeping and waking: futexes, or a timed back-off.
#include "ring/wait.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>

#include "ring/consumer.h"

namespace vgpu::ring {
namespace {

timespec to_timespec(uint64_t ns) {
  timespec time{};
  time.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  time.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  return time;
}

// Without FUTEX_PRIVATE_FLAG: the key is the page of the file, so that both processes' mappings meet.
void futex_sleep(void* /*context*/, const uint32_t* word, uint32_t expected, uint64_t max_ns,
                 uint32_t /*attempt*/) {
  const timespec limit = to_timespec(max_ns);
  ::syscall(SYS_futex, word, FUTEX_WAIT, expected, &limit, nullptr, 0);
}

void futex_wake(void* /*context*/, const uint32_t* word) {
  ::syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

constexpr uint64_t kFirstPollNs = 50'000;
constexpr uint64_t kLastPollNs = 5'000'000;

// Each sleep is an eighth of what was slept before it: whoever is woken by the clock alone is late by an
// eighth of what it waited for, for some 60 looks in the first 100 ms (docs/vm.md has what that costs).
constexpr auto kPollNs = [] {
  std::array<uint64_t, 64> steps{};
  uint64_t slept = 0;
  for (uint64_t& step : steps) {
    step = std::clamp(slept / 8, kFirstPollNs, kLastPollNs);
    slept += step;
  }
  return steps;
}();
static_assert(kPollNs.back() == kLastPollNs);

void polling_sleep(void* /*context*/, const uint32_t* word, uint32_t expected, uint64_t max_ns,
                   uint32_t attempt) {
  if (load_acquire(*word) != expected) {
    return;
  }
  const uint64_t step = kPollNs[std::min<std::size_t>(attempt, kPollNs.size() - 1)];
  const timespec time = to_timespec(std::min(step, max_ns));
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

void polling_wake(void* /*context*/, const uint32_t* /*word*/) {}

}  // namespace

const WaitOps& futex_wait_ops() noexcept {
  static constexpr WaitOps kOps{futex_sleep, futex_wake, nullptr, 100'000'000};
  return kOps;
}

const WaitOps& polling_wait_ops() noexcept {
  static constexpr WaitOps kOps{polling_sleep, polling_wake, nullptr, kLastPollNs};
  return kOps;
}

uint64_t monotonic_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void GuestWaits::ring_doorbell() noexcept {
  uint32_t& doorbell = control_->doorbell.doorbell;
  store_release(doorbell, load_relaxed(doorbell) + 1);
  ops_->wake(ops_->context, &doorbell);
}

void GuestWaits::announce(GuestWait kind, int32_t change) noexcept {
  GuestParkBlock& block = control_->guest_park;
  uint32_t* const words[] = {&block.on_reply, &block.on_completed, &block.on_consumed, &block.on_served};
  const auto index = static_cast<uint32_t>(kind);
  const std::lock_guard lock(announce_mutex_);
  sleepers_[index] += static_cast<uint32_t>(change);
  store_relaxed(*words[index], sleepers_[index]);
  if (change > 0) {
    store_relaxed(control_->producer.guest_parks, ++parks_);
  }
}

const char* read_error_text(ReadError error) noexcept {
  switch (error) {
    case ReadError::kBadLength:
      return "the record's length is not possible";
    case ReadError::kBadSequence:
      return "the record's sequence number is not this position's";
    case ReadError::kBadPadding:
      return "padding does not end at the ring's end";
    case ReadError::kOutTooSmall:
      return "the buffer is too small for a record";
  }
  return "unknown";
}

}  // namespace vgpu::ring
