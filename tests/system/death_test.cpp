// kill -9 of a client, of the worker, of the device; a client that leaves in the middle of its work.
#include "tests/system/system_device.h"

namespace vgpu::system_tests {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;

class ClientDeath : public SystemTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ClientDeath, FreesItsChannelAndMemoryWithinASecondAndConcernsNobodyElse) {
  const uint64_t before = device_.memory_in_use();
  // Each holds more than half of the memory: the second one needs what the first one held.
  for (int round = 0; round < 2; ++round) {
    Client victim("victim", GetParam());
    ASSERT_EQ(victim.line(), "ready") << device_.log();
    ASSERT_TRUE(eventually([&] { return device_.memory_in_use() > before + (256u << 20); }));
    EXPECT_EQ(device_.channels_served(), 2u);
    expect_bystander_works();
    victim.kill();
    const auto killed = Clock::now();
    EXPECT_TRUE(
        eventually([&] { return device_.channels_served() == 1 && device_.memory_in_use() < (8u << 20); }));
    EXPECT_LT(Clock::now() - killed, std::chrono::seconds(1));
    EXPECT_EQ(victim.end(), 128 + SIGKILL);
    expect_bystander_works();
  }
  EXPECT_TRUE(worker_lives());
  EXPECT_THAT(device_.log(), Not(HasSubstr("CUDA error"))) << "an owner that left is no error";
  EXPECT_EQ(device_.show()["totals"]["errors"], 0);
}
INSTANTIATE_TEST_SUITE_P(While, ClientDeath, ::testing::Values("idle", "copy", "kernel"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST_F(SystemTest, AClientThatLeavesWithWorkInFlightIsNoError) {
  Client victim("victim", "leaves_in_kernel");
  ASSERT_EQ(victim.line(), "ready") << device_.log();
  EXPECT_EQ(victim.end(), 0);
  EXPECT_TRUE(eventually([&] { return device_.channels_served() == 1; }));
  expect_bystander_works();
  EXPECT_THAT(device_.log(), Not(HasSubstr("CUDA error")));
  EXPECT_EQ(device_.show()["totals"]["errors"], 0);
}

// ---- the device's end ----

class DeviceDeath : public ::testing::TestWithParam<const char*> {
 protected:
  void expect_lost(Client& client, Clock::time_point killed) {
    int error = 0;
    double seconds = 0;
    const std::string said = client.line();
    ASSERT_EQ(std::sscanf(said.c_str(), "%d %lf", &error, &seconds), 2) << said;
    EXPECT_LT(Clock::now() - killed, std::chrono::seconds(3));
    EXPECT_EQ(error, 46) << "CUDA_ERROR_DEVICE_UNAVAILABLE";
    EXPECT_EQ(client.end(), 0);
  }
  SystemDevice device_;
};

TEST_P(DeviceDeath, OfTheWorkerIsAnErrorWithinThreeSeconds) {
  Client victim("victim", GetParam());
  ASSERT_EQ(victim.line(), "ready") << device_.log();
  device_.kill_worker();
  const auto killed = Clock::now();
  victim.tell();
  expect_lost(victim, killed);
  EXPECT_TRUE(device_.logs("the worker ended: ")) << device_.log();
  // The supervisor starts another one, for new processes.
  EXPECT_TRUE(device_.comes_back()) << device_.log();
  Client next("bystander");
  EXPECT_EQ(next.line(), "fine") << device_.log();
  EXPECT_EQ(next.end(), 0);
}

TEST_P(DeviceDeath, OfTheDeviceIsAnErrorWithinThreeSecondsAndAnotherTakesItsPlace) {
  Client victim("victim", GetParam());
  ASSERT_EQ(victim.line(), "ready") << device_.log();
  device_.program().kill(SIGKILL);
  const auto killed = Clock::now();
  victim.tell();
  expect_lost(victim, killed);
  device_.program().wait();
  device_.start();
  Client next("bystander");
  EXPECT_EQ(next.line(), "fine") << device_.log();
  EXPECT_EQ(next.end(), 0);
}

TEST_P(DeviceDeath, InTheOrdinaryWayIsAnErrorWithinThreeSeconds) {
  Client victim("victim", GetParam());
  ASSERT_EQ(victim.line(), "ready") << device_.log();
  device_.program().kill(SIGTERM);
  const auto killed = Clock::now();
  victim.tell();
  expect_lost(victim, killed);
}
INSTANTIATE_TEST_SUITE_P(While, DeviceDeath, ::testing::Values("idle", "copy", "kernel"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace vgpu::system_tests
