// The shape of a region and views into it: compute and check a geometry, format a fresh region (device),
// check one that was found (guest), and find channels in a mapping. Functions are pure over the memory they
// are given; a RegionView owns nothing: the mapping must outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "ring/error.h"
#include "ring/region_layout.h"

namespace vgpu::ring {

// What a host chooses. Everything else follows from it.
struct GeometryOptions {
  uint64_t region_bytes = 256ull << 20;  // a power of two, 1 MiB .. 1 TiB
  uint32_t channel_count = 16;           // 1 .. 64
  uint64_t ring_bytes = 256ull << 10;    // per channel; a power of two, 64 KiB .. 64 MiB
  uint32_t reply_count = 64;             // per channel; 1 .. 64
  uint32_t reply_bytes = 1024;           // a multiple of 64, 64 .. 64 KiB
};

// Offsets and sizes in bytes. The host computes it and keeps it; it never reads it back from the region.
struct RegionGeometry {
  uint64_t region_bytes = 0;
  uint64_t device_info_offset = 0;
  uint64_t device_info_bytes = 0;
  uint64_t channels_offset = 0;
  uint64_t channel_stride = 0;
  uint32_t channel_count = 0;
  uint32_t reply_count = 0;
  uint32_t reply_bytes = 0;
  uint64_t ring_offset = 0;  // this and the following count from the channel's start
  uint64_t ring_bytes = 0;
  uint64_t replies_offset = 0;
  uint64_t bulk_offset = 0;  // page aligned
  uint64_t bulk_bytes = 0;   // a multiple of a page, at least 64 KiB

  uint64_t channel_start(uint32_t channel) const noexcept {
    return channels_offset + channel * channel_stride;
  }
  // Offset from the region's start of the channel's bulk heap.
  uint64_t bulk_start(uint32_t channel) const noexcept { return channel_start(channel) + bulk_offset; }
  uint32_t reply_payload_bytes() const noexcept { return reply_bytes - kReplyHeaderBytes; }

  friend bool operator==(const RegionGeometry&, const RegionGeometry&) = default;

  // kInvalidArgument with the number that is out of range.
  static std::expected<RegionGeometry, Error> compute(const GeometryOptions& options);
  // Whether every part is aligned, inside the region, and overlaps no other. kCorrupt names the field.
  std::expected<void, Error> check() const;
};

// What the device writes into a fresh header beside the geometry.
struct FormatOptions {
  uint32_t protocol_version = 0;
  uint64_t protocol_hash = 0;
  uint64_t feature_bits = 0;   // FeatureBits
  uint64_t generation = 0;     // 0: draw a random one
  uint32_t doorbell_peer = 0;  // with kFeatureIvshmemDoorbell: at most 65535
  std::string_view vgpu_version = {};
};

// Device, before anybody is served, single-threaded: zeroes header, device info, control pages, rings and
// reply slots (not the bulk heaps), writes header and `info`, state kStarting, and stores the magic last. The
// mapping must hold geometry.region_bytes. Returns the generation.
std::expected<uint64_t, Error> format_region(std::span<std::byte> mapping, const RegionGeometry& geometry,
                                             const DeviceInfo& info, const FormatOptions& options);

// Guest: what a header that was found says, checked against the mapping's length and our own versions. The
// header is copied once, then checked. `expected_protocol_hash` 0 accepts any protocol (vgpu-probe).
// Errors: kNotARegion, kLayoutMismatch, kProtocolMismatch (both sides' versions in the text), kTruncated,
// kCorrupt.
struct FoundRegion {
  RegionGeometry geometry;
  uint64_t generation = 0;
  uint64_t feature_bits = 0;
  uint32_t doorbell_peer = 0;  // with kFeatureIvshmemDoorbell: at most 65535
  uint32_t protocol_version = 0;
  uint64_t protocol_hash = 0;
  char vgpu_version[64] = {};
};
std::expected<FoundRegion, Error> check_region(std::span<const std::byte> mapping,
                                               uint32_t expected_protocol_version,
                                               uint64_t expected_protocol_hash);

// Where the parts of one channel lie in this process.
struct ChannelView {
  ChannelControl* control = nullptr;
  std::span<std::byte> ring;
  std::span<std::byte> replies;  // reply_count * reply_bytes
  std::span<std::byte> bulk;
  uint64_t bulk_region_offset = 0;  // bulk.data() minus the region's start
  uint32_t reply_count = 0;
  uint32_t reply_bytes = 0;
  uint32_t index = 0;

  // Head of reply slot `slot`; its payload follows. `slot` must be < reply_count.
  ReplySlot* reply_slot(uint32_t slot) const noexcept {
    return reinterpret_cast<ReplySlot*>(replies.data() + std::size_t{slot} * reply_bytes);
  }
};

class RegionView {
 public:
  RegionView() = default;
  // `geometry` must have passed check(), `mapping` must hold geometry.region_bytes.
  RegionView(std::span<std::byte> mapping, const RegionGeometry& geometry) noexcept
      : base_(mapping.data()), geometry_(geometry) {}

  RegionHeader& header() const noexcept { return *reinterpret_cast<RegionHeader*>(base_); }
  DeviceInfo& device_info() const noexcept {
    return *reinterpret_cast<DeviceInfo*>(base_ + geometry_.device_info_offset);
  }
  // `index` must be < geometry().channel_count.
  ChannelView channel(uint32_t index) const noexcept;
  std::byte* base() const noexcept { return base_; }
  const RegionGeometry& geometry() const noexcept { return geometry_; }

 private:
  std::byte* base_ = nullptr;
  RegionGeometry geometry_;
};

// Device: changes the state guests see, with words for a reader ("" for none, cut at 87 bytes).
void set_device_state(RegionHeader& header, DeviceState state, std::string_view reason) noexcept;

const char* device_state_name(DeviceState state) noexcept;
const char* channel_state_name(ChannelState state) noexcept;

// A random number that is not 0, from the kernel.
uint64_t random_nonzero() noexcept;

// Copies text into a NUL-terminated field of `capacity` bytes, cut where it does not fit, the rest zeroed.
void store_text(char* field, std::size_t capacity, std::string_view text) noexcept;
// Text of a field that the other side may have left without NUL.
std::string_view load_text(const char* field, std::size_t capacity) noexcept;

}  // namespace vgpu::ring
