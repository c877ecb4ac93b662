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
  void start(uint32_t warps) {
    alive_ = warps;
    for (; open_ != 0; open_ &= open_ - 1) barriers_[lowest(open_)] = {};
  }
  [[nodiscard]] uint32_t alive() const { return alive_; }
  // Nobody has arrived at any barrier that is not complete.
  [[nodiscard]] bool empty() const { return open_ == 0; }

  struct Completion {
    bool complete = false;
    bool reduces = false;   // the result is asked for; otherwise it is 0
    uint32_t released = 0;  // one bit per warp that waits, the one that arrived last among them
    uint32_t result = 0;
  };

  Completion arrive(uint32_t warp, uint32_t id, uint32_t threads, BarrierKind kind, uint32_t predicate,
                    uint32_t active) {
    id %= kBarriers;
    Barrier& barrier = barriers_[id];
    if (barrier.arrived == 0) {
      barrier.needed = threads / kWarpSize + (threads % kWarpSize != 0 ? 1 : 0);
      open_ |= uint32_t{1} << id;
    }
    if (kind != BarrierKind::kArrive) barrier.kind = kind;
    barrier.arrived += 1;
    if (reduces(kind)) {
      barrier.count += static_cast<uint32_t>(std::popcount(predicate & active));
      barrier.all = barrier.all && (predicate & active) == active;
    }
    if (kind != BarrierKind::kArrive) barrier.waiting |= uint32_t{1} << warp;
    return complete(barrier) ? release(id) : Completion{};
  }

  // A warp ended: every barrier of the whole block that now has all others is complete. Calls
  // released(Completion) for each.
  template <typename Released>
  void exit(Released&& released) {
    alive_ -= 1;
    for (uint32_t left = open_; left != 0; left &= left - 1) {
      const uint32_t id = lowest(left);
      if (barriers_[id].needed == 0 && complete(barriers_[id])) released(release(id));
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
  static uint32_t lowest(uint32_t bits) { return static_cast<uint32_t>(std::countr_zero(bits)); }
  static bool reduces(BarrierKind kind) { return kind != BarrierKind::kSync && kind != BarrierKind::kArrive; }
  Completion release(uint32_t id) {
    Barrier& barrier = barriers_[id];
    Completion completion{
        .complete = true, .reduces = reduces(barrier.kind), .released = barrier.waiting, .result = 0};
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
    open_ &= ~(uint32_t{1} << id);
    return completion;
  }

  uint32_t alive_ = 0;
  uint32_t open_ = 0;  // one bit per barrier somebody arrived at; all others are as new
  std::array<Barrier, kBarriers> barriers_{};
};

}  // namespace vgpu::software
