// See physical_store.h.
#include "device/software/runtime/physical_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace vgpu::software {

PhysicalStore::PhysicalStore(int file) : file_(file), offsets_(0, kDeviceWindowBytes) {}

PhysicalStore::~PhysicalStore() {
  ::close(file_);
}

Result<std::unique_ptr<PhysicalStore>> PhysicalStore::create() {
  const int file = ::memfd_create("vgpu-physical", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(kDeviceWindowBytes)) != 0) {
    const int number = errno;
    if (file >= 0) ::close(file);
    return std::unexpected(
        Error{Status::kOperatingSystem,
              fmt::format("create the file of physical memory: {}", std::strerror(number))});
  }
  return std::unique_ptr<PhysicalStore>(new PhysicalStore(file));
}

Result<uint64_t> PhysicalStore::take(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto offset = offsets_.take(bytes, kWindowGranule);
  if (!offset) {
    return std::unexpected(Error{Status::kOutOfMemory, fmt::format("{} bytes of physical memory", bytes)});
  }
  return *offset;
}

void PhysicalStore::give_back(uint64_t offset, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  // A segment whose old contents could not be dropped is not handed out again: another context may be next.
  if (::fallocate(file_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(bytes)) != 0) {
    return;
  }
  offsets_.give_back(offset, bytes);
}

}  // namespace vgpu::software
