// One channel's consumer.
#include "device/server/channel_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <span>
#include <string>
#include <utility>

#include "protocol/commands.h"
#include "ring/access.h"
#include "ring/reply.h"

namespace vgpu::device {

using protocol::Status;

namespace {

constexpr uint32_t kBatchRecords = 256;
// Work that took longer is announced to the guest at once; shorter work by the batch, since each announcement
// is a fence and a shared line.
constexpr uint64_t kProgressNs = 20'000;
constexpr uint64_t kCountersNs = 10'000'000;
// Longest sleeps, where whoever rings is heard: the watcher looks after channels without an owner, too.
constexpr uint64_t kParkNs = 1'000'000'000;
constexpr uint64_t kIdleParkNs = 60'000'000'000;

std::span<uint64_t> words(ring::CounterBlock& block) {
  return {reinterpret_cast<uint64_t*>(&block), offsetof(ring::CounterBlock, reserved) / sizeof(uint64_t)};
}
std::span<const uint64_t> words(const ring::CounterBlock& block) {
  return words(const_cast<ring::CounterBlock&>(block));
}

}  // namespace

void add_counters(Counters& sum, const Counters& from) noexcept {
  const auto sums = words(sum.block);
  const auto values = words(from.block);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (&values[i] == &from.block.memory_in_use_bytes || &values[i] == &from.block.memory_peak_bytes)
      continue;
    count(sums[i], ring::load_relaxed(values[i]));
  }
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    count(sum.by_command[i], ring::load_relaxed(from.by_command[i]));
  }
}

void Totals::absorb(Counters& gone) noexcept {
  const std::lock_guard lock(mutex_);
  ++absorbed_;
  add_counters(closed_, gone);
  auto& peak = closed_.block.memory_peak_bytes;
  peak = std::max(peak, ring::load_relaxed(gone.block.memory_peak_bytes));
  for (auto& word : words(gone.block)) ring::store_relaxed(word, uint64_t{0});
  for (auto& word : gone.by_command) ring::store_relaxed(word, uint64_t{0});
}

ChannelServer::ChannelServer(const ring::ChannelView& view, const pci::Bar& bar, int region_file,
                             Backend& backend, Totals& totals, const ChannelOptions& options,
                             const Sleeping& sleeping)
    : view_(view),
      bar_(bar),
      region_file_(region_file),
      backend_(backend),
      totals_(totals),
      options_(options),
      ownership_(view, &waits_),
      sleeping_(sleeping),
      waits_(*view.control, sleeping_.serving, options.spin_ns),
      idle_waits_(*view.control, sleeping_.idle, 0),
      bulk_used_(!options.locks_visible) {
  const auto& properties = backend.properties();
  limits_.window_base = properties.window_base;
  limits_.window_bytes = properties.window_bytes;
  limits_.bulk_bytes = view.bulk.size();
  limits_.max_image_bytes = options.max_image_bytes;
}

ChannelServer::~ChannelServer() {
  request_stop();
  join();
}

void ChannelServer::start() {
  ended_.store(false, std::memory_order_relaxed);
  thread_ = std::thread([this] { run(); });
}

void ChannelServer::request_stop() noexcept {
  stop_.store(true, std::memory_order_relaxed);
  {
    const std::lock_guard lock(context_mutex_);
    if (context_) context_->cancel();
  }
  waits_.wake_consumer();
}

