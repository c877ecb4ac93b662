// Claims: one owner per channel, seen and served by the device, and gone when its process is.
#include "ring/channel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "ring/access.h"
#include "ring/heartbeat.h"

namespace vgpu::ring::test {
namespace {

constexpr uint64_t kBytes = 1 << 20;

// A region in a memory file, with a device thread that serves all its channels.
class Claims : public ::testing::Test {
 protected:
  void SetUp() override {
    file.reset(::memfd_create("vgpu-test", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), kBytes), 0);
    path = "/proc/self/fd/" + std::to_string(file.get());
    void* data = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    ASSERT_NE(data, MAP_FAILED);
    mapping = {static_cast<std::byte*>(data), kBytes};
    const auto geometry = RegionGeometry::compute({kBytes, 2, 64 << 10, 8, 256});
    ASSERT_TRUE(geometry.has_value());
    DeviceInfo info{};
    ASSERT_TRUE(format_region(mapping, *geometry, info, {}).has_value());
    region = RegionView(mapping, *geometry);
    set_device_state(region.header(), DeviceState::kReady, "");
    found = *check_region(mapping, 0, 0);
  }
  void TearDown() override {
    stop_device();
    ::munmap(mapping.data(), mapping.size());
  }

  UniqueFd open_file() const { return UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)); }

  // `on_event` runs in the device's thread before the event is answered.
  void start_device(std::function<bool(ChannelOwnership&, ChannelOwnership::Event)> on_event = {}) {
    device = std::thread([this, on_event] {
      const UniqueFd probe = open_file();
      const ChannelView views[] = {region.channel(0), region.channel(1)};
      const ConsumerWaits waits[] = {{*views[0].control, futex_wait_ops()},
                                     {*views[1].control, futex_wait_ops()}};
      ChannelOwnership channels[] = {ChannelOwnership(views[0], &waits[0]),
                                     ChannelOwnership(views[1], &waits[1])};
      while (!stopping.load()) {
        advance_heartbeat(region.header());
        for (uint32_t i = 0; i < 2; ++i) {
          const auto event =
              channels[i].poll(locks_visible ? probe_channel_lock(probe.get(), i) : LockState::kUnknown);
          if (event == ChannelOwnership::Event::kNone) {
            continue;
          }
          ++(event == ChannelOwnership::Event::kNewOwner ? new_owners : owners_gone);
          if (on_event && on_event(channels[i], event)) {
            continue;
          }
          if (event == ChannelOwnership::Event::kNewOwner) {
            channels[i].serve();
          } else {
            channels[i].vacate();
          }
        }
        std::this_thread::yield();
      }
    });
  }
  void stop_device() {
    stopping = true;
    if (device.joinable()) {
      device.join();
    }
    stopping = false;
  }
  std::expected<ChannelClaim, Error> claim(uint64_t timeout_ns = 20'000'000'000) {
    ClaimOptions options;
    options.process_name = "channel_test";
    options.timeout_ns = timeout_ns;
    return ChannelClaim::take(region, found, open_file(), futex_wait_ops(), options);
  }
  // Whether the condition came true within 10 s.
  static bool eventually(const std::function<bool()>& condition) {
    const uint64_t start = monotonic_ns();
    while (!condition()) {
      if (monotonic_ns() - start > 10'000'000'000) {
        return false;
      }
      std::this_thread::yield();
    }
    return true;
  }
  // Not served_nonce: that is 0 from the beginning of a reset.
  bool vacant(uint32_t channel) {
    return eventually([&] {
      return load_acquire(region.channel(channel).control->served.state) ==
             static_cast<uint32_t>(ChannelState::kFree);
    });
  }

  UniqueFd file;
  std::string path;
  std::span<std::byte> mapping;
  RegionView region;
  FoundRegion found;
  std::thread device;
  std::atomic<bool> stopping = false;
  bool locks_visible = true;  // before start_device(); a VM's are not
  std::atomic<int> new_owners = 0;
  std::atomic<int> owners_gone = 0;
};

