// Geometry of a region: computing, checking, formatting.
#include "ring/region.h"

#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "ring/access.h"

namespace vgpu::ring {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kChunk = 64 * 1024;  // channels start at multiples of this
constexpr uint64_t kMinBulkBytes = 64 * 1024;

constexpr uint64_t round_up(uint64_t value, uint64_t to) {
  return (value + to - 1) / to * to;
}

std::unexpected<Error> fail(ErrorCode code, std::string text) {
  return std::unexpected(Error{code, std::move(text)});
}

std::string hex(uint64_t value) {
  char text[19] = "0x";
  std::size_t length = 2;
  for (int shift = 60; shift >= 0; shift -= 4) {
    const auto digit = static_cast<unsigned>(value >> shift) & 15U;
    if (digit != 0 || length > 2 || shift == 0) {
      text[length++] = "0123456789abcdef"[digit];
    }
  }
  return {text, length};
}

bool is_power_between(uint64_t value, uint64_t low, uint64_t high) {
  return std::has_single_bit(value) && value >= low && value <= high;
}

// Whether [offset, offset + bytes) lies in [0, limit), without overflow.
bool inside(uint64_t offset, uint64_t bytes, uint64_t limit) {
  return offset <= limit && bytes <= limit - offset;
}

}  // namespace

std::expected<RegionGeometry, Error> RegionGeometry::compute(const GeometryOptions& options) {
  if (!is_power_between(options.region_bytes, 1ULL << 20, 1ULL << 40)) {
    return fail(ErrorCode::kInvalidArgument, "region of " + std::to_string(options.region_bytes) +
                                                 " bytes: must be a power of two from 1 MiB to 1 TiB");
  }
  if (options.channel_count < 1 || options.channel_count > kMaxChannels) {
    return fail(ErrorCode::kInvalidArgument, std::to_string(options.channel_count) +
                                                 " channels: must be 1 to " + std::to_string(kMaxChannels));
  }
  if (!is_power_between(options.ring_bytes, 64ULL << 10, 64ULL << 20)) {
    return fail(ErrorCode::kInvalidArgument, "ring of " + std::to_string(options.ring_bytes) +
                                                 " bytes: must be a power of two from 64 KiB to 64 MiB");
  }
  if (options.reply_count < 1 || options.reply_count > 64) {
    return fail(ErrorCode::kInvalidArgument,
                std::to_string(options.reply_count) + " reply slots: must be 1 to 64");
  }
  if (options.reply_bytes < 64 || options.reply_bytes > 65536 || options.reply_bytes % 64 != 0) {
    return fail(ErrorCode::kInvalidArgument, "reply slots of " + std::to_string(options.reply_bytes) +
                                                 " bytes: must be a multiple of 64 from 64 to 65536");
  }
  RegionGeometry g;
  g.region_bytes = options.region_bytes;
  g.device_info_offset = sizeof(RegionHeader);
  g.device_info_bytes = sizeof(DeviceInfo);
  g.channels_offset = round_up(g.device_info_offset + g.device_info_bytes, kChunk);
  g.channel_count = options.channel_count;
  g.channel_stride = (g.region_bytes - g.channels_offset) / g.channel_count / kChunk * kChunk;
  g.reply_count = options.reply_count;
  g.reply_bytes = options.reply_bytes;
  g.ring_offset = sizeof(ChannelControl);
  g.ring_bytes = options.ring_bytes;
  g.replies_offset = g.ring_offset + g.ring_bytes;
  g.bulk_offset = round_up(g.replies_offset + uint64_t{g.reply_count} * g.reply_bytes, kPage);
  if (g.channel_stride < g.bulk_offset + kMinBulkBytes) {
    return fail(ErrorCode::kInvalidArgument, "region of " + std::to_string(g.region_bytes) +
                                                 " bytes is too small for " +
                                                 std::to_string(g.channel_count) + " channels: each gets " +
                                                 std::to_string(g.channel_stride) + " bytes and needs " +
                                                 std::to_string(g.bulk_offset + kMinBulkBytes));
  }
  g.bulk_bytes = g.channel_stride - g.bulk_offset;
  return g;
}

