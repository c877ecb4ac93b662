// Geometry: what hosts may choose, and what guests refuse in a header they find.
#include "ring/region.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <vector>

#include "tests/ring/ring_memory.h"

namespace vgpu::ring::test {
namespace {

TEST(Geometry, DefaultFitsWithoutOverlap) {
  const auto g = RegionGeometry::compute({});
  ASSERT_TRUE(g.has_value()) << g.error().text;
  EXPECT_TRUE(g->check().has_value());
  EXPECT_EQ(g->region_bytes, 256ULL << 20);
  EXPECT_EQ(g->channel_count, 16U);
  EXPECT_LE(g->channel_start(15) + g->channel_stride, g->region_bytes);
  EXPECT_GT(g->bulk_bytes, 15ULL << 20);
  EXPECT_EQ(g->bulk_start(3), g->channels_offset + 3 * g->channel_stride + g->bulk_offset);
}

TEST(Geometry, TableOfChoices) {
  struct Row {
    const char* what;
    GeometryOptions options;
    bool good;
  };
  const uint64_t mib = 1ULL << 20;
  const Row rows[] = {
      {"smallest", {1 * mib, 1, 64 << 10, 1, 64}, true},
      {"smallest with a default ring", {1 * mib, 1, 256 << 10, 64, 1024}, true},
      {"two channels do not fit in 1 MiB", {1 * mib, 4, 256 << 10, 64, 1024}, false},
      {"64 channels", {256 * mib, 64, 256 << 10, 64, 1024}, true},
      {"1 TiB", {mib << 20, 16, 64 << 20, 64, 65536}, true},
      {"2 TiB", {mib << 21, 16, 256 << 10, 64, 1024}, false},
      {"no power of two", {3 * mib, 1, 64 << 10, 1, 64}, false},
      {"too small", {mib / 2, 1, 64 << 10, 1, 64}, false},
      {"no region", {0, 1, 64 << 10, 1, 64}, false},
      {"no channel", {256 * mib, 0, 256 << 10, 64, 1024}, false},
      {"65 channels", {256 * mib, 65, 256 << 10, 64, 1024}, false},
      {"ring of 32 KiB", {256 * mib, 16, 32 << 10, 64, 1024}, false},
      {"ring that is no power of two", {256 * mib, 16, 200 << 10, 64, 1024}, false},
      {"no reply slot", {256 * mib, 16, 256 << 10, 0, 1024}, false},
      {"65 reply slots", {256 * mib, 16, 256 << 10, 65, 1024}, false},
      {"reply slot of 32 bytes", {256 * mib, 16, 256 << 10, 64, 32}, false},
      {"reply slot of 100 bytes", {256 * mib, 16, 256 << 10, 64, 100}, false},
  };
  for (const Row& row : rows) {
    const auto g = RegionGeometry::compute(row.options);
    EXPECT_EQ(g.has_value(), row.good) << row.what << (g ? "" : ": " + g.error().text);
    if (g) {
      const auto ok = g->check();
      EXPECT_TRUE(ok.has_value()) << row.what << ": " << ok.error().text;
      EXPECT_LE(g->channel_start(g->channel_count - 1) + g->channel_stride, g->region_bytes) << row.what;
    }
  }
}

class Formatted : public ::testing::Test {
 protected:
  Formatted() : memory(1 << 20) {
    geometry = *RegionGeometry::compute({1 << 20, 2, 64 << 10, 8, 256});
    info.compute_major = 6;
    store_text(info.name, sizeof(info.name), "Test GPU");
    FormatOptions options;
    options.protocol_version = 3;
    options.protocol_hash = 0xabcd;
    options.vgpu_version = "9.8.7";
    generation = format_region(memory.bytes(), geometry, info, options).value();
  }
  RegionHeader& header() { return *reinterpret_cast<RegionHeader*>(memory.bytes().data()); }
  ErrorCode refusal(std::size_t mapped = 1 << 20) {
    const auto found = check_region(memory.bytes().first(mapped), 3, 0xabcd);
    EXPECT_FALSE(found.has_value());
    return found ? ErrorCode::kSystem : found.error().code;
  }
  GuardedMemory memory;
  RegionGeometry geometry;
  DeviceInfo info{};
  uint64_t generation = 0;
};

TEST_F(Formatted, GuestFindsWhatTheDeviceWrote) {
  const auto found = check_region(memory.bytes(), 3, 0xabcd);
  ASSERT_TRUE(found.has_value()) << found.error().text;
  EXPECT_TRUE(found->geometry == geometry);
  EXPECT_EQ(found->generation, generation);
  EXPECT_NE(generation, 0U);
  EXPECT_STREQ(found->vgpu_version, "9.8.7");
  const RegionView view(memory.bytes(), found->geometry);
  EXPECT_EQ(view.device_info().compute_major, 6);
  EXPECT_STREQ(view.device_info().name, "Test GPU");
  EXPECT_EQ(static_cast<DeviceState>(view.header().status.device_state), DeviceState::kStarting);
}

TEST_F(Formatted, ChannelsDoNotOverlap) {
  const RegionView view(memory.bytes(), geometry);
  const ChannelView a = view.channel(0);
  const ChannelView b = view.channel(1);
  EXPECT_EQ(a.ring.data(), reinterpret_cast<std::byte*>(a.control) + sizeof(ChannelControl));
  EXPECT_GE(a.replies.data(), a.ring.data() + a.ring.size());
  EXPECT_GE(a.bulk.data(), a.replies.data() + a.replies.size());
  EXPECT_GE(reinterpret_cast<std::byte*>(b.control), a.bulk.data() + a.bulk.size());
  EXPECT_LE(b.bulk.data() + b.bulk.size(), memory.bytes().data() + memory.bytes().size());
  EXPECT_EQ(b.bulk.data(), view.base() + b.bulk_region_offset);
}

TEST_F(Formatted, FormattingAgainClearsWhatWasThere) {
  const RegionView view(memory.bytes(), geometry);
  std::memset(view.channel(1).ring.data(), 0xff, view.channel(1).ring.size());
  view.channel(1).control->owner.nonce = 7;
  const auto again = format_region(memory.bytes(), geometry, info, {});
  ASSERT_TRUE(again.has_value());
  EXPECT_NE(*again, generation);
  EXPECT_EQ(view.channel(1).control->owner.nonce, 0U);
  for (const std::byte byte : view.channel(1).ring) {
    ASSERT_EQ(byte, std::byte{0});
  }
}

TEST_F(Formatted, ForeignMemoryIsNoRegion) {
  header().magic = 0x1234;
  EXPECT_EQ(refusal(), ErrorCode::kNotARegion);
  header().magic = 0;
  EXPECT_EQ(refusal(), ErrorCode::kNotARegion);
}

TEST_F(Formatted, OtherLayoutIsRefusedWithBothVersions) {
  header().layout_version = 77;
  const auto found = check_region(memory.bytes(), 3, 0xabcd);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kLayoutMismatch);
  EXPECT_NE(found.error().text.find("77"), std::string::npos);
  EXPECT_NE(found.error().text.find("layout " + std::to_string(77) + ", this side uses " +
                                    std::to_string(kLayoutVersion)),
            std::string::npos);
}

TEST_F(Formatted, OtherProtocolIsRefusedWithBothVersions) {
  const auto found = check_region(memory.bytes(), 4, 0xbeef);
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kProtocolMismatch);
  for (const char* part : {"9.8.7", "protocol 3", "0xabcd", "speaks 4", "0xbeef"}) {
    EXPECT_NE(found.error().text.find(part), std::string::npos) << part << " in: " << found.error().text;
  }
  EXPECT_TRUE(check_region(memory.bytes(), 0, 0).has_value()) << "0 accepts any protocol";
}

