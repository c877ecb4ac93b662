// See device_window.h.
#include "device/software/runtime/device_window.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace vgpu::software {
namespace {

void* pointer(uint64_t address) {
  return reinterpret_cast<void*>(address);
}

int protection(PageAccess access) {
  switch (access) {
    case PageAccess::kNone:
      return PROT_NONE;
    case PageAccess::kRead:
      return PROT_READ;
    case PageAccess::kReadWrite:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

std::unexpected<Error> system_error(const char* what, uint64_t address, uint64_t bytes) {
  const int number = errno;
  return std::unexpected(
      Error{number == ENOMEM ? Status::kOutOfMemory : Status::kOperatingSystem,
            fmt::format("{} of {} bytes at {:#x}: {}", what, bytes, address, std::strerror(number))});
}

constexpr uint64_t kReserved = kDeviceWindowBytes + kDeviceWindowGuardBytes;

}  // namespace

// The first granule is never handed out, so that small offsets from a null-like base fault.
DeviceWindow::DeviceWindow()
    : addresses_(kDeviceWindowBase + kWindowGranule, kDeviceWindowBytes - kWindowGranule) {}

Result<std::unique_ptr<DeviceWindow>> DeviceWindow::reserve() {
  void* wanted = pointer(kDeviceWindowBase);
  void* got = ::mmap(wanted, kReserved, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) {
    const int number = errno;
    return std::unexpected(
        Error{Status::kOperatingSystem,
              fmt::format(
                  "reserve the device window, {:#x} bytes at {:#x}: {}{}", kReserved, kDeviceWindowBase,
                  std::strerror(number),
                  number == EEXIST ? " (another backend of this process, or a sanitizer, lies there)" : "")});
  }
  if (got != wanted) {  // a kernel older than MAP_FIXED_NOREPLACE takes the address as a hint
    ::munmap(got, kReserved);
    return std::unexpected(
        Error{Status::kOperatingSystem,
              fmt::format("reserve the device window: {:#x} is taken", kDeviceWindowBase)});
  }
  ::madvise(got, kReserved, MADV_DONTDUMP);
  return std::unique_ptr<DeviceWindow>(new DeviceWindow);
}

DeviceWindow::~DeviceWindow() {
  ::munmap(pointer(kDeviceWindowBase), kReserved);
}

Result<uint64_t> DeviceWindow::take_range(uint64_t bytes, uint64_t alignment) {
  if (bytes == 0 || bytes > kDeviceWindowBytes) {
    return std::unexpected(
        Error{bytes == 0 ? Status::kInvalidValue : Status::kOutOfMemory,
              fmt::format("a range of {} bytes in a window of {}", bytes, kDeviceWindowBytes)});
  }
  const std::lock_guard lock(mutex_);
  const auto address = addresses_.take(round_up(bytes, kWindowGranule),
                                       alignment < kWindowGranule ? kWindowGranule : alignment);
  if (!address) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("no {} consecutive device addresses are free", bytes)});
  }
  return *address;
}

bool DeviceWindow::take_range_at(uint64_t address, uint64_t bytes) {
  if (address % kWindowGranule != 0 || bytes == 0 || bytes > kDeviceWindowBytes) return false;
  const std::lock_guard lock(mutex_);
  return addresses_.take_at(address, round_up(bytes, kWindowGranule));
}

void DeviceWindow::release_range(uint64_t address, uint64_t bytes) {
  const uint64_t size = round_up(bytes, kWindowGranule);
  // Addresses that could not be unmapped must not be handed out again.
  if (!decommit(address, size)) return;
  const std::lock_guard lock(mutex_);
  addresses_.give_back(address, size);
}

Result<void> DeviceWindow::commit(uint64_t address, uint64_t bytes) {
  void* got = ::mmap(pointer(address), round_up(bytes, kPageBytes), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (got == MAP_FAILED) return system_error("commit", address, bytes);
  // Fewer faults at first touch, and a copy's loads are prefetched across what would be the ends of pages. A
  // kernel that cannot does as well without.
  ::madvise(got, round_up(bytes, kPageBytes), MADV_HUGEPAGE);
  return {};
}

Result<void> DeviceWindow::decommit(uint64_t address, uint64_t bytes) {
  void* got = ::mmap(pointer(address), round_up(bytes, kPageBytes), PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (got == MAP_FAILED) return system_error("unmap", address, bytes);
  return {};
}

Result<void> DeviceWindow::map_file(uint64_t address, uint64_t bytes, int file, uint64_t offset,
                                    PageAccess access) {
  void* got = ::mmap(pointer(address), round_up(bytes, kPageBytes), protection(access),
                     MAP_SHARED | MAP_FIXED, file, static_cast<off_t>(offset));
  if (got == MAP_FAILED) return system_error("map a file", address, bytes);
  return {};
}

Result<void> DeviceWindow::protect(uint64_t address, uint64_t bytes, PageAccess access) {
  if (::mprotect(pointer(address), round_up(bytes, kPageBytes), protection(access)) != 0) {
    return system_error("set the access", address, bytes);
  }
  return {};
}

Result<WindowRange> WindowRange::take(DeviceWindow& window, uint64_t bytes, uint64_t alignment) {
  const auto address = window.take_range(bytes, alignment);
  if (!address) return std::unexpected(address.error());
  WindowRange range;
  range.window_ = &window;
  range.address_ = *address;
  range.bytes_ = bytes;
  return range;
}

WindowRange& WindowRange::operator=(WindowRange&& other) noexcept {
  if (this == &other) return *this;
  reset();
  window_ = std::exchange(other.window_, nullptr);
  address_ = std::exchange(other.address_, 0);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

uint64_t WindowRange::release() {
  window_ = nullptr;
  return std::exchange(address_, 0);
}

void WindowRange::reset() {
  if (window_ != nullptr) window_->release_range(address_, bytes_);
  window_ = nullptr;
  address_ = bytes_ = 0;
}

}  // namespace vgpu::software
