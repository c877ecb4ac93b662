// A mutex for sections of some ten nanoseconds. unlock() is a plain store: a locked instruction there would
// wait until the record just written has been taken from the other core. A thread that finds it taken spins
// for a moment, since a holder that lost its processor gets none back while others spin, and then sleeps by
// the protocol of ring/fence.h.
#pragma once

#include <atomic>
#include <cstdint>

#include "ring/fence.h"

namespace vgpu::shim {

class ShortLock {
 public:
  // `fences`: kSleeper if the process has registered for remote fences.
  explicit ShortLock(ring::Fences fences = ring::Fences::kBoth) noexcept : fences_(fences) {}
  ShortLock(const ShortLock&) = delete;
  ShortLock& operator=(const ShortLock&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]] {
      lock_slowly();
    }
  }
  bool try_lock() noexcept {
    uint32_t free = 0;
    return taken_.compare_exchange_strong(free, 1, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() noexcept {
    taken_.store(0, std::memory_order_release);
    ring::waker_fence(fences_);  // pairs with the sleeper's in lock_slowly()
    if (sleepers_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
      wake_one();
    }
  }

 private:
  void lock_slowly() noexcept;
  void wake_one() noexcept;

  std::atomic<uint32_t> taken_{0};
  ring::Fences fences_;
  alignas(128) std::atomic<uint32_t> sleepers_{0};  // written only by who sleeps: unlock() finds it cached
};

}  // namespace vgpu::shim
