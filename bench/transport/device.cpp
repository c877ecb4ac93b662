// Starting, watching and stopping the device.
#include "bench/transport/device.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace vgpu::bench {
namespace {

namespace fs = std::filesystem;

constexpr auto kStartTime = std::chrono::seconds(20);

std::string text_of(int file) {
  char text[8192];
  const ssize_t bytes = ::pread(file, text, sizeof(text), 0);
  return {text, bytes > 0 ? static_cast<std::size_t>(bytes) : 0};
}

// Where a run of vgpu-device that finds it left behind removes it.
std::string region_path() {
  static std::atomic<unsigned> number = 0;
  return "/dev/shm/vgpu-run-bench-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
}

[[noreturn]] void run_device(const DeviceOptions& options, const std::string& path, int said) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  std::vector<std::string> words{options.program, "--backend", options.backend, "--path", path};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  ::dup2(said, STDERR_FILENO);
  ::execv(arguments[0], arguments.data());
  std::fprintf(stderr, "cannot run %s: %s\n", arguments[0], std::strerror(errno));
  ::_exit(127);
}

}  // namespace

Device::Device(const DeviceOptions& options)
    : path_(region_path()), said_(::memfd_create("vgpu-device's words", MFD_CLOEXEC)) {
  std::fflush(nullptr);
  supervisor_ = ::fork();
  if (supervisor_ == 0) {
    run_device(options, path_, said_);
  }
  const auto limit = std::chrono::steady_clock::now() + kStartTime;
  while (text_of(said_).find("ready: ") == std::string::npos) {
    siginfo_t ended{};
    if (supervisor_ < 0 || std::chrono::steady_clock::now() > limit ||
        ::waitid(P_PID, static_cast<id_t>(supervisor_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        ended.si_pid != 0) {
      const std::string words = text_of(said_);
      stop();
      throw std::runtime_error("the device does not come up: " + words);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Device::~Device() {
  stop();
}

void Device::stop() noexcept {
  if (supervisor_ > 0) {
    ::kill(supervisor_, SIGTERM);
    while (::waitpid(supervisor_, nullptr, 0) < 0 && errno == EINTR) {
    }
    supervisor_ = -1;
  }
  ::unlink(path_.c_str());
  ::close(said_);
}

pid_t Device::worker() const {
  const std::string supervisor = std::to_string(supervisor_);
  std::ifstream children("/proc/" + supervisor + "/task/" + supervisor + "/children");
  pid_t worker = -1;
  children >> worker;
  return worker;
}

std::vector<pid_t> Device::processes() const {
  const pid_t found = worker();
  if (found <= 0) {
    throw std::runtime_error("the device has no worker process: " + text_of(said_));
  }
  return {supervisor_, found};
}

bool Device::pin_worker(int processor) const {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (processor >= 0) {
    CPU_SET(processor, &set);
  } else {
    ::sched_getaffinity(0, sizeof(set), &set);
  }
  bool all = true;
  std::error_code error;
  for (const auto& thread : fs::directory_iterator("/proc/" + std::to_string(worker()) + "/task", error)) {
    all &= ::sched_setaffinity(std::atoi(thread.path().filename().c_str()), sizeof(set), &set) == 0;
  }
  return all && !error;
}

uint64_t cpu_time_ns(pid_t process) {
  clockid_t clock = 0;
  timespec used{};
  if (const int error = ::clock_getcpuclockid(process, &clock); error != 0) {
    throw std::system_error(error, std::generic_category(),
                            "CPU clock of process " + std::to_string(process));
  }
  if (::clock_gettime(clock, &used) != 0) {
    throw std::system_error(errno, std::generic_category(), "CPU time of process " + std::to_string(process));
  }
  return static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
}

}  // namespace vgpu::bench
