// Submitting, waiting, and noticing that the device is gone.
#include "shim/session/session.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <string>

#include "shim/session/log.h"

namespace vgpu::shim {

using protocol::Status;
using ring::GuestWait;

namespace {

std::string process_name() {
  char name[64] = {};
  if (std::FILE* file = std::fopen("/proc/self/comm", "re")) {
    if (std::fgets(name, sizeof(name), file) == nullptr) {
      name[0] = '\0';
    }
    std::fclose(file);
  }
  std::string text(name);
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

constexpr int32_t number(Status status) {
  return static_cast<int32_t>(status);
}

}  // namespace

std::expected<std::unique_ptr<Session>, Failure> Session::open(const Attachment& attachment,
                                                               const SessionOptions& options) {
  auto lock_fd = attachment.bar().open_lock_fd();
  if (!lock_fd) {
    return std::unexpected(Failure{status_of(lock_fd.error().code), lock_fd.error().text});
  }
  const std::string name = process_name();
  auto claim = ring::ChannelClaim::take(attachment.region(), attachment.found(), std::move(*lock_fd),
                                        attachment.bar().wait_ops(),
                                        {.protocol_version = protocol::kProtocolVersion,
                                         .protocol_hash = protocol::kProtocolHash,
                                         .process_name = name,
                                         .timeout_ns = options.claim_timeout_ns});
  if (!claim) {
    return std::unexpected(Failure{status_of(claim.error().code), claim.error().text});
  }
  log_line("channel %u claimed", claim->index());
  return std::unique_ptr<Session>(new Session(attachment, std::move(*claim), options));
}

Session::Session(const Attachment& attachment, ring::ChannelClaim claim, const SessionOptions& options)
    : attachment_(&attachment),
      options_(options),
      claim_(std::move(claim)),
      view_(claim_.view()),
      control_(view_.control),
      nonce_(claim_.nonce()),
      waits_(*control_, attachment.bar().wait_ops(), options.spin_ns, claim_.fences()),
      bulk_(view_.bulk, view_.bulk_region_offset, &attachment.bar(), attachment.mapping()),
      ring_lock_(claim_.fences()),
      producer_(view_.ring, &control_->consumer.consumed, &control_->producer.published,
                attachment.bar().write_combining_file()),
      slots_(view_.reply_count) {}

Session::~Session() = default;

ring::DeviceWatch Session::make_watch() const noexcept {
  return {attachment_->region().header(), attachment_->found().generation, control_, nonce_,
          options_.heartbeat_limit_ns};
}

void Session::make_sticky(Status status) noexcept {
  int32_t expected = 0;
  if (sticky_.compare_exchange_strong(expected, number(status))) {
    log_line("error %d from now on: %s", number(status), last_error_text().c_str());
  }
}

void Session::lose(ring::DeviceLoss loss) noexcept {
  // A channel that failed or a worker that died for an error of ours: the error itself says more.
  log_line("the device is lost: %s", ring::device_loss_text(loss));
  make_sticky(Status::kDeviceUnavailable);
}

std::byte* Session::reserve(uint16_t opcode, uint32_t stream, uint16_t reply_slot, uint32_t body_bytes) {
  if (status() != Status::kSuccess) {
    return nullptr;
  }
  const auto bytes = static_cast<uint32_t>(sizeof(ring::RecordHeader)) + body_bytes;
  std::byte* record = producer_.try_reserve(bytes);
  if (record == nullptr) [[unlikely]] {
    // Full: what is committed must be visible before we wait for room.
    producer_.publish();
    waits_.notify_consumer();
    ring::store_relaxed(control_->producer.full_waits, ++full_waits_);
    ring::DeviceWatch watch = make_watch();
    const auto alive =
        ring::wait_while_alive(waits_, watch, GuestWait::kConsumed, control_->consumer.consumed,
                               [&](uint64_t) { return (record = producer_.try_reserve(bytes)) != nullptr; });
    if (!alive) {
      lose(alive.error());
      return nullptr;
    }
  }
  auto* header = reinterpret_cast<ring::RecordHeader*>(record);
  header->opcode = opcode;
  header->reply_slot = reply_slot;
  header->stream = stream;
  return record + sizeof(ring::RecordHeader);
}

Submitted Session::commit_and_publish(std::atomic<uint64_t>* last) {
  const uint64_t start = producer_.commit();
  producer_.publish();
  waits_.notify_consumer();
  const uint64_t end = producer_.position();
  submitted_.store(end, std::memory_order_release);
  if (last != nullptr) {
    last->store(end, std::memory_order_release);
  }
  return {Status::kSuccess, start, end};
}

namespace {

void write_body(std::byte* body, std::span<const std::byte> head, std::span<const std::byte> tail) {
  if (!head.empty()) {
    std::memcpy(body, head.data(), head.size());
  }
  if (!tail.empty()) {
    std::memcpy(body + head.size(), tail.data(), tail.size());
  }
}

}  // namespace

Submitted Session::submit_bytes(uint16_t opcode, StreamOrder stream, std::span<const std::byte> head,
                                std::span<const std::byte> tail) {
  const auto bytes = static_cast<uint32_t>(head.size() + tail.size());
  const std::lock_guard guard(ring_lock_);
  std::byte* body = reserve(opcode, stream.id, ring::kNoReply, bytes);
  if (body == nullptr) {
    return {status(), 0, 0};
  }
  write_body(body, head, tail);
  return commit_and_publish(stream.last);
}

Session::Question Session::ask(uint16_t opcode, std::span<const std::byte> head,
                               std::span<const std::byte> tail) {
  const auto bytes = static_cast<uint32_t>(head.size() + tail.size());
  for (;;) {
    {
      const std::lock_guard guard(ring_lock_);
      if (const uint16_t slot = slots_.try_take(); slot != ring::kNoReply) {
        std::byte* body = reserve(opcode, 0, slot, bytes);
        if (body == nullptr) {
          slots_.give_back(slot);
          return {{status(), 0, 0}, ring::kNoReply};
        }
        write_body(body, head, tail);
        ring::store_relaxed(control_->producer.round_trips, ++round_trips_);
        return {commit_and_publish(nullptr), slot};
      }
    }
    // As many threads wait for answers as there are slots, so what follows is not what takes time.
    constexpr timespec kMoment{.tv_sec = 0, .tv_nsec = 50'000};
    ::nanosleep(&kMoment, nullptr);
  }
}

Status Session::refuse(Status status, protocol::Opcode opcode, const char* format, ...) noexcept {
  char text[protocol::RefusedRequest::kMaxTail];
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  if (length > 0) {
    const auto bytes = std::min<std::size_t>(static_cast<std::size_t>(length), sizeof(text) - 1);
    submit(protocol::RefusedRequest{.status = static_cast<uint32_t>(status),
                                    .opcode = static_cast<uint32_t>(opcode)},
           0, std::as_bytes(std::span(text, bytes)));
    if (log_enabled()) {
      log_line("error %d: %s", number(status), text);
    }
  }
  return status;
}

Status Session::call_bytes(uint16_t opcode, std::span<const std::byte> head, std::span<const std::byte> tail,
                           std::span<std::byte> reply, std::span<std::byte> more, std::size_t* more_bytes) {
  const auto [record, slot] = ask(opcode, head, tail);
  if (record.status != Status::kSuccess) {
    return record.status;
  }
  struct GiveBack {
    ring::ReplySlots& slots;
    uint16_t slot;
    ~GiveBack() { slots.give_back(slot); }
  } const give_back{slots_, slot};
  const uint64_t tag = ring::reply_tag(record.start);
  ring::DeviceWatch watch = make_watch();
  const auto alive = ring::wait_while_alive(waits_, watch, GuestWait::kReply, view_.reply_slot(slot)->tag,
                                            [tag](uint64_t value) { return value == tag; });
  if (!alive) {
    lose(alive.error());
    return status();
  }
  const ring::ReplyView answer = ring::read_reply(view_, slot);
  const auto answer_status = static_cast<Status>(answer.status);
  if (answer_status != Status::kSuccess) {
    if (protocol::is_sticky(answer_status)) {
      make_sticky(answer_status);
    } else if (trace_enabled()) {
      log_line("command %04x: error %d: %s", opcode, answer.status, last_error_text().c_str());
    }
    return answer_status;
  }
  if (answer.payload.size() < reply.size()) {
    log_line("command %04x: a reply of %zu bytes where %zu were due", opcode, answer.payload.size(),
             reply.size());
    return Status::kUnknown;
  }
  if (!reply.empty()) {
    std::memcpy(reply.data(), answer.payload.data(), reply.size());
  }
  const auto rest = answer.payload.subspan(reply.size());
  const std::size_t copied = rest.size() < more.size() ? rest.size() : more.size();
  if (copied != 0) {
    std::memcpy(more.data(), rest.data(), copied);
  }
  if (more_bytes != nullptr) {
    *more_bytes = copied;
  }
  return Status::kSuccess;
}

Status Session::Batch::add(uint16_t opcode, uint32_t stream, std::span<const std::byte> body) {
  std::byte* room = session_.reserve(opcode, stream, ring::kNoReply, static_cast<uint32_t>(body.size()));
  if (room == nullptr) {
    return session_.status();
  }
  std::memcpy(room, body.data(), body.size());
  session_.producer_.commit();
  return Status::kSuccess;
}

uint64_t Session::Batch::end() {
  if (guard_.owns_lock()) {
    session_.producer_.publish();
    session_.waits_.notify_consumer();
    end_ = session_.producer_.position();
    session_.submitted_.store(end_, std::memory_order_release);
    guard_.unlock();
  }
  return end_;
}

Status Session::wait_completed(uint64_t position) {
  if (completed() >= position) {
    return Status::kSuccess;
  }
  if (const Status now = status(); now == Status::kDeviceUnavailable || now == Status::kDeinitialized) {
    return now;
  }
  ring::DeviceWatch watch = make_watch();
  const auto alive =
      ring::wait_while_alive(waits_, watch, GuestWait::kCompleted, control_->consumer.completed,
                             [position](uint64_t value) { return value >= position; });
  if (!alive) {
    lose(alive.error());
    return status();
  }
  return Status::kSuccess;
}

Status Session::take_error() {
  if (const Status known = status(); known != Status::kSuccess) {
    return known;
  }
  const ring::ConsumerBlock& consumer = control_->consumer;
  if (const auto sticky = static_cast<Status>(ring::load_acquire(consumer.sticky_error));
      sticky != Status::kSuccess) {
    make_sticky(sticky);
    return status();
  }
  const uint64_t deferred = ring::load_acquire(consumer.deferred_error);
  const auto count = static_cast<uint32_t>(deferred >> 32);
  uint32_t seen = deferred_seen_.load(std::memory_order_relaxed);
  if (seen == count || !deferred_seen_.compare_exchange_strong(seen, count)) {
    return Status::kSuccess;
  }
  if (log_enabled()) {
    log_line("asynchronous error %u: %s", static_cast<uint32_t>(deferred), last_error_text().c_str());
  }
  return static_cast<Status>(static_cast<uint32_t>(deferred));
}

std::string Session::last_error_text() const {
  char text[sizeof(ring::ServedBlock::last_error) + 1] = {};
  std::memcpy(text, control_->served.last_error, sizeof(ring::ServedBlock::last_error));
  return text;
}

void Session::close_at_exit() noexcept {
  int32_t expected = 0;
  sticky_.compare_exchange_strong(expected, number(Status::kDeinitialized));
  // Another thread may be writing a record: give it a moment, and leave the channel to the kernel otherwise
  // (the lock goes with the process).
  for (int i = 0; i < 1000; ++i) {
    if (ring_lock_.try_lock()) {
      claim_.leave_at_exit();
      ring_lock_.unlock();
      return;
    }
    ring::cpu_relax();
  }
}

void Session::abandon_after_fork() noexcept {
  claim_.abandon_after_fork();
}

}  // namespace vgpu::shim
