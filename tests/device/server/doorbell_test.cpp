// A doorbell's sleeps: ended by whoever rings, and short where nobody's ring arrives.
#include "device/server/doorbell.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "ring/unique_fd.h"

namespace vgpu::device {
namespace {

constexpr uint64_t kMinuteNs = 60'000'000'000;
constexpr uint32_t kLongIdle = 1000;  // attempts after which every sleep has its full length

class DoorbellTest : public ::testing::Test {
 protected:
  void ring_register() {
    const uint64_t one = 1;
    ASSERT_EQ(::write(event.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }
  // What a guest does: changes the word, then writes the register, which may lead nowhere.
  void guest_rings(bool arrives) {
    ring::store_release(word, word + 1);
    if (arrives) ring_register();
  }
  void sleep(uint64_t max_ns = kMinuteNs, uint32_t attempt = kLongIdle) {
    bell.serving().sleep(bell.serving().context, &word, ring::load_relaxed(word), max_ns, attempt);
  }
  // Sleeps while the word is already another one than expected.
  void sleep_through_a_ring() {
    bell.serving().sleep(bell.serving().context, &word, ring::load_relaxed(word) - 1, 1, 0);
  }
  uint64_t pending() {
    uint64_t count = 0;
    return ::read(event.get(), &count, sizeof count) == sizeof count ? count : 0;
  }

  ring::UniqueFd event{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  uint32_t word = 0;
  uint32_t connected = 1;
  Doorbell bell{event.get(), &word, &connected};
};

// Would last a minute each if the ring were not what ends them; the test's own limit is shorter.
TEST_F(DoorbellTest, ARingEndsALongSleep) {
  ring_register();  // before it begins
  sleep();
  std::thread guest([&] { guest_rings(true); });  // before it begins or after
  sleep();
  guest.join();
  bell.ring();
  bell.idle().sleep(bell.idle().context, &word, 0, kMinuteNs, 0);
  EXPECT_EQ(pending(), 0u);
}

TEST_F(DoorbellTest, WakesTheConsumerAloneAndNoGuest) {
  const uint32_t guests_word = 0;
  bell.serving().wake(bell.serving().context, &guests_word);
  EXPECT_EQ(pending(), 0u);
  bell.serving().wake(bell.serving().context, &word);
  EXPECT_EQ(pending(), 1u);
}

TEST_F(DoorbellTest, SleepsAreShortWhereNoDoorbellIsConnected) {
  connected = 0;
  sleep(kMinuteNs, 0);    // a minute if the bound did not hold
  sleep(kMinuteNs, 100);  // in the first second
  EXPECT_FALSE(bell.deaf());
}

TEST_F(DoorbellTest, ListeningRingsForAGuestWhoseRegisterLeadsNowhere) {
  connected = 0;
  bell.listen();
  EXPECT_EQ(pending(), 0u);
  guest_rings(false);
  bell.listen();
  bell.listen();
  EXPECT_EQ(pending(), 1u) << "once for each change of the word";
}

TEST_F(DoorbellTest, IsDeafWhenRingsDoNotArriveAndHearsAgainWhenTheyDo) {
  sleep_through_a_ring();
  EXPECT_FALSE(bell.deaf()) << "the first may be on its way";
  ring_register();
  sleep();
  sleep_through_a_ring();
  EXPECT_FALSE(bell.deaf()) << "it was";
  sleep_through_a_ring();
  EXPECT_TRUE(bell.deaf());
  sleep(kMinuteNs, 100);  // short now
  guest_rings(true);
  sleep();
  EXPECT_FALSE(bell.deaf());
}

TEST_F(DoorbellTest, WhatWasRelayedDoesNotCountAsHeard) {
  for (int i = 0; i < 2; ++i) {
    guest_rings(false);
    bell.listen();
    sleep();
  }
  EXPECT_TRUE(bell.deaf());
}

}  // namespace
}  // namespace vgpu::device