TEST_F(Claims, OwnerIsServedAndSeenByName) {
  OwnerInfo seen;
  std::atomic<bool> ready = false;
  start_device([&](ChannelOwnership& channel, ChannelOwnership::Event event) {
    if (event == ChannelOwnership::Event::kNewOwner) {
      seen = channel.owner();
      ready = true;
    }
    return false;
  });
  auto owner = claim();
  ASSERT_TRUE(owner.has_value()) << owner.error().text;
  ASSERT_TRUE(ready.load());
  EXPECT_EQ(owner->index(), 0U);
  EXPECT_EQ(seen.nonce, owner->nonce());
  EXPECT_EQ(seen.pid, static_cast<uint32_t>(::getpid()));
  EXPECT_EQ(seen.generation, found.generation);
  EXPECT_STREQ(seen.process_name, "channel_test");
  EXPECT_EQ(load_acquire(region.channel(0).control->served.served_nonce), owner->nonce());
}

TEST_F(Claims, EachOwnerGetsItsOwnChannelUntilNoneIsFree) {
  start_device();
  auto first = claim();
  auto second = claim();
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->index(), second->index());
  const auto third = claim();
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().code, ErrorCode::kNoFreeChannel);
  const uint32_t freed = first->index();
  first->release();
  auto again = claim();
  ASSERT_TRUE(again.has_value()) << again.error().text;
  EXPECT_EQ(again->index(), freed);
}

TEST_F(Claims, ReleasedChannelIsVacated) {
  start_device();
  {
    auto owner = claim();
    ASSERT_TRUE(owner.has_value());
    EXPECT_TRUE(owner->held());
  }
  EXPECT_TRUE(vacant(0));
  EXPECT_EQ(region.channel(0).control->served.reset_count_dead_owner, 0U);
}

TEST_F(Claims, NewOwnerFindsTheChannelZeroed) {
  start_device();
  {
    auto owner = claim();
    ASSERT_TRUE(owner.has_value());
    std::memset(owner->view().ring.data(), 0xee, owner->view().ring.size());
    std::memset(owner->view().replies.data(), 0xee, owner->view().replies.size());
  }
  ASSERT_TRUE(vacant(0));
  auto owner = claim();
  ASSERT_TRUE(owner.has_value());
  for (const auto part : {owner->view().ring, owner->view().replies}) {
    for (const std::byte byte : part) {
      ASSERT_EQ(byte, std::byte{0});
    }
  }
  EXPECT_EQ(load_acquire(owner->view().control->consumer.consumed), 0U);
}

