// A child process with pipes, for tests: killed and reaped at the end whatever happens.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ring/unique_fd.h"

extern char** environ;

namespace vgpu::device::testing {

class ChildProcess {
 public:
  explicit ChildProcess(const std::vector<std::string>& command, bool capture_stderr = false) {
    int in[2];
    int out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    ring::UniqueFd in_read(in[0]);
    ring::UniqueFd out_write(out[1]);
    stdin_.reset(in[1]);
    stdout_.reset(out[0]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    if (capture_stderr) ::posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
    std::vector<char*> arguments;
    for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const int error = ::posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error("cannot start " + command[0]);
  }
  ~ChildProcess() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next line of its output, without the newline; what there was if it ends or 30 s pass.
  std::string read_line() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    for (;;) {
      if (const auto newline = buffer_.find('\n'); newline != std::string::npos) {
        std::string line = buffer_.substr(0, newline);
        buffer_.erase(0, newline + 1);
        return line;
      }
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
      pollfd wait{.fd = stdout_.get(), .events = POLLIN, .revents = 0};
      if (left.count() <= 0 || ::poll(&wait, 1, static_cast<int>(left.count())) <= 0)
        return std::exchange(buffer_, {});
      char bytes[4096];
      const auto got = ::read(stdout_.get(), bytes, sizeof bytes);
      if (got <= 0) return std::exchange(buffer_, {});
      buffer_.append(bytes, static_cast<std::size_t>(got));
    }
  }
  std::string read_all() {
    std::string all;
    for (;;) {
      const std::string line = read_line();
      if (line.empty() && buffer_.empty()) return all;
      all += line + "\n";
    }
  }
  // Nothing once the process was waited for: its id may be another's by then, and -1 means everybody.
  void kill(int signal) {
    if (pid_ > 0) ::kill(pid_, signal);
  }
  bool send(std::string_view text) {
    return ::write(stdin_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  void end_input() { stdin_.reset(); }
  // waitpid's status.
  int wait() {
    stdin_.reset();
    int status = 0;
    if (pid_ > 0) ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  ring::UniqueFd stdin_;
  ring::UniqueFd stdout_;
  std::string buffer_;
};

}  // namespace vgpu::device::testing
