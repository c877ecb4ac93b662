// A guest for tests: claims a channel as the shim does, sends records, reads answers. One thread.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "pci/bar.h"
#include "protocol/commands.h"
#include "protocol/status.h"
#include "ring/channel.h"
#include "ring/heartbeat.h"
#include "ring/producer.h"
#include "ring/reply.h"

namespace vgpu::device::testing {

struct Answer {
  bool came = false;  // false: the device was lost
  protocol::Status status = protocol::Status::kUnknown;
  std::vector<std::byte> payload;

  template <typename Reply>
  Reply as() const {
    Reply reply{};
    if (payload.size() >= sizeof reply) std::memcpy(&reply, payload.data(), sizeof reply);
    return reply;
  }
};

class Guest {
 public:
  struct Claim {
    uint32_t protocol_version = protocol::kProtocolVersion;
    uint64_t protocol_hash = protocol::kProtocolHash;
    std::string process_name = "test guest";
    const ring::WaitOps* ops = nullptr;  // not given: futexes, or polling where the region is a VM's
  };
  static std::expected<std::unique_ptr<Guest>, ring::Error> attach(const std::string& path) {
    return attach(path, Claim{});
  }
  static std::expected<std::unique_ptr<Guest>, ring::Error> attach(const std::string& path,
                                                                   const Claim& claim) {
    auto bar = pci::Bar::open_path(path, pci::Access::kReadWrite);
    if (!bar) return std::unexpected(bar.error());
    const auto found = ring::check_region(bar->bytes(), 0, 0);
    if (!found) return std::unexpected(found.error());
    auto fd = bar->open_lock_fd();
    if (!fd) return std::unexpected(fd.error());
    const ring::RegionView region(bar->bytes(), found->geometry);
    const bool futexes = (found->feature_bits & ring::kFeatureFutexDoorbell) != 0;
    const auto& ops = claim.ops != nullptr ? *claim.ops
                      : futexes            ? bar->wait_ops()
                                           : ring::polling_wait_ops();
    auto taken = ring::ChannelClaim::take(region, *found, std::move(*fd), ops,
                                          {.protocol_version = claim.protocol_version,
                                           .protocol_hash = claim.protocol_hash,
                                           .process_name = claim.process_name,
                                           .timeout_ns = 10'000'000'000});
    if (!taken) return std::unexpected(taken.error());
    return std::unique_ptr<Guest>(
        new Guest(std::move(*bar), region, found->generation, std::move(*taken), ops));
  }

  // A record with any opcode and body. Returns its position. The device sees it after publish().
  uint64_t commit_bytes(uint16_t opcode, std::span<const std::byte> body,
                        uint16_t reply_slot = ring::kNoReply, uint32_t stream = 0) {
    const auto bytes = static_cast<uint32_t>(sizeof(ring::RecordHeader) + body.size());
    std::byte* room = nullptr;
    const auto made_room = [&] { return (room = producer_.try_reserve(bytes)) != nullptr; };
    if (!made_room()) {
      ring::DeviceWatch watch = this->watch();
      if (!ring::wait_while_alive(waits_, watch, ring::GuestWait::kConsumed,
                                  view().control->consumer.consumed, [&](uint64_t) { return made_room(); })) {
        throw std::runtime_error("the device was lost while the ring was full");
      }
    }
    auto* header = reinterpret_cast<ring::RecordHeader*>(room);
    header->opcode = opcode;
    header->reply_slot = reply_slot;
    header->stream = stream;
    if (!body.empty()) std::memcpy(room + sizeof(ring::RecordHeader), body.data(), body.size());
    return producer_.commit();
  }
  void publish() {
    producer_.publish();
    waits_.notify_consumer();
  }
  uint64_t send_bytes(uint16_t opcode, std::span<const std::byte> body, uint16_t reply_slot = ring::kNoReply,
                      uint32_t stream = 0) {
    const uint64_t position = commit_bytes(opcode, body, reply_slot, stream);
    publish();
    return position;
  }
  template <typename Request>
  uint64_t commit(const Request& request, std::span<const std::byte> tail = {},
                  uint16_t reply_slot = ring::kNoReply) {
    std::vector<std::byte> body(protocol::kWireBytes<Request> + tail.size());
    if constexpr (protocol::kWireBytes<Request> > 0) std::memcpy(body.data(), &request, sizeof request);
    if (!tail.empty()) std::memcpy(body.data() + protocol::kWireBytes<Request>, tail.data(), tail.size());
    return commit_bytes(static_cast<uint16_t>(Request::kOpcode), body, reply_slot);
  }
  template <typename Request>
  uint64_t send(const Request& request, std::span<const std::byte> tail = {},
                uint16_t reply_slot = ring::kNoReply) {
    const uint64_t position = commit(request, tail, reply_slot);
    publish();
    return position;
  }
  template <typename Request>
  Answer call(const Request& request, std::span<const std::byte> tail = {}) {
    return answer_to(send(request, tail, 0), 0);
  }
  Answer answer_to(uint64_t position, uint16_t slot) {
    Answer answer;
    ring::DeviceWatch alive = watch();
    const auto came =
        ring::wait_while_alive(waits_, alive, ring::GuestWait::kReply, view().reply_slot(slot)->tag,
                               [&](uint64_t tag) { return tag == ring::reply_tag(position); });
    if (!came) {
      loss = came.error();
      return answer;
    }
    const auto reply = ring::read_reply(view(), slot);
    answer.came = true;
    answer.status = static_cast<protocol::Status>(reply.status);
    answer.payload.assign(reply.payload.begin(), reply.payload.end());
    return answer;
  }
  // Waits until everything sent has executed; false: the device was lost.
  bool synchronize() {
    ring::DeviceWatch alive = watch();
    const auto done =
        ring::wait_while_alive(waits_, alive, ring::GuestWait::kCompleted, view().control->consumer.completed,
                               [&](uint64_t completed) { return completed >= producer_.position(); });
    if (!done) loss = done.error();
    return done.has_value();
  }

  ring::DeviceWatch watch() const { return {region_.header(), generation_, view().control, claim_.nonce()}; }
  const ring::ChannelView& view() const { return claim_.view(); }
  const ring::ConsumerBlock& consumer() const { return view().control->consumer; }
  const ring::RegionHeader& header() const { return region_.header(); }
  std::string last_error() const {
    return std::string(
        ring::load_text(view().control->served.last_error, sizeof(ring::ServedBlock::last_error)));
  }
  ring::Producer& producer() { return producer_; }
  ring::GuestWaits& waits() { return waits_; }
  uint64_t generation() const { return generation_; }
  void release() { claim_.release(); }
  // Loses the lock without a word, as a killed process does.
  void die() { claim_.abandon_after_fork(); }

  ring::DeviceLoss loss = ring::DeviceLoss::kStopped;

 private:
  Guest(pci::Bar bar, const ring::RegionView& region, uint64_t generation, ring::ChannelClaim claim,
        const ring::WaitOps& ops)
      : bar_(std::move(bar)),
        region_(region),
        generation_(generation),
        claim_(std::move(claim)),
        waits_(*claim_.view().control, ops, ring::kDefaultSpinNs, claim_.fences()),
        producer_(claim_.view().ring, &claim_.view().control->consumer.consumed,
                  &claim_.view().control->producer.published) {}

  pci::Bar bar_;
  ring::RegionView region_;
  uint64_t generation_;
  ring::ChannelClaim claim_;
  ring::GuestWaits waits_;
  ring::Producer producer_;
};

}  // namespace vgpu::device::testing