TEST_F(Claims, KilledOwnerIsNoticedAndItsChannelFree) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  // The child is forked before any thread runs here, and claims once the device thread serves.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto owner = claim();
    const char byte = owner ? '+' : '-';
    (void)!::write(ready[1], &byte, 1);
    for (;;) {
      ::pause();
    }
  }
  start_device();
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, '+');
  const UniqueFd probe = open_file();
  EXPECT_EQ(probe_channel_lock(probe.get(), 0), LockState::kHeld);
  EXPECT_EQ(probe_channel_lock(probe.get(), 1), LockState::kFree);
  const uint64_t killed = monotonic_ns();
  ::kill(child, SIGKILL);
  EXPECT_TRUE(vacant(0));
  EXPECT_LT(monotonic_ns() - killed, 1'000'000'000U);
  EXPECT_EQ(region.channel(0).control->served.reset_count_dead_owner, 1U);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(probe_channel_lock(probe.get(), 0), LockState::kFree);
  // The dead owner's nonce still stands in the block; it must not be served again, and the next owner must.
  auto next = claim();
  ASSERT_TRUE(next.has_value()) << next.error().text;
  EXPECT_EQ(next->index(), 0U);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(Claims, ForkedChildLeavesTheParentsClaimAlone) {
  auto owner = std::expected<ChannelClaim, Error>(std::unexpect);
  start_device();
  owner = claim();
  ASSERT_TRUE(owner.has_value());
  stop_device();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    owner->abandon_after_fork();
    ::_exit(owner->held() ? 1 : 0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const UniqueFd probe = open_file();
  EXPECT_EQ(probe_channel_lock(probe.get(), 0), LockState::kHeld);
  EXPECT_EQ(load_acquire(region.channel(0).control->owner.nonce), owner->nonce());
}

TEST_F(Claims, RefusedOwnerGetsTheDevicesWords) {
  start_device([](ChannelOwnership& channel, ChannelOwnership::Event event) {
    if (event == ChannelOwnership::Event::kNewOwner) {
      channel.refuse(803, "speaks protocol 2, not 3");
      return true;
    }
    return false;
  });
  const auto owner = claim();
  ASSERT_FALSE(owner.has_value());
  EXPECT_EQ(owner.error().code, ErrorCode::kProtocolMismatch);
  EXPECT_NE(owner.error().text.find("speaks protocol 2, not 3"), std::string::npos) << owner.error().text;
  EXPECT_TRUE(vacant(0));
}

TEST_F(Claims, SilentDeviceEndsTheClaimInTime) {
  const uint64_t start = monotonic_ns();
  const auto owner = claim(300'000'000);
  ASSERT_FALSE(owner.has_value());
  EXPECT_EQ(owner.error().code, ErrorCode::kTimeout);
  EXPECT_LT(monotonic_ns() - start, 3'000'000'000U);
  const UniqueFd probe = open_file();
  EXPECT_EQ(probe_channel_lock(probe.get(), 0), LockState::kFree) << "the failed claim kept its lock";
}

TEST_F(Claims, StoppedDeviceIsSaidAtOnce) {
  set_device_state(region.header(), DeviceState::kStopped, "stopped by the test");
  const auto owner = claim();
  ASSERT_FALSE(owner.has_value());
  EXPECT_EQ(owner.error().code, ErrorCode::kDeviceLost);
}

TEST_F(Claims, FailedChannelEndsItsOwnersWaits) {
  start_device();
  auto owner = claim();
  ASSERT_TRUE(owner.has_value());
  stop_device();
  // The device's own object for the channel, taking over where the thread stopped.
  ChannelOwnership channel(region.channel(0));
  ASSERT_EQ(channel.poll(LockState::kHeld), ChannelOwnership::Event::kNewOwner);
  channel.serve();
  DeviceWatch watch(region.header(), found.generation, owner->view().control, owner->nonce());
  EXPECT_TRUE(watch.check(monotonic_ns()).has_value());
  channel.fail(700, "record 17 has an impossible length", 17 * 64);
  const auto alive = watch.check(monotonic_ns());
  ASSERT_FALSE(alive.has_value());
  EXPECT_EQ(alive.error(), DeviceLoss::kChannelFailed);
  EXPECT_EQ(owner->view().control->consumer.sticky_error, 700U);
  EXPECT_STREQ(owner->view().control->served.last_error, "record 17 has an impossible length");
}

TEST_F(Claims, WithoutVisibleLocksAnOwnerStaysUntilItSaysSo) {
  ChannelOwnership channel(region.channel(1));
  OwnerBlock& block = region.channel(1).control->owner;
  EXPECT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kNone);
  block.nonce = 5;
  ASSERT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kNewOwner);
  channel.serve();
  EXPECT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kNone);
  block.nonce = 6;  // its process died, another one claimed the channel
  ASSERT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kNewOwner);
  channel.serve();
  EXPECT_EQ(channel.owner().nonce, 6U);
  block.nonce = 0;
  ASSERT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kOwnerGone);
  channel.vacate();
  EXPECT_EQ(channel.poll(LockState::kUnknown), ChannelOwnership::Event::kNone);
}

