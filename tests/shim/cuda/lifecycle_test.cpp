// Whole processes against a whole device: several at a time, forked, killed, without a device, with a wrong
// one, and with one that dies.
#include <fcntl.h>

#include <chrono>
#include <cstring>
#include <string>

#include "ring/region_layout.h"
#include "tests/shim/cuda/fixture.h"

namespace vgpu::shim::testing {
namespace {

int run(const std::vector<std::string>& arguments, const std::vector<std::string>& environment) {
  std::vector<std::string> command{VGPU_TEST_PROGRAM};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Process process(command, environment);
  return process.wait();
}

// What cuInit answers.
std::string init_answer(const std::vector<std::string>& environment) {
  Process process({VGPU_TEST_PROGRAM, "init"}, environment);
  const std::string answer = process.line();
  EXPECT_EQ(process.wait(), 0);
  return answer;
}

TEST(Lifecycle, CudaVisibleDevicesChoosesByIndexAndUuid) {
  Device device;
  const auto answer = [&](const std::string& value) {
    return init_answer({device.variable(), "CUDA_VISIBLE_DEVICES=" + value});
  };
  EXPECT_EQ(answer("0"), "0");
  EXPECT_EQ(answer("0,1"), "0");
  EXPECT_EQ(answer("GPU-a0a1a2a3"), "0");
  EXPECT_EQ(answer("GPU-A0A1A2A3-a4a5-a6a7-a8a9-aaabacadaeaf"), "0");
  EXPECT_EQ(answer(""), "100");
  EXPECT_EQ(answer("1"), "100");
  EXPECT_EQ(answer("-1"), "100");
  EXPECT_EQ(answer("GPU-b0"), "100");
}

TEST(Lifecycle, NoDeviceIsSaidAtOnce) {
  EXPECT_EQ(init_answer({"VGPU_DEVICE=/dev/shm/vgpu-there-is-none"}), "100");
}

TEST(Lifecycle, ADeviceThatIsGoneIsNoDevice) {
  std::string variable;
  {
    Device device;
    variable = device.variable();
    // A killed supervisor leaves its file; its worker ends with it.
    device.process().signal(SIGKILL);
    device.process().wait();
    device.kill_worker();
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!device.worker_is_gone() && std::chrono::steady_clock::now() < end) {
    }
    EXPECT_EQ(init_answer({variable}), "100");
  }
}

TEST(Lifecycle, AnotherLayoutOrProtocolIsAMismatch) {
  Device device;
  const int file = ::open(device.path().c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(file, 0);
  const auto poke = [&](std::size_t offset, uint64_t change) {
    uint64_t value = 0;
    ASSERT_EQ(::pread(file, &value, sizeof(value), static_cast<off_t>(offset)), 8);
    value ^= change;
    ASSERT_EQ(::pwrite(file, &value, sizeof(value), static_cast<off_t>(offset)), 8);
  };
  for (const std::size_t offset :
       {offsetof(ring::RegionHeader, protocol_hash), offsetof(ring::RegionHeader, layout_version)}) {
    poke(offset, 2);
    EXPECT_EQ(init_answer({device.variable()}), "803") << offset;
    poke(offset, 2);
  }
  poke(offsetof(ring::RegionHeader, magic), 2);
  EXPECT_EQ(init_answer({device.variable()}), "100") << "no region at all";
  poke(offsetof(ring::RegionHeader, magic), 2);
  EXPECT_EQ(init_answer({device.variable()}), "0");
  ::close(file);
}

TEST(Lifecycle, AForkedChildMayNotUseCudaAndDoesNotDisturbItsParent) {
  Device device;
  EXPECT_EQ(run({"fork_child"}, {device.variable()}), 0);
}

TEST(Lifecycle, AForkedChildDoesNotKeepTheChannelOfItsDeadParent) {
  Device device;
  for (int i = 0; i < 6; ++i) {  // more than there are channels
    Process parent({VGPU_TEST_PROGRAM, "fork_orphan"}, {device.variable()});
    const std::string child = parent.line();
    EXPECT_EQ(parent.wait(), 128 + SIGKILL) << "round " << i;
    ASSERT_FALSE(child.empty());
    const int pid = std::stoi(child);
    ASSERT_GT(pid, 1);
    EXPECT_EQ(::kill(pid, SIGKILL), 0);
  }
  EXPECT_EQ(run({"illegal"}, {device.variable()}), 0);
}

TEST(Lifecycle, ExitingWhileThreadsAreInsideIsSafe) {
  Device device;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(run({"exit_busy"}, {device.variable()}), 0);
}

TEST(Lifecycle, UnloadingTheLibraryIsSafe) {
  Device device;
  EXPECT_EQ(run({"unload", VGPU_TEST_LIBRARY}, {device.variable()}), 0);
}

TEST(Lifecycle, AnIllegalAddressPoisonsOneProcessAlone) {
  Device device;
  Process other({VGPU_TEST_PROGRAM, "hold"}, {device.variable()});
  ASSERT_EQ(other.line(), "holding");
  EXPECT_EQ(run({"illegal"}, {device.variable()}), 0);
  ASSERT_GT(other.pid(), 1);
  EXPECT_EQ(::kill(other.pid(), 0), 0) << "the other one runs on";
}

TEST(Lifecycle, TheMemoryOfAKilledProcessComesBack) {
  Device device;
  // 64 MiB each of 256: without freeing, the fourth or fifth finds none.
  for (int i = 0; i < 8; ++i) {
    Process process({VGPU_TEST_PROGRAM, "hold"}, {device.variable()});
    ASSERT_EQ(process.line(), "holding") << i;
    process.signal(SIGKILL);
    process.wait();
  }
}

TEST(Lifecycle, AKilledWorkerIsAnErrorWithinThreeSeconds) {
  Device device;
  Process process({VGPU_TEST_PROGRAM, "lose_device"}, {device.variable()});
  ASSERT_EQ(process.line(), "working");
  device.kill_worker();
  int result = 0;
  double seconds = 99;
  ASSERT_EQ(std::sscanf(process.line().c_str(), "%d %lf", &result, &seconds), 2);
  EXPECT_EQ(result, CUDA_ERROR_DEVICE_UNAVAILABLE);
  EXPECT_LT(seconds, 3);
  EXPECT_EQ(process.wait(), 0);
}

TEST(Lifecycle, AKilledDeviceIsAnErrorWithinThreeSeconds) {
  Device device;
  Process process({VGPU_TEST_PROGRAM, "lose_device"}, {device.variable()});
  ASSERT_EQ(process.line(), "working");
  device.process().signal(SIGKILL);
  device.kill_worker();
  int result = 0;
  double seconds = 99;
  ASSERT_EQ(std::sscanf(process.line().c_str(), "%d %lf", &result, &seconds), 2);
  EXPECT_EQ(result, CUDA_ERROR_DEVICE_UNAVAILABLE);
  EXPECT_LT(seconds, 3);
  EXPECT_EQ(process.wait(), 0);
}

}  // namespace
}  // namespace vgpu::shim::testing
