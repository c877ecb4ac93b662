// The sandbox from inside: a child locks itself in and tries what it must not do.
#include "device/server/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <thread>

namespace vgpu::device {
namespace {

constexpr int kHeld = 0;

// Runs `attempt` in a confined child; its return value is the child's exit status.
int confined(const SandboxOptions& options, const std::function<int()>& attempt, bool files = false) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    if (!drop_privileges(parent)) ::_exit(100);
    if (files) {
      const auto done = confine_files(options);
      if (!done) ::_exit(101);
      if (!*done) ::_exit(77);  // no Landlock here
    }
    if (!confine_system_calls()) ::_exit(102);
    ::_exit(attempt());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(Sandbox, NoSockets) {
  EXPECT_EQ(
      confined({}, [] { return ::socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EPERM ? kHeld : 1; }),
      kHeld);
  EXPECT_EQ(
      confined({}, [] { return ::socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EPERM ? kHeld : 1; }),
      kHeld);
}

TEST(Sandbox, NoOtherPrograms) {
  EXPECT_EQ(confined({},
                     [] {
                       ::execl("/bin/true", "true", nullptr);
                       return errno == EPERM ? kHeld : 1;
                     }),
            kHeld);
}

TEST(Sandbox, NoNewProcesses) {
  EXPECT_EQ(confined({},
                     [] {
                       const pid_t child = ::fork();
                       if (child == 0) ::_exit(0);
                       return child == -1 && errno == EPERM ? kHeld : 1;
                     }),
            kHeld);
}

TEST(Sandbox, NoSignalsToOthersAndNoDebugging) {
  EXPECT_EQ(confined({}, [] { return ::kill(::getppid(), 0) == -1 && errno == EPERM ? kHeld : 1; }), kHeld);
  EXPECT_EQ(confined({},
                     [] {
                       return ::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr) == -1 && errno == EPERM
                                  ? kHeld
                                  : 1;
                     }),
            kHeld);
}

TEST(Sandbox, FilesAreTheNamedOnesAlone) {
  char folder[] = "/tmp/vgpu-sandbox-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string inside = std::string(folder) + "/inside";
  const std::string outside = std::string(folder) + ".outside";
  SandboxOptions options;
  options.writable = {folder};
  const int status = confined(
      options,
      [&] {
        if (::open(outside.c_str(), O_CREAT | O_WRONLY, 0600) != -1 || errno != EACCES) return 1;
        if (::open("/etc/passwd", O_RDONLY) != -1 || errno != EACCES) return 2;
        const int fd = ::open(inside.c_str(), O_CREAT | O_WRONLY, 0600);
        if (fd == -1 || ::write(fd, "x", 1) != 1) return 3;
        if (::rename(inside.c_str(), (inside + "2").c_str()) != 0) return 4;
        return kHeld;
      },
      true);
  std::filesystem::remove_all(folder);
  std::filesystem::remove(outside);
  if (status == 77) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(status, kHeld);
}

#if !defined(__SANITIZE_THREAD__)
TEST(Sandbox, ThreadsStartAndAbortStillEndsTheProcess) {
  EXPECT_EQ(confined({},
                     [] {
                       int answer = 1;
                       std::thread([&] { answer = kHeld; }).join();
                       return answer;
                     }),
            kHeld);
  EXPECT_EQ(confined({}, []() -> int { std::abort(); }), 128 + SIGABRT);
}
#endif

}  // namespace
}  // namespace vgpu::device
