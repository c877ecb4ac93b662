// Sleeping on an eventfd.
#include "device/server/doorbell.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "ring/access.h"

namespace vgpu::device {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kLongestNs = 60 * kSecondNs;

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
  const bool trusted = ring::load_relaxed(*bell.connected_) != 0 && !bell.deaf();
  constexpr uint32_t kMostDoublings = 20;
  const uint64_t grown = kFirstSleepNs << std::min(attempt, kMostDoublings);
  if (bell.sleep(std::min({grown, trusted ? max_ns : kPollNs, max_ns}))) {
    bell.missed_.store(0, std::memory_order_relaxed);
  } else if (trusted && ring::load_acquire(*word) != expected) {
    bell.missed_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Doorbell::sleep_idle(void* self, const uint32_t* /*word*/, uint32_t /*expected*/, uint64_t max_ns,
                          uint32_t /*attempt*/) {
  static_cast<Doorbell*>(self)->sleep(max_ns);
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
