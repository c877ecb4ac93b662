// Channels through the real ring: answers, errors that come later, hostile guests, owners that come and go.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/device/server/guest.h"
#include "tests/device/server/test_device.h"

namespace vgpu::device {
namespace {

using namespace vgpu::protocol;
using testing::eventually;
using testing::Guest;
using ::testing::HasSubstr;
using testing::launch_of;
using testing::TestDevice;

std::unique_ptr<Guest> attach(const TestDevice& device) {
  auto guest = Guest::attach(device.path());
  if (!guest) throw std::runtime_error(guest.error().text);
  return std::move(*guest);
}

uint32_t deferred_count(const Guest& guest) {
  return static_cast<uint32_t>(ring::load_acquire(guest.consumer().deferred_error) >> 32);
}
Status deferred_status(const Guest& guest) {
  return static_cast<Status>(static_cast<uint32_t>(ring::load_acquire(guest.consumer().deferred_error)));
}

constexpr LaunchRequest kLaunch = launch_of(1);

TEST(Channel, ACallIsAnswered) {
  TestDevice device;
  auto guest = attach(device);
  const auto answer = guest->call(PingRequest{.cookie = 42});
  ASSERT_TRUE(answer.came);
  EXPECT_EQ(answer.status, Status::kSuccess);
  EXPECT_EQ(answer.as<PingReply>().cookie, 42u);
}

TEST(Channel, AnAsynchronousCommandThatNamesASlotIsAnsweredToo) {
  TestDevice device;
  auto guest = attach(device);
  EXPECT_EQ(guest->call(MemFreeRequest{.address = 4711}).status, Status::kInvalidValue);
  EXPECT_EQ(deferred_count(*guest), 0u);
}

TEST(Channel, RecordsExecuteInOrderAndCompletionFollows) {
  TestDevice device;
  auto guest = attach(device);
  for (int i = 0; i < 5000; ++i) guest->send(kLaunch);  // many laps of the ring
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(device.backend.state.calls("launch"), 5000);
  // `completed` may be told while there seems to be more to take, and room is given back a moment later.
  EXPECT_TRUE(eventually(
      [&] { return ring::load_acquire(guest->consumer().consumed) == guest->producer().position(); }));
}

// The device takes so many records at a time that the last of them may be the last in the ring.
TEST(Channel, AllRoomIsGivenBackWhereverABatchEnds) {
  TestDevice device(4, 1u << 20);  // of which a batch is far less than a quarter
  auto guest = attach(device);
  for (const int count : {1, 128, 256, 512}) {
    for (int i = 0; i < count; ++i) guest->commit(kLaunch);
    guest->publish();
    ASSERT_TRUE(guest->synchronize());
    EXPECT_TRUE(eventually(
        [&] { return ring::load_acquire(guest->consumer().consumed) == guest->producer().position(); },
        std::chrono::seconds(5)))
        << count << " records";
  }
}

// Also where the ring begins anew; until the backend has seen enough.
TEST(Channel, ALaunchSeesTheLaunchesBehindIt) {
  TestDevice device;
  auto guest = attach(device);
  std::vector<uint32_t> expected;
  const uint64_t almost = guest->view().ring.size() - 1024;
  while (guest->producer().position() % guest->view().ring.size() < almost) guest->send(kLaunch);
  ASSERT_TRUE(guest->synchronize());
  const int before = device.backend.state.calls("launch");
  guest->send(launch_of(testing::kLookingFunction));
  for (uint32_t i = 1; i <= 40; ++i) {
    guest->send(launch_of(i));
    expected.push_back(i);
    guest->send(MemFreeRequest{.address = 0});
    LaunchRequest no_launch = launch_of(1000 + i);
    no_launch.grid_x = 0;
    guest->send(no_launch);
  }
  expected.push_back(0);
  guest->send(launch_of(0));
  guest->send(launch_of(4711));
  device.backend.state.called("all is sent");
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(device.backend.state.upcoming(), expected);
  EXPECT_EQ(device.backend.state.calls("launch"), before + 43)
      << "looking executes nothing, and skips nothing";
}

// The launch ends well; the rubbish is found when its turn comes.
TEST(Channel, LookingAheadEndsAtRubbish) {
  TestDevice device;
  auto guest = attach(device);
  guest->send(launch_of(testing::kLookingFunction));
  guest->send(launch_of(1));
  const uint64_t at = guest->send(launch_of(2));
  guest->send(launch_of(3));
  auto& commit = *reinterpret_cast<uint64_t*>(guest->view().ring.data() + at % guest->view().ring.size());
  ring::store_release(commit, ring::make_commit(ring::kMaxRecordBytes + 64, at));
  device.backend.state.called("all is sent");
  EXPECT_FALSE(guest->synchronize());
  EXPECT_EQ(device.backend.state.upcoming(), (std::vector<uint32_t>{1}));
  EXPECT_EQ(device.backend.state.calls("launch"), 2);
}

TEST(Channel, AnAsynchronousErrorIsThereWhenItsRecordHasCompleted) {
  TestDevice device;
  auto guest = attach(device);
  device.backend.state.fail_next("launch", {Status::kLaunchOutOfResources, "too many registers"});
  guest->send(kLaunch);
  const uint64_t failed = guest->producer().position() - ring::round_up_to_slot(16 + sizeof kLaunch);
  guest->send(kLaunch);
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(deferred_count(*guest), 1u);
  EXPECT_EQ(deferred_status(*guest), Status::kLaunchOutOfResources);
  EXPECT_EQ(ring::load_relaxed(guest->consumer().deferred_error_position), failed);
  EXPECT_THAT(guest->last_error(), HasSubstr("too many registers"));
  EXPECT_EQ(ring::load_relaxed(guest->consumer().sticky_error), 0u);
  EXPECT_EQ(guest->call(PingRequest{.cookie = 1}).status, Status::kSuccess);
}

TEST(Channel, AnErrorOfWorkThatWasLetGoComesOutWithCompletion) {
  TestDevice device;
  auto guest = attach(device);
  device.backend.state.fail_next("wait_idle", {Status::kIllegalAddress, "later"});
  guest->send(kLaunch);
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(ring::load_acquire(guest->consumer().sticky_error), 700u);
}

TEST(Channel, AStickyErrorStaysForThatGuestAlone) {
  TestDevice device;
  auto bad = attach(device);
  auto good = attach(device);
  device.backend.state.fail_next("launch", {Status::kIllegalAddress, "kernel f read 0x10"});
  const uint64_t position = bad->send(kLaunch);
  ASSERT_TRUE(bad->synchronize());
  EXPECT_EQ(ring::load_acquire(bad->consumer().sticky_error), 700u);
  EXPECT_EQ(ring::load_relaxed(bad->consumer().sticky_error_position), position);
  EXPECT_EQ(bad->call(MemAllocRequest{.bytes = 1}).status, Status::kIllegalAddress);
  EXPECT_THAT(bad->last_error(), HasSubstr("kernel f read 0x10"));
  EXPECT_EQ(good->call(MemAllocRequest{.bytes = 1}).status, Status::kSuccess);
}

TEST(Channel, AnUnknownOpcodeIsNotSupported) {
  TestDevice device;
  auto guest = attach(device);
  const auto answer = guest->answer_to(guest->send_bytes(0x0999, {}, 0), 0);
  EXPECT_EQ(answer.status, Status::kNotSupported);
  EXPECT_THAT(guest->last_error(), HasSubstr("0x0999"));
}

TEST(Channel, AReplySlotThatIsNotThereIsADeferredError) {
  TestDevice device;
  auto guest = attach(device);
  guest->send(PingRequest{.cookie = 1}, {}, 5000);
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(deferred_status(*guest), Status::kInvalidValue);
  EXPECT_THAT(guest->last_error(), HasSubstr("5000"));
}

TEST(Channel, RandomRecordsEndInErrorsAndNothingElse) {
  TestDevice device;
  auto guest = attach(device);
  uint64_t random = 88172645463325252u;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::byte> body(next() % 200);
    for (auto& byte : body) byte = static_cast<std::byte>(next());
    const auto opcode = static_cast<uint16_t>(kCommands[next() % kCommandCount].opcode);
    guest->send_bytes(opcode, body, next() % 2 == 0 ? ring::kNoReply : static_cast<uint16_t>(next()),
                      static_cast<uint32_t>(next()));
  }
  ASSERT_TRUE(guest->synchronize());
  EXPECT_EQ(attach(device)->call(PingRequest{.cookie = 9}).as<PingReply>().cookie, 9u);
}

class CorruptRing : public ::testing::TestWithParam<uint64_t> {};

TEST_P(CorruptRing, FailsItsChannelAndNoOther) {
  TestDevice device;
  auto bad = attach(device);
  auto good = attach(device);
  ASSERT_EQ(bad->call(MemAllocRequest{.bytes = 1 << 20}).status, Status::kSuccess);
  auto& commit = *reinterpret_cast<uint64_t*>(bad->view().ring.data() +
                                              bad->producer().position() % bad->view().ring.size());
  ring::store_release(commit, GetParam());
  bad->waits().ring_doorbell();
  EXPECT_FALSE(bad->answer_to(1u << 20, 0).came);
  EXPECT_EQ(bad->loss, ring::DeviceLoss::kChannelFailed);
  EXPECT_EQ(ring::load_acquire(bad->consumer().sticky_error), static_cast<uint32_t>(Status::kLaunchFailed));
  EXPECT_THAT(bad->last_error(), HasSubstr("the ring is corrupt"));
  EXPECT_TRUE(eventually([&] { return device.backend.state.memory_in_use.load() == 0; }));
  EXPECT_EQ(good->call(PingRequest{.cookie = 3}).as<PingReply>().cookie, 3u);
  // The channel is usable again once its owner has left.
  bad.reset();
  EXPECT_EQ(attach(device)->call(PingRequest{.cookie = 4}).as<PingReply>().cookie, 4u);
}

// Position 64 bytes x 1 record so far: sequence 2 is the right one.
INSTANTIATE_TEST_SUITE_P(Commits, CorruptRing,
                         ::testing::Values((uint64_t{2} << 32) | 8, (uint64_t{2} << 32) | 0xffffffff,
                                           (uint64_t{2} << 32) | (ring::kMaxRecordBytes + 1),
                                           (uint64_t{9} << 32) | 64, 1, ~uint64_t{0}));

TEST(Channel, AnOwnerOfAnotherProtocolIsRefusedWithBothVersionsNamed) {
  TestDevice device;
  Guest::Claim claim;
  claim.protocol_version = 77;
  claim.protocol_hash = 0xabcd;
  const auto guest = Guest::attach(device.path(), claim);
  ASSERT_FALSE(guest);
  EXPECT_EQ(guest.error().code, ring::ErrorCode::kProtocolMismatch);
  EXPECT_THAT(guest.error().text, HasSubstr("protocol 77"));
  EXPECT_THAT(guest.error().text, HasSubstr("device " + std::to_string(kProtocolVersion)));
  EXPECT_EQ(attach(device)->call(PingRequest{.cookie = 4}).status, Status::kSuccess);
}

TEST(Channel, AnOwnerWithoutAContextIsToldWhy) {
  TestDevice device;
  device.backend.state.fail_next("create_context", {Status::kOutOfMemory, "no address space left"});
  const auto guest = Guest::attach(device.path());
  ASSERT_FALSE(guest);
  EXPECT_THAT(guest.error().text, HasSubstr("no address space left"));
}

TEST(Channel, AReleasedChannelIsEmptyForTheNextOwner) {
  TestDevice device(1);
  auto first = attach(device);
  ASSERT_EQ(first->call(MemAllocRequest{.bytes = 1 << 20}).status, Status::kSuccess);
  first->view().bulk[100] = std::byte{0x5a};
  first->release();
  EXPECT_TRUE(eventually([&] { return device.backend.state.memory_in_use.load() == 0; }));
  auto second = attach(device);
  EXPECT_EQ(second->view().bulk[100], std::byte{0});
  EXPECT_EQ(ring::load_relaxed(second->view().control->counters.commands), 0u);
  EXPECT_EQ(second->call(PingRequest{.cookie = 8}).as<PingReply>().cookie, 8u);
}

TEST(Channel, WhoFollowsAKilledOwnerAtOnceFindsNothingOfIt) {
  // Whether the device sees the one go before it sees the other come is up to it; each has its own work.
  TestDevice device(1);
  for (uint32_t round = 0; round < 20; ++round) {
    auto owner = attach(device);
    EXPECT_EQ(owner->view().bulk[100], std::byte{0}) << round;
    EXPECT_EQ(owner->call(MemAllocRequest{.bytes = 1 << 20}).status, Status::kSuccess) << round;
    owner->view().bulk[100] = std::byte{0x5a};
    owner->die();
  }
  EXPECT_TRUE(eventually([&] { return device.backend.state.memory_in_use.load() == 0; }));
}

TEST(Channel, AnOwnerThatLeavesDuringALongKernelFreesItsChannel) {
  TestDevice device(1);
  auto first = attach(device);
  first->send(testing::blocking_launch());
  ASSERT_TRUE(device.backend.state.wait_for_call("launch is running"));
  first->release();
  EXPECT_TRUE(eventually([&] { return device.backend.state.contexts.load() == 0; }, std::chrono::seconds(2)));
  EXPECT_EQ(attach(device)->call(PingRequest{.cookie = 8}).as<PingReply>().cookie, 8u);
}

TEST(Channel, WithAllChannelsOwnedThereIsNoneFree) {
  TestDevice device(2);
  auto first = attach(device);
  auto second = attach(device);
  const auto third = Guest::attach(device.path());
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ring::ErrorCode::kNoFreeChannel);
}

