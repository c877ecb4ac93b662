// The claim handshake, both ends.
#include "ring/channel.h"

#include <time.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <utility>

#include "ring/access.h"
#include "ring/heartbeat.h"

namespace vgpu::ring {
namespace {

void zero(std::span<std::byte> bytes) {
  std::memset(bytes.data(), 0, bytes.size());
}

Error lost(DeviceLoss loss) {
  return {ErrorCode::kDeviceLost, std::string("claiming a channel: ") + device_loss_text(loss)};
}

LockDomain domain_of(const OwnerBlock& owner) {
  return {load_relaxed(owner.lock_boot), load_relaxed(owner.lock_device)};
}

// Locks a channel that is free, and not only looks free because its owner's locks cannot be seen from here.
std::expected<ByteLock, Error> lock_free_channel(const RegionView& region, UniqueFd fd,
                                                 const LockDomain& domain) {
  uint64_t usable = ~uint64_t{0};
  for (;;) {
    auto lock = ByteLock::take_free_channel(std::move(fd), region.geometry().channel_count, usable);
    if (!lock) {
      return lock;
    }
    const OwnerBlock& owner = region.channel(lock->channel()).control->owner;
    if (load_acquire(owner.nonce) == 0 || domain.judges(domain_of(owner))) {
      return lock;
    }
    usable &= ~(uint64_t{1} << lock->channel());
    fd = lock->give_up();
  }
}

constexpr std::size_t kNameWords = sizeof(OwnerBlock::process_name) / sizeof(uint64_t);

// The name is copied by words, since the device may look at the block while it changes.
void store_name(OwnerBlock& owner, std::string_view name) {
  uint64_t words[kNameWords];
  store_text(reinterpret_cast<char*>(words), sizeof(words), name);
  for (std::size_t i = 0; i < kNameWords; ++i) {
    store_relaxed(reinterpret_cast<uint64_t*>(owner.process_name)[i], words[i]);
  }
}

void load_name(const OwnerBlock& owner, char (&name)[sizeof(OwnerBlock::process_name)]) {
  uint64_t words[kNameWords];
  for (std::size_t i = 0; i < kNameWords; ++i) {
    words[i] = load_relaxed(reinterpret_cast<const uint64_t*>(owner.process_name)[i]);
  }
  std::memcpy(name, words, sizeof(name));
  name[sizeof(name) - 1] = '\0';
  for (char& c : name) {
    if (c == '\0') {
      break;
    }
    if (c < ' ' || c > '~') {
      c = '?';
    }
  }
}

}  // namespace

// ---- guest ----

std::expected<ChannelClaim, Error> ChannelClaim::take(const RegionView& region, const FoundRegion& found,
                                                      UniqueFd lock_fd, const WaitOps& ops,
                                                      const ClaimOptions& options) {
  const RegionHeader& header = region.header();
  DeviceWatch watch(header, found.generation, nullptr, 0);
  if (const auto alive = watch.check(monotonic_ns()); !alive) {
    return std::unexpected(lost(alive.error()));
  }
  if ((found.feature_bits & kFeatureOwnerLocks) == 0) {
    release_dead_owners(region, lock_fd.get(), ops);
  }
  const LockDomain domain = lock_domain(lock_fd.get());
  auto lock = lock_free_channel(region, std::move(lock_fd), domain);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  ChannelClaim claim;
  const uint32_t lock_index = lock->channel();
  claim.view_ = region.channel(lock_index);
  claim.lock_ = std::move(*lock);
  claim.ops_ = &ops;
  claim.nonce_ = random_nonzero();
  if ((load_relaxed(header.feature_bits) & kFeatureRemoteFences) != 0 && register_for_remote_fences()) {
    claim.fences_ = Fences::kSleeper;
  }

  // The lock makes this process the only writer of the guest's blocks.
  ChannelControl& control = *claim.view_.control;
  OwnerBlock& owner = control.owner;
  store_release(owner.nonce, uint64_t{0});
  store_fence();
  store_relaxed(owner.pid, static_cast<uint32_t>(::getpid()));
  store_relaxed(owner.protocol_version, options.protocol_version);
  store_relaxed(owner.protocol_hash, options.protocol_hash);
  store_relaxed(owner.generation, found.generation);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  store_relaxed(owner.claimed_unix_ns,
                static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec));
  store_relaxed(owner.fences, static_cast<uint32_t>(claim.fences_));
  store_relaxed(owner.lock_boot, domain.boot);
  store_relaxed(owner.lock_device, domain.device);
  store_name(owner, options.process_name);
  ProducerBlock& producer = control.producer;
  for (uint64_t* figure :
       {&producer.published, &producer.full_waits, &producer.round_trips, &producer.guest_parks}) {
    store_relaxed(*figure, uint64_t{0});
  }
  GuestParkBlock& park = control.guest_park;
  for (uint32_t* sleepers : {&park.on_reply, &park.on_completed, &park.on_consumed, &park.on_served}) {
    store_relaxed(*sleepers, 0U);
  }
  store_fence();
  store_release(owner.nonce, claim.nonce_);  // pairs with read_owner's acquire load
  store_fence();

