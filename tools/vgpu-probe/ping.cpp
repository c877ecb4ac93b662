// vgpu-probe ping: round trips through the real ring, as a client makes them.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "protocol/commands.h"
#include "ring/channel.h"
#include "ring/heartbeat.h"
#include "ring/producer.h"
#include "ring/reply.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"

namespace vgpu::tools {
namespace {

constexpr uint32_t kWarmUp = 200;

uint64_t percentile(const std::vector<uint64_t>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(rank, sorted.size() - 1)];
}

// Round trips in nanoseconds, or why it ended early.
std::expected<std::vector<uint64_t>, std::string> measure(const pci::Bar& bar, uint32_t count) {
  const auto found = ring::check_region(bar.bytes(), protocol::kProtocolVersion, protocol::kProtocolHash);
  if (!found) return std::unexpected(found.error().text);
  auto lock_fd = bar.open_lock_fd();
  if (!lock_fd) return std::unexpected(lock_fd.error().text);
  const ring::RegionView region(bar.bytes(), found->geometry);
  auto claim = ring::ChannelClaim::take(region, *found, std::move(*lock_fd), bar.wait_ops(),
                                        {.protocol_version = protocol::kProtocolVersion,
                                         .protocol_hash = protocol::kProtocolHash,
                                         .process_name = "vgpu-probe ping",
                                         .timeout_ns = 3'000'000'000});
  if (!claim) return std::unexpected(claim.error().text);
  const auto& view = claim->view();
  auto& control = *view.control;
  ring::GuestWaits waits(control, bar.wait_ops(), ring::kDefaultSpinNs, claim->fences());
  ring::Producer producer(view.ring, &control.consumer.consumed, &control.producer.published,
                          bar.write_combining_file());
  ring::DeviceWatch watch(region.header(), found->generation, &control, claim->nonce());

  std::vector<uint64_t> times;
  times.reserve(count);
  constexpr auto kBytes = static_cast<uint32_t>(sizeof(ring::RecordHeader) + sizeof(protocol::PingRequest));
  for (uint64_t i = 0; i < uint64_t{kWarmUp} + count; ++i) {
    const protocol::PingRequest ping{.cookie = i * 0x9e3779b97f4a7c15u + 1};
    const auto start = std::chrono::steady_clock::now();
    // One record at a time: there is always room.
    std::byte* room = producer.try_reserve(kBytes);
    if (room == nullptr) return std::unexpected("the ring is full: the device does not give space back");
    auto* header = reinterpret_cast<ring::RecordHeader*>(room);
    header->opcode = static_cast<uint16_t>(protocol::Opcode::kPing);
    header->reply_slot = 0;
    header->stream = 0;
    std::memcpy(room + sizeof(ring::RecordHeader), &ping, sizeof ping);
    const uint64_t tag = ring::reply_tag(producer.commit());
    producer.publish();
    waits.notify_consumer();
    const auto answered =
        ring::wait_while_alive(waits, watch, ring::GuestWait::kReply, view.reply_slot(0)->tag,
                               [tag](uint64_t seen) { return seen == tag; });
    const auto end = std::chrono::steady_clock::now();
    if (!answered)
      return std::unexpected(fmt::format("no answer: {}", ring::device_loss_text(answered.error())));
    const auto reply = ring::read_reply(view, 0);
    protocol::PingReply pong{};
    if (reply.payload.size() == sizeof pong) std::memcpy(&pong, reply.payload.data(), sizeof pong);
    if (reply.status != 0 || pong.cookie != ping.cookie) {
      return std::unexpected(fmt::format("wrong answer: status {}, cookie {:#x} for {:#x}", reply.status,
                                         pong.cookie, ping.cookie));
    }
    if (i >= kWarmUp) {
      times.push_back(
          static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count()));
    }
  }
  return times;
}

}  // namespace

int ping_device(const std::string& device, uint32_t count, bool json) {
  const auto fail = [](const std::string& text) {
    fmt::print(stderr, "vgpu-probe: {}\n", text);
    return 1;
  };
  const auto place = choose_place(device);
  if (!place) return fail(place.error());
  const auto bar = pci::open_location(place->location);
  if (!bar) return fail(bar.error().text);
  auto times = measure(*bar, count);
  if (!times) return fail(times.error());
  std::ranges::sort(*times);
  const nlohmann::ordered_json answer = {{"path", bar->path()},
                                         {"round_trips", times->size()},
                                         {"min_ns", times->front()},
                                         {"p50_ns", percentile(*times, 0.5)},
                                         {"p90_ns", percentile(*times, 0.9)},
                                         {"p99_ns", percentile(*times, 0.99)},
                                         {"p99.9_ns", percentile(*times, 0.999)},
                                         {"max_ns", times->back()}};
  if (json) {
    fmt::print("{}\n", answer.dump(2));
    return 0;
  }
  fmt::print("{} round trips through {}\n", times->size(), bar->path());
  for (const char* figure : {"min_ns", "p50_ns", "p90_ns", "p99_ns", "p99.9_ns", "max_ns"}) {
    const std::string name(figure);
    fmt::print("  {:<6} {:>10} ns\n", name.substr(0, name.size() - 3), answer[figure].get<uint64_t>());
  }
  return 0;
}

}  // namespace vgpu::tools