TEST_F(Formatted, ADoorbellPeerIsFoundAgainAndOneThatIsNoneIsRefused) {
  ASSERT_TRUE(format_region(memory.bytes(), geometry, info,
                            {.protocol_version = 3,
                             .protocol_hash = 0xabcd,
                             .feature_bits = kFeatureIvshmemDoorbell,
                             .doorbell_peer = 7}));
  const auto found = check_region(memory.bytes(), 0, 0);
  ASSERT_TRUE(found.has_value()) << found.error().text;
  EXPECT_EQ(found->doorbell_peer, 7U);
  header().doorbell_peer = kMaxDoorbellPeer + 1;
  EXPECT_EQ(refusal(), ErrorCode::kCorrupt);
  header().feature_bits = 0;
  EXPECT_TRUE(check_region(memory.bytes(), 0, 0).has_value()) << "nobody looks at it without the feature";
  EXPECT_FALSE(format_region(memory.bytes(), geometry, info, {.doorbell_peer = kMaxDoorbellPeer + 1}));
}

TEST_F(Formatted, TruncatedMappingIsRefused) {
  EXPECT_EQ(refusal(100), ErrorCode::kTruncated);
  EXPECT_EQ(refusal(4096), ErrorCode::kTruncated);
  EXPECT_EQ(refusal((1 << 20) - 4096), ErrorCode::kTruncated);
}

