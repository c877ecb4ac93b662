// A device in the test's own process: region file, fake backend, server, and a thread that ticks it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "device/server/device_server.h"
#include "tests/device/server/fake_backend.h"

namespace vgpu::device::testing {

// A path in shared memory that is the caller's alone; removed at the end.
class RegionPath {
 public:
  RegionPath() {
    static std::atomic<int> next{0};
    path_ = "/dev/shm/vgpu-test-" + std::to_string(::getpid()) + "-" + std::to_string(next++);
  }
  ~RegionPath() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  RegionPath(const RegionPath&) = delete;
  RegionPath& operator=(const RegionPath&) = delete;
  const std::string& text() const { return path_; }

 private:
  std::string path_;
};

// Looks until it holds or the limit is over: what a test waits for, with an end.
inline bool eventually(const std::function<bool()>& holds,
                       std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

class TestDevice {
 public:
  static constexpr uint64_t kRegionBytes = 16u << 20;

  explicit TestDevice(uint32_t channels = 4, uint32_t ring_bytes = 64u << 10) {
    auto bar = pci::Bar::create_file(path_.text(), kRegionBytes, 0);
    if (!bar) throw std::runtime_error(bar.error().text);
    bar_ = std::move(*bar);
    DeviceServerOptions options;
    options.geometry = default_geometry(kRegionBytes, channels);
    options.geometry.ring_bytes = ring_bytes;
    options.channel.max_image_bytes = 1u << 20;
    auto server = DeviceServer::create(bar_, backend, options);
    if (!server) throw std::runtime_error(server.error().reason);
    server_ = std::move(*server);
    server_->start();
    ticker_ = std::thread([this] {
      while (!stop_.load()) {
        server_->tick();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  ~TestDevice() {
    stop_ticking();
    server_->stop("the test ends");
  }
  void stop_ticking() {
    stop_ = true;
    if (ticker_.joinable()) ticker_.join();
  }

  const std::string& path() const { return path_.text(); }
  // After stop_ticking().
  DeviceServer& server() { return *server_; }
  const ring::RegionHeader& header() const {
    return *reinterpret_cast<const ring::RegionHeader*>(bar_.bytes().data());
  }
  uint32_t channels_served() const { return ring::load_relaxed(header().status.channels_served); }

  FakeBackend backend;

 private:
  RegionPath path_;
  pci::Bar bar_;
  std::unique_ptr<DeviceServer> server_;
  std::atomic<bool> stop_{false};
  std::thread ticker_;
};

}  // namespace vgpu::device::testing
