// vgpu-device --guest as its user sees it: names, files, who may open them, and what it says.
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/device/server/child_process.h"
#include "tests/device/server/fake_qemu.h"
#include "tests/device/server/guest.h"

namespace vgpu::tools {
namespace {

using device::testing::ChildProcess;
using device::testing::FakeQemu;
using device::testing::Guest;
using ::testing::AllOf;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

class GuestsTest : public ::testing::Test {
 protected:
  GuestsTest() {
    std::string folder = "/dev/shm/vgpu-guests-test-XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    directory_ = folder_ / "guests";
  }
  ~GuestsTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  std::unique_ptr<ChildProcess> device(const std::vector<std::string>& options) const {
    std::vector<std::string> command{VGPU_DEVICE_PROGRAM,         "--backend", "null", "--guests-dir",
                                     directory_.string(),         "--size",    "32M",  "--cache-dir",
                                     (folder_ / "cache").string()};
    command.insert(command.end(), options.begin(), options.end());
    return std::make_unique<ChildProcess>(command, true);
  }
  // The lines until one that contains `text`, that one included; empty if it never comes.
  static std::string read_until(ChildProcess& program, const std::string& text) {
    std::string all;
    for (;;) {
      const std::string line = program.read_line();
      if (line.empty()) return {};
      all += line + "\n";
      if (line.find(text) != std::string::npos) return all;
    }
  }
  std::string refusal(const std::vector<std::string>& options) const {
    const auto program = device(options);
    const std::string words = program->read_all();
    const int status = program->wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 0) << status;
    return words;
  }
  std::string region(const std::string& name) const { return (directory_ / (name + ".bar")).string(); }
  std::string socket(const std::string& name) const { return (directory_ / (name + ".sock")).string(); }
  mode_t mode(const fs::path& path) const {
    struct stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777;
  }

  fs::path folder_;
  fs::path directory_;
};

TEST_F(GuestsTest, ServesEachByAFileAndASocketAndSaysWhatQemuTakes) {
  const auto program = device({"--guest", "web", "--guest", "db-1.test", "--channels", "4"});
  const std::string words = read_until(*program, "guest db-1.test: QEMU takes");
  EXPECT_THAT(words,
              AllOf(HasSubstr("guest web: QEMU takes -object memory-backend-file,id=vgpu,share=on,mem-path=" +
                              region("web") + ",size=33554432 -device ivshmem-plain,memdev=vgpu"),
                    HasSubstr("-chardev socket,id=vgpu,path=" + socket("web") +
                              " -device ivshmem-doorbell,chardev=vgpu,vectors=4")));
  EXPECT_EQ(mode(directory_), 0755u);
  for (const char* name : {"web", "db-1.test"}) {
    EXPECT_EQ(mode(region(name)), 0600u);
    EXPECT_EQ(mode(socket(name)), 0600u);
    EXPECT_EQ(fs::file_size(region(name)), 32u << 20);
    EXPECT_TRUE(fs::is_directory(folder_ / "cache" / "guests" / name)) << "compiled kernels are its own";
    auto guest = Guest::attach(region(name));
    ASSERT_TRUE(guest) << guest.error().text;
    EXPECT_EQ((*guest)->call(protocol::PingRequest{.cookie = 3}).as<protocol::PingReply>().cookie, 3u);
  }
  EXPECT_TRUE(FakeQemu::connect(socket("web"), 4));
  program->kill(SIGTERM);
  EXPECT_THAT(program->read_all(), AllOf(HasSubstr("guest web: vgpu: 0 launches"),
                                         HasSubstr("guest db-1.test: vgpu: 0 launches")));
  EXPECT_EQ(WEXITSTATUS(program->wait()), 0);
  EXPECT_TRUE(fs::exists(region("web")));
  EXPECT_FALSE(fs::exists(socket("web")));
}

TEST_F(GuestsTest, LimitsAreEachGuests) {
  const auto program = device({"--guest", "a", "--guest", "b", "--memory", "64M"});
  ASSERT_FALSE(read_until(*program, "guest b: QEMU takes").empty());
  for (const char* name : {"a", "b"}) {
    auto guest = Guest::attach(region(name));
    ASSERT_TRUE(guest) << guest.error().text;
    EXPECT_EQ((*guest)->call(protocol::MemAllocRequest{.bytes = 48u << 20}).status,
              protocol::Status::kSuccess);
    EXPECT_EQ((*guest)->call(protocol::MemAllocRequest{.bytes = 48u << 20}).status,
              protocol::Status::kOutOfMemory);
  }
}

TEST_F(GuestsTest, RefusesNamesThatAreNoFileNames) {
  EXPECT_THAT(refusal({"--guest", "../etc"}), HasSubstr("the guest's name ../etc begins with a dot"));
  EXPECT_THAT(refusal({"--guest", "a/b"}), HasSubstr("may hold letters, digits"));
  EXPECT_THAT(refusal({"--guest", ".hidden"}), HasSubstr("begins with a dot"));
  EXPECT_THAT(refusal({"--guest", "new\nline"}), HasSubstr("may hold letters, digits"));
  EXPECT_THAT(refusal({"--guest", std::string(65, 'x')}), HasSubstr("has 65 characters: at most 64"));
  EXPECT_THAT(refusal({"--guest", ""}), HasSubstr("a guest needs a name"));
  EXPECT_FALSE(fs::exists(directory_));
}

TEST_F(GuestsTest, RefusesOptionsThatDoNotGoTogether) {
  EXPECT_THAT(refusal({"--guest", "a", "--guest", "a"}), HasSubstr("guest a is named twice"));
  EXPECT_THAT(refusal({"--guest", "a", "--path", "/tmp/x"}), HasSubstr("--guests-dir, and no --path"));
  EXPECT_THAT(refusal({"--guest", "a", "run", "--", "true"}), HasSubstr("no --guest"));
  EXPECT_THAT(refusal({"--guest-group", "root"}), HasSubstr("name one with --guest"));
}

TEST_F(GuestsTest, OpensTheFilesToAGroupOnRequest) {
  const group* own = ::getgrgid(::getegid());
  if (own == nullptr) GTEST_SKIP() << "this process's group has no name";
  const std::string name = own->gr_name;
  const auto program = device({"--guest", "a", "--guest-group", name});
  ASSERT_FALSE(read_until(*program, "QEMU takes").empty());
  EXPECT_EQ(mode(region("a")), 0660u);
  EXPECT_EQ(mode(socket("a")), 0660u);
}

TEST_F(GuestsTest, AGroupThatIsNotThereIsAnErrorThatSaysWhatToDo) {
  EXPECT_THAT(refusal({"--guest", "a", "--guest-group", "no-such-group"}),
              HasSubstr("there is no group no-such-group on this machine: make it with \"groupadd"));
}

TEST_F(GuestsTest, RefusesADirectoryThatOthersMayWriteTo) {
  fs::create_directory(directory_);
  ASSERT_EQ(::chmod(directory_.c_str(), 0777), 0);
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("others may replace files in the guests' directory"));
  // As /dev/shm itself is: nobody can put another file in the place of ours.
  ASSERT_EQ(::chmod(directory_.c_str(), 01777), 0);
  const auto program = device({"--guest", "a"});
  EXPECT_FALSE(read_until(*program, "QEMU takes").empty());
}

