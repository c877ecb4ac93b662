// A guest tells a device that died, stopped, restarted or gave it up from one that is only slow. Time is
// passed in.
#include "ring/heartbeat.h"

#include <gtest/gtest.h>

#include <memory>

#include "ring/access.h"

namespace vgpu::ring::test {
namespace {

constexpr uint64_t kMs = 1'000'000;

class Heartbeat : public ::testing::Test {
 protected:
  Heartbeat() : header(std::make_unique<RegionHeader>()), control(std::make_unique<ChannelControl>()) {
    header->magic = kRegionMagic;
    header->generation = 11;
    header->status.device_state = static_cast<uint32_t>(DeviceState::kReady);
    control->served.served_nonce = 22;
    control->served.state = static_cast<uint32_t>(ChannelState::kServed);
  }
  DeviceWatch watch() { return {*header, 11, control.get(), 22}; }
  std::unique_ptr<RegionHeader> header;
  std::unique_ptr<ChannelControl> control;
};

TEST_F(Heartbeat, BeatingDeviceLivesForEver) {
  DeviceWatch w = watch();
  for (uint64_t ms = 1; ms < 100'000; ms += 100) {
    advance_heartbeat(*header);
    ASSERT_TRUE(w.check(ms * kMs).has_value());
  }
}

TEST_F(Heartbeat, SilenceEndsAfterTwoSeconds) {
  DeviceWatch w = watch();
  uint64_t ms = 100;
  while (w.check(ms * kMs)) {
    ms += 100;
    ASSERT_LT(ms, 3000U);
  }
  EXPECT_EQ(w.check(ms * kMs).error(), DeviceLoss::kHeartbeatLost);
  EXPECT_GE(ms, 2000U);
}

TEST_F(Heartbeat, PausedGuestDoesNotBlameTheDevice) {
  DeviceWatch w = watch();
  ASSERT_TRUE(w.check(100 * kMs).has_value());
  // Both sides were stopped for an hour: one look without a beat says little.
  EXPECT_TRUE(w.check(3'600'000 * kMs).has_value());
  advance_heartbeat(*header);
  EXPECT_TRUE(w.check(3'600'100 * kMs).has_value());
}

TEST_F(Heartbeat, EachEndHasItsName) {
  const auto loss = [&] {
    DeviceWatch w = watch();
    const auto result = w.check(kMs);
    return result ? "alive" : device_loss_text(result.error());
  };
  EXPECT_STREQ(loss(), "alive");
  header->status.device_state = static_cast<uint32_t>(DeviceState::kStopped);
  EXPECT_STREQ(loss(), device_loss_text(DeviceLoss::kStopped));
  header->status.device_state = static_cast<uint32_t>(DeviceState::kDead);
  EXPECT_STREQ(loss(), device_loss_text(DeviceLoss::kDead));
  header->status.device_state = static_cast<uint32_t>(DeviceState::kReady);
  control->served.state = static_cast<uint32_t>(ChannelState::kFailed);
  EXPECT_STREQ(loss(), device_loss_text(DeviceLoss::kChannelFailed));
  control->served.served_nonce = 23;
  EXPECT_STREQ(loss(), device_loss_text(DeviceLoss::kChannelLost));
  header->generation = 12;
  EXPECT_STREQ(loss(), device_loss_text(DeviceLoss::kRestarted));
}

TEST_F(Heartbeat, WaitEndsWhenTheDeviceStops) {
  GuestWaits waits(*control, futex_wait_ops(), 0);
  DeviceWatch w = watch();
  header->status.device_state = static_cast<uint32_t>(DeviceState::kStopped);
  const uint64_t word = 0;
  const auto result = wait_while_alive(waits, w, GuestWait::kReply, word, [](uint64_t v) { return v != 0; });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), DeviceLoss::kStopped);
}

TEST_F(Heartbeat, WaitEndsWithinThreeSecondsOfSilence) {
  GuestWaits waits(*control, futex_wait_ops(), 0);
  DeviceWatch w = watch();
  const uint64_t word = 0;
  const uint64_t start = monotonic_ns();
  const auto result = wait_while_alive(waits, w, GuestWait::kReply, word, [](uint64_t v) { return v != 0; });
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error(), DeviceLoss::kHeartbeatLost);
  EXPECT_LT(monotonic_ns() - start, 3'000'000'000U);
}

}  // namespace
}  // namespace vgpu::ring::test