  GuestWaits waits(control, ops, 0, claim.fences_);
  waits.ring_doorbell();
  const uint64_t start = monotonic_ns();
  const auto served = [&](uint64_t nonce) { return nonce == claim.nonce_; };
  while (!waits.wait(GuestWait::kServed, control.served.served_nonce, served, kWatchSliceNs)) {
    if (load_relaxed(owner.nonce) != claim.nonce_) {
      // Two that do not see each other's locks met here; it is the other's now.
      claim.abandon_after_fork();
      return std::unexpected(
          Error{ErrorCode::kBusy, "channel " + std::to_string(lock_index) +
                                      " was taken at the same moment by a process in another container"});
    }
    const uint64_t now_ns = monotonic_ns();
    if (const auto alive = watch.check(now_ns); !alive) {
      return std::unexpected(lost(alive.error()));
    }
    if (now_ns - start >= options.timeout_ns) {
      return std::unexpected(Error{ErrorCode::kTimeout,
                                   "the device did not serve channel " + std::to_string(claim.view_.index) +
                                       " within " + std::to_string(options.timeout_ns / 1'000'000) + " ms"});
    }
  }
  if (static_cast<ChannelState>(load_relaxed(control.served.state)) == ChannelState::kFailed) {
    return std::unexpected(
        Error{ErrorCode::kProtocolMismatch,
              "the device refused this process: " +
                  std::string(load_text(control.served.last_error, sizeof(control.served.last_error)))});
  }
  return claim;
}

ChannelClaim::ChannelClaim(ChannelClaim&& other) noexcept
    : lock_(std::move(other.lock_)),
      view_(std::exchange(other.view_, {})),
      ops_(std::exchange(other.ops_, nullptr)),
      nonce_(std::exchange(other.nonce_, 0)),
      fences_(other.fences_) {}

ChannelClaim& ChannelClaim::operator=(ChannelClaim&& other) noexcept {
  if (this != &other) {
    release();
    lock_ = std::move(other.lock_);
    view_ = std::exchange(other.view_, {});
    ops_ = std::exchange(other.ops_, nullptr);
    nonce_ = std::exchange(other.nonce_, 0);
    fences_ = other.fences_;
  }
  return *this;
}

void ChannelClaim::release() noexcept {
  if (!held()) {
    return;
  }
  leave_at_exit();
  abandon_after_fork();
}

void ChannelClaim::leave_at_exit() noexcept {
  if (!held()) {
    return;
  }
  store_release(view_.control->owner.nonce, uint64_t{0});
  store_fence();
  GuestWaits(*view_.control, *ops_, 0).ring_doorbell();
}

void ChannelClaim::abandon_after_fork() noexcept {
  lock_.release();  // only closes the descriptor: the parent's own one keeps the lock alive
  view_ = {};
  nonce_ = 0;
}

uint32_t release_dead_owners(const RegionView& region, int lock_fd, const WaitOps& ops) noexcept {
  constexpr uint64_t kLimitNs = 1'000'000'000;
  const uint64_t start = monotonic_ns();
  const LockDomain domain = lock_domain(lock_fd);
  uint32_t released = 0;
  for (uint32_t i = 0; i < region.geometry().channel_count; ++i) {
    ChannelControl& control = *region.channel(i).control;
    // Of two loads from a BAR and a system call most channels need the first alone.
    if (load_relaxed(control.owner.nonce) == 0 || !try_lock_byte(lock_fd, kChannelLockBase + i)) {
      continue;
    }
    // The lock makes this process the only writer of the guest's blocks, unless the owner is where other
    // locks hold. It may also have left meanwhile.
    if (const uint64_t dead = load_acquire(control.owner.nonce);
        dead != 0 && domain.judges(domain_of(control.owner))) {
      store_release(control.owner.nonce, uint64_t{0});
      store_fence();
      GuestWaits waits(control, ops, 0);
      waits.ring_doorbell();
      const uint64_t waited = monotonic_ns() - start;
      waits.wait(
          GuestWait::kServed, control.served.served_nonce, [dead](uint64_t nonce) { return nonce != dead; },
          waited < kLimitNs ? kLimitNs - waited : 0);
      ++released;
    }
    unlock_byte(lock_fd, kChannelLockBase + i);
  }
  return released;
}

// ---- device ----

