// The process's channel to the device: one per process, shared by its threads. A command is written straight
// into the ring under a short lock; a command with a reply waits for its reply slot; everything else that
// waits, waits for the device's completed position. Every wait ends within kHeartbeatLimitNs plus a slice
// after the device died; then the session is lost: every later call returns kDeviceUnavailable at once.
//
// kDeviceUnavailable, because CUDA documents CUDA_ERROR_DEVICE_UNAVAILABLE as "the requested device is
// unavailable at the current time", which is the case; like CUDA's sticky errors it stays until the process
// ends, since memory and modules of the dead device are gone.
//
// All functions may be called from any thread unless they say otherwise; none throws.
#pragma once

#include <atomic>
#include <cstring>
#include <expected>
#include <memory>
#include <mutex>
#include <span>
#include <type_traits>

#include "protocol/commands.h"
#include "protocol/status.h"
#include "ring/channel.h"
#include "ring/heartbeat.h"
#include "ring/producer.h"
#include "ring/reply.h"
#include "ring/wait.h"
#include "shim/session/attachment.h"
#include "shim/session/bulk_heap.h"
#include "shim/session/lock.h"

namespace vgpu::shim {

// What became of a record: when `status` is kSuccess, it has executed once the completed position reaches
// `end`.
struct Submitted {
  protocol::Status status = protocol::Status::kSuccess;
  uint64_t start = 0;
  uint64_t end = 0;
};

// The stream a command goes to, as the device knows it, and where the position behind the stream's newest
// record stands, if it is kept: it is stored before the ring's lock is given up, so it only grows.
struct StreamOrder {
  StreamOrder(uint32_t device_id, std::atomic<uint64_t>* last_position = nullptr) noexcept
      : id(device_id), last(last_position) {}
  uint32_t id;
  std::atomic<uint64_t>* last;
};

struct SessionOptions {
  uint64_t claim_timeout_ns = 2'500'000'000;
  uint64_t heartbeat_limit_ns = ring::kHeartbeatLimitNs;
  uint64_t spin_ns = ring::kDefaultSpinNs;
};

class Session {
 public:
  // Claims a channel of the attached device. The attachment must outlive the session.
  static std::expected<std::unique_ptr<Session>, Failure> open(const Attachment& attachment,
                                                               const SessionOptions& options = {});
  ~Session();

  // ---- commands ----

  // An asynchronous command. Its own errors surface at the next synchronising call.
  template <typename Request>
  Submitted submit(const Request& request, StreamOrder stream, std::span<const std::byte> tail = {}) {
    static_assert(Request::kMode == protocol::Mode::kAsync);
    return submit_bytes(static_cast<uint16_t>(Request::kOpcode), stream, bytes_of(request), tail);
  }
  // The same, the tail being written by fill(std::byte* tail) straight into the ring. fill must not call
  // back.
  template <typename Request, typename Fill>
  Submitted submit_in_place(const Request& request, StreamOrder stream, uint32_t tail_bytes, Fill&& fill) {
    static_assert(Request::kMode == protocol::Mode::kAsync);
    constexpr uint32_t kFields = protocol::kWireBytes<Request>;
    const std::lock_guard guard(ring_lock_);
    std::byte* body =
        reserve(static_cast<uint16_t>(Request::kOpcode), stream.id, ring::kNoReply, kFields + tail_bytes);
    if (body == nullptr) {
      return {status(), 0, 0};
    }
    std::memcpy(body, &request, kFields);
    fill(body + kFields);
    return commit_and_publish(stream.last);
  }
  // A command already encoded (request struct and tail).
  Submitted submit_encoded(uint16_t opcode, StreamOrder stream, std::span<const std::byte> body) {
    return submit_bytes(opcode, stream, body, {});
  }

  // A command with a reply: waits for it. `more` gets what follows the reply's fields, at most its size;
  // more_bytes how much that was.
  template <typename Request, typename Reply>
  protocol::Status call(const Request& request, Reply& reply, std::span<const std::byte> tail = {},
                        std::span<std::byte> more = {}, std::size_t* more_bytes = nullptr) {
    static_assert(Request::kMode == protocol::Mode::kSync);
    static_assert(std::is_trivially_copyable_v<Reply>);
    constexpr uint32_t kBytes = protocol::kWireBytes<Reply>;
    return call_bytes(static_cast<uint16_t>(Request::kOpcode), bytes_of(request), tail,
                      {reinterpret_cast<std::byte*>(&reply), kBytes}, more, more_bytes);
  }

