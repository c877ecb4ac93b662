// vgpu-device as its user sees it: `run` passes everything on and leaves nothing behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/device/server/child_process.h"
#include "tests/device/server/guest.h"
#include "tests/device/server/test_device.h"

namespace vgpu::tools {
namespace {

using device::testing::ChildProcess;
using device::testing::Guest;
using device::testing::RegionPath;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Ne;
using ::testing::Not;
using ::testing::StartsWith;

namespace fs = std::filesystem;

// A folder with empty files under the libraries' names: `run` links them, nobody loads them here.
class RunTest : public ::testing::Test {
 protected:
  RunTest() {
    char folder[] = "/tmp/vgpu-run-test-XXXXXX";
    folder_ = ::mkdtemp(folder);
    for (const char* name :
         {"libcuda.so.1", "libnvidia-ml.so.1", "libcudart.so.12", "libcudart.so.13", "libcublas.so.12",
          "libcublas.so.13", "libcublasLt.so.12", "libcublasLt.so.13"}) {
      std::ofstream(folder_ / name);
    }
  }
  ~RunTest() override { fs::remove_all(folder_); }

  std::vector<std::string> run(const std::string& script, const std::vector<std::string>& options = {}) {
    std::vector<std::string> command{VGPU_DEVICE_PROGRAM, "run",         "--backend", "null", "--libs",
                                     folder_.string(),    "--no-preload"};
    command.insert(command.end(), options.begin(), options.end());
    for (const char* word : {"--", "/bin/sh", "-c"}) command.emplace_back(word);
    command.push_back(script);
    return command;
  }