TEST_F(GuestsTest, RefusesADirectoryThatIsASymbolicLinkOrAnotherUsers) {
  fs::create_directory(folder_ / "elsewhere");
  fs::create_symlink(folder_ / "elsewhere", directory_);
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("cannot be opened"));
  EXPECT_TRUE(fs::is_empty(folder_ / "elsewhere"));
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make another user's directory";
  fs::remove(directory_);
  fs::create_directory(directory_);
  ASSERT_EQ(::chown(directory_.c_str(), 12345, 12345), 0);
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("belongs to user 12345: name another one"));
}

TEST_F(GuestsTest, RefusesForeignThingsInThePlacesOfItsFiles) {
  fs::create_directory(directory_);
  std::ofstream(region("a")) << "words";
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("has 5 bytes and not 33554432"));
  EXPECT_EQ(fs::file_size(region("a")), 5u);
  fs::remove(region("a"));
  fs::create_symlink("/etc/hostname", region("a"));
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("is a symbolic link: not following it"));
  fs::remove(region("a"));
  std::ofstream(socket("a")) << "words";
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("exists and is not a socket: remove it"));
  EXPECT_TRUE(fs::exists(socket("a")));
}

TEST_F(GuestsTest, ASocketPathThatIsTooLongIsAnErrorThatSaysSo) {
  directory_ = folder_ / std::string(90, 'd');
  EXPECT_THAT(refusal({"--guest", "a"}), HasSubstr("choose a shorter --guests-dir"));
}

TEST_F(GuestsTest, AKilledDeviceIsStartedAgainOnTheSameFiles) {
  auto first = device({"--guest", "a"});
  ASSERT_FALSE(read_until(*first, "QEMU takes").empty());
  struct stat before{};
  ASSERT_EQ(::stat(region("a").c_str(), &before), 0);
  first->kill(SIGKILL);
  first->wait();
  ASSERT_TRUE(fs::exists(socket("a"))) << "nobody could remove it";
  const auto next = device({"--guest", "a"});
  ASSERT_FALSE(read_until(*next, "QEMU takes").empty());
  struct stat now{};
  ASSERT_EQ(::stat(region("a").c_str(), &now), 0);
  EXPECT_EQ(now.st_ino, before.st_ino);
  EXPECT_TRUE(FakeQemu::connect(socket("a"), 16));
}

}  // namespace
}  // namespace vgpu::tools
