// The supervisor as a process: workers that are killed, a path that is taken, a clean end, a sandbox that
// holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/device/server/child_process.h"
#include "tests/device/server/guest.h"
#include "tests/device/server/test_device.h"

namespace vgpu::device {
namespace {

using testing::ChildProcess;
using testing::eventually;
using testing::Guest;
using ::testing::HasSubstr;
using testing::RegionPath;

class SupervisorTest : public ::testing::Test {
 protected:
  void start(const std::string& mode = "no-sandbox") {
    program_ =
        std::make_unique<ChildProcess>(std::vector<std::string>{VGPU_TEST_SUPERVISOR, path_.text(), mode});
    ASSERT_EQ(program_->read_line(), "ready");
    auto bar = pci::Bar::open_path(path_.text(), pci::Access::kReadOnly);
    ASSERT_TRUE(bar) << bar.error().text;
    bar_ = std::move(*bar);
  }
  const ring::RegionHeader& header() const {
    return *reinterpret_cast<const ring::RegionHeader*>(bar_.bytes().data());
  }
  ring::DeviceState state() const {
    return static_cast<ring::DeviceState>(ring::load_acquire(header().status.device_state));
  }
  pid_t worker_pid() const { return static_cast<pid_t>(ring::load_relaxed(header().status.worker_pid)); }

  RegionPath path_;
  std::unique_ptr<ChildProcess> program_;
  pci::Bar bar_;
};

TEST_F(SupervisorTest, AKilledWorkerIsReplacedAndItsGuestLearnsItAtOnce) {
  start();
  auto guest = Guest::attach(path_.text());
  ASSERT_TRUE(guest) << guest.error().text;
  const pid_t first = worker_pid();
  ASSERT_GT(first, 0);
  const auto killed = std::chrono::steady_clock::now();
  ::kill(first, SIGKILL);
  EXPECT_FALSE((*guest)->answer_to(1u << 20, 0).came);
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(3));
  EXPECT_THAT((*guest)->loss, ::testing::AnyOf(ring::DeviceLoss::kDead, ring::DeviceLoss::kRestarted));
  const uint64_t old_generation = (*guest)->generation();
  guest->reset();

  ASSERT_TRUE(eventually([&] { return worker_pid() != first && state() == ring::DeviceState::kReady; }));
  EXPECT_NE(ring::load_relaxed(header().generation), old_generation);
  auto next = Guest::attach(path_.text());
  ASSERT_TRUE(next) << next.error().text;
  EXPECT_EQ((*next)->call(protocol::PingRequest{.cookie = 7}).as<protocol::PingReply>().cookie, 7u);
}

TEST_F(SupervisorTest, WorkersThatKeepDyingAreReplacedLaterAndLater) {
  start();
  pid_t last = 0;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(eventually(
        [&] { return worker_pid() != last && worker_pid() > 0 && state() == ring::DeviceState::kReady; }));
    last = worker_pid();
    ::kill(last, SIGKILL);
    ASSERT_TRUE(eventually([&] { return state() != ring::DeviceState::kReady || worker_pid() != last; }));
  }
  // The fifth death is answered after 800 ms: meanwhile guests see a dead device with the reason.
  EXPECT_TRUE(eventually([&] { return state() == ring::DeviceState::kDead; }));
  EXPECT_THAT(std::string(ring::load_text(header().status.reason, sizeof header().status.reason)),
              HasSubstr("signal 9"));
  EXPECT_TRUE(eventually([&] { return state() == ring::DeviceState::kReady; }));
}

