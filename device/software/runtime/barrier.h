// The 16 named barriers of one block: who arrived, what the reduction is, when a barrier is complete.
// Counts warps, since a warp arrives as a whole; knows nothing about how a warp waits.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "device/software/kernel_abi.h"

namespace vgpu::software {

class Barriers {
 public:
  static constexpr uint32_t kCount = 16;

  void start(uint32_t warps) {
    alive_ = warps;
    barriers_.fill({});
  }
  [[nodiscard]] uint32_t alive() const { return alive_; }

  struct Completion {
    bool complete = false;
    uint32_t released = 0;  // one bit per warp that waits, without the one that arrived last
    uint32_t result = 0;
  };

  Completion arrive(uint32_t warp, uint32_t id, uint32_t threads, BarrierKind kind, uint32_t predicate,
                    uint32_t active) {
    Barrier& barrier = barriers_[id % kCount];
    if (barrier.arrived == 0) {
      barrier.needed = (threads + kWarpSize - 1) / kWarpSize;
      barrier.all = true;
    }
    if (kind != BarrierKind::kArrive) barrier.kind = kind;
    barrier.arrived += 1;
    barrier.count += static_cast<uint32_t>(std::popcount(predicate & active));
    barrier.all = barrier.all && (predicate & active) == active;
    if (!complete(barrier)) {
      if (kind != BarrierKind::kArrive) barrier.waiting |= uint32_t{1} << warp;
      return {};
    }
    return release(barrier);
  }

  // A warp ended: every barrier of the whole block that now has all others is complete. Calls
  // released(Completion) for each.
  template <typename Released>
  void exit(Released&& released) {
    alive_ -= 1;
    for (Barrier& barrier : barriers_) {
      if (barrier.arrived != 0 && barrier.needed == 0 && complete(barrier)) released(release(barrier));
    }
  }

  // Warps that wait at barrier `id`.
  [[nodiscard]] uint32_t waiting(uint32_t id) const { return barriers_[id].waiting; }

 private:
  struct Barrier {
    uint32_t arrived = 0;  // warps
    uint32_t needed = 0;   // warps; 0: all that are alive
    uint32_t waiting = 0;  // one bit per warp
    uint32_t count = 0;    // threads whose predicate holds
    bool all = true;
    BarrierKind kind = BarrierKind::kSync;
  };

  [[nodiscard]] bool complete(const Barrier& barrier) const {
    return barrier.arrived >= (barrier.needed != 0 ? barrier.needed : alive_);
  }
  static Completion release(Barrier& barrier) {
    Completion completion{.complete = true, .released = barrier.waiting, .result = 0};
    switch (barrier.kind) {
      case BarrierKind::kSync:
      case BarrierKind::kArrive:
        break;
      case BarrierKind::kReduceAnd:
        completion.result = barrier.all ? 1 : 0;
        break;
      case BarrierKind::kReduceOr:
        completion.result = barrier.count != 0 ? 1 : 0;
        break;
      case BarrierKind::kReducePopcount:
        completion.result = barrier.count;
        break;
    }
    barrier = {};
    return completion;
  }

  uint32_t alive_ = 0;
  std::array<Barrier, kCount> barriers_{};
};

}  // namespace vgpu::software
