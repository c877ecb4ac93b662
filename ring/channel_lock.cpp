// Locks on bytes of the region's file.
#include "ring/channel_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "ring/region_layout.h"

namespace vgpu::ring {
namespace {

struct flock byte_range(uint64_t offset) {
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(offset);
  range.l_len = 1;
  return range;
}

// 0, or errno.
int try_lock(int fd, uint64_t offset) {
  struct flock range = byte_range(offset);
  int result = 0;
  do {
    result = ::fcntl(fd, F_OFD_SETLK, &range);
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

bool is_conflict(int error_number) {
  return error_number == EAGAIN || error_number == EACCES;
}

}  // namespace

std::expected<ByteLock, Error> ByteLock::take(UniqueFd fd, uint64_t offset) {
  const int error_number = try_lock(fd.get(), offset);
  if (error_number == 0) {
    return ByteLock(std::move(fd), offset);
  }
  const std::string what = "locking byte " + std::to_string(offset) + " of the region's file";
  if (is_conflict(error_number)) {
    return std::unexpected(Error{ErrorCode::kBusy, what + ": another process holds it", error_number});
  }
  return std::unexpected(system_error(what, error_number));
}

std::expected<ByteLock, Error> ByteLock::take_free_channel(UniqueFd fd, uint32_t channel_count,
                                                           uint64_t usable) {
  static_assert(kMaxChannels <= 64);
  for (uint32_t channel = 0; channel < channel_count; ++channel) {
    if ((usable >> channel & 1) == 0) {
      continue;
    }
    const int error_number = try_lock(fd.get(), kChannelLockBase + channel);
    if (error_number == 0) {
      return ByteLock(std::move(fd), kChannelLockBase + channel);
    }
    if (!is_conflict(error_number)) {
      return std::unexpected(
          system_error("locking channel " + std::to_string(channel) + " of the region's file", error_number));
    }
  }
  return std::unexpected(
      Error{ErrorCode::kNoFreeChannel,
            "all " + std::to_string(channel_count) + " channels of the device are owned by other processes"});
}

uint32_t ByteLock::channel() const noexcept {
  return static_cast<uint32_t>(offset_ - kChannelLockBase);
}

UniqueFd ByteLock::give_up() noexcept {
  unlock_byte(fd_.get(), offset_);
  return std::move(fd_);
}

LockDomain lock_domain(int fd) noexcept {
  LockDomain domain;
  struct stat status{};
  if (::fstat(fd, &status) == 0) {
    domain.device = static_cast<uint64_t>(status.st_dev);
  }
  // 32 hexadecimal digits and four dashes; half of them tell two boots apart.
  char text[37] = {};
  const UniqueFd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (file && ::read(file.get(), text, 36) == 36) {
    for (int i = 0, digits = 0; i < 36 && digits < 16; ++i) {
      if (text[i] != '-') {
        const char c = text[i];
        domain.boot = domain.boot << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
        ++digits;
      }
    }
  }
  return domain;
}

bool try_lock_byte(int fd, uint64_t offset) noexcept {
  return try_lock(fd, offset) == 0;
}

void unlock_byte(int fd, uint64_t offset) noexcept {
  struct flock range = byte_range(offset);
  range.l_type = F_UNLCK;
  ::fcntl(fd, F_OFD_SETLK, &range);
}

LockState probe_byte_lock(int fd, uint64_t offset) noexcept {
  struct flock range = byte_range(offset);
  if (::fcntl(fd, F_OFD_GETLK, &range) != 0) {
    return LockState::kUnknown;
  }
  return range.l_type == F_UNLCK ? LockState::kFree : LockState::kHeld;
}

LockState probe_channel_lock(int fd, uint32_t channel) noexcept {
  return probe_byte_lock(fd, kChannelLockBase + channel);
}

LockState probe_device_lock(int fd) noexcept {
  return probe_byte_lock(fd, kDeviceLockByte);
}

}  // namespace vgpu::ring
