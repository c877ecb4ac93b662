// Guests that are VMs: several at once, gone, rebooted, and a device that dies under them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <fstream>

#include "device/server/device_server.h"
#include "tests/device/server/fake_backend.h"
#include "tests/device/server/vm_fixture.h"

namespace vgpu::device {
namespace {

using testing::ChildProcess;
using testing::DoorbellWaits;
using testing::FakeQemu;
using testing::Guest;
using ::testing::HasSubstr;
using testing::kVmChannels;
using ::testing::Not;

class Vm : public testing::VmFixture {};

std::unique_ptr<Guest> attach(const std::string& path, const Guest::Claim& claim = {}) {
  auto guest = Guest::attach(path, claim);
  if (!guest) throw std::runtime_error(guest.error().text);
  return std::move(*guest);
}

TEST_F(Vm, APlainGuestIsServedWithoutFutexesLocksOrRemoteFences) {
  start({"a"});
  auto guest = attach(region("a"));
  EXPECT_TRUE(answers(*guest));
  EXPECT_EQ(header("a").feature_bits, ring::kFeatureIvshmemDoorbell);
  EXPECT_EQ(header("a").doorbell_peer, 0u);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(soon([&] { return ring::load_relaxed(guest->view().control->park.consumer_parked) != 0; }));
    ASSERT_TRUE(answers(*guest)) << "a parked device wakes by itself";
  }
}

TEST_F(Vm, ADoorbellWakesAParkedDevice) {
  start({"a"});
  const auto qemu = FakeQemu::connect(socket("a"), kVmChannels);
  ASSERT_TRUE(qemu);
  DoorbellWaits waits(*qemu, 0);
  Guest::Claim claim;
  claim.ops = &waits.ops();
  auto guest = attach(qemu->region_path(), claim);
  EXPECT_TRUE(answers(*guest));
  const int before = waits.rings;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(soon([&] { return ring::load_relaxed(guest->view().control->park.consumer_parked) != 0; }));
    ASSERT_TRUE(answers(*guest));
  }
  EXPECT_GT(waits.rings, before);
}

// Killed, idle or with a kernel that never ends: all it held is free, and another guest does not notice.
class KilledVm : public testing::VmFixture, public ::testing::WithParamInterface<const char*> {
 protected:
  void expect_everything_freed(const std::vector<std::string>& vm) {
    auto other = attach(region("other"));
    const uint64_t other_generation = generation("other");
    ChildProcess victim(vm);
    ASSERT_EQ(victim.read_line(), "ready");
    ASSERT_TRUE(uses_memory("victim"));
    const uint64_t before = generation("victim");
    const pid_t held_by = worker("victim");
    victim.kill(SIGKILL);
    const auto killed = std::chrono::steady_clock::now();
    victim.wait();
    ASSERT_TRUE(soon([&] { return ::kill(held_by, 0) != 0; })) << "what it held ends with its worker";
    EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(2));
    ASSERT_TRUE(replaced("victim", before));
    EXPECT_TRUE(answers(*other));
    EXPECT_EQ(generation("other"), other_generation);
    auto next = attach(region("victim"));
    EXPECT_TRUE(answers(*next));
  }
};

TEST_P(KilledVm, PlainFreesEverythingAndLeavesOthersAlone) {
  start({"victim", "other"});
  expect_everything_freed({VGPU_TEST_GUEST, region("victim"), GetParam()});
}

TEST_P(KilledVm, WithADoorbellFreesEverythingAndLeavesOthersAlone) {
  start({"victim", "other"});
  expect_everything_freed({VGPU_TEST_QEMU, socket("victim"), std::to_string(kVmChannels), GetParam()});
}

INSTANTIATE_TEST_SUITE_P(While, KilledVm, ::testing::Values("idle", "kernel"),
                         [](const auto& case_info) { return std::string(case_info.param); });