TEST_F(Claims, WithoutVisibleLocksTheNextOwnerReleasesTheDead) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto first = claim();
    auto second = claim();
    const char byte = first && second ? '+' : '-';
    (void)!::write(ready[1], &byte, 1);
    for (;;) {
      ::pause();
    }
  }
  locks_visible = false;
  start_device();
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, '+');
  EXPECT_EQ(claim().error().code, ErrorCode::kNoFreeChannel) << "a living owner is not released";
  EXPECT_EQ(owners_gone, 0);
  ::kill(child, SIGKILL);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(load_relaxed(region.channel(1).control->served.state),
            static_cast<uint32_t>(ChannelState::kServed))
      << "the device saw a death that it cannot see";
  auto next = claim();
  ASSERT_TRUE(next.has_value()) << next.error().text;
  EXPECT_EQ(next->index(), 0U);
  EXPECT_EQ(owners_gone, 2);
  EXPECT_TRUE(vacant(1));
  EXPECT_EQ(load_relaxed(region.channel(1).control->owner.nonce), 0U);
  // A second look finds the living owner and an empty channel.
  const UniqueFd lock = open_file();
  EXPECT_EQ(release_dead_owners(region, lock.get(), futex_wait_ops()), 0U);
  EXPECT_EQ(load_relaxed(region.channel(0).control->owner.nonce), next->nonce());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_F(Claims, ReleasingTheDeadOfASilentDeviceEnds) {
  const UniqueFd lock = open_file();
  const LockDomain here = lock_domain(lock.get());
  for (uint32_t i = 0; i < 2; ++i) {
    ChannelControl& control = *region.channel(i).control;
    store_relaxed(control.owner.lock_device, here.device);
    store_release(control.owner.nonce, uint64_t{7} + i);
    store_release(control.served.served_nonce, uint64_t{7} + i);
  }
  const uint64_t start = monotonic_ns();
  EXPECT_EQ(release_dead_owners(region, lock.get(), polling_wait_ops()), 2U);
  EXPECT_LT(monotonic_ns() - start, 5'000'000'000U);
  EXPECT_EQ(load_relaxed(region.channel(0).control->owner.nonce), 0U);
  EXPECT_EQ(load_relaxed(region.channel(1).control->owner.nonce), 0U);
  const UniqueFd probe = open_file();
  EXPECT_EQ(probe_channel_lock(probe.get(), 0), LockState::kFree);
}

// As a process in another container: its lock is on another inode of the same BAR.
TEST_F(Claims, OwnersWhoseLocksCannotBeSeenKeepTheirChannels) {
  locks_visible = false;
  start_device();
  const UniqueFd lock = open_file();
  const LockDomain here = lock_domain(lock.get());
  EXPECT_NE(here.boot, 0U);
  EXPECT_NE(here.device, 0U);
  OwnerBlock& other = region.channel(0).control->owner;
  store_relaxed(other.lock_boot, here.boot);
  store_relaxed(other.lock_device, here.device + 1);
  store_release(other.nonce, uint64_t{7});
  EXPECT_EQ(release_dead_owners(region, lock.get(), futex_wait_ops()), 0U);
  {
    const auto ours = claim();
    ASSERT_TRUE(ours.has_value()) << ours.error().text;
    EXPECT_EQ(ours->index(), 1U);
    EXPECT_EQ(load_relaxed(region.channel(1).control->owner.lock_device), here.device);
    EXPECT_EQ(claim().error().code, ErrorCode::kNoFreeChannel);
  }
  EXPECT_EQ(load_relaxed(other.nonce), 7U);
  // One from before a reboot is dead, wherever it was.
  store_relaxed(other.lock_boot, here.boot + 1);
  const auto next = claim();
  ASSERT_TRUE(next.has_value()) << next.error().text;
  EXPECT_EQ(next->index(), 0U);
}

TEST_F(Claims, OwnersNameIsCleaned) {
  OwnerBlock& block = region.channel(0).control->owner;
  std::memset(block.process_name, 0x1b, sizeof(block.process_name));
  block.nonce = 9;
  const OwnerInfo info = read_owner(*region.channel(0).control);
  EXPECT_EQ(std::string(info.process_name), std::string(31, '?'));
}

TEST_F(Claims, StickyErrorKeepsTheFirst) {
  ChannelControl& control = *region.channel(0).control;
  store_sticky_error(control, 700, 64);
  store_sticky_error(control, 1, 128);
  EXPECT_EQ(control.consumer.sticky_error, 700U);
  EXPECT_EQ(control.consumer.sticky_error_position, 64U);
}

}  // namespace
}  // namespace vgpu::ring::test
