// How a process comes to own a channel, and how the device notices it come and go. The whole handshake stands
// here:
//   guest   locks the channel's byte, writes OwnerBlock with a new nonce last, rings the doorbell
//   device  sees nonce != served_nonce with the lock held: resets the channel, stores served_nonce = nonce
//   guest   sees its nonce served: ring, replies and positions are zero; it starts at position 0
//   close   guest stores nonce 0, rings, unlocks (at its end the kernel unlocks); a killed guest just loses
//   its lock; the device resets either way
//   Where the device cannot see the locks (a VM's), the next process that claims a channel first releases all
//   channels of dead owners in their place (release_dead_owners)
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

#include "ring/channel_lock.h"
#include "ring/error.h"
#include "ring/region.h"
#include "ring/wait.h"

namespace vgpu::ring {

// ---- guest ----

struct ClaimOptions {
  uint32_t protocol_version = 0;
  uint64_t protocol_hash = 0;
  std::string_view process_name;        // cut at 31 bytes
  uint64_t timeout_ns = 3'000'000'000;  // for the device to answer
};

// Ownership of one channel. Movable; the destructor releases. Any thread, one at a time.
class ChannelClaim {
 public:
  ChannelClaim() = default;
  // `lock_fd`: an own open() of the region's file for writing, with O_CLOEXEC (pci::Bar::open_lock_fd).
  // Where the device cannot see locks, releases the channels of dead owners first.
  // Blocks until the device serves the claim. Errors: kNoFreeChannel; kTimeout; kDeviceLost;
  // kProtocolMismatch with the device's words when it refuses the owner; kSystem.
  static std::expected<ChannelClaim, Error> take(const RegionView& region, const FoundRegion& found,
                                                 UniqueFd lock_fd, const WaitOps& ops,
                                                 const ClaimOptions& options);
  ChannelClaim(ChannelClaim&& other) noexcept;
  ChannelClaim& operator=(ChannelClaim&& other) noexcept;
  ~ChannelClaim() { release(); }

  bool held() const noexcept { return lock_.held(); }
  uint32_t index() const noexcept { return view_.index; }
  uint64_t nonce() const noexcept { return nonce_; }
  // How this process and the device wake each other: what GuestWaits is to be made with.
  Fences fences() const noexcept { return fences_; }
  const ChannelView& view() const noexcept { return view_; }
  // Gives the channel back: what is in the ring and not yet executed may be dropped. No thread may touch the
  // channel any more: another process may own it at once.
  void release() noexcept;
  // At the process's end, where other threads may still be at work: tells the device that the owner leaves,
  // and keeps the lock, which the kernel drops when the last thread has stopped.
  void leave_at_exit() noexcept;
  // In the child after fork(): forgets the claim without touching the region or the parent's lock.
  void abandon_after_fork() noexcept;

 private:
  ByteLock lock_;
  ChannelView view_;
  const WaitOps* ops_ = nullptr;
  uint64_t nonce_ = 0;
  Fences fences_ = Fences::kBoth;
};

// Gives back every channel whose owner died without doing so: takes its lock, stores nonce 0, rings, waits
// until the device has let go of it (at most a second for all of them), unlocks. `lock_fd` as in
// ByteLock::take, holding no channel's lock. Returns how many there were. For where the device cannot see the
// locks; harmless elsewhere. An owner whose lock cannot be seen from here (LockDomain) keeps its channel.
uint32_t release_dead_owners(const RegionView& region, int lock_fd, const WaitOps& ops) noexcept;

// ---- device ----

// A copy of what the owner says of itself; any value may be a lie. process_name is NUL-terminated and
// printable.
struct OwnerInfo {
  uint64_t nonce = 0;
  uint32_t pid = 0;
  uint32_t protocol_version = 0;
  uint64_t protocol_hash = 0;
  uint64_t generation = 0;
  Fences fences = Fences::kBoth;
  char process_name[32] = {};
};
// Copies the owner block; nonce 0 if there is none or it changed while it was copied.
OwnerInfo read_owner(const ChannelControl& control) noexcept;

// The device's state for one channel, in its own memory. One thread: the channel's consumer.
class ChannelOwnership {
 public:
  // With `waits`, whoever waits for the channel is woken after each change; without, the caller does it.
  explicit ChannelOwnership(const ChannelView& view, const ConsumerWaits* waits = nullptr) noexcept
      : view_(view), waits_(waits) {}

  enum class Event : uint32_t {
    kNone,
    kNewOwner,  // owner() wants to be served: stop the old one's work, free its memory, then call serve()
    kOwnerGone  // the owner left or died: stop its work, free its memory, then call vacate()
  };
  // Looks at the owner block. `lock`: probe_channel_lock(), or kUnknown where locks cannot be seen: an owner
  // is then served until it says so or another nonce appears.
  Event poll(LockState lock) noexcept;

  // The owner that kNewOwner announced, afterwards the one that is served.
  const OwnerInfo& owner() const noexcept { return owner_; }
  bool serving() const noexcept { return served_nonce_ != 0; }
  uint32_t epoch() const noexcept { return epoch_; }

  // Zeroes ring, replies and the device's blocks, then answers the owner. The consumer starts at position 0.
  void serve() noexcept;
  // Refuses the owner that kNewOwner announced: it gets `code` (a CUresult) and `reason`.
  void refuse(uint32_t code, std::string_view reason) noexcept;
  // Zeroes the channel and marks it free.
  void vacate() noexcept;
  // The owner broke the ring's rules: nothing of it is executed any more; its waits end with `reason`. It
  // stays the owner until it leaves.
  void fail(uint32_t code, std::string_view reason, uint64_t position) noexcept;

 private:
  void reset_memory() noexcept;
  void announce(uint64_t nonce, ChannelState state) noexcept;

  ChannelView view_;
  const ConsumerWaits* waits_ = nullptr;
  OwnerInfo owner_;
  uint64_t served_nonce_ = 0;
  uint64_t retired_nonce_ = 0;  // an owner that is gone: its nonce may stand in the block for ever
  uint64_t dead_owners_ = 0;
  uint32_t epoch_ = 0;
};

// Device, any thread: the newest error on a channel, for vgpu-probe and the guest's error text.
void store_last_error(ChannelControl& control, uint32_t code, uint32_t opcode, uint64_t position,
                      std::string_view reason) noexcept;
// Device: the error that every later call of this owner gets (illegal address and the like). The first one
// stays.
void store_sticky_error(ChannelControl& control, uint32_t code, uint64_t position) noexcept;

}  // namespace vgpu::ring
