// A vgpu-device with the software backend as a program of its own, its log and its region as anybody sees
// them, and client programs on it.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "ring/access.h"
#include "ring/region_layout.h"
#include "tests/device/server/child_process.h"
#include "tests/device/server/test_device.h"

namespace vgpu::system_tests {

using device::testing::ChildProcess;
using device::testing::eventually;

inline constexpr uint64_t kDeviceMemory = 512u << 20;

class SystemDevice {
 public:
  SystemDevice() {
    char folder[] = "/tmp/vgpu-system-test-XXXXXX";
    folder_ = ::mkdtemp(folder);
    start();
  }
  ~SystemDevice() {
    unmap();
    program_->kill(SIGTERM);
    program_->wait();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  SystemDevice(const SystemDevice&) = delete;
  SystemDevice& operator=(const SystemDevice&) = delete;

  // Also after the program was killed: another one at the same place.
  void start() {
    unmap();
    program_.emplace(std::vector<std::string>{VGPU_DEVICE_PROGRAM, "--path", path(), "--backend", "software",
                                              "--memory", std::to_string(kDeviceMemory), "--threads", "2",
                                              "--cache-dir", folder_ + "/cache", "--log", log_file()});
    EXPECT_TRUE(comes_back()) << log();
    ready_lines_ = ready_lines();
    map();
    ::setenv("VGPU_DEVICE", path().c_str(), 1);
  }

  const std::string& path() const { return path_.text(); }
  std::string log() const {
    std::stringstream text;
    text << std::ifstream(log_file()).rdbuf();
    return text.str();
  }
  bool logs(const std::string& text) const {
    return eventually([&] { return log().find(text) != std::string::npos; }, std::chrono::seconds(5));
  }
  const ring::DeviceStatus& status() const { return header_->status; }
  uint32_t channels_served() const { return ring::load_relaxed(status().channels_served); }
  uint64_t memory_in_use() const { return ring::load_relaxed(status().memory_in_use_bytes); }
  // Asked while the worker surely lives.
  void kill_worker() const {
    const auto pid = static_cast<pid_t>(ring::load_relaxed(status().worker_pid));
    ASSERT_GT(pid, 1);
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
  }
  // Another worker serves; call once after the death of one.
  bool comes_back() const {
    return eventually([&] { return ready_lines() > ready_lines_; });
  }
  ChildProcess& program() { return *program_; }

  // What `vgpu-probe show --json` says; null if that fails.
  nlohmann::json show() const {
    ChildProcess probe({VGPU_PROBE_PROGRAM, "show", path(), "--json"});
    const std::string text = probe.read_all();
    if (probe.wait() != 0) return nullptr;
    return nlohmann::json::parse(text, nullptr, false);
  }
  // The channel of the process; null if there is none.
  nlohmann::json show_channel(pid_t pid) const {
    const auto all = show();
    if (!all.is_object()) return nullptr;
    for (const auto& channel : all["channels"]) {
      if (channel.contains("owner") && channel["owner"]["pid"] == pid) return channel;
    }
    return nullptr;
  }

 private:
  std::string log_file() const { return folder_ + "/log"; }
  std::size_t ready_lines() const {
    std::size_t lines = 0;
    const std::string text = log();
    for (std::size_t at = 0; (at = text.find("ready", at)) != std::string::npos; ++at) ++lines;
    return lines;
  }
  void map() {
    const int file = ::open(path().c_str(), O_RDONLY | O_CLOEXEC);
    void* memory =
        file < 0 ? MAP_FAILED : ::mmap(nullptr, sizeof(ring::RegionHeader), PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0) ::close(file);
    if (memory == MAP_FAILED) throw std::runtime_error("no region at " + path() + "\n" + log());
    header_ = static_cast<const ring::RegionHeader*>(memory);
  }
  void unmap() {
    if (header_ != nullptr) ::munmap(const_cast<ring::RegionHeader*>(header_), sizeof(ring::RegionHeader));
    header_ = nullptr;
  }

  device::testing::RegionPath path_;
  std::string folder_;
  std::optional<ChildProcess> program_;
  const ring::RegionHeader* header_ = nullptr;
  std::size_t ready_lines_ = 0;
};

class Client {
 public:
  explicit Client(const std::string& kind, const std::string& what = {})
      : process_({VGPU_SYSTEM_CLIENT, kind, what}, true) {}
  std::string line() { return process_.read_line(); }
  bool tell() { return process_.send("\n"); }
  void kill() { process_.kill(SIGKILL); }
  // Exit status, or 128 + signal.
  int end() {
    const int status = process_.wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  pid_t pid() const { return process_.pid(); }

 private:
  ChildProcess process_;
};

// One device, and a second client that must not notice anything.
class SystemTest : public ::testing::Test {
 protected:
  SystemTest() { EXPECT_EQ(bystander_.line(), "fine"); }
  void expect_bystander_works() {
    ASSERT_TRUE(bystander_.tell());
    EXPECT_EQ(bystander_.line(), "fine") << device_.log();
  }
  void SetUp() override { worker_ = ring::load_relaxed(device_.status().worker_pid); }
  // The same worker as at the start serves.
  bool worker_lives() const { return ring::load_relaxed(device_.status().worker_pid) == worker_; }

  SystemDevice device_;
  Client bystander_{"bystander"};
  uint32_t worker_ = 0;
};

}  // namespace vgpu::system_tests