TEST_F(Vm, WhatAGoneVmLeftInTheRegionIsNotTheNextOnes) {
  start({"a"});
  const uint64_t heap =
      ring::RegionGeometry::compute(default_geometry(16u << 20, kVmChannels))->bulk_start(2);
  {
    // A VM that never claims anything may write all the same.
    const auto qemu = FakeQemu::connect(socket("a"), kVmChannels);
    ASSERT_TRUE(qemu);
    ASSERT_EQ(::pwrite(qemu->messages()[2].fd.get(), "secret", 6, static_cast<off_t>(heap)), 6);
  }
  const auto next = FakeQemu::connect(socket("a"), kVmChannels);
  ASSERT_TRUE(next);
  char bytes[6] = {1};
  ASSERT_EQ(::pread(next->messages()[2].fd.get(), bytes, sizeof bytes, static_cast<off_t>(heap)), 6);
  EXPECT_EQ(std::string_view(bytes, 6), std::string_view("\0\0\0\0\0\0", 6));
}

TEST_F(Vm, SomebodyWhoOnlyLooksAtARegionDisturbsNothing) {
  start({"a"});
  const uint64_t before = generation("a");
  {
    ChildProcess visitor({VGPU_TEST_QEMU, socket("a"), std::to_string(kVmChannels), "look"});
    ASSERT_EQ(visitor.read_line(), "ready");
  }
  ASSERT_TRUE(FakeQemu::connect(socket("a"), kVmChannels)) << "the visitor is gone";
  EXPECT_EQ(generation("a"), before);
}

TEST_F(Vm, ProcessesOfARebootedGuestTakeTheChannelsOfTheOnesBefore) {
  start({"a"});
  const ring::UniqueFd qemu(::open(region("a").c_str(), O_RDWR | O_CLOEXEC));
  const uint64_t before = generation("a");
  auto old = attach(region("a"));
  ASSERT_EQ(old->call(protocol::MemAllocRequest{.bytes = 1u << 20}).status, protocol::Status::kSuccess);
  old->send(testing::blocking_launch());
  old->die();  // its lock goes with its kernel, and its nonce stays
  auto next = attach(region("a"));
  EXPECT_EQ(next->view().index, 0u);
  EXPECT_TRUE(answers(*next));
  EXPECT_TRUE(soon([&] { return header("a").status.memory_in_use_bytes == 0; }));
  EXPECT_EQ(generation("a"), before) << "the same VM, the same worker";
}

TEST_F(Vm, AKilledDeviceTakesItsRegionUpAgainUnderARunningVm) {
  start({"a"});
  const ring::UniqueFd qemu(::open(region("a").c_str(), O_RDWR | O_CLOEXEC));
  struct stat mapped{};
  ASSERT_EQ(::fstat(qemu.get(), &mapped), 0);
  auto guest = attach(region("a"));
  const uint64_t before = generation("a");
  program_->kill(SIGKILL);
  program_->wait();
  EXPECT_FALSE(guest->answer_to(1u << 20, 0).came);
  EXPECT_EQ(guest->loss, ring::DeviceLoss::kHeartbeatLost);

  start({"a"});
  struct stat now{};
  ASSERT_EQ(::stat(region("a").c_str(), &now), 0);
  EXPECT_EQ(now.st_ino, mapped.st_ino);
  EXPECT_NE(generation("a"), before);
  EXPECT_FALSE(guest->answer_to(1u << 20, 0).came);
  EXPECT_EQ(guest->loss, ring::DeviceLoss::kRestarted);
  guest.reset();  // as a process does that got the error
  auto next = attach(region("a"));
  EXPECT_TRUE(answers(*next));
}

TEST_F(Vm, ADeadWorkerIsReplacedAndTheOtherGuestWorksOn) {
  start({"a", "b"});
  auto a = attach(region("a"));
  auto b = attach(region("b"));
  const uint64_t before = generation("a");
  const uint64_t b_before = generation("b");
  ::kill(worker("a"), SIGKILL);
  EXPECT_FALSE(a->answer_to(1u << 20, 0).came);
  ASSERT_TRUE(soon([&] { return ready(header("a")) && generation("a") != before; }));
  EXPECT_TRUE(answers(*b));
  EXPECT_EQ(generation("b"), b_before);
  a.reset();
  EXPECT_TRUE(answers(*attach(region("a"))));
}