std::expected<void, Error> RegionGeometry::check() const {
  const auto bad = [](const char* field, uint64_t value) {
    return fail(ErrorCode::kCorrupt, std::string("region header: ") + field + " is " + std::to_string(value));
  };
  if (!is_power_between(region_bytes, 1ULL << 20, 1ULL << 40)) {
    return bad("region_bytes", region_bytes);
  }
  if (device_info_offset < sizeof(RegionHeader) || device_info_offset % kPage != 0 ||
      !inside(device_info_offset, device_info_bytes, region_bytes)) {
    return bad("device_info_offset", device_info_offset);
  }
  if (device_info_bytes < sizeof(DeviceInfo)) {
    return bad("device_info_bytes", device_info_bytes);
  }
  if (channels_offset % kPage != 0 || channels_offset < device_info_offset + device_info_bytes ||
      channels_offset > region_bytes) {
    return bad("channels_offset", channels_offset);
  }
  if (channel_count < 1 || channel_count > kMaxChannels) {
    return bad("channel_count", channel_count);
  }
  if (channel_stride % kPage != 0 || channel_stride > (region_bytes - channels_offset) / channel_count) {
    return bad("channel_stride", channel_stride);
  }
  if (ring_offset < sizeof(ChannelControl) || ring_offset % kPage != 0) {
    return bad("ring_offset", ring_offset);
  }
  if (!is_power_between(ring_bytes, 64ULL << 10, 64ULL << 20) ||
      !inside(ring_offset, ring_bytes, channel_stride)) {
    return bad("ring_bytes", ring_bytes);
  }
  if (reply_count < 1 || reply_count > 64) {
    return bad("reply_count", reply_count);
  }
  if (reply_bytes < 64 || reply_bytes > 65536 || reply_bytes % 64 != 0) {
    return bad("reply_bytes", reply_bytes);
  }
  const uint64_t all_replies = uint64_t{reply_count} * reply_bytes;
  if (replies_offset % 64 != 0 || replies_offset < ring_offset + ring_bytes ||
      !inside(replies_offset, all_replies, channel_stride)) {
    return bad("replies_offset", replies_offset);
  }
  if (bulk_offset % kPage != 0 || bulk_offset < replies_offset + all_replies) {
    return bad("bulk_offset", bulk_offset);
  }
  if (bulk_bytes < kMinBulkBytes || bulk_bytes % kPage != 0 ||
      !inside(bulk_offset, bulk_bytes, channel_stride)) {
    return bad("bulk_bytes", bulk_bytes);
  }
  return {};
}

