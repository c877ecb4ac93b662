// Sleeping on an eventfd.
#include "device/server/doorbell.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "ring/access.h"

namespace vgpu::device {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kLongestNs = 60 * kSecondNs;
constexpr uint32_t kMostDoublings = 20;

// Each sleep is an eighth of the time since there was something to do: so much later than it could it is
// seen, and no more.
uint64_t polling_ns(uint32_t attempt, uint64_t max_ns) {
  if (attempt >= Doorbell::kPolls) return max_ns;
  uint64_t ns = Doorbell::kFirstSleepNs;
  for (; attempt > 0 && ns < Doorbell::kPollNs; --attempt) ns += ns / 8;
  return std::min(ns, Doorbell::kPollNs);
}

}  // namespace

Doorbell::Doorbell(int event, const uint32_t* word, const uint32_t* connected) noexcept
    : event_(event),
      word_(word),
      connected_(connected),
      serving_{sleep_serving, wake, this, kLongestNs},
      idle_{sleep_idle, wake, this, kLongestNs} {}

bool Doorbell::sleep(uint64_t ns) const noexcept {
  const timespec limit{.tv_sec = static_cast<time_t>(ns / kSecondNs),
                       .tv_nsec = static_cast<long>(ns % kSecondNs)};
  pollfd wait{.fd = event_, .events = POLLIN, .revents = 0};
  if (::ppoll(&wait, 1, &limit, nullptr) <= 0) return false;
  uint64_t rings = 0;
  return ::read(event_, &rings, sizeof rings) == sizeof rings;
}

void Doorbell::sleep_serving(void* self, const uint32_t* word, uint32_t expected, uint64_t max_ns,
                             uint32_t attempt) {
  auto& bell = *static_cast<Doorbell*>(self);
  const bool connected = bell.connected();
  const bool polls = !connected || bell.deaf();
  const uint64_t ns =
      polls ? polling_ns(attempt, max_ns) : kFirstSleepNs << std::min(attempt, kMostDoublings);
  const bool rung = bell.sleep(std::min(ns, max_ns));
  const bool relayed = bell.relayed_.exchange(false, std::memory_order_relaxed);
  if (!connected) return;
  if (rung && !relayed) {
    bell.missed_.store(0, std::memory_order_relaxed);
  } else if (relayed || ring::load_acquire(*word) != expected) {
    bell.missed_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Doorbell::sleep_idle(void* self, const uint32_t* /*word*/, uint32_t /*expected*/, uint64_t max_ns,
                          uint32_t /*attempt*/) {
  auto& bell = *static_cast<Doorbell*>(self);
  bell.sleep(max_ns);
  bell.relayed_.store(false, std::memory_order_relaxed);
}

void Doorbell::listen() noexcept {
  const uint32_t word = ring::load_acquire(*word_);
  if (std::exchange(heard_, word) == word) return;
  relayed_.store(true, std::memory_order_relaxed);
  ring();
}

// A guest's sleepers are in another kernel: only the consumer can be woken from here.
void Doorbell::wake(void* self, const uint32_t* word) {
  const auto& bell = *static_cast<Doorbell*>(self);
  if (word == bell.word_) bell.ring();
}

void Doorbell::ring() const noexcept {
  const uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(event_, &one, sizeof one);
}

}  // namespace vgpu::device
