// Open-file-description locks on single bytes of the region's file: who owns a channel, and whether a device
// serves the region. The kernel drops such a lock when the last descriptor of the open file closes, so it
// outlives no process, `kill -9` included. What can go wrong: fork() shares the open file, so a child keeps
// its parent's lock alive until it closes the descriptor (open with O_CLOEXEC;
// ChannelClaim::abandon_after_fork). Locks are advisory, cost one system call each, and are never taken on
// the hot path.
#pragma once

#include <cstdint>
#include <expected>

#include "ring/error.h"
#include "ring/unique_fd.h"

namespace vgpu::ring {

enum class LockState : uint32_t {
  kFree,
  kHeld,
  kUnknown,  // this side cannot see the other side's locks (a VM's are the guest kernel's), or the query
             // failed
};

// Which locks see each other. sysfs is a file system of its own in each network namespace, so processes of
// two containers lock the same BAR and never meet: a lock that looks free there says nothing of the other's
// owner.
struct LockDomain {
  uint64_t boot = 0;    // of the kernel, by its boot id; 0: not to be had
  uint64_t device = 0;  // the file system that the locked file is on

  // Whether a free lock means, to who is in this domain, that an owner in `owner`'s is dead.
  bool judges(const LockDomain& owner) const noexcept {
    return owner.device == device || (owner.boot != boot && owner.boot != 0 && boot != 0);
  }
};
// Of locks taken on `fd`. What the system does not say stays 0. Reads a file of /proc: not for the hot path.
LockDomain lock_domain(int fd) noexcept;

// A held lock; destroying it closes the descriptor, which releases the lock. Any thread, one at a time.
class ByteLock {
 public:
  ByteLock() = default;
  // Locks byte `offset` of `fd`, which must be open for writing and is this lock's alone (its own open(), not
  // a dup). Does not wait: kBusy when another open file holds it.
  static std::expected<ByteLock, Error> take(UniqueFd fd, uint64_t offset);
  // Locks the byte of the first free channel below `channel_count` that `usable` (bit i: channel i) names;
  // kNoFreeChannel when all are held.
  static std::expected<ByteLock, Error> take_free_channel(UniqueFd fd, uint32_t channel_count,
                                                          uint64_t usable = ~uint64_t{0});

  bool held() const noexcept { return static_cast<bool>(fd_); }
  uint64_t offset() const noexcept { return offset_; }
  uint32_t channel() const noexcept;  // for a lock of take_free_channel
  int fd() const noexcept { return fd_.get(); }
  void release() noexcept { fd_.reset(); }
  // Gives the lock back and returns the open file it was taken on.
  UniqueFd give_up() noexcept;

 private:
  ByteLock(UniqueFd fd, uint64_t offset) noexcept : fd_(static_cast<UniqueFd&&>(fd)), offset_(offset) {}
  UniqueFd fd_;
  uint64_t offset_ = 0;
};

// Takes and drops the lock on a byte of an open file that also holds others; `fd` as in ByteLock::take.
// False: another open file holds it, or the call failed.
bool try_lock_byte(int fd, uint64_t offset) noexcept;
void unlock_byte(int fd, uint64_t offset) noexcept;

// Whether some other open file than `fd` holds the lock on the byte. Never kHeld for fd's own lock.
LockState probe_byte_lock(int fd, uint64_t offset) noexcept;
LockState probe_channel_lock(int fd, uint32_t channel) noexcept;
LockState probe_device_lock(int fd) noexcept;

}  // namespace vgpu::ring
