// kill -9 of a guest: its channel and its memory are free again within a second, whatever it was doing.
#include <gtest/gtest.h>

#include "tests/device/server/child_process.h"
#include "tests/device/server/guest.h"
#include "tests/device/server/test_device.h"

namespace vgpu::device {
namespace {

using testing::ChildProcess;
using testing::eventually;
using testing::Guest;
using testing::TestDevice;

class OwnerDeath : public ::testing::TestWithParam<const char*> {};

TEST_P(OwnerDeath, FreesChannelAndMemoryWithinASecondAndLeavesOthersAlone) {
  TestDevice device(2);
  auto other = Guest::attach(device.path());
  ASSERT_TRUE(other) << other.error().text;
  ChildProcess victim({VGPU_TEST_GUEST, device.path(), GetParam()});
  ASSERT_EQ(victim.read_line(), "ready");
  ASSERT_EQ(device.backend.state.memory_in_use.load(), 1u << 20);
  if (std::string_view(GetParam()) == "kernel") {
    ASSERT_TRUE(device.backend.state.wait_for_call("launch is running"));
  }
  ASSERT_FALSE(Guest::attach(device.path())) << "both channels are owned";

  victim.kill(SIGKILL);
  const auto killed = std::chrono::steady_clock::now();
  ASSERT_TRUE(eventually([&] { return device.backend.state.contexts.load() == 1; }));
  EXPECT_EQ(device.backend.state.memory_in_use.load(), 0u);
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(1));
  victim.wait();

  EXPECT_EQ((*other)->call(protocol::PingRequest{.cookie = 5}).as<protocol::PingReply>().cookie, 5u);
  auto next = Guest::attach(device.path());
  ASSERT_TRUE(next) << next.error().text;
  EXPECT_EQ((*next)->call(protocol::PingRequest{.cookie = 6}).as<protocol::PingReply>().cookie, 6u);
  EXPECT_EQ(ring::load_relaxed((*next)->view().control->served.reset_count_dead_owner), 1u);
}

INSTANTIATE_TEST_SUITE_P(While, OwnerDeath, ::testing::Values("idle", "kernel"),
                         [](const auto& case_info) { return std::string(case_info.param); });

}  // namespace
}  // namespace vgpu::device
