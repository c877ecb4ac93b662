// The guest's end of the command ring: reserve, write in place, commit, publish. What can go wrong: a record
// must not be written beyond what was reserved; committed records are invisible until publish(); a full ring
// returns nullptr, and waiting for room without having published waits for ever. One thread at a time:
// threads of a process share a producer under a lock of their own.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>

#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::ring {

class Producer {
 public:
  Producer() = default;

  // `ring`: the channel's ring, a power of two of at least 64 KiB, zeroed, 64-byte aligned. `consumed`:
  // ConsumerBlock::consumed. `published`: ProducerBlock::published, or nullptr to keep no figure there. Both
  // sides start at position 0 (a test may start elsewhere, at a multiple of 64).
  // `weakly_ordered`: the ring is mapped write-combining, so that stores need a store fence between them.
  Producer(std::span<std::byte> ring, const uint64_t* consumed, uint64_t* published,
           bool weakly_ordered = false, uint64_t start = 0) noexcept
      : ring_(ring.data()),
        mask_(ring.size() - 1),
        consumed_in_region_(consumed),
        published_in_region_(published),
        position_(start),
        batch_start_(start),
        cached_consumed_(start),
        weakly_ordered_(weakly_ordered) {}

  // Room for one record of `bytes` (16..kMaxRecordBytes, header included), contiguous and 64-byte aligned; or
  // nullptr when the ring is full, which changes nothing. The caller writes opcode, reply_slot, stream and
  // payload, never RecordHeader::commit. A second try_reserve before commit() replaces the first.
  std::byte* try_reserve(uint32_t bytes) noexcept {
    assert(bytes >= sizeof(RecordHeader) && bytes <= kMaxRecordBytes);
    const uint64_t need = round_up_to_slot(bytes);
    const uint64_t to_end = capacity() - (position_ & mask_);
    const uint64_t padding = need <= to_end ? 0 : to_end;
    // One slot stays free: publish() clears the commit word behind the last record.
    const uint64_t end = position_ + padding + need + kSlotBytes;
    if (end - cached_consumed_ > capacity()) {
      // Pairs with the consumer's release store: its copies out of the ring are done before we overwrite.
      cached_consumed_ = load_acquire(*consumed_in_region_);
      if (end - cached_consumed_ > capacity()) {
        return nullptr;
      }
    }
    reserved_bytes_ = bytes;
    reserved_padding_ = padding;
    return slot(position_ + padding);
  }

  // Finishes the reserved record; returns its start position (a reply's tag is this + 1). Not visible yet.
  uint64_t commit() noexcept {
    assert(reserved_bytes_ != 0);
    if (reserved_padding_ != 0) {
      auto* header = reinterpret_cast<RecordHeader*>(slot(position_));
      header->opcode = kPaddingOpcode;
      header->reply_slot = kNoReply;
      header->stream = 0;
      finish(static_cast<uint32_t>(reserved_padding_));
    }
    const uint64_t start = position_;
    finish(reserved_bytes_);
    reserved_bytes_ = 0;
    reserved_padding_ = 0;
    return start;
  }

  // Makes all committed records visible with one store. The caller then looks whether the consumer sleeps
  // (GuestWaits::notify_consumer).
  void publish() noexcept {
    if (batch_start_ == position_) {
      return;
    }
    // What the slot behind holds from the lap before must not pass for a record.
    store_relaxed(commit_word(position_), uint64_t{0});
    if (weakly_ordered_) {
      store_fence();
    }
    // Pairs with the acquire load in Consumer: whoever sees this word sees the batch and the cleared word
    // behind.
    store_release(commit_word(batch_start_), batch_commit_);
    if (weakly_ordered_) {
      store_fence();  // drains the combining buffer, so that the record leaves now and not some time later
    }
    batch_start_ = position_;
    if (published_in_region_ != nullptr) {
      store_relaxed(*published_in_region_, position_);
    }
    // The next publish() clears a commit word one record on before the record can be seen: own its line by
    // then.
    prefetch_to_write(slot(position_));
    prefetch_to_write(slot(position_ + kSlotBytes));
  }

  // Where the next record will start (before any padding). Everything before it is committed.
  uint64_t position() const noexcept { return position_; }
  // Everything before it is published.
  uint64_t published() const noexcept { return batch_start_; }
  uint64_t capacity() const noexcept { return mask_ + 1; }

 private:
  std::byte* slot(uint64_t position) const noexcept { return ring_ + (position & mask_); }
  uint64_t& commit_word(uint64_t position) const noexcept {
    return reinterpret_cast<RecordHeader*>(slot(position))->commit;
  }
  // The first commit word of a batch is what the consumer polls, so publish() stores it; the others lie
  // behind it and are stored at once.
  void finish(uint32_t bytes) noexcept {
    const uint64_t commit = make_commit(bytes, position_);
    if (position_ == batch_start_) {
      batch_commit_ = commit;
    } else {
      store_relaxed(commit_word(position_), commit);
    }
    position_ += round_up_to_slot(bytes);
  }

  std::byte* ring_ = nullptr;
  uint64_t mask_ = 0;
  const uint64_t* consumed_in_region_ = nullptr;
  uint64_t* published_in_region_ = nullptr;
  uint64_t position_ = 0;
  uint64_t batch_start_ = 0;
  uint64_t batch_commit_ = 0;
  uint64_t cached_consumed_ = 0;
  uint64_t reserved_padding_ = 0;
  uint32_t reserved_bytes_ = 0;
  bool weakly_ordered_ = false;
};

}  // namespace vgpu::ring
