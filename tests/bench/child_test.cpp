// Child and SharedMemory: a peer shares memory, dies with its parent, and takes the parent along when it
// fails.
#include "bench/harness/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

#include "bench/harness/shared_memory.h"
#include "ring/access.h"

namespace vgpu::bench {
namespace {

TEST(Child, SharesMemoryWithItsParent) {
  const SharedMemory memory(4096);
  auto* word = memory.at<uint64_t>(64);
  EXPECT_EQ(*word, 0U);
  Child child = Child::start("peer", [&] {
    ring::store_release(*word, uint64_t{42});
    return 0;
  });
  EXPECT_TRUE(child.join());
  EXPECT_EQ(ring::load_acquire(*word), 42U);
  EXPECT_TRUE(child.join()) << "joining again is nothing";
}

TEST(Child, EndsWhenItsObjectDoes) {
  pid_t pid = 0;
  {
    const Child child = Child::start("peer", [] {
      for (;;) {
        ::pause();
      }
      return 0;
    });
    pid = child.pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1) << "reaped";
}

TEST(ChildDeath, AFailingPeerEndsItsParent) {
  const auto wait_for_peer = [](int status) {
    Child child = Child::start("peer", [status] { return status; });
    for (;;) {
      ::pause();
    }
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(wait_for_peer(3), testing::ExitedWithCode(70), "peer process failed");
}

TEST(ChildDeath, AThrowingPeerEndsItsParentAndSaysWhy) {
  const auto wait_for_peer = [] {
    Child child = Child::start("peer", []() -> int { throw std::runtime_error("no such thing"); });
    for (;;) {
      ::pause();
    }
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(wait_for_peer(), testing::ExitedWithCode(70), "peer: no such thing");
}

TEST(ChildDeath, JoinSaysHowAPeerEnded) {
  // In a process of its own, since an unjoined failure ends it: whichever comes first, it is reported.
  const auto join_peer = [] {
    Child child = Child::start("peer", [] { return 0; });
    ::_exit(child.join() ? 5 : 6);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(join_peer(), testing::ExitedWithCode(5), "");
}

// A parent that is killed cannot clean up: the kernel kills the peer for it.
TEST(Child, DiesWithItsParent) {
  int alive[2];
  ASSERT_EQ(::pipe(alive), 0);
  const pid_t parent = ::fork();
  ASSERT_GE(parent, 0);
  if (parent == 0) {
    ::close(alive[0]);
    Child child = Child::start("peer", [&] {
      [[maybe_unused]] const ssize_t written = ::write(alive[1], "x", 1);
      for (;;) {
        ::pause();
      }
      return 0;
    });
    ::close(alive[1]);
    for (;;) {
      ::pause();
    }
  }
  ::close(alive[1]);
  char byte = 0;
  ASSERT_EQ(::read(alive[0], &byte, 1), 1) << "the peer runs";
  ASSERT_EQ(::kill(parent, SIGKILL), 0);
  // Ends only when the peer, the last to hold the pipe's other end, is gone.
  EXPECT_EQ(::read(alive[0], &byte, 1), 0);
  ::close(alive[0]);
}

}  // namespace
}  // namespace vgpu::bench