OwnerInfo read_owner(const ChannelControl& control) noexcept {
  OwnerInfo info;
  const uint64_t nonce = load_acquire(control.owner.nonce);
  if (nonce == 0) {
    return info;
  }
  info.pid = load_relaxed(control.owner.pid);
  info.protocol_version = load_relaxed(control.owner.protocol_version);
  info.protocol_hash = load_relaxed(control.owner.protocol_hash);
  info.generation = load_relaxed(control.owner.generation);
  if (load_relaxed(control.owner.fences) == static_cast<uint32_t>(Fences::kSleeper)) {
    info.fences = Fences::kSleeper;
  }
  load_name(control.owner, info.process_name);
  // A new owner may have begun to write while this was copied; it stores nonce 0 before.
  acquire_fence();
  if (load_relaxed(control.owner.nonce) != nonce) {
    return {};
  }
  info.nonce = nonce;
  return info;
}

ChannelOwnership::Event ChannelOwnership::poll(LockState lock) noexcept {
  const uint64_t nonce = load_acquire(view_.control->owner.nonce);
  if (served_nonce_ != 0) {
    if (lock == LockState::kFree || nonce == 0) {
      if (nonce == served_nonce_) {
        ++dead_owners_;
      }
      return Event::kOwnerGone;
    }
    if (nonce == served_nonce_) {
      return Event::kNone;
    }
  } else if (nonce == 0 || nonce == retired_nonce_ || lock == LockState::kFree) {
    return Event::kNone;
  }
  const OwnerInfo candidate = read_owner(*view_.control);
  if (candidate.nonce == 0 || candidate.nonce == served_nonce_ || candidate.nonce == retired_nonce_) {
    return Event::kNone;  // it changed meanwhile: the next look tells
  }
  owner_ = candidate;
  return Event::kNewOwner;
}

void ChannelOwnership::serve() noexcept {
  reset_memory();
  served_nonce_ = owner_.nonce;
  retired_nonce_ = 0;
  announce(served_nonce_, ChannelState::kServed);
}

void ChannelOwnership::refuse(uint32_t code, std::string_view reason) noexcept {
  reset_memory();
  served_nonce_ = owner_.nonce;
  retired_nonce_ = 0;
  store_last_error(*view_.control, code, 0, 0, reason);
  announce(served_nonce_, ChannelState::kFailed);
}

void ChannelOwnership::vacate() noexcept {
  retired_nonce_ = served_nonce_;
  served_nonce_ = 0;
  owner_ = {};
  reset_memory();
  announce(0, ChannelState::kFree);
}

void ChannelOwnership::fail(uint32_t code, std::string_view reason, uint64_t position) noexcept {
  store_last_error(*view_.control, code, 0, position, reason);
  store_sticky_error(*view_.control, code, position);
  announce(served_nonce_, ChannelState::kFailed);
}

void ChannelOwnership::reset_memory() noexcept {
  ChannelControl& control = *view_.control;
  store_release(control.served.served_nonce, uint64_t{0});
  store_relaxed(control.served.state, static_cast<uint32_t>(ChannelState::kResetting));
  zero(view_.ring);
  zero(view_.replies);
  ConsumerBlock& consumer = control.consumer;
  store_relaxed(consumer.completed, uint64_t{0});
  store_relaxed(consumer.consumed, uint64_t{0});
  store_relaxed(consumer.sticky_error, 0U);
  store_relaxed(consumer.sticky_error_position, uint64_t{0});
  store_relaxed(control.park.parks, uint64_t{0});
  store_last_error(control, 0, 0, 0, {});
  std::memset(&control.counters, 0, sizeof(control.counters));
  std::memset(control.opcode_counts, 0, sizeof(control.opcode_counts));
  store_relaxed(control.served.epoch, ++epoch_);
  store_relaxed(control.served.reset_count_dead_owner, dead_owners_);
}

void ChannelOwnership::announce(uint64_t nonce, ChannelState state) noexcept {
  ChannelControl& control = *view_.control;
  store_release(control.served.state, static_cast<uint32_t>(state));
  // Pairs with the acquire load in GuestWaits::wait: the new owner sees everything zeroed.
  store_release(control.served.served_nonce, nonce);
  if (waits_ != nullptr) {
    waits_->notify_guest(GuestWait::kServed, control.served.served_nonce);
  }
}

void store_last_error(ChannelControl& control, uint32_t code, uint32_t opcode, uint64_t position,
                      std::string_view reason) noexcept {
  store_text(control.served.last_error, sizeof(control.served.last_error), reason);
  store_relaxed(control.served.last_error_opcode, opcode);
  store_relaxed(control.served.last_error_position, position);
  store_release(control.served.last_error_code, code);
}

void store_sticky_error(ChannelControl& control, uint32_t code, uint64_t position) noexcept {
  if (load_relaxed(control.consumer.sticky_error) == 0) {
    store_relaxed(control.consumer.sticky_error_position, position);
    store_release(control.consumer.sticky_error, code);
  }
}

}  // namespace vgpu::ring
