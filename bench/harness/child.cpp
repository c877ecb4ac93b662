// Forking, watching and reaping peers.
#include "bench/harness/child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <system_error>

namespace vgpu::bench {
namespace {

// Children whose failure ends this process. Written by the one thread that owns them, read by the signal
// handler.
std::array<volatile pid_t, 64> watched{};

void on_child(int /*signal*/) {
  const int saved = errno;
  for (const volatile pid_t& slot : watched) {
    const pid_t pid = slot;
    siginfo_t info{};
    if (pid <= 0 || ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid == 0 || (info.si_code == CLD_EXITED && info.si_status == 0)) {
      continue;
    }
    static constexpr char kWords[] = "the benchmark's peer process failed: this run is worth nothing\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords, sizeof(kWords) - 1);
    ::_exit(70);
  }
  errno = saved;
}

void watch(pid_t pid) {
  struct sigaction action{};
  action.sa_handler = on_child;
  action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
  ::sigaction(SIGCHLD, &action, nullptr);
  for (volatile pid_t& slot : watched) {
    if (slot == 0) {
      slot = pid;
      break;
    }
  }
  on_child(SIGCHLD);  // it may have ended before it was watched
}

void unwatch(pid_t pid) noexcept {
  for (volatile pid_t& slot : watched) {
    if (slot == pid) {
      slot = 0;
    }
  }
}

[[noreturn]] void run_child(pid_t parent, const std::string& name, const std::function<int()>& body) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) {
    ::_exit(1);  // the parent died before it could be watched
  }
  ::signal(SIGCHLD, SIG_DFL);
  for (volatile pid_t& slot : watched) {
    slot = 0;
  }
  int status = 1;
  try {
    status = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
  }
  std::fflush(nullptr);
  ::_exit(status);
}

}  // namespace

Child Child::start(std::string name, const std::function<int()>& body) {
  std::fflush(nullptr);  // or the child prints it again
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    throw std::system_error(errno, std::generic_category(), "fork of " + name);
  }
  if (pid == 0) {
    run_child(parent, name, body);
  }
  Child child;
  child.pid_ = pid;
  child.name_ = std::move(name);
  watch(pid);
  return child;
}

bool Child::join() {
  if (!running()) {
    return true;
  }
  unwatch(pid_);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return true;
  }
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "%s: ended by signal %d (%s)\n", name_.c_str(), WTERMSIG(status),
                 ::strsignal(WTERMSIG(status)));
  } else {
    std::fprintf(stderr, "%s: ended with status %d\n", name_.c_str(), WEXITSTATUS(status));
  }
  return false;
}

void Child::kill() noexcept {
  if (!running()) {
    return;
  }
  unwatch(pid_);
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

Child::~Child() {
  kill();
}

}  // namespace vgpu::bench
