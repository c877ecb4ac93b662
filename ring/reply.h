// Replies: the device answers a record in a slot the guest named; the tag tells whose answer stands there.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "ring/access.h"
#include "ring/region.h"
#include "ring/region_layout.h"

namespace vgpu::ring {

constexpr uint64_t reply_tag(uint64_t record_position) noexcept {
  return record_position + 1;
}

// Device, any thread, one writer per slot at a time. False, and nothing written, when the slot is out of
// range or the payload too long. The caller then notifies: ConsumerWaits::notify_guest(kReply, slot.tag).
inline bool write_reply(const ChannelView& channel, uint32_t slot, uint64_t record_position, int32_t status,
                        std::span<const std::byte> payload) noexcept {
  if (slot >= channel.reply_count || payload.size() > channel.reply_bytes - kReplyHeaderBytes) {
    return false;
  }
  ReplySlot* reply = channel.reply_slot(slot);
  if (!payload.empty()) {
    std::memcpy(reinterpret_cast<std::byte*>(reply) + kReplyHeaderBytes, payload.data(), payload.size());
  }
  store_relaxed(reply->status, status);
  store_relaxed(reply->bytes, static_cast<uint32_t>(payload.size()));
  // Pairs with the guest's acquire load of the tag (GuestWaits::wait).
  store_release(reply->tag, reply_tag(record_position));
  return true;
}

// Guest, once the tag is there: the payload as it stands in the slot, at most what the slot holds. Valid
// until the slot is named in another record.
struct ReplyView {
  int32_t status = 0;
  std::span<const std::byte> payload;
};
inline ReplyView read_reply(const ChannelView& channel, uint32_t slot) noexcept {
  const ReplySlot* reply = channel.reply_slot(slot);
  const uint32_t room = channel.reply_bytes - kReplyHeaderBytes;
  const uint32_t bytes = load_relaxed(reply->bytes);
  return {load_relaxed(reply->status),
          {reinterpret_cast<const std::byte*>(reply) + kReplyHeaderBytes, bytes < room ? bytes : room}};
}

// Guest: which reply slots are in use, in the process's own memory. No locked instruction: try_take() is
// called under the lock that guards the producer, which the caller holds anyway; give_back() by any thread.
class ReplySlots {
 public:
  explicit ReplySlots(uint32_t count) noexcept : count_(count < kMost ? count : kMost) {}
  // A slot, or kNoReply when all are in use: as many threads wait as there are slots. The lowest free one, so
  // that a single thread's answers come through one line.
  uint16_t try_take() noexcept {
    for (uint32_t slot = 0; slot < count_; ++slot) {
      if (!taken_[slot].load(std::memory_order_acquire)) {
        taken_[slot].store(true, std::memory_order_relaxed);
        return static_cast<uint16_t>(slot);
      }
    }
    return kNoReply;
  }
  void give_back(uint16_t slot) noexcept { taken_[slot].store(false, std::memory_order_release); }

 private:
  static constexpr uint32_t kMost = 64;
  std::array<std::atomic<bool>, kMost> taken_{};
  uint32_t count_;
};

}  // namespace vgpu::ring