std::expected<uint64_t, Error> format_region(std::span<std::byte> mapping, const RegionGeometry& geometry,
                                             const DeviceInfo& info, const FormatOptions& options) {
  if (auto ok = geometry.check(); !ok) {
    return std::unexpected(std::move(ok.error()));
  }
  if (mapping.size() < geometry.region_bytes) {
    return fail(ErrorCode::kTruncated, "mapping of " + std::to_string(mapping.size()) +
                                           " bytes cannot hold a region of " +
                                           std::to_string(geometry.region_bytes));
  }
  if (options.doorbell_peer > kMaxDoorbellPeer) {
    return fail(ErrorCode::kInvalidArgument, "doorbell peer " + std::to_string(options.doorbell_peer) +
                                                 ": must be at most " + std::to_string(kMaxDoorbellPeer));
  }
  const RegionView view(mapping, geometry);
  RegionHeader& header = view.header();
  // Whoever looks now must not take an old header for a region.
  store_release(header.magic, uint64_t{0});
  store_fence();
  std::memset(mapping.data() + sizeof(header.magic), 0, geometry.channels_offset - sizeof(header.magic));
  for (uint32_t i = 0; i < geometry.channel_count; ++i) {
    std::memset(mapping.data() + geometry.channel_start(i), 0, geometry.bulk_offset);
  }
  header.layout_version = kLayoutVersion;
  header.protocol_version = options.protocol_version;
  header.protocol_hash = options.protocol_hash;
  header.region_bytes = geometry.region_bytes;
  header.feature_bits = options.feature_bits;
  header.generation = options.generation != 0 ? options.generation : random_nonzero();
  header.device_info_offset = geometry.device_info_offset;
  header.device_info_bytes = geometry.device_info_bytes;
  header.channels_offset = geometry.channels_offset;
  header.channel_stride = geometry.channel_stride;
  header.channel_count = geometry.channel_count;
  header.reply_count = geometry.reply_count;
  header.reply_bytes = geometry.reply_bytes;
  header.doorbell_peer = options.doorbell_peer;
  header.ring_offset = geometry.ring_offset;
  header.ring_bytes = geometry.ring_bytes;
  header.replies_offset = geometry.replies_offset;
  header.bulk_offset = geometry.bulk_offset;
  header.bulk_bytes = geometry.bulk_bytes;
  store_text(header.vgpu_version, sizeof(header.vgpu_version), options.vgpu_version);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  header.status.started_unix_ns =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  header.status.device_state = static_cast<uint32_t>(DeviceState::kStarting);
  std::memcpy(&view.device_info(), &info, sizeof(info));
  const uint64_t generation = header.generation;
  store_fence();
  store_release(header.magic, kRegionMagic);  // pairs with check_region's acquire load
  return generation;
}

std::expected<FoundRegion, Error> check_region(std::span<const std::byte> mapping,
                                               uint32_t expected_protocol_version,
                                               uint64_t expected_protocol_hash) {
  if (mapping.size() < sizeof(RegionHeader)) {
    return fail(ErrorCode::kTruncated,
                "only " + std::to_string(mapping.size()) + " bytes are mapped: too few for a region header");
  }
  const auto* in_region = reinterpret_cast<const RegionHeader*>(mapping.data());
  const uint64_t magic = load_acquire(in_region->magic);
  if (magic != kRegionMagic) {
    return fail(ErrorCode::kNotARegion, "no vgpu region: its first 8 bytes are " + hex(magic) + ", not " +
                                            hex(kRegionMagic) +
                                            (magic == 0 ? " (no device has formatted it yet?)" : ""));
  }
  RegionHeader h;
  std::memcpy(&h, in_region, offsetof(RegionHeader, reserved1));
  const std::string theirs(load_text(h.vgpu_version, sizeof(h.vgpu_version)));
  if (h.layout_version != kLayoutVersion) {
    return fail(ErrorCode::kLayoutMismatch, "the device (vgpu " + theirs + ") uses region layout " +
                                                std::to_string(h.layout_version) + ", this side uses " +
                                                std::to_string(kLayoutVersion));
  }
  if (expected_protocol_hash != 0 &&
      (h.protocol_hash != expected_protocol_hash || h.protocol_version != expected_protocol_version)) {
    return fail(ErrorCode::kProtocolMismatch, "the device (vgpu " + theirs + ") speaks protocol " +
                                                  std::to_string(h.protocol_version) + " (hash " +
                                                  hex(h.protocol_hash) + "), this side speaks " +
                                                  std::to_string(expected_protocol_version) + " (hash " +
                                                  hex(expected_protocol_hash) + ")");
  }
  FoundRegion found;
  RegionGeometry& g = found.geometry;
  g.region_bytes = h.region_bytes;
  g.device_info_offset = h.device_info_offset;
  g.device_info_bytes = h.device_info_bytes;
  g.channels_offset = h.channels_offset;
  g.channel_stride = h.channel_stride;
  g.channel_count = h.channel_count;
  g.reply_count = h.reply_count;
  g.reply_bytes = h.reply_bytes;
  g.ring_offset = h.ring_offset;
  g.ring_bytes = h.ring_bytes;
  g.replies_offset = h.replies_offset;
  g.bulk_offset = h.bulk_offset;
  g.bulk_bytes = h.bulk_bytes;
  if (auto ok = g.check(); !ok) {
    return std::unexpected(std::move(ok.error()));
  }
  if (g.region_bytes > mapping.size()) {
    return fail(ErrorCode::kTruncated, "the region says it has " + std::to_string(g.region_bytes) +
                                           " bytes, but only " + std::to_string(mapping.size()) +
                                           " are mapped");
  }
  if (h.generation == 0) {
    return fail(ErrorCode::kCorrupt, "region header: generation is 0");
  }
  if ((h.feature_bits & kFeatureIvshmemDoorbell) != 0 && h.doorbell_peer > kMaxDoorbellPeer) {
    return fail(ErrorCode::kCorrupt, "region header: doorbell_peer is " + std::to_string(h.doorbell_peer) +
                                         ", more than " + std::to_string(kMaxDoorbellPeer));
  }
  found.generation = h.generation;
  found.doorbell_peer = h.doorbell_peer;
  found.feature_bits = h.feature_bits;
  found.protocol_version = h.protocol_version;
  found.protocol_hash = h.protocol_hash;
  store_text(found.vgpu_version, sizeof(found.vgpu_version), theirs);
  return found;
}