TEST(Channel, CountersOutliveTheirChannel) {
  TestDevice device;
  {
    auto guest = attach(device);
    for (int i = 0; i < 10; ++i) guest->send(kLaunch);
    const auto allocated = guest->call(MemAllocRequest{.bytes = 4096});
    guest->send(CopyInlineRequest{.destination = allocated.as<MemAllocReply>().address},
                std::vector<std::byte>(100));
    ASSERT_TRUE(guest->synchronize());
  }
  EXPECT_TRUE(eventually([&] { return device.backend.state.contexts.load() == 0; }));
  EXPECT_TRUE(eventually([&] { return ring::load_relaxed(device.header().totals.launches) == 10; }));
  device.stop_ticking();
  const auto totals = device.server().totals();
  EXPECT_EQ(totals.block.launches, 10u);
  EXPECT_EQ(totals.block.bytes_to_device, 100u);
  EXPECT_EQ(totals.block.replies, 1u);
  EXPECT_EQ(totals.block.commands, 12u);
  EXPECT_EQ(totals.by_command[command_index(static_cast<uint16_t>(Opcode::kLaunch))], 10u);
}

TEST(Device, SaysItsStateAndKeepsItsHeartbeat) {
  TestDevice device;
  EXPECT_EQ(ring::load_acquire(device.header().status.device_state),
            static_cast<uint32_t>(ring::DeviceState::kReady));
  const uint64_t before = ring::load_relaxed(device.header().status.heartbeat);
  EXPECT_TRUE(eventually([&] { return ring::load_relaxed(device.header().status.heartbeat) > before; },
                         std::chrono::seconds(2)));
  auto guest = attach(device);
  EXPECT_TRUE(eventually([&] { return device.channels_served() == 1; }));
  device.stop_ticking();
  device.server().stop("enough");
  EXPECT_FALSE(guest->answer_to(1u << 20, 0).came);
  EXPECT_EQ(guest->loss, ring::DeviceLoss::kStopped);
}

}  // namespace
}  // namespace vgpu::device
