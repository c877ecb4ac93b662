// A fabricated sysfs and /dev/shm in a directory that is removed at the end.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "pci/locate.h"
#include "ring/region.h"

namespace vgpu::pci::test {

inline constexpr uint64_t kRegionBytes = 1 << 20;

class FakeMachine {
 public:
  FakeMachine() {
    std::string pattern = (std::filesystem::temp_directory_path() / "vgpu-pci-test-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    std::filesystem::create_directories(devices());
    std::filesystem::create_directories(shm());
  }
  ~FakeMachine() {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  std::string sysfs() const { return root_ + "/sys"; }
  std::string devices() const { return sysfs() + "/bus/pci/devices"; }
  std::string shm() const { return root_ + "/shm"; }
  std::string path(const std::string& name) const { return root_ + "/" + name; }

  LocateOptions options(const std::string& device = "") const {
    LocateOptions result;
    result.sysfs_root = sysfs();
    result.shm_root = shm();
    result.device = device;
    return result;
  }

  // Of the devices added from now on: where BAR 0 begins in its page, and whether they are ivshmem-doorbell,
  // with a BAR 1.
  uint64_t bar0_offset = 0;
  bool interrupts = false;

  // A PCI function as Linux shows it. BAR 0: 256 bytes, BAR 2: `bar_bytes`, 64-bit and prefetchable.
  std::string add_device(const std::string& address, const std::string& vendor, const std::string& device,
                         uint64_t bar_bytes) const {
    const std::string directory = devices() + "/" + address;
    std::filesystem::create_directories(directory);
    write(directory + "/vendor", vendor + "\n");
    write(directory + "/device", device + "\n");
    write(directory + "/class", "0x050000\n");
    write(directory + "/revision", "0x01\n");
    write(directory + "/subsystem_vendor", "0x1af4\n");
    write(directory + "/subsystem_device", "0x1100\n");
    write(directory + "/irq", "11\n");
    write(directory + "/numa_node", "-1\n");
    std::string resources;
    for (int bar = 0; bar < 7; ++bar) {
      char line[64];
      const uint64_t start = bar == 0                     ? 0xfebf1000 + bar0_offset
                             : bar == 1 && interrupts     ? 0xfebf2000
                             : bar == 2 && bar_bytes != 0 ? 0xfe0000000
                                                          : 0;
      const uint64_t bytes = bar == 0 ? 256 : bar == 1 ? 4096 : bar_bytes;
      const uint64_t flags = bar <= 1 ? 0x40200 : 0x14220c;
      std::snprintf(line, sizeof(line), "0x%016lx 0x%016lx 0x%016lx\n", start,
                    start != 0 ? start + bytes - 1 : 0, start != 0 ? flags : 0);
      resources += line;
    }
    write(directory + "/resource", resources);
    write(directory + "/config", std::string("\xf4\x1a\x10\x11", 4) + std::string(60, '\0'));
    write(directory + "/resource0", std::string(4096, '\0'));
    if (bar_bytes != 0) {
      write(directory + "/resource2", "");
      std::filesystem::resize_file(directory + "/resource2", bar_bytes);
    }
    return directory;
  }
  std::string add_ivshmem(const std::string& address, uint64_t bar_bytes = kRegionBytes) const {
    return add_device(address, "0x1af4", "0x1110", bar_bytes);
  }

  // Puts a region into a file of kRegionBytes.
  static void format(const std::string& path) {
    auto bar = Bar::open_path(path, Access::kReadWrite);
    ASSERT_TRUE(bar.has_value()) << bar.error().text;
    const auto geometry = ring::RegionGeometry::compute({kRegionBytes, 1, 64 << 10, 8, 256});
    const ring::DeviceInfo info{};
    ASSERT_TRUE(ring::format_region(bar->bytes(), *geometry, info, {}).has_value());
  }
  // A region file that no device serves any more.
  std::string add_region_file(const std::string& name) const {
    const std::string file = shm() + "/" + name;
    write(file, "");
    std::filesystem::resize_file(file, kRegionBytes);
    format(file);
    return file;
  }

  static void write(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }

 private:
  std::string root_;
};

}  // namespace vgpu::pci::test
