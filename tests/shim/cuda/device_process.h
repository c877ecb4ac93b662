// Starts the test device, or any program, and reads what it says.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace vgpu::shim::testing {

class Process {
 public:
  // `environment`: NAME=value, beside what is inherited.
  explicit Process(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment = {}) {
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::vector<char*> arguments;
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    std::vector<char*> variables;
    for (const std::string& variable : environment) variables.push_back(const_cast<char*>(variable.c_str()));
    for (char** variable = ::environ; *variable != nullptr; ++variable) variables.push_back(*variable);
    variables.push_back(nullptr);
    if (::posix_spawn(&pid_, command[0].c_str(), &actions, nullptr, arguments.data(), variables.data()) != 0)
      pid_ = -1;
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(ends[1]);
    output_ = ::fdopen(ends[0], "r");
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    if (output_ != nullptr) std::fclose(output_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // The next line without its end; empty at the end of the output.
  std::string line() {
    char text[512] = {};
    if (output_ == nullptr || std::fgets(text, sizeof(text), output_) == nullptr) return {};
    std::string line(text);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    return line;
  }
  // Nothing once the process was waited for: its id may be another's by then, and -1 means everybody.
  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  // Exit status, or 128 + signal.
  int wait() {
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, 0) != pid_) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  std::FILE* output_ = nullptr;
};

// A device of the test's own.
class Device {
 public:
  Device()
      : path_("/dev/shm/vgpu-cuda-test-" + std::to_string(::getpid())), process_({VGPU_TEST_DEVICE, path_}) {
    const std::string said = process_.line();
    if (std::sscanf(said.c_str(), "ready %d", &worker_) != 1) {
      ADD_FAILURE() << "the test device does not start: " << said;
    }
  }
  ~Device() {
    process_.signal(SIGTERM);
    process_.wait();
    ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }
  std::string variable() const { return "VGPU_DEVICE=" + path_; }
  // The worker's process id is told once, while it is surely the worker's.
  void kill_worker() const {
    if (worker_ > 0) ::kill(worker_, SIGKILL);
  }
  bool worker_is_gone() const { return worker_ <= 0 || ::kill(worker_, 0) != 0; }
  Process& process() { return process_; }

 private:
  std::string path_;
  Process process_;
  int worker_ = 0;
};

}  // namespace vgpu::shim::testing
