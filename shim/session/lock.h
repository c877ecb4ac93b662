// A mutex for sections of some ten nanoseconds: tries for a moment, then sleeps in the kernel. The moment is
// short, since a holder that lost its processor gets none back while others spin.
#pragma once

#include <mutex>

#include "ring/access.h"

namespace vgpu::shim {

class ShortLock {
 public:
  void lock() noexcept {
    for (int i = 0; i < kSpins; ++i) {
      if (mutex_.try_lock()) {
        return;
      }
      ring::cpu_relax();
    }
    mutex_.lock();
  }
  bool try_lock() noexcept { return mutex_.try_lock(); }
  void unlock() noexcept { mutex_.unlock(); }

 private:
  static constexpr int kSpins = 60;
  std::mutex mutex_;
};

}  // namespace vgpu::shim
