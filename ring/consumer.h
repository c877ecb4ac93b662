// The device's end of the command ring. The producer is hostile: any byte of the ring may be anything and may
// change while it is read, so a record is copied out once, its length bounded before use, and only the copy
// is looked at. After an error the ring's contents mean nothing any more: stop serving the channel. One
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <expected>
#include <span>

#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::ring {

enum class ReadError : uint32_t {
  kBadLength = 1,    // shorter than a header, longer than a record may be, or beyond the ring's end
  kBadSequence = 2,  // a commit word of another position
  kBadPadding = 3,   // padding that does not end at the ring's end
  kOutTooSmall = 4,  // the caller's buffer does not hold the record; it stays unread
};
const char* read_error_text(ReadError error) noexcept;

class Consumer {
 public:
  Consumer() = default;
  // `ring` as in Producer; `start` is a multiple of 64.
  explicit Consumer(std::span<const std::byte> ring, uint64_t start = 0) noexcept
      : ring_(ring.data()),
        mask_(ring.size() - 1),
        position_(start),
        record_position_(start),
        flushed_(start),
        flushes_(can_flush_lines()) {}

  // Whether the producer streams: many records by now that want no answer. Whoever polls then does it with
  // gaps (ConsumerWaits::spin).
  bool streaming() const noexcept { return unanswered_ >= kStreamRecords; }

  // Whether something (a record, padding, or rubbish) stands at the current position. One load.
  bool ready() const noexcept { return load_acquire(commit_word(position_)) != 0; }

  // Copies the next record out and moves behind it. Returns its bytes (header included, 16..kMaxRecordBytes);
  // 0 when there is none. The copy's `commit` holds what was checked, and its opcode is never kPaddingOpcode.
  // `out` must hold kMaxRecordBytes and be 8-byte aligned; bytes behind the record in `out` are undefined.
  std::expected<uint32_t, ReadError> try_read(std::span<std::byte> out) noexcept {
    for (;;) {
      // Pairs with Producer::publish's release store (for a record inside a batch, with that of the batch's
      // first).
      const uint64_t commit = load_acquire(commit_word(position_));
      if (commit == 0) {
        run_ = 0;
        return 0U;
      }
      // Where a record ends depends on its length, so the processor cannot look ahead by itself. In a long
      // run fetch the lines to come; not when caught up, where that would take them from the producer that
      // writes them.
      if (++run_ > kRunBeforePrefetch) {
        prefetch_to_read(slot(position_ + kPrefetchBytes));
      }
      if (commit_sequence(commit) != commit_sequence(make_commit(0, position_))) {
        return std::unexpected(ReadError::kBadSequence);
      }
      const uint32_t bytes = commit_bytes(commit);
      const uint64_t to_end = capacity() - (position_ & mask_);
      if (bytes < sizeof(RecordHeader) || bytes > kMaxRecordBytes || bytes > to_end) {
        return std::unexpected(ReadError::kBadLength);
      }
      if (out.size() < kMaxRecordBytes) [[unlikely]] {
        return std::unexpected(ReadError::kOutTooSmall);
      }
      // The header is loaded once, by itself: what is decided on it here need not wait for the copy.
      RecordHeader header;
      const uint64_t words[] = {commit, load_relaxed(*(&commit_word(position_) + 1))};
      std::memcpy(&header, words, sizeof(header));
      // A slot is always whole inside the ring and inside `out`, and its copy is a few vector moves.
      std::memcpy(out.data(), slot(position_), kSlotBytes);
      std::memcpy(out.data(), words, sizeof(words));
      if (header.opcode == kPaddingOpcode) {
        if (bytes != to_end) {
          return std::unexpected(ReadError::kBadPadding);
        }
        position_ += to_end;  // now at the ring's start, where padding has no valid length: the loop ends
        continue;
      }
      if (bytes > kSlotBytes) {
        std::memcpy(out.data() + kSlotBytes, slot(position_) + kSlotBytes, bytes - kSlotBytes);
      }
      record_position_ = position_;
      position_ += round_up_to_slot(bytes);
      if (header.reply_slot != kNoReply) {
        unanswered_ = 0;
      } else if (++unanswered_ == kStreamRecords) {
        flushed_ = position_;
      } else if (flushes_ && streaming()) {
        flush_behind();
      }
      return bytes;
    }
  }

  // Hands every record that is there, at most `limit`, to on_record(std::span<const std::byte> record,
  // uint64_t start_position), each read through `buffer` (as `out` above). Returns how many.
  template <typename OnRecord>
  std::expected<uint32_t, ReadError> drain(std::span<std::byte> buffer, uint32_t limit,
                                           OnRecord&& on_record) {
    for (uint32_t count = 0; count < limit; ++count) {
      const auto bytes = try_read(buffer);
      if (!bytes) {
        return std::unexpected(bytes.error());
      }
      if (*bytes == 0) {
        return count;
      }
      on_record(std::span<const std::byte>(buffer.first(*bytes)), record_position_);
    }
    return limit;
  }

  // One that reads on from here for itself: to look at what is to come.
  Consumer ahead() const noexcept {
    Consumer copy = *this;
    copy.flushes_ = false;  // those lines are not done with
    return copy;
  }

  // Everything before it has been copied out: what the caller stores as ConsumerBlock::consumed (release),
  // now and then: at the latest when it finds the ring empty, and before a quarter of the ring is kept back.
  uint64_t position() const noexcept { return position_; }
  // Start of the record that try_read returned last; its reply's tag is this + 1.
  uint64_t record_position() const noexcept { return record_position_; }
  uint64_t capacity() const noexcept { return mask_ + 1; }

 private:
  const std::byte* slot(uint64_t position) const noexcept { return ring_ + (position & mask_); }
  const uint64_t& commit_word(uint64_t position) const noexcept {
    return *reinterpret_cast<const uint64_t*>(slot(position));
  }

  // What was read stays in this core's cache, and the producer pays for taking it away when it comes round
  // again: more than for memory nobody has cached. So in a stream the lines are dropped, some way behind.
  void flush_behind() noexcept {
    if (position_ - flushed_ < 2 * kFlushBytes) {
      return;
    }
    for (; flushed_ + kFlushBytes < position_; flushed_ += kSlotBytes) {
      flush_line(slot(flushed_));
    }
  }

  static constexpr uint32_t kStreamRecords = 16;
  static constexpr uint64_t kFlushBytes = 4096;
  static constexpr uint32_t kRunBeforePrefetch = 16;
  static constexpr uint64_t kPrefetchBytes = 8 * kSlotBytes;

  const std::byte* ring_ = nullptr;
  uint64_t mask_ = 0;
  uint64_t position_ = 0;
  uint64_t record_position_ = 0;
  uint64_t flushed_ = 0;     // lines before it are dropped from the caches
  uint32_t run_ = 0;         // records taken since the ring was last empty
  uint32_t unanswered_ = 0;  // records taken since the last that wanted an answer
  bool flushes_ = false;
};

}  // namespace vgpu::ring
