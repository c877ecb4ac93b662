// Judging whether the device still lives.
#include "ring/heartbeat.h"

#include <algorithm>

#include "ring/access.h"

namespace vgpu::ring {
namespace {
constexpr uint64_t kMaxGapNs = 250'000'000;
}

const char* device_loss_text(DeviceLoss loss) noexcept {
  switch (loss) {
    case DeviceLoss::kStopped:
      return "the device stopped";
    case DeviceLoss::kDead:
      return "the device's worker died";
    case DeviceLoss::kRestarted:
      return "the device was started anew";
    case DeviceLoss::kHeartbeatLost:
      return "the device's heartbeat stopped";
    case DeviceLoss::kChannelFailed:
      return "the device gave this channel up";
    case DeviceLoss::kChannelLost:
      return "the channel serves another process";
  }
  return "unknown";
}

DeviceWatch::DeviceWatch(const RegionHeader& header, uint64_t generation, const ChannelControl* control,
                         uint64_t nonce, uint64_t limit_ns) noexcept
    : header_(&header),
      control_(control),
      generation_(generation),
      nonce_(nonce),
      limit_ns_(limit_ns),
      last_heartbeat_(load_relaxed(header.status.heartbeat)) {}

std::expected<void, DeviceLoss> DeviceWatch::check(uint64_t now_ns) noexcept {
  if (load_acquire(header_->magic) != kRegionMagic || load_relaxed(header_->generation) != generation_) {
    return std::unexpected(DeviceLoss::kRestarted);
  }
  const auto state = static_cast<DeviceState>(load_acquire(header_->status.device_state));
  if (state == DeviceState::kDead) {
    return std::unexpected(DeviceLoss::kDead);
  }
  if (state == DeviceState::kStopped || state == DeviceState::kAbsent) {
    return std::unexpected(DeviceLoss::kStopped);
  }
  if (control_ != nullptr) {
    if (load_acquire(control_->served.served_nonce) != nonce_) {
      return std::unexpected(DeviceLoss::kChannelLost);
    }
    if (static_cast<ChannelState>(load_relaxed(control_->served.state)) == ChannelState::kFailed) {
      return std::unexpected(DeviceLoss::kChannelFailed);
    }
  }
  const uint64_t heartbeat = load_relaxed(header_->status.heartbeat);
  if (heartbeat != last_heartbeat_ || last_look_ns_ == 0) {
    last_heartbeat_ = heartbeat;
    silent_ns_ = 0;
  } else {
    silent_ns_ += std::min(now_ns - last_look_ns_, kMaxGapNs);
  }
  last_look_ns_ = now_ns;
  if (silent_ns_ >= limit_ns_) {
    return std::unexpected(DeviceLoss::kHeartbeatLost);
  }
  return {};
}

}  // namespace vgpu::ring