TEST_F(Formatted, EveryBentFieldIsRefused) {
  const RegionHeader good = header();
  const std::pair<const char*, std::function<void(RegionHeader&)>> bends[] = {
      {"region_bytes 0", [](RegionHeader& h) { h.region_bytes = 0; }},
      {"region_bytes odd", [](RegionHeader& h) { h.region_bytes = (1 << 20) + 1; }},
      {"region_bytes huge", [](RegionHeader& h) { h.region_bytes = ~uint64_t{0}; }},
      {"device info over the header", [](RegionHeader& h) { h.device_info_offset = 0; }},
      {"device info beyond the end", [](RegionHeader& h) { h.device_info_offset = ~uint64_t{4095}; }},
      {"device info short", [](RegionHeader& h) { h.device_info_bytes = 100; }},
      {"device info long", [](RegionHeader& h) { h.device_info_bytes = ~uint64_t{0}; }},
      {"channels over the device info", [](RegionHeader& h) { h.channels_offset = 4096; }},
      {"channels beyond the end", [](RegionHeader& h) { h.channels_offset = 1ULL << 40; }},
      {"channels unaligned", [](RegionHeader& h) { h.channels_offset += 64; }},
      {"no channels", [](RegionHeader& h) { h.channel_count = 0; }},
      {"too many channels", [](RegionHeader& h) { h.channel_count = 65; }},
      {"more channels than fit", [](RegionHeader& h) { h.channel_count = 64; }},
      {"stride unaligned", [](RegionHeader& h) { h.channel_stride += 8; }},
      {"stride huge", [](RegionHeader& h) { h.channel_stride = ~uint64_t{4095}; }},
      {"stride 0", [](RegionHeader& h) { h.channel_stride = 0; }},
      {"ring over the control page", [](RegionHeader& h) { h.ring_offset = 0; }},
      {"ring beyond the channel", [](RegionHeader& h) { h.ring_offset = ~uint64_t{4095}; }},
      {"ring no power of two", [](RegionHeader& h) { h.ring_bytes = 65536 + 64; }},
      {"ring huge", [](RegionHeader& h) { h.ring_bytes = 1ULL << 63; }},
      {"no reply slots", [](RegionHeader& h) { h.reply_count = 0; }},
      {"too many reply slots", [](RegionHeader& h) { h.reply_count = ~0U; }},
      {"reply slot unaligned", [](RegionHeader& h) { h.reply_bytes = 100; }},
      {"replies over the ring", [](RegionHeader& h) { h.replies_offset = h.ring_offset; }},
      {"replies beyond the channel", [](RegionHeader& h) { h.replies_offset = ~uint64_t{63}; }},
      {"bulk over the replies", [](RegionHeader& h) { h.bulk_offset = h.replies_offset & ~uint64_t{4095}; }},
      {"bulk beyond the channel", [](RegionHeader& h) { h.bulk_offset = ~uint64_t{4095}; }},
      {"bulk huge", [](RegionHeader& h) { h.bulk_bytes = ~uint64_t{4095}; }},
      {"bulk empty", [](RegionHeader& h) { h.bulk_bytes = 0; }},
      {"generation 0", [](RegionHeader& h) { h.generation = 0; }},
  };
  for (const auto& [what, bend] : bends) {
    header() = good;
    bend(header());
    const auto found = check_region(memory.bytes(), 3, 0xabcd);
    ASSERT_FALSE(found.has_value()) << what;
    EXPECT_EQ(found.error().code, ErrorCode::kCorrupt) << what << ": " << found.error().text;
  }
}

TEST_F(Formatted, MappingTooSmallToFormatIsRefused) {
  EXPECT_EQ(format_region(memory.bytes().first(4096), geometry, info, {}).error().code,
            ErrorCode::kTruncated);
}

TEST(Text, IsCutAndTerminated) {
  char field[8];
  store_text(field, sizeof(field), "0123456789");
  EXPECT_STREQ(field, "0123456");
  store_text(field, sizeof(field), "");
  EXPECT_EQ(load_text(field, sizeof(field)), "");
  std::memset(field, 'x', sizeof(field));
  EXPECT_EQ(load_text(field, sizeof(field)).size(), sizeof(field));
}

}  // namespace
}  // namespace vgpu::ring::test