  fs::path folder_;
};

TEST_F(RunTest, PassesTheExitStatusOn) {
  ChildProcess program(run("exit 7"));
  const int status = program.wait();
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(RunTest, TellsTheSignalThatEndedTheProgramAsAShellDoes) {
  ChildProcess program(run("kill -KILL $$"));
  EXPECT_EQ(WEXITSTATUS(program.wait()), 128 + SIGKILL);
}

TEST_F(RunTest, AProgramThatIsNotThereIs127) {
  ChildProcess program(
      {VGPU_DEVICE_PROGRAM, "run", "--backend", "null", "--libs", folder_.string(), "--", "/nonexistent"},
      true);
  EXPECT_THAT(program.read_all(), HasSubstr("cannot run /nonexistent: No such file"));
  EXPECT_EQ(WEXITSTATUS(program.wait()), 127);
}

TEST_F(RunTest, ForwardsASignalToTheProgram) {
  ChildProcess program(run("trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"));
  ASSERT_EQ(program.read_line(), "ready");
  program.kill(SIGTERM);
  EXPECT_EQ(program.read_line(), "got it");
  EXPECT_EQ(WEXITSTATUS(program.wait()), 3);
}

TEST_F(RunTest, StandardInputAndOutputAreTheProgramsAlone) {
  ChildProcess program(run("echo only this; exit 0"));
  EXPECT_EQ(program.read_all(), "only this\n");
}

TEST_F(RunTest, ADeviceServesTheProgramAndIsGoneAfterwards) {
  ChildProcess program(run("echo $VGPU_DEVICE; read unused"));
  const std::string path = program.read_line();
  ASSERT_TRUE(fs::exists(path)) << path;
  {
    auto guest = Guest::attach(path);
    ASSERT_TRUE(guest) << guest.error().text;
    EXPECT_EQ((*guest)->call(protocol::PingRequest{.cookie = 3}).as<protocol::PingReply>().cookie, 3u);
  }
  program.wait();
  EXPECT_FALSE(fs::exists(path));
}

TEST_F(RunTest, EndsWithOneLineOfCountersAndWritesThemAsJson) {
  const std::string counters = folder_ / "counters.json";
  ChildProcess program(
      run(std::string(VGPU_TEST_GUEST) + " $VGPU_DEVICE idle < /dev/null", {"--counters", counters}), true);
  EXPECT_EQ(program.read_line(), "ready");
  const std::string line = program.read_line();
  EXPECT_THAT(line, HasSubstr("vgpu: 0 launches, 0 B to device, 0 B from device, 1 round trips"));
  EXPECT_THAT(line, HasSubstr("peak memory 2.0 MiB"));  // small allocations share 2 MiB
  EXPECT_EQ(program.read_line(), "");
  EXPECT_EQ(WEXITSTATUS(program.wait()), 0);
  const auto json = nlohmann::json::parse(std::ifstream(counters));
  EXPECT_EQ(json["round_trips"], 1);
  EXPECT_EQ(json["memory_peak_bytes"], 2u << 20);
  EXPECT_EQ(json["by_command"]["MemAlloc"], 1);
}

TEST_F(RunTest, ShowsTheProgramTheGenerationsAskedFor) {
  ChildProcess twelve(run("ls $LD_LIBRARY_PATH", {"--cuda", "12"}));
  const std::string names = twelve.read_all();
  EXPECT_THAT(names, HasSubstr("libcuda.so.1\n"));
  EXPECT_THAT(names, HasSubstr("libcudart.so.12\n"));
  EXPECT_THAT(names, Not(HasSubstr(".13")));
  ChildProcess all(run("ls $LD_LIBRARY_PATH; echo folder $LD_LIBRARY_PATH"));
  const std::string both = all.read_all();
  EXPECT_THAT(both, HasSubstr("libcublas.so.12\n"));
  EXPECT_THAT(both, HasSubstr("libcublas.so.13\n"));
  all.wait();
  const auto folder = both.substr(both.find("folder ") + 7);
  EXPECT_FALSE(fs::exists(folder.substr(0, folder.find('\n'))));
}

TEST_F(RunTest, WithoutLibrariesItSaysWhatToDo) {
  fs::remove(folder_ / "libcuda.so.1");
  ChildProcess program(run("exit 0"), true);
  EXPECT_THAT(program.read_all(), HasSubstr("holds no libcuda.so.1: build the shim libraries"));
  EXPECT_EQ(WEXITSTATUS(program.wait()), 1);
}

TEST_F(RunTest, RemovesWhatAKilledRunLeftBehind) {
  std::string stale;
  {
    ChildProcess killed(run("echo $VGPU_DEVICE; exec sleep 60 > /dev/null 2>&1"));
    stale = killed.read_line();
    killed.kill(SIGKILL);
    killed.wait();
  }
  ASSERT_TRUE(fs::exists(stale));
  ChildProcess next(run("exit 0"));
  EXPECT_EQ(WEXITSTATUS(next.wait()), 0);
  EXPECT_FALSE(fs::exists(stale));
}

// A machine of two nodes with a processor each, made up; what is bound is bound really.
std::vector<std::string> on_two_nodes(const std::vector<std::string>& command) {
  std::vector<std::string> words{"/usr/bin/env", "HWLOC_SYNTHETIC=numa:2 core:1 pu:1", "HWLOC_THISSYSTEM=1"};
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

TEST_F(RunTest, KeepsAllThreadsOfTheWorkerOnTheNodeThatWasAskedFor) {
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof allowed, &allowed), 0);
  if (!CPU_ISSET(0, &allowed) || CPU_COUNT(&allowed) < 2) {
    GTEST_SKIP() << "needs processor 0 and another one";
  }
  // The worker is the device's first child.
  const std::string tell =
      "read worker rest < /proc/$PPID/task/$PPID/children; "
      "grep -h Cpus_allowed_list: /proc/$worker/task/*/status | sort -u";
  ChildProcess bound(on_two_nodes(run(tell, {"--numa", "0"})));
  EXPECT_EQ(bound.read_all(), "Cpus_allowed_list:\t0\n");
  ChildProcess off(on_two_nodes(run(tell, {"--numa", "off"})));
  EXPECT_THAT(off.read_all(), AllOf(StartsWith("Cpus_allowed_list:"), Ne("Cpus_allowed_list:\t0\n")));
}

TEST_F(RunTest, RefusesANumaNodeThatIsMissing) {
  ChildProcess program(on_two_nodes(run("exit 0", {"--numa", "2"})), true);
  EXPECT_THAT(program.read_all(), HasSubstr("--numa 2: there is no NUMA node 2"));
  EXPECT_EQ(WEXITSTATUS(program.wait()), 1);
  ChildProcess word(run("exit 0", {"--numa", "near"}), true);
  EXPECT_THAT(word.read_all(), HasSubstr("--numa takes auto, off or the number of a node, and not near"));
  EXPECT_NE(WEXITSTATUS(word.wait()), 0);
}

TEST(Serve, RefusesAPathInUseAndStopsOnSigterm) {
  RegionPath path;
  const std::vector<std::string> command{VGPU_DEVICE_PROGRAM, "--backend", "null", "--path", path.text()};
  ChildProcess first(command, true);
  ASSERT_THAT(first.read_line(), HasSubstr("ready"));
  ChildProcess second(command, true);
  EXPECT_THAT(second.read_line(), HasSubstr("is served by another vgpu-device"));
  EXPECT_EQ(WEXITSTATUS(second.wait()), 1);
  first.kill(SIGTERM);
  EXPECT_THAT(first.read_all(), HasSubstr("vgpu: 0 launches"));
  EXPECT_EQ(WEXITSTATUS(first.wait()), 0);
  EXPECT_FALSE(fs::exists(path.text()));
}

TEST(Serve, RefusesASizeThatIsNoPowerOfTwo) {
  ChildProcess program({VGPU_DEVICE_PROGRAM, "--size", "100M"}, true);
  EXPECT_THAT(program.read_all(), HasSubstr("is not a power of two"));
  EXPECT_NE(WEXITSTATUS(program.wait()), 0);
}

}  // namespace
}  // namespace vgpu::tools
