// vgpu-device's supervisor for VMs in a directory of its own, and what a test sees of its guests from
// outside.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ring/region.h"
#include "ring/unique_fd.h"
#include "tests/device/server/child_process.h"
#include "tests/device/server/fake_qemu.h"
#include "tests/device/server/guest.h"

namespace vgpu::device::testing {

inline constexpr uint32_t kVmChannels = 4;  // as vm_supervisor_program.cpp makes them

class VmFixture : public ::testing::Test {
 protected:
  VmFixture() {
    std::string folder = "/dev/shm/vgpu-vm-test-XXXXXX";
    folder_ = ::mkdtemp(folder.data());
  }
  ~VmFixture() override {
    program_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  void start(const std::vector<std::string>& guests) {
    program_ = std::make_unique<ChildProcess>(command(guests));
    ASSERT_EQ(program_->read_line(), "ready");
  }
  std::vector<std::string> command(const std::vector<std::string>& guests) const {
    std::vector<std::string> words{VGPU_TEST_VM_SUPERVISOR, folder_};
    words.insert(words.end(), guests.begin(), guests.end());
    return words;
  }
  std::string region(const std::string& guest) const { return folder_ + "/" + guest + ".bar"; }
  std::string socket(const std::string& guest) const { return folder_ + "/" + guest + ".sock"; }

  // Read and closed again: an open file of the region would pass for a VM.
  ring::RegionHeader header(const std::string& guest) const {
    ring::RegionHeader header{};
    const ring::UniqueFd fd(::open(region(guest).c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(fd.get(), &header, sizeof header, 0), static_cast<ssize_t>(sizeof header));
    return header;
  }
  uint64_t generation(const std::string& guest) const { return header(guest).generation; }
  pid_t worker(const std::string& guest) const { return static_cast<pid_t>(header(guest).status.worker_pid); }
  bool ready(const ring::RegionHeader& header) const {
    return header.magic == ring::kRegionMagic &&
           header.status.device_state == static_cast<uint32_t>(ring::DeviceState::kReady);
  }
  // As testing::eventually, but with time between two looks: they open the file.
  template <typename Holds>
  static bool soon(Holds&& holds, std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  // Whether another worker serves the guest by then, with nothing in use.
  bool replaced(const std::string& guest, uint64_t old_generation) const {
    return soon([&] {
      const auto now = header(guest);
      return ready(now) && now.generation != old_generation && now.status.memory_in_use_bytes == 0;
    });
  }
  bool uses_memory(const std::string& guest) const {
    return soon([&] { return header(guest).status.memory_in_use_bytes == 1u << 20; });
  }
  static bool answers(Guest& guest) {
    return guest.call(protocol::PingRequest{.cookie = 7}).as<protocol::PingReply>().cookie == 7u;
  }

  std::string folder_;
  std::unique_ptr<ChildProcess> program_;
};

}  // namespace vgpu::device::testing