  // Several records published by one store (a graph): begin_batch() takes the ring's lock, add() encodes, the
  // destructor or end() publishes. Nothing else of the session may be called by the thread in between.
  class Batch {
   public:
    explicit Batch(Session& session) : session_(session), guard_(session.ring_lock_) {}
    ~Batch() { end(); }
    protocol::Status add(uint16_t opcode, uint32_t stream, std::span<const std::byte> body);
    // Position behind the last record that was added.
    uint64_t end();

   private:
    Session& session_;
    std::unique_lock<ShortLock> guard_;
    uint64_t end_ = 0;
  };

  // Tells the device of a call that was refused here, before it became the command `opcode`: its log and
  // vgpu-probe then know why. Returns `status`. printf's arguments.
  [[gnu::format(printf, 4, 5)]] protocol::Status refuse(protocol::Status status, protocol::Opcode opcode,
                                                        const char* format, ...) noexcept;

  // ---- waiting ----

  uint64_t completed() const noexcept { return ring::load_acquire(control_->consumer.completed); }
  // Position behind everything submitted so far by any thread.
  uint64_t submitted() const noexcept { return submitted_.load(std::memory_order_acquire); }
  // Waits until everything before `position` has executed. Does not surface errors of the execution
  // (take_error).
  protocol::Status wait_completed(uint64_t position);

  // ---- errors ----

  // kSuccess, or what every call must return from now on: the device's sticky error or kDeviceUnavailable.
  protocol::Status status() const noexcept {
    return static_cast<protocol::Status>(sticky_.load(std::memory_order_acquire));
  }
  // For a synchronising call that waited: the sticky error if there is one by now, else an asynchronous
  // failure that nobody was told of, once.
  protocol::Status take_error();
  // The device's words about the newest error of this channel ("" if none). Any thread; a copy.
  std::string last_error_text() const;

  // ---- the rest ----

  const ring::DeviceInfo& info() const noexcept { return attachment_->info(); }
  const Attachment& attachment() const noexcept { return *attachment_; }
  BulkHeap& bulk() noexcept { return bulk_; }
  uint32_t channel() const noexcept { return claim_.index(); }

  // At exit of the process: gives the channel back unless another thread holds the ring's lock for long.
  // Every later call returns kDeinitialized.
  void close_at_exit() noexcept;
  // In the child after fork(): closes the child's copy of the lock's descriptor; nothing else may be called
  // after.
  void abandon_after_fork() noexcept;

 private:
  Session(const Attachment& attachment, ring::ChannelClaim claim, const SessionOptions& options);

  template <typename Request>
  static std::span<const std::byte> bytes_of(const Request& request) noexcept {
    return {reinterpret_cast<const std::byte*>(&request), protocol::kWireBytes<Request>};
  }

  Submitted submit_bytes(uint16_t opcode, StreamOrder stream, std::span<const std::byte> head,
                         std::span<const std::byte> tail);
  // A command that wants an answer, and the slot for it.
  struct Question {
    Submitted record;
    uint16_t slot = ring::kNoReply;
  };
  Question ask(uint16_t opcode, std::span<const std::byte> head, std::span<const std::byte> tail);
  protocol::Status call_bytes(uint16_t opcode, std::span<const std::byte> head,
                              std::span<const std::byte> tail, std::span<std::byte> reply,
                              std::span<std::byte> more, std::size_t* more_bytes);
  // With ring_lock_ held. Returns where the body goes, or nullptr when the session is lost. Waits while full.
  std::byte* reserve(uint16_t opcode, uint32_t stream, uint16_t reply_slot, uint32_t body_bytes);
  Submitted commit_and_publish(std::atomic<uint64_t>* last);
  void make_sticky(protocol::Status status) noexcept;
  void lose(ring::DeviceLoss loss) noexcept;
  ring::DeviceWatch make_watch() const noexcept;

  const Attachment* attachment_;
  SessionOptions options_;
  ring::ChannelClaim claim_;
  ring::ChannelView view_;  // stays valid for threads that wait while the claim is released at exit
  ring::ChannelControl* control_;
  uint64_t nonce_;
  ring::GuestWaits waits_;
  BulkHeap bulk_;

  alignas(128) ShortLock ring_lock_;
  ring::Producer producer_;  // guarded by ring_lock_
  ring::ReplySlots slots_;   // taken under ring_lock_
  uint64_t full_waits_ = 0;  // guarded by ring_lock_
  std::atomic<uint64_t> submitted_{0};
  uint64_t round_trips_ = 0;  // guarded by ring_lock_

  alignas(128) std::atomic<int32_t> sticky_{0};
  std::atomic<uint32_t> deferred_seen_{0};
};

}  // namespace vgpu::shim
