// The region file of a VM: taken up as it is, and never anything else in its place.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pci/bar.h"
#include "ring/access.h"
#include "ring/channel_lock.h"
#include "tests/pci/fake_machine.h"

namespace vgpu::pci::test {
namespace {

class AdoptedFile : public ::testing::Test {
 protected:
  std::expected<Bar, Error> adopt(uint64_t bytes = kRegionBytes) {
    return Bar::adopt_file(path, bytes, std::nullopt);
  }
  ErrorCode refusal(uint64_t bytes = kRegionBytes) {
    const auto bar = adopt(bytes);
    EXPECT_FALSE(bar.has_value());
    return bar ? ErrorCode::kSystem : bar.error().code;
  }
  struct stat status() const {
    struct stat found{};
    EXPECT_EQ(::lstat(path.c_str(), &found), 0) << path;
    return found;
  }
  // Whether a lease says that nobody but `bar` has the file open for writing.
  static bool alone(const Bar& bar) {
    if (::fcntl(bar.probe_fd(), F_SETLEASE, F_WRLCK) != 0) return false;
    ::fcntl(bar.probe_fd(), F_SETLEASE, F_UNLCK);
    return true;
  }

  const FakeMachine machine;
  const std::string path = machine.path("guest.bar");
};

TEST_F(AdoptedFile, IsMadeWhereThereIsNone) {
  const auto bar = adopt();
  ASSERT_TRUE(bar.has_value()) << bar.error().text;
  EXPECT_EQ(bar->bytes().size(), kRegionBytes);
  EXPECT_EQ(status().st_size, static_cast<off_t>(kRegionBytes));
  EXPECT_EQ(status().st_mode & 07777, 0600U);
  EXPECT_EQ(bar->carrier(), Carrier::kFile);
}

TEST_F(AdoptedFile, KeepsItsInodeAndContentsFromDeviceToDevice) {
  ino_t inode = 0;
  {
    const auto first = adopt();
    ASSERT_TRUE(first.has_value());
    inode = status().st_ino;
    first->bytes()[12345] = std::byte{77};
  }
  const auto next = adopt();
  ASSERT_TRUE(next.has_value()) << next.error().text;
  EXPECT_EQ(status().st_ino, inode);
  EXPECT_EQ(next->bytes()[12345], std::byte{77});
}

TEST_F(AdoptedFile, IsNotRemovedByUnlinkFile) {
  auto bar = adopt();
  ASSERT_TRUE(bar.has_value());
  bar->unlink_file();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST_F(AdoptedFile, OfALivingDeviceIsBusy) {
  const auto first = adopt();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(refusal(), ErrorCode::kBusy);
}

TEST_F(AdoptedFile, IsLockedAsLongAsAnInheritedDescriptorLives) {
  auto first = adopt();
  ASSERT_TRUE(first.has_value());
  auto inherited = Bar::map_adopted(ring::UniqueFd(::fcntl(first->probe_fd(), F_DUPFD_CLOEXEC, 0)), path);
  ASSERT_TRUE(inherited.has_value());
  inherited->bytes()[99] = std::byte{5};
  EXPECT_EQ(first->bytes()[99], std::byte{5});
  *first = Bar();
  EXPECT_EQ(refusal(), ErrorCode::kBusy);
  *inherited = Bar();
  EXPECT_TRUE(adopt().has_value());
}

TEST_F(AdoptedFile, HasOneOpenFileSoThatAnotherOneCanBeTold) {
  const auto bar = adopt();
  ASSERT_TRUE(bar.has_value());
  const auto duplicate = bar->open_lock_fd();
  ASSERT_TRUE(duplicate.has_value());
  const auto mapped_again =
      Bar::map_adopted(ring::UniqueFd(::fcntl(bar->probe_fd(), F_DUPFD_CLOEXEC, 0)), path);
  ASSERT_TRUE(mapped_again.has_value());
  EXPECT_TRUE(alone(*bar));
  const ring::UniqueFd other(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(alone(*bar));
}

TEST_F(AdoptedFile, OfAnotherSizeIsRefusedAndLeftAsItIs) {
  {
    ASSERT_TRUE(adopt().has_value());
  }
  const auto other = adopt(2 * kRegionBytes);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(other.error().text.find("has 1048576 bytes and not 2097152"), std::string::npos)
      << other.error().text;
  EXPECT_EQ(status().st_size, static_cast<off_t>(kRegionBytes));
}

TEST_F(AdoptedFile, ASymbolicLinkIsNotFollowed) {
  const std::string target = machine.path("precious");
  {
    std::ofstream(target) << "words";
  }
  std::filesystem::create_symlink(target, path);
  EXPECT_EQ(refusal(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(std::filesystem::file_size(target), 5U);
}

TEST_F(AdoptedFile, ThingsThatAreNoFilesAreRefused) {
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(refusal(), ErrorCode::kInvalidArgument);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  EXPECT_FALSE(adopt().has_value());
}

TEST_F(AdoptedFile, OfAnotherUserIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make another user's file";
  {
    ASSERT_TRUE(adopt().has_value());
  }
  ASSERT_EQ(::chown(path.c_str(), 12345, static_cast<gid_t>(-1)), 0);
  EXPECT_EQ(refusal(), ErrorCode::kPermission);
}

TEST_F(AdoptedFile, IsItsGroupsToo) {
  const auto group = static_cast<uint32_t>(::getegid());
  {
    const auto bar = Bar::adopt_file(path, kRegionBytes, group);
    ASSERT_TRUE(bar.has_value()) << bar.error().text;
    EXPECT_EQ(status().st_mode & 07777, 0660U);
    EXPECT_EQ(status().st_gid, group);
  }
  // A later start without one takes it back.
  ASSERT_TRUE(adopt().has_value());
  EXPECT_EQ(status().st_mode & 07777, 0600U);
}

TEST_F(AdoptedFile, ThatCannotBeGivenToTheGroupIsAnError) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may give files to any group";
  const auto bar = Bar::adopt_file(path, kRegionBytes, 0);
  ASSERT_FALSE(bar.has_value());
  EXPECT_EQ(bar.error().code, ErrorCode::kPermission);
}

}  // namespace
}  // namespace vgpu::pci::test
