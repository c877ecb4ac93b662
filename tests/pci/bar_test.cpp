// Region files and BARs: made safely, mapped whole, backed and given back.
#include "pci/bar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/pci/fake_machine.h"

namespace vgpu::pci::test {
namespace {

uint64_t blocks_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

TEST(RegionFile, IsPrivateSparseAndOfTheAskedSize) {
  const FakeMachine machine;
  const std::string path = machine.path("region");
  auto bar = Bar::create_file(path, 64 << 20, 1 << 20);
  ASSERT_TRUE(bar.has_value()) << bar.error().text;
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(status.st_size, 64 << 20);
  EXPECT_EQ(bar->bytes().size(), 64U << 20);
  EXPECT_GE(blocks_of(path), 1U << 20);
  EXPECT_LT(blocks_of(path), 8U << 20);
  EXPECT_EQ(bar->carrier(), Carrier::kFile);
  EXPECT_EQ(&bar->wait_ops(), &ring::futex_wait_ops());
}

TEST(RegionFile, BadSizesAreRefused) {
  const FakeMachine machine;
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4096}, uint64_t{3} << 20}) {
    const auto bar = Bar::create_file(machine.path("region"), bytes, 0);
    ASSERT_FALSE(bar.has_value());
    EXPECT_EQ(bar.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(std::filesystem::exists(machine.path("region")));
}

TEST(RegionFile, SecondDeviceFindsItBusy) {
  const FakeMachine machine;
  const auto first = Bar::create_file(machine.path("region"), kRegionBytes, 0);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(ring::probe_device_lock(first->probe_fd()), ring::LockState::kHeld);
  const auto second = Bar::create_file(machine.path("region"), kRegionBytes, 0);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::kBusy);
  EXPECT_TRUE(std::filesystem::exists(machine.path("region")));
}

TEST(RegionFile, WhatAKilledDeviceLeftIsReplaced) {
  const FakeMachine machine;
  const std::string path = machine.path("region");
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t device = ::fork();
  ASSERT_GE(device, 0);
  if (device == 0) {
    const auto bar = Bar::create_file(path, kRegionBytes, 0);
    const char byte = bar ? '+' : '-';
    (void)!::write(ready[1], &byte, 1);
    for (;;) {
      ::pause();
    }
  }
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, '+');
  FakeMachine::format(path);
  auto guest = Bar::open_path(path, Access::kReadWrite);
  ASSERT_TRUE(guest.has_value());
  EXPECT_EQ(Bar::create_file(path, kRegionBytes, 0).error().code, ErrorCode::kBusy);
  ::kill(device, SIGKILL);
  ASSERT_EQ(::waitpid(device, nullptr, 0), device);
  EXPECT_EQ(ring::probe_device_lock(guest->probe_fd()), ring::LockState::kFree);
  const auto next = Bar::create_file(path, kRegionBytes, 0);
  ASSERT_TRUE(next.has_value()) << next.error().text;
  // The old guest still maps the old file, and learns that it was replaced when it wants a lock.
  EXPECT_EQ(reinterpret_cast<const ring::RegionHeader*>(guest->bytes().data())->magic, ring::kRegionMagic);
  EXPECT_EQ(reinterpret_cast<const ring::RegionHeader*>(next->bytes().data())->magic, 0U);
  EXPECT_EQ(guest->open_lock_fd().error().code, ErrorCode::kDeviceLost);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(RegionFile, OfManyStartersOneWins) {
  for (int round = 0; round < 20; ++round) {
    const FakeMachine machine;
    machine.write(machine.path("region"), "left by a dead device");
    std::vector<std::expected<Bar, Error>> bars;
    for (int i = 0; i < 4; ++i) {
      bars.emplace_back(std::unexpect);
    }
    std::vector<std::thread> starters;
    for (auto& bar : bars) {
      starters.emplace_back([&] { bar = Bar::create_file(machine.path("region"), kRegionBytes, 0); });
    }
    for (std::thread& starter : starters) {
      starter.join();
    }
    int winners = 0;
    for (const auto& bar : bars) {
      if (bar) {
        ++winners;
        struct stat ours{};
        struct stat there{};
        ASSERT_EQ(::fstat(bar->probe_fd(), &ours), 0);
        ASSERT_EQ(::stat(machine.path("region").c_str(), &there), 0);
        EXPECT_EQ(ours.st_ino, there.st_ino) << "the winner serves a file that nobody can find";
      } else {
        EXPECT_EQ(bar.error().code, ErrorCode::kBusy) << bar.error().text;
      }
    }
    EXPECT_LE(winners, 1);
    if (winners == 0) {
      EXPECT_TRUE(Bar::create_file(machine.path("region"), kRegionBytes, 0).has_value());
    }
  }
}

TEST(RegionFile, SymbolicLinkIsNotFollowed) {
  const FakeMachine machine;
  machine.write(machine.path("precious"), "precious");
  std::filesystem::create_symlink(machine.path("precious"), machine.path("region"));
  EXPECT_FALSE(Bar::create_file(machine.path("region"), kRegionBytes, 0).has_value());
  EXPECT_EQ(std::filesystem::file_size(machine.path("precious")), 8U);
  EXPECT_TRUE(std::filesystem::is_symlink(machine.path("region")));
}

TEST(RegionFile, UnlinkRemovesOnlyItsOwn) {
  const FakeMachine machine;
  auto bar = Bar::create_file(machine.path("region"), kRegionBytes, 0);
  ASSERT_TRUE(bar.has_value());
  std::filesystem::remove(machine.path("region"));
  machine.write(machine.path("region"), "somebody else's");
  bar->unlink_file();
  EXPECT_TRUE(std::filesystem::exists(machine.path("region")));
  auto other = Bar::create_file(machine.path("other"), kRegionBytes, 0);
  ASSERT_TRUE(other.has_value());
  other->unlink_file();
  EXPECT_FALSE(std::filesystem::exists(machine.path("other")));
}

