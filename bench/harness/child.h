// The other side of a benchmark as a process of its own. It dies with its parent, and the parent ends (exit
// status 70, with a word on stderr) when it fails, so that nobody spins for ever on a peer that is gone.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>

namespace vgpu::bench {

// One thread. Fork before threads are started; at most 64 children at a time. Installs a SIGCHLD handler.
class Child {
 public:
  Child() = default;
  // Runs body() in a forked process; what it returns is the exit status, what it throws is printed and is
  // status 1. The child leaves with _exit: no destructor of the parent's objects runs in it. Throws
  // std::system_error.
  static Child start(std::string name, const std::function<int()>& body);

  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), name_(std::move(other.name_)) {}
  Child& operator=(Child&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(name_, other.name_);
    return *this;
  }
  // Kills the process if it still runs.
  ~Child();

  // Waits for its end. False, with a word on stderr, when it did not end with status 0.
  bool join();
  // Kills it and waits; that it died of it is no failure.
  void kill() noexcept;
  bool running() const noexcept { return pid_ > 0; }
  pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_ = -1;
  std::string name_;
};

}  // namespace vgpu::bench
