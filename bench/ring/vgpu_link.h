// The ring itself as a link. `vgpu` does what a session and the device do for every record: after publishing
// the guest looks whether the device sleeps, the device tells its progress after each batch and looks whether
// the guest sleeps, and both spin and park as they do in earnest. `vgpu_fence_each` is the same where no side
// can fence for the other (a VM), so that each look costs a fence. `vgpu_no_wakeup` leaves the looks out and
// never sleeps.
#pragma once

#include <cstring>
#include <memory>
#include <stdexcept>

#include "bench/ring/measure.h"
#include "ring/consumer.h"
#include "ring/producer.h"
#include "ring/region.h"
#include "ring/reply.h"
#include "ring/wait.h"

namespace vgpu::bench {

inline constexpr std::size_t kRegionBytes = 1 << 20;
inline constexpr uint64_t kParkNs = 100'000'000;

enum class Waking { kSleeperFences, kBothFence, kNone };

constexpr const char* variant_name(Waking waking) {
  return waking == Waking::kSleeperFences ? "vgpu"
         : waking == Waking::kBothFence   ? "vgpu_fence_each"
                                          : "vgpu_no_wakeup";
}

template <std::size_t Bytes, Waking How>
class VgpuLink {
 public:
  static constexpr const char* kVariant = variant_name(How);
  static constexpr bool kWakes = How != Waking::kNone;
  static constexpr std::size_t kBytes = Bytes;
  static constexpr bool kThreads = false;
  static constexpr std::size_t kWords = (Bytes - sizeof(ring::RecordHeader)) / 8;

  VgpuLink() {
    const auto geometry = ring::RegionGeometry::compute({kRegionBytes, 1, kQueueBytes, 64, 1024});
    if (!geometry || !ring::format_region(memory_.bytes(), *geometry, {}, {})) {
      throw std::runtime_error("the region cannot be formatted");
    }
    view_ = ring::RegionView(memory_.bytes(), *geometry).channel(0);
    if (How == Waking::kSleeperFences && ring::register_for_remote_fences()) {
      fences_ = ring::Fences::kSleeper;
    }
  }

  class Client {
   public:
    explicit Client(VgpuLink& link)
        : view_(link.view_),
          producer_(view_.ring, &view_.control->consumer.consumed, &view_.control->producer.published),
          waits_(*view_.control, ring::futex_wait_ops(), ring::kDefaultSpinNs, link.fences_),
          slots_(view_.reply_count) {}
    void send(uint64_t first, uint32_t count) {
      for (uint64_t number = first; number != first + count; ++number) {
        write(number, ring::kNoReply);
      }
      publish();
    }
    void call(uint64_t number) {
      const uint16_t slot = slots_.try_take();
      const uint64_t tag = ring::reply_tag(write(number, slot));
      publish();
      const uint64_t& word = view_.reply_slot(slot)->tag;
      if constexpr (kWakes) {
        waits_.wait(
            ring::GuestWait::kReply, word, [tag](uint64_t value) { return value == tag; }, ring::kNoTimeout);
      } else {
        while (ring::load_acquire(word) != tag) {
        }
      }
      slots_.give_back(slot);
    }

   private:
    // Returns the record's start position.
    uint64_t write(uint64_t number, uint16_t slot) {
      std::byte* record = producer_.try_reserve(Bytes);
      if (record == nullptr) [[unlikely]] {
        record = await_room();
      }
      auto* header = reinterpret_cast<ring::RecordHeader*>(record);
      header->opcode = 1;
      header->reply_slot = slot;
      header->stream = 0;
      auto* words = reinterpret_cast<uint64_t*>(record + sizeof(ring::RecordHeader));
      for (std::size_t i = 0; i < kWords; ++i) {
        words[i] = number;
      }
      return producer_.commit();
    }
    void publish() {
      producer_.publish();
      if constexpr (kWakes) {
        waits_.notify_consumer();
      }
    }
    std::byte* await_room() {
      publish();
      std::byte* record = nullptr;
      const auto reserve = [&](uint64_t) { return (record = producer_.try_reserve(Bytes)) != nullptr; };
      if constexpr (kWakes) {
        waits_.wait(ring::GuestWait::kConsumed, view_.control->consumer.consumed, reserve, ring::kNoTimeout);
      } else {
        while (!reserve(0)) {
        }
      }
      return record;
    }

    ring::ChannelView view_;
    ring::Producer producer_;
    ring::GuestWaits waits_;
    ring::ReplySlots slots_;
  };

  class Server {
   public:
    explicit Server(VgpuLink& link)
        : view_(link.view_),
          consumer_(view_.ring),
          waits_(*view_.control, ring::futex_wait_ops()),
          record_(std::make_unique<Record>()) {
      waits_.set_fences(link.fences_);
      if (link.fences_ == ring::Fences::kSleeper && !ring::register_for_remote_fences()) {
        throw std::runtime_error("the peer cannot be fenced from here");
      }
    }

    template <typename OnMessage>
    void receive(OnMessage&& on_message) {
      uint32_t taken = 0;
      for (; taken < kMostTaken; ++taken) {
        const auto bytes = consumer_.try_read(record_->bytes);
        if (!bytes || (*bytes != 0 && *bytes != Bytes)) [[unlikely]] {
          throw std::runtime_error(bytes ? "a record of another length"
                                         : ring::read_error_text(bytes.error()));
        }
        if (*bytes == 0) {
          break;
        }
        take(*record_);
        on_message(reinterpret_cast<const uint64_t*>(record_->bytes + sizeof(ring::RecordHeader)), kWords);
        if (consumer_.position() - given_back_ > consumer_.capacity() / 4) {
          progress();
        }
      }
      if (taken != 0) {
        progress();
        return;
      }
      const auto ready = [&] { return consumer_.ready(); };
      if (!waits_.spin(ready, consumer_.streaming() ? ring::kStreamGapNs : 0) && kWakes) {
        waits_.park(ready, kParkNs);
      }
    }
    void answer(uint64_t /*number*/) {
      ring::RecordHeader header;
      std::memcpy(&header, record_->bytes, sizeof(header));
      ring::write_reply(view_, header.reply_slot, consumer_.record_position(), 0, {});
      if constexpr (kWakes) {
        waits_.notify_guest(ring::GuestWait::kReply, view_.reply_slot(header.reply_slot)->tag);
      }
    }

   private:
    static constexpr uint32_t kMostTaken = 256;
    struct alignas(64) Record {
      std::byte bytes[ring::kMaxRecordBytes];
    };
    void progress() {
      given_back_ = consumer_.position();
      if constexpr (kWakes) {
        waits_.store_progress(given_back_, given_back_);
      } else {
        ring::store_release(view_.control->consumer.consumed, given_back_);
      }
    }

    ring::ChannelView view_;
    ring::Consumer consumer_;
    ring::ConsumerWaits waits_;
    std::unique_ptr<Record> record_;
    uint64_t given_back_ = 0;
  };

 private:
  SharedMemory memory_{kRegionBytes};
  ring::ChannelView view_;
  ring::Fences fences_ = ring::Fences::kBoth;
};

}  // namespace vgpu::bench