TEST_F(SupervisorTest, SigtermStopsItCleanly) {
  start();
  auto guest = Guest::attach(path_.text());
  ASSERT_TRUE(guest) << guest.error().text;
  const protocol::LaunchRequest launch{.function = 1,
                                       .grid_x = 1,
                                       .grid_y = 1,
                                       .grid_z = 1,
                                       .block_x = 1,
                                       .block_y = 1,
                                       .block_z = 1,
                                       .flags = 0,
                                       .shared_bytes = 0};
  for (int i = 0; i < 3; ++i) (*guest)->send(launch);
  ASSERT_TRUE((*guest)->synchronize());
  const pid_t worker = worker_pid();
  program_->kill(SIGTERM);
  EXPECT_EQ(program_->read_line(), "stopped after 3 launches");
  const int status = program_->wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(state(), ring::DeviceState::kStopped);
  EXPECT_FALSE((*guest)->answer_to(1u << 20, 0).came);
  EXPECT_EQ((*guest)->loss, ring::DeviceLoss::kStopped);
  EXPECT_FALSE(std::filesystem::exists(path_.text()));
  EXPECT_NE(::kill(worker, 0), 0);
}

TEST_F(SupervisorTest, TheWorkerDiesWithAKilledSupervisorAndItsGuestIsToldByTheHeartbeat) {
  start();
  auto guest = Guest::attach(path_.text());
  ASSERT_TRUE(guest) << guest.error().text;
  const auto killed = std::chrono::steady_clock::now();
  program_->kill(SIGKILL);
  program_->wait();
  EXPECT_FALSE((*guest)->answer_to(1u << 20, 0).came);
  EXPECT_EQ((*guest)->loss, ring::DeviceLoss::kHeartbeatLost);
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(3));
  guest->reset();
  // The path of a dead device is taken over.
  start();
  EXPECT_TRUE(Guest::attach(path_.text()));
}

TEST_F(SupervisorTest, APathInUseIsRefused) {
  start();
  ChildProcess second({VGPU_TEST_SUPERVISOR, path_.text(), "no-sandbox"});
  EXPECT_THAT(second.read_line(), HasSubstr(path_.text() + " is served by another vgpu-device"));
  EXPECT_EQ(WEXITSTATUS(second.wait()), 1);
  EXPECT_TRUE(Guest::attach(path_.text()));
}

TEST_F(SupervisorTest, AWorkerThatCannotStartEndsTheDeviceWithItsReason) {
  ChildProcess program({VGPU_TEST_SUPERVISOR, path_.text(), "broken"});
  EXPECT_THAT(program.read_line(), HasSubstr("there is nothing to compute with"));
  EXPECT_EQ(WEXITSTATUS(program.wait()), 1);
  EXPECT_FALSE(std::filesystem::exists(path_.text()));
}

// What the kernel says of the worker: a filter, no new privileges, nothing open but the region and the memory
// it made for the device.
TEST_F(SupervisorTest, TheWorkerIsLockedIn) {
  start("sandbox");
  auto guest = Guest::attach(path_.text());
  ASSERT_TRUE(guest) << guest.error().text;
  EXPECT_EQ((*guest)->call(protocol::PingRequest{.cookie = 7}).as<protocol::PingReply>().cookie, 7u);
  const std::string process = "/proc/" + std::to_string(worker_pid());
  std::ifstream status(process + "/status");
  const std::string text((std::istreambuf_iterator<char>(status)), {});
  EXPECT_THAT(text, HasSubstr("NoNewPrivs:\t1"));
  EXPECT_THAT(text, HasSubstr("Seccomp:\t2"));
  // The pipe it says "ready" through is closed a moment after.
  EXPECT_TRUE(eventually([&] {
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(process + "/fd")) {
      const auto target = std::filesystem::read_symlink(entry.path(), gone);
      if (std::stoi(entry.path().filename()) <= 2 || gone || target == path_.text()) continue;
      if (!target.string().starts_with("/memfd:")) return false;
    }
    return true;
  }));
  for (const auto& entry : std::filesystem::directory_iterator(process + "/task")) {
    std::ifstream thread(entry.path() / "status");
    const std::string thread_text((std::istreambuf_iterator<char>(thread)), {});
    EXPECT_THAT(thread_text, HasSubstr("Seccomp:\t2")) << entry.path();
  }
}

}  // namespace
}  // namespace vgpu::device