TEST(RegionFile, DiscardZeroesAndGivesMemoryBack) {
  const FakeMachine machine;
  const std::string path = machine.path("region");
  auto bar = Bar::create_file(path, 16 << 20, 0);
  ASSERT_TRUE(bar.has_value());
  std::memset(bar->bytes().data(), 0x55, bar->bytes().size());
  const uint64_t before = blocks_of(path);
  ASSERT_TRUE(bar->discard(4096, 8 << 20).has_value());
  EXPECT_LE(blocks_of(path), before - (8 << 20) + 65536);
  EXPECT_EQ(bar->bytes()[4095], std::byte{0x55});
  EXPECT_EQ(bar->bytes()[4096], std::byte{0});
  EXPECT_EQ(bar->bytes()[4096 + (8 << 20)], std::byte{0x55});
  ASSERT_TRUE(bar->ensure_backed(4096, 1 << 20).has_value());
  EXPECT_GE(blocks_of(path), before - (8 << 20) + (1 << 20));
  EXPECT_FALSE(bar->discard(16 << 20, 1).has_value());
  EXPECT_FALSE(bar->ensure_backed(1, ~uint64_t{0}).has_value());
}

TEST(RegionFile, FullFileSystemIsAnErrorNotASignal) {
  const FakeMachine machine;
  const std::string mount = machine.path("small");
  std::filesystem::create_directories(mount);
  if (::mount("none", mount.c_str(), "tmpfs", 0, "size=2m") != 0) {
    GTEST_SKIP() << "mounting a small tmpfs needs root";
  }
  const auto too_big = Bar::create_file(mount + "/region", 16 << 20, 8 << 20);
  EXPECT_FALSE(std::filesystem::exists(mount + "/region"));
  {
    const auto bar = Bar::create_file(mount + "/region", 16 << 20, 1 << 20);
    EXPECT_TRUE(bar.has_value());
    if (bar) {
      const auto backed = bar->ensure_backed(1 << 20, 8 << 20);
      EXPECT_FALSE(backed.has_value());
      EXPECT_EQ(backed.error().code, ErrorCode::kNoSpace);
    }
  }
  EXPECT_EQ(::umount(mount.c_str()), 0);
  ASSERT_FALSE(too_big.has_value());
  EXPECT_EQ(too_big.error().code, ErrorCode::kNoSpace) << too_big.error().text;
}

TEST(Bars, WriteCombiningFileIsMappedAndThePlainOneLocked) {
  const FakeMachine machine;
  const std::string directory = machine.add_ivshmem("0000:00:04.0");
  std::filesystem::create_hard_link(directory + "/resource2", directory + "/resource2_wc");
  auto bar = Bar::open_pci(directory, kRegionBar, Access::kReadWrite);
  ASSERT_TRUE(bar.has_value()) << bar.error().text;
  EXPECT_TRUE(bar->path().ends_with("/resource2_wc"));
  EXPECT_TRUE(bar->lock_path().ends_with("/resource2"));
  EXPECT_TRUE(bar->write_combining_file());
  EXPECT_EQ(bar->carrier(), Carrier::kPciBar);
  EXPECT_EQ(&bar->wait_ops(), &ring::polling_wait_ops());
  EXPECT_EQ(bar->bytes().size(), kRegionBytes);
  EXPECT_TRUE(bar->open_lock_fd().has_value());
  std::memset(bar->bytes().data(), 0x11, 8192);
  ASSERT_TRUE(bar->discard(0, 8192).has_value());
  EXPECT_EQ(bar->bytes()[100], std::byte{0});
}

TEST(Bars, OpeningWhatIsNoRegionSaysWhy) {
  const FakeMachine machine;
  EXPECT_EQ(Bar::open_path(machine.path("nothing"), Access::kReadOnly).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Bar::open_path(machine.shm(), Access::kReadOnly).error().code, ErrorCode::kNotARegion);
  machine.write(machine.path("short"), "short");
  EXPECT_EQ(Bar::open_path(machine.path("short"), Access::kReadOnly).error().code, ErrorCode::kTruncated);
  ASSERT_EQ(::mkfifo(machine.path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(Bar::open_path(machine.path("pipe"), Access::kReadOnly).error().code, ErrorCode::kNotARegion)
      << "and it must not wait for a writer";
}

TEST(Bars, OrdinaryMemoryMeasuresAsWriteBack) {
  const std::vector<std::byte> sample(4096);
  EXPECT_EQ(measure_mapping(sample, true), MappingKind::kWriteBack);
  EXPECT_EQ(measure_mapping({}, true), MappingKind::kWriteBack);
}

TEST(Bars, MovedFromOwnsNothing) {
  const FakeMachine machine;
  auto made = Bar::create_file(machine.path("region"), kRegionBytes, 0);
  ASSERT_TRUE(made.has_value());
  Bar first = std::move(*made);
  Bar second;
  second = std::move(first);
  EXPECT_EQ(second.bytes().size(), kRegionBytes);
  second.bytes()[0] = std::byte{1};
  EXPECT_EQ(Bar::create_file(machine.path("region"), kRegionBytes, 0).error().code, ErrorCode::kBusy);
  second = Bar();
  EXPECT_TRUE(Bar::create_file(machine.path("region"), kRegionBytes, 0).has_value())
      << "the lock outlived its owner";
}

}  // namespace
}  // namespace vgpu::pci::test
