// The lock's slow path.
#include "shim/session/lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring/access.h"

namespace vgpu::shim {
namespace {

constexpr int kSpins = 60;
constexpr timespec kLongestSleep{.tv_sec = 0, .tv_nsec = 100'000'000};

uint32_t* word(std::atomic<uint32_t>& value) noexcept {
  static_assert(sizeof(value) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);
  return reinterpret_cast<uint32_t*>(&value);
}

}  // namespace

void ShortLock::lock_slowly() noexcept {
  for (int i = 0; i < kSpins; ++i) {
    ring::cpu_relax();
    if (taken_.load(std::memory_order_relaxed) == 0 && try_lock()) {
      return;
    }
  }
  sleepers_.fetch_add(1, std::memory_order_relaxed);
  ring::sleeper_fence(fences_);  // pairs with the waker's in unlock(); once: the announcement stands
  while (!try_lock()) {
    ::syscall(SYS_futex, word(taken_), FUTEX_WAIT_PRIVATE, 1, &kLongestSleep, nullptr, 0);
  }
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

void ShortLock::wake_one() noexcept {
  ::syscall(SYS_futex, word(taken_), FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace vgpu::shim
