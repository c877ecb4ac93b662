// How a guest knows that the device still serves it: same generation, a serving state, a heartbeat that
// grows, and its channel neither failed nor given to another owner.
#pragma once

#include <cstdint>
#include <expected>

#include "ring/region_layout.h"
#include "ring/wait.h"

namespace vgpu::ring {

enum class DeviceLoss : uint32_t {
  kStopped,        // the device said that it stopped
  kDead,           // its supervisor found the worker dead
  kRestarted,      // another generation: this one's memory and handles are gone
  kHeartbeatLost,  // no heartbeat for kHeartbeatLimitNs of watching
  kChannelFailed,  // the channel is not executed any more (ServedBlock::last_error says why)
  kChannelLost,    // the channel serves another owner
};
const char* device_loss_text(DeviceLoss loss) noexcept;

inline constexpr uint64_t kHeartbeatLimitNs = 2'000'000'000;
inline constexpr uint64_t kWatchSliceNs = 100'000'000;  // how often a waiting guest looks

// Device, one thread, at least 10 times a second.
inline void advance_heartbeat(RegionHeader& header) noexcept {
  store_relaxed(header.status.heartbeat, load_relaxed(header.status.heartbeat) + 1);
}

// One watcher's memory of the heartbeat. One thread; cheap to make one for each wait.
class DeviceWatch {
 public:
  // `control` and `nonce`: the watcher's channel; nullptr to watch the device alone.
  DeviceWatch(const RegionHeader& header, uint64_t generation, const ChannelControl* control, uint64_t nonce,
              uint64_t limit_ns = kHeartbeatLimitNs) noexcept;

  // Nothing wrong: has a value. `now_ns`: monotonic_ns(). Time between two looks counts as at most 250 ms, so
  // a process that was stopped for an hour does not take that for the device's silence.
  std::expected<void, DeviceLoss> check(uint64_t now_ns) noexcept;

 private:
  const RegionHeader* header_;
  const ChannelControl* control_;
  uint64_t generation_;
  uint64_t nonce_;
  uint64_t limit_ns_;
  uint64_t last_heartbeat_;
  uint64_t last_look_ns_ = 0;
  uint64_t silent_ns_ = 0;
};

// Waits like GuestWaits::wait, without limit as long as the device lives. Ends within kHeartbeatLimitNs plus
// a slice after it died.
template <typename Ready>
std::expected<void, DeviceLoss> wait_while_alive(GuestWaits& waits, DeviceWatch& watch, GuestWait kind,
                                                 const uint64_t& word, Ready&& ready) {
  while (!waits.wait(kind, word, ready, kWatchSliceNs)) {
    if (const auto alive = watch.check(monotonic_ns()); !alive) {
      // The answer may have come between the last look and the end.
      if (ready(load_acquire(word))) {
        return {};
      }
      return std::unexpected(alive.error());
    }
  }
  return {};
}

}  // namespace vgpu::ring