void ChannelServer::join() noexcept {
  if (!thread_.joinable()) return;
  // A wake-up may come just before the thread sleeps, so it is repeated.
  while (!ended_.load(std::memory_order_acquire)) {
    waits_.wake_consumer();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  thread_.join();
}

bool ChannelServer::owner_changed() const noexcept {
  return ring::load_relaxed(view_.control->owner.nonce) != served_nonce_.load(std::memory_order_relaxed);
}

void ChannelServer::watch() noexcept {
  const auto gone = [this] {
    return options_.locks_visible &&
           ring::probe_channel_lock(bar_.probe_fd(), view_.index) == ring::LockState::kFree;
  };
  if (!served()) {
    // Somebody claims the channel: its doorbell may have come before the thread slept.
    if (ring::load_relaxed(view_.control->owner.nonce) != looked_at_.load(std::memory_order_relaxed)) {
      waits_.wake_consumer();
    }
    return;
  }
  if (!gone() && !owner_changed()) return;
  const std::lock_guard lock(context_mutex_);
  // All of it again under the lock: the thread may have changed owners since, and the new one's work is not
  // to be cancelled.
  if (!served() || !(gone() || owner_changed())) return;
  owner_dead_.store(true, std::memory_order_relaxed);
  if (context_) context_->cancel();
  waits_.wake_consumer();
}

ring::ChannelOwnership::Event ChannelServer::look_at_owner() noexcept {
  if (served() && !owner_changed() && !owner_dead_.load(std::memory_order_relaxed)) {
    return ring::ChannelOwnership::Event::kNone;
  }
  looked_at_.store(ring::load_relaxed(view_.control->owner.nonce), std::memory_order_relaxed);
  // Before the probe: what the watcher finds after it stays said.
  owner_dead_.store(false, std::memory_order_relaxed);
  return ownership_.poll(options_.locks_visible ? ring::probe_channel_lock(bar_.probe_fd(), view_.index)
                                                : ring::LockState::kUnknown);
}

void ChannelServer::run() noexcept {
  try {
    uint32_t sleeps = 0;  // since there was something to do
    while (!stop_.load(std::memory_order_relaxed)) {
      // From before the look, so that whatever changes after it ends the wait below: a claim's doorbell may
      // have rung already when that wait begins.
      const uint64_t seen_nonce = ring::load_acquire(view_.control->owner.nonce);
      switch (look_at_owner()) {
        case ring::ChannelOwnership::Event::kNewOwner:
          end_owner();
          if (bulk_used_) discard_bulk();
          begin_owner();
          sleeps = 0;
          continue;
        case ring::ChannelOwnership::Event::kOwnerGone:
          end_owner();
          ownership_.vacate();
          discard_bulk();
          continue;
        case ring::ChannelOwnership::Event::kNone:
          break;
      }
      const bool serving = served() && !failed_;
      if (serving && serve_batch()) {
        sleeps = 0;
        continue;
      }
      const auto wake = [&] {
        return interrupted() || (serving && consumer_.ready()) ||
               ring::load_relaxed(view_.control->owner.nonce) != seen_nonce;
      };
      if (!serving) {
        idle_waits_.park(wake, kIdleParkNs);
      } else if (sleeps > 0) {
        waits_.park(wake, kParkNs, sleeps++);
      } else if (!waits_.spin(wake, consumer_.streaming() ? ring::kStreamGapNs : 0)) {
        publish_counters();
        waits_.park(wake, kParkNs, sleeps++);
      }
    }
  } catch (const std::exception& exception) {
    log_error("channel {}: its thread ends: {}", view_.index, exception.what());
    ownership_.fail(static_cast<uint32_t>(Status::kUnknown), exception.what(), consumer_.position());
  }
  end_owner();
  ended_.store(true, std::memory_order_release);
}

// What lies in the bulk heap is one process's, and none of the next one's business. Also before an owner
// begins: the one before may be gone unseen, or have written until its end.
void ChannelServer::discard_bulk() noexcept {
  if (const auto discarded = bar_.discard(view_.bulk_region_offset, view_.bulk.size()); !discarded) {
    log_warning("channel {}: {}", view_.index, discarded.error().text);
  }
}

// Touching it cannot fault any more, in this process or in the VM.
bool ChannelServer::back_bulk() {
  const auto backed = bar_.ensure_backed(view_.bulk_region_offset, view_.bulk.size());
  if (!backed) log_failure(backed.error().text);
  return backed.has_value();
}

void ChannelServer::begin_owner() {
  const auto& owner = ownership_.owner();
  const auto refuse = [&](Status status, const std::string& reason) {
    log_warning("channel {}: refused {} (pid {}): {}", view_.index, owner.process_name, owner.pid, reason);
    waits_.set_fences(ring::Fences::kBoth);  // not as the owner before wanted it
    ownership_.refuse(static_cast<uint32_t>(status), reason);
  };
  if (owner.protocol_version != protocol::kProtocolVersion ||
      owner.protocol_hash != protocol::kProtocolHash) {
    refuse(
        Status::kSystemDriverMismatch,
        fmt::format("the guest speaks protocol {} ({:016x}), the device {} ({:016x})", owner.protocol_version,
                    owner.protocol_hash, protocol::kProtocolVersion, protocol::kProtocolHash));
    return;
  }
  if (owner.generation != options_.generation) {
    refuse(
        Status::kDeviceUnavailable,
        fmt::format("the guest attached to generation {:016x}, this is {:016x}: the device was started anew",
                    owner.generation, options_.generation));
    return;
  }
  if (options_.back_bulk && !back_bulk()) {
    refuse(Status::kOutOfMemory, "the host has no memory left for the channel's bulk heap");
    return;
  }
  auto context = backend_.create_context(options_.quota);
  if (!context) {
    refuse(context.error().status, context.error().reason);
    return;
  }
  {
    const std::lock_guard lock(context_mutex_);
    context_ = std::move(*context);
    owner_dead_.store(false, std::memory_order_relaxed);
    served_nonce_.store(owner.nonce, std::memory_order_relaxed);
  }
  context_->set_upcoming([this](const OnUpcomingLaunch& on_launch) { look_ahead(on_launch); });
  consumer_ = ring::Consumer(view_.ring);
  progress_position_ = given_back_ = 0;
  deferred_errors_ = 0;
  failed_ = false;
  executor_.emplace(*context_,
                    ExecutorConfig{.limits = limits_,
                                   .bulk = view_.bulk,
                                   .bulk_file = region_file_,
                                   .bulk_file_offset = view_.bulk_region_offset,
                                   .reply_payload_bytes = view_.reply_bytes - ring::kReplyHeaderBytes,
                                   .image_bytes = options_.max_image_bytes,
                                   .abandoned = [this] { return interrupted(); }},
                    counters_);
  owner_ = owner;
  bulk_used_ = true;
  // The owner may only ask for what the device has offered.
  waits_.set_fences(options_.remote_fences ? owner.fences : ring::Fences::kBoth);
  ring::store_relaxed(view_.control->consumer.deferred_error_position, uint64_t{0});
  ring::store_relaxed(view_.control->consumer.deferred_error, uint64_t{0});
  log_info("channel {}: serves {} (pid {})", view_.index, owner.process_name, owner.pid);
  ownership_.serve();
}

void ChannelServer::end_owner() noexcept {
  if (!served()) return;
  executor_.reset();
  std::unique_ptr<Context> context;
  {
    const std::lock_guard lock(context_mutex_);
    context = std::move(context_);
    served_nonce_.store(0, std::memory_order_relaxed);
    owner_dead_.store(false, std::memory_order_relaxed);
  }
  if (context) context->cancel();  // also where the thread saw the owner leave before the watcher did
  context.reset();
  ring::store_relaxed(counters_.block.memory_in_use_bytes, uint64_t{0});
  publish_counters();
  totals_.absorb(counters_);
  log_info("channel {}: {} (pid {}) is gone", view_.index, owner_.process_name, owner_.pid);
}

bool ChannelServer::serve_batch() {
  uint32_t taken = 0;
  while (taken < kBatchRecords && !interrupted()) {
    const auto bytes = consumer_.try_read(record_);
    if (!bytes) {
      fail_channel(bytes.error());
      return true;
    }
    if (*bytes == 0) {
      if (taken == 0) return false;
      finish_batch(/*ring_empty=*/true);
      return true;
    }
    if (taken++ == 0) progress_ns_ = clock_ns_ = ring::monotonic_ns();
    execute_one(std::span<const std::byte>(record_).first(*bytes), consumer_.record_position());
  }
  if (taken == 0) return false;  // interrupted
  finish_batch(/*ring_empty=*/!consumer_.ready());
  return true;
}

// From behind the record that is being executed on. What is wrong there is told when its turn comes.
void ChannelServer::look_ahead(const OnUpcomingLaunch& on_launch) const {
  ring::Consumer ahead = consumer_.ahead();
  alignas(8) std::byte record[ring::kMaxRecordBytes];
  while (ahead.position() - consumer_.position() < consumer_.capacity()) {
    const auto bytes = ahead.try_read(record);
    if (!bytes || *bytes == 0) return;
    if (!executor_->peek(std::span<const std::byte>(record).first(*bytes), on_launch)) return;
  }
}

void ChannelServer::finish_batch(bool ring_empty) {
  count(counters_.block.batches);
  progress(ring_empty);
  if (clock_ns_ - counters_ns_ > kCountersNs) {
    counters_ns_ = clock_ns_;
    publish_counters();
  }
}

void ChannelServer::execute_one(std::span<const std::byte> record, uint64_t position) {
  const auto outcome = executor_->execute(record);
  if (outcome.status != Status::kSuccess) report(outcome, position);
  if (outcome.reply_slot != ring::kNoReply) answer(outcome, position);
  // One look at the clock a record: what stands between two records counts for the second.
  const uint64_t now = ring::monotonic_ns();
  const uint64_t spent = now - std::exchange(clock_ns_, now);
  count(counters_.block.busy_ns, spent);
  if (outcome.opcode == static_cast<uint16_t>(protocol::Opcode::kLaunch)) {
    count(counters_.block.kernel_ns, spent);
  }
  // A piece of a copy is told at once: the guest fills its slot again, or takes from it, while the next is
  // under way.
  if (outcome.used_bulk || now - progress_ns_ > kProgressNs ||
      consumer_.position() - progress_position_ > consumer_.capacity() / 4) {
    progress(/*ring_empty=*/false);
    progress_ns_ = now;
  }
}

void ChannelServer::answer(const Executor::Outcome& outcome, uint64_t position) {
  if (ring::write_reply(view_, outcome.reply_slot, position, static_cast<int32_t>(outcome.status),
                        outcome.reply)) {
    count(counters_.block.replies);
    waits_.notify_guest(ring::GuestWait::kReply, view_.reply_slot(outcome.reply_slot)->tag);
    return;
  }
  Executor::Outcome refused;
  refused.status = Status::kInvalidValue;
  refused.opcode = outcome.opcode;
  refused.reason = fmt::format("reply slot {} of {} named", outcome.reply_slot, view_.reply_count);
  report(refused, position);
}

// Everything taken so far has executed: says so. Room in the ring is given back by the quarter as long as
// there is more to take: a guest that sleeps for room and woke to a little of it would fall asleep again at
// once.
void ChannelServer::progress(bool ring_empty) {
  const auto outcome = executor_->finish();
  if (outcome.status != Status::kSuccess) report(outcome, consumer_.record_position());
  progress_position_ = consumer_.position();
  if (ring_empty || progress_position_ - given_back_ >= consumer_.capacity() / 4) {
    given_back_ = progress_position_;
    waits_.store_progress(progress_position_, given_back_);
  } else {
    waits_.store_completed(progress_position_);
  }
}

// Stores a failure where the guest finds it: before `completed` passes the record, and before its reply's
// tag.
void ChannelServer::report(const Executor::Outcome& outcome, uint64_t position) {
  auto& control = *view_.control;
  const auto code = static_cast<uint32_t>(outcome.status);
  const bool repeated = outcome.reason.empty();
  const bool said = !repeated && !outcome.abandoned;
  if (said) ring::store_last_error(control, code, outcome.opcode, position, outcome.reason);
  if (outcome.told) {
    // The guest has its answer: only log and probe are to know.
  } else if (protocol::is_sticky(outcome.status)) {
    if (!repeated) ring::store_sticky_error(control, code, position);
  } else if (outcome.reply_slot >= view_.reply_count) {
    // Nobody hears of it in an answer.
    ++deferred_errors_;
    ring::store_relaxed(control.consumer.deferred_error_position, position);
    ring::store_release(control.consumer.deferred_error, (deferred_errors_ << 32) | code);
  }
  if (said) log_failure(fmt::format("CUDA error {}: {}", code, outcome.reason));
}

void ChannelServer::log_failure(std::string_view text) {
  uint64_t dropped = 0;
  const bool allowed = limiter_.allow(ring::monotonic_ns(), dropped);
  if (dropped > 0) log_warning("channel {}: {} more errors were not logged", view_.index, dropped);
  if (allowed) log_warning("channel {}: {} (pid {}): {}", view_.index, owner_.process_name, owner_.pid, text);
}

void ChannelServer::fail_channel(ring::ReadError error) {
  const auto reason = fmt::format("the ring is corrupt at position {}: {}", consumer_.position(),
                                  ring::read_error_text(error));
  failed_ = true;
  count(counters_.block.errors);
  log_failure(reason);
  ownership_.fail(static_cast<uint32_t>(Status::kLaunchFailed), reason, consumer_.position());
  // Nothing of this owner is executed any more, so nothing of it is kept.
  executor_.reset();
  std::unique_ptr<Context> context;
  {
    const std::lock_guard lock(context_mutex_);
    context = std::move(context_);
  }
  context.reset();
  ring::store_relaxed(counters_.block.memory_in_use_bytes, uint64_t{0});
  publish_counters();
}

void ChannelServer::publish_counters() noexcept {
  const auto from = words(std::as_const(counters_.block));
  const auto to = words(view_.control->counters);
  for (std::size_t i = 0; i < to.size(); ++i) ring::store_relaxed(to[i], ring::load_relaxed(from[i]));
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    ring::store_relaxed(view_.control->opcode_counts[i], ring::load_relaxed(counters_.by_command[i]));
  }
}

}  // namespace vgpu::device
