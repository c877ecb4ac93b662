// Who pays for the fence between "store, then look whether the other side sleeps" and "say that one sleeps,
// then look once more". By default both sides do. Where both are processes of one kernel the sleeper pays
// alone: its remote_fence() makes every running thread of every registered process execute a full fence, so
// the waker, which is the hot path, needs none (docs/memory-ordering.md).
#pragma once

#include <cstdint>

#include "ring/access.h"

namespace vgpu::ring {

enum class Fences : uint32_t {
  kBoth = 0,     // waker and sleeper each execute a full fence
  kSleeper = 1,  // the sleeper executes a remote fence, the waker nothing
};

// Lets other processes' remote fences reach this process, and says whether this one can make them. False
// where the kernel lacks membarrier(2)'s global expedited commands (before Linux 4.16) or forbids them. Any
// thread, any number of times.
bool register_for_remote_fences() noexcept;

// A full fence here and on every running thread of every process that registered. About a microsecond.
void remote_fence() noexcept;

// After storing what the other side may sleep on, before looking whether it does.
inline void waker_fence(Fences fences) noexcept {
  if (fences == Fences::kSleeper) {
    compiler_fence();
  } else {
    full_fence();
  }
}

// After announcing that one sleeps, before the last look.
inline void sleeper_fence(Fences fences) noexcept {
  if (fences == Fences::kSleeper) {
    remote_fence();
  } else {
    full_fence();
  }
}

}  // namespace vgpu::ring