ChannelView RegionView::channel(uint32_t index) const noexcept {
  std::byte* start = base_ + geometry_.channel_start(index);
  ChannelView view;
  view.control = reinterpret_cast<ChannelControl*>(start);
  view.ring = {start + geometry_.ring_offset, geometry_.ring_bytes};
  view.replies = {start + geometry_.replies_offset,
                  std::size_t{geometry_.reply_count} * geometry_.reply_bytes};
  view.bulk = {start + geometry_.bulk_offset, geometry_.bulk_bytes};
  view.bulk_region_offset = geometry_.bulk_start(index);
  view.reply_count = geometry_.reply_count;
  view.reply_bytes = geometry_.reply_bytes;
  view.index = index;
  return view;
}

void set_device_state(RegionHeader& header, DeviceState state, std::string_view reason) noexcept {
  store_text(header.status.reason, sizeof(header.status.reason), reason);
  store_release(header.status.device_state, static_cast<uint32_t>(state));
}

const char* device_state_name(DeviceState state) noexcept {
  switch (state) {
    case DeviceState::kAbsent:
      return "absent";
    case DeviceState::kStarting:
      return "starting";
    case DeviceState::kReady:
      return "ready";
    case DeviceState::kStopping:
      return "stopping";
    case DeviceState::kStopped:
      return "stopped";
    case DeviceState::kDead:
      return "dead";
  }
  return "unknown";
}

const char* channel_state_name(ChannelState state) noexcept {
  switch (state) {
    case ChannelState::kFree:
      return "free";
    case ChannelState::kResetting:
      return "resetting";
    case ChannelState::kServed:
      return "served";
    case ChannelState::kFailed:
      return "failed";
  }
  return "unknown";
}

uint64_t random_nonzero() noexcept {
  for (uint64_t counter = 1;; ++counter) {
    uint64_t value = 0;
    if (::getrandom(&value, sizeof(value), GRND_NONBLOCK) != static_cast<ssize_t>(sizeof(value))) {
      // Early boot, or a sandbox without the call: the clock is unique enough for a number that only tells
      // one claim or start from the next.
      timespec now{};
      ::clock_gettime(CLOCK_MONOTONIC, &now);
      value = (static_cast<uint64_t>(now.tv_sec) << 32 ^ static_cast<uint64_t>(now.tv_nsec)) *
                  0x9e37'79b9'7f4a'7c15 +
              counter;
    }
    if (value != 0) {
      return value;
    }
  }
}

void store_text(char* field, std::size_t capacity, std::string_view text) noexcept {
  const std::size_t length = std::min(text.size(), capacity - 1);
  if (length != 0) {
    std::memcpy(field, text.data(), length);
  }
  std::memset(field + length, 0, capacity - length);
}

std::string_view load_text(const char* field, std::size_t capacity) noexcept {
  return {field, ::strnlen(field, capacity)};
}

}  // namespace vgpu::ring
