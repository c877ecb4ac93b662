// The window of device/software/kernel_abi.h as a reservation of this process: all device addresses lie in
// it, everything not committed faults. One per process, since its address is fixed. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

#include "device/error.h"
#include "device/software/kernel_abi.h"
#include "device/software/runtime/address_space.h"

namespace vgpu::software {

using device::Error;
using device::Result;
using protocol::Status;

inline constexpr uint64_t kPageBytes = 4096;
// Ranges of the window are handed out in units of this; also the granularity of virtual memory management.
inline constexpr uint64_t kWindowGranule = uint64_t{2} << 20;

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

enum class PageAccess : uint8_t { kNone, kRead, kReadWrite };

class DeviceWindow {
 public:
  // Fails if another window exists in this process, or something else lies there (ThreadSanitizer does).
  static Result<std::unique_ptr<DeviceWindow>> reserve();
  ~DeviceWindow();
  DeviceWindow(const DeviceWindow&) = delete;
  DeviceWindow& operator=(const DeviceWindow&) = delete;

  // Addresses. `bytes` is rounded up to kWindowGranule, here and in release_range.
  Result<uint64_t> take_range(uint64_t bytes, uint64_t alignment = kWindowGranule);
  bool take_range_at(uint64_t address, uint64_t bytes);
  // Unmaps whatever is there, then gives the addresses back.
  void release_range(uint64_t address, uint64_t bytes);

  // Pages, in ranges that were taken. Page-granular.
  Result<void> commit(uint64_t address, uint64_t bytes);    // zeroed, readable and writable
  Result<void> decommit(uint64_t address, uint64_t bytes);  // contents gone, access faults
  Result<void> map_file(uint64_t address, uint64_t bytes, int file, uint64_t offset, PageAccess access);
  Result<void> protect(uint64_t address, uint64_t bytes, PageAccess access);

  static constexpr bool contains(uint64_t address) {
    return address - kDeviceWindowBase < kDeviceWindowBytes;
  }

 private:
  DeviceWindow();
  std::mutex mutex_;
  AddressSpace addresses_;
};

// A taken range that gives itself back.
class WindowRange {
 public:
  WindowRange() = default;
  static Result<WindowRange> take(DeviceWindow& window, uint64_t bytes, uint64_t alignment = kWindowGranule);
  ~WindowRange() { reset(); }
  WindowRange(WindowRange&& other) noexcept { *this = std::move(other); }
  WindowRange& operator=(WindowRange&& other) noexcept;
  [[nodiscard]] uint64_t address() const { return address_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  void reset();
  // Gives up ownership: the addresses stay taken.
  uint64_t release();

 private:
  DeviceWindow* window_ = nullptr;
  uint64_t address_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace vgpu::software
