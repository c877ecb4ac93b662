// The ivshmem server towards peers of every kind: what it says, whom it lets in, and that nobody can stop it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/device/server/vm_fixture.h"

namespace vgpu::device {
namespace {

using testing::connect_to;
using testing::FakeQemu;
using testing::Guest;
using testing::kVmChannels;

class VmSocket : public testing::VmFixture {
 protected:
  void SetUp() override { start({"a", "other"}); }
  std::optional<FakeQemu> connect() { return FakeQemu::connect(socket("a"), kVmChannels); }
  // Whether the server hangs up on it within 20 s.
  static bool hung_up(int peer) {
    pollfd wait{.fd = peer, .events = POLLIN, .revents = 0};
    for (;;) {
      if (::poll(&wait, 1, 20'000) <= 0) return false;
      char bytes[64];
      if (::recv(peer, bytes, sizeof bytes, 0) <= 0) return true;
    }
  }
  void expect_unimpressed() {
    auto guest = Guest::attach(region("other"));
    ASSERT_TRUE(guest) << guest.error().text;
    EXPECT_TRUE(answers(**guest));
    EXPECT_TRUE(connect()) << "the next QEMU is let in";
  }
};

TEST_F(VmSocket, SaysWhatTheProtocolWants) {
  const auto qemu = connect();
  ASSERT_TRUE(qemu);
  const auto& messages = qemu->messages();
  ASSERT_EQ(messages.size(), 3 + 2 * kVmChannels);
  EXPECT_EQ(messages[0].number, 0) << "version";
  EXPECT_FALSE(messages[0].fd);
  EXPECT_EQ(messages[1].number, 1) << "own id";
  EXPECT_FALSE(messages[1].fd);
  EXPECT_EQ(messages[2].number, -1) << "region";
  struct stat ours{};
  struct stat handed{};
  ASSERT_EQ(::stat(region("a").c_str(), &ours), 0);
  ASSERT_EQ(::fstat(messages[2].fd.get(), &handed), 0);
  EXPECT_EQ(handed.st_ino, ours.st_ino);
  std::set<int> descriptors;
  for (uint32_t i = 0; i < 2 * kVmChannels; ++i) {
    EXPECT_EQ(messages[3 + i].number, i < kVmChannels ? 0 : 1);
    EXPECT_TRUE(messages[3 + i].fd);
    descriptors.insert(messages[3 + i].fd.get());
  }
  EXPECT_EQ(descriptors.size(), 2 * kVmChannels);
}

TEST_F(VmSocket, ASecondVmIsRefusedUntilTheFirstIsGone) {
  auto first = connect();
  ASSERT_TRUE(first);
  EXPECT_FALSE(connect());
  first->hang_up();
  first.reset();
  EXPECT_TRUE(connect());
}

TEST_F(VmSocket, AVmIsRefusedAsLongAsAnotherHasTheRegionOpen) {
  {
    const ring::UniqueFd plain(::open(region("a").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_FALSE(connect());
  }
  EXPECT_TRUE(connect());
}

TEST_F(VmSocket, HangsUpOnAPeerThatSends) {
  const auto peer = connect_to(socket("a"));
  const std::string garbage(100'000, 'x');
  ASSERT_GT(::send(peer.get(), garbage.data(), garbage.size(), MSG_DONTWAIT | MSG_NOSIGNAL), 0);
  EXPECT_TRUE(hung_up(peer.get()));
  auto qemu = connect();
  ASSERT_TRUE(qemu);
  ASSERT_GT(::send(qemu->socket(), garbage.data(), garbage.size(), MSG_DONTWAIT | MSG_NOSIGNAL), 0);
  EXPECT_TRUE(hung_up(qemu->socket())) << "on one that is in, too";
  qemu.reset();
  expect_unimpressed();
}

TEST_F(VmSocket, DescriptorsThatAPeerSendsAreNotKept) {
  const auto qemu = connect();
  ASSERT_TRUE(qemu);
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const ring::UniqueFd read_end(pipe_ends[0]);
  {
    const ring::UniqueFd write_end(pipe_ends[1]);
    char byte = 0;
    iovec data{.iov_base = &byte, .iov_len = 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &pipe_ends[1], sizeof(int));
    ASSERT_EQ(::sendmsg(qemu->socket(), &message, MSG_NOSIGNAL), 1);
  }
  EXPECT_TRUE(hung_up(qemu->socket()));
  pollfd wait{.fd = read_end.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&wait, 1, 20'000), 1) << "the last writing end is closed";
}

TEST_F(VmSocket, AHalfClosedConnectionIsOver) {
  const auto qemu = connect();
  ASSERT_TRUE(qemu);
  ASSERT_EQ(::shutdown(qemu->socket(), SHUT_WR), 0);
  EXPECT_TRUE(hung_up(qemu->socket()));
}

TEST_F(VmSocket, AVmThatReadsNothingHoldsUpNobodyElse) {
  {
    const auto silent = connect_to(socket("a"));
    ASSERT_TRUE(silent);
    EXPECT_FALSE(connect()) << "it is in, and has the region to itself";
    auto other = Guest::attach(region("other"));
    ASSERT_TRUE(other) << other.error().text;
    EXPECT_TRUE(answers(**other));
  }
  expect_unimpressed();
}

TEST_F(VmSocket, AHundredConnectionsAtOnceAreSurvived) {
  {
    std::vector<ring::UniqueFd> peers;
    for (int i = 0; i < 100; ++i) peers.push_back(connect_to(socket("a")));
    // One is in, and the others are refused.
    int refused = 0;
    for (const auto& peer : peers) {
      pollfd wait{.fd = peer.get(), .events = POLLIN, .revents = 0};
      if (!peer || ::poll(&wait, 1, 20'000) <= 0) continue;
      char byte = 0;
      refused += ::recv(peer.get(), &byte, 1, 0) <= 0;
    }
    EXPECT_EQ(refused, 99);
    auto other = Guest::attach(region("other"));
    ASSERT_TRUE(other) << other.error().text;
    EXPECT_TRUE(answers(**other));
  }
  expect_unimpressed();
}

TEST_F(VmSocket, VmsThatComeAndGoUseUpNothing) {
  const auto descriptors = [&] {
    const std::filesystem::directory_iterator all("/proc/" + std::to_string(program_->pid()) + "/fd");
    return std::distance(begin(all), end(all));
  };
  {
    ASSERT_TRUE(connect());
  }
  ASSERT_TRUE(connect());  // the first is gone for sure
  ASSERT_TRUE(soon([&] { return descriptors() > 0; }));
  const auto before = descriptors();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(connect()) << i;
  EXPECT_TRUE(soon([&] { return descriptors() <= before; })) << descriptors() << " and " << before;
}

}  // namespace
}  // namespace vgpu::device