TEST_F(Vm, AGuestThatBreaksItsRingBreaksNobodyElses) {
  start({"a", "b"});
  auto a = attach(region("a"));
  auto b = attach(region("b"));
  std::memset(a->view().ring.data(), 0xff, a->view().ring.size());
  a->waits().ring_doorbell();
  EXPECT_TRUE(soon([&] {
    return ring::load_acquire(a->view().control->served.state) ==
           static_cast<uint32_t>(ring::ChannelState::kFailed);
  }));
  EXPECT_FALSE(answers(*a));
  EXPECT_TRUE(answers(*b));
}

// Under a sandbox, too: what a worker has mapped and open is its own guest's alone.
TEST_F(Vm, AWorkerHasNothingOfAnotherGuest) {
  ::setenv("VGPU_TEST_SANDBOX", "1", 1);
  start({"a", "b"});
  ::unsetenv("VGPU_TEST_SANDBOX");
  auto guest = attach(region("b"));
  EXPECT_TRUE(answers(*guest));
  const std::string process = "/proc/" + std::to_string(worker("b"));
  std::ifstream maps(process + "/maps");
  const std::string mapped((std::istreambuf_iterator<char>(maps)), {});
  EXPECT_THAT(mapped, HasSubstr(region("b")));
  EXPECT_THAT(mapped, Not(HasSubstr(region("a"))));
  int regions = 0;
  for (const auto& entry : std::filesystem::directory_iterator(process + "/fd")) {
    std::error_code gone;
    const auto target = std::filesystem::read_symlink(entry.path(), gone).string();
    EXPECT_NE(target, region("a"));
    EXPECT_THAT(target, Not(HasSubstr("socket:")));
    regions += target == region("b");
  }
  EXPECT_GE(regions, 1);
  std::ifstream status(process + "/status");
  const std::string text((std::istreambuf_iterator<char>(status)), {});
  EXPECT_THAT(text, HasSubstr("Seccomp:\t2"));
}

TEST_F(Vm, ARegionInUseIsRefused) {
  start({"a"});
  ChildProcess second(command({"b", "a"}));
  EXPECT_THAT(second.read_line(), HasSubstr(region("a") + " is served by another vgpu-device"));
  EXPECT_EQ(WEXITSTATUS(second.wait()), 1);
  EXPECT_TRUE(answers(*attach(region("a"))));
}

TEST_F(Vm, StoppingLeavesTheFileWithTheNewsAndRemovesTheSocket) {
  start({"a", "b"});
  auto guest = attach(region("a"));
  for (int i = 0; i < 3; ++i) {
    auto launch = testing::blocking_launch();
    launch.function = 1;
    guest->send(launch);
  }
  ASSERT_TRUE(guest->synchronize());
  program_->kill(SIGTERM);
  EXPECT_EQ(program_->read_line(), "a: 3 launches, 0 deaths");
  EXPECT_EQ(program_->read_line(), "b: 0 launches, 0 deaths");
  EXPECT_EQ(WEXITSTATUS(program_->wait()), 0);
  EXPECT_FALSE(guest->answer_to(1u << 20, 0).came);
  EXPECT_EQ(guest->loss, ring::DeviceLoss::kStopped);
  EXPECT_TRUE(std::filesystem::exists(region("a")));
  EXPECT_FALSE(std::filesystem::exists(socket("a")));
}

TEST_F(Vm, AFullFileSystemIsAnErrorThatSaysSo) {
  if (::mount("none", folder_.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a small tmpfs needs root";
  }
  {
    ChildProcess program(command({"a"}));
    EXPECT_THAT(program.read_line(), HasSubstr("No space left on device"));
    EXPECT_EQ(WEXITSTATUS(program.wait()), 1);
  }
  EXPECT_EQ(::umount(folder_.c_str()), 0);
}

}  // namespace
}  // namespace vgpu::device
