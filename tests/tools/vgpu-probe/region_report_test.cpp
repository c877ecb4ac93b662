// Reading regions that nobody can trust.
#include "tools/vgpu-probe/region_report.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/tools/vgpu-probe/hostile_region.h"

namespace vgpu::tools {
namespace {

using testing::HostileRegion;

TEST(RegionReport, AWholeRegionIsDecoded) {
  HostileRegion region;
  const auto report = region.read(region.bytes());
  ASSERT_FALSE(report.problem) << report.problem->text;
  EXPECT_EQ(report.state, "starting");
  EXPECT_TRUE(report.protocol_matches);
  ASSERT_EQ(report.channels.size(), 2U);
  EXPECT_EQ(report.channels[1].owner_pid, 1U);
  EXPECT_EQ(report.channels[1].ring_fill_bytes, 64U);
  EXPECT_EQ(report.channels[1].last_error, 700U);
  EXPECT_EQ(report.channels[1].last_error_text, std::string(256, 'x'));
}

TEST(RegionReport, TheCommandAtTheCompletedPositionIsNamed) {
  HostileRegion region;
  EXPECT_EQ(region.read(region.bytes()).channels[1].next_command, "");  // no record stands there
  // Slot 999 of a ring of 1024: words 999 * 8 are out of the patched page, so the positions are moved
  // instead.
  constexpr uint16_t kControl = 3 * 512;
  constexpr uint16_t kRing = 5 * 512;
  region.patch(kControl + 0x100 / 8, 128);  // published
  region.patch(kControl + 0x300 / 8, 64);   // completed
  region.patch(kRing + 8, ring::make_commit(64, 64));
  region.patch(kRing + 9, static_cast<uint64_t>(protocol::Opcode::kLaunch));
  EXPECT_EQ(region.read(region.bytes()).channels[1].next_command, "Launch");
}

TEST(RegionReport, EveryLengthIsReadOrRefused) {
  HostileRegion region;
  for (std::size_t length = 0; length < region.bytes(); length += 1021) {
    const auto report = region.read(length);
    ASSERT_TRUE(report.problem) << length;
    EXPECT_EQ(report.problem->code, ring::ErrorCode::kTruncated) << length;
  }
  EXPECT_FALSE(region.read(region.bytes()).problem);
}

// The fuzzer's corpus of one seed: HostileRegion ends the process where a promise is broken.
TEST(RegionReport, SurvivesFiveThousandMutations) {
  HostileRegion region;
  std::mt19937_64 random(20261122);
  uint32_t decoded = 0;
  for (int i = 0; i < 5'000; ++i) {
    const uint64_t patches = 1 + random() % 4;
    for (uint64_t j = 0; j < patches; ++j) {
      // The header's fields as often as everything else.
      const auto index = static_cast<uint16_t>(random() % 2 == 0 ? random() % 32 : random() % (6 * 512));
      region.patch(index, random() >> (random() % 64));
    }
    if (!region.read(random() % 8 == 0 ? random() % region.bytes() : region.bytes()).problem) ++decoded;
    region.restore();
  }
  EXPECT_GT(decoded, 500U);
  EXPECT_LT(decoded, 4500U);
}

TEST(RegionReport, AFileThatShrinksAndGrowsMeanwhileIsAnAnswer) {
  const std::string path = "/dev/shm/vgpu-test-shrinking-" + std::to_string(::getpid());
  HostileRegion region;
  {
    std::ofstream file(path, std::ios::binary);
    file.write("!VGPURG1", 8);
  }
  std::atomic<bool> end{false};
  std::thread shrinker([&] {
    while (!end) {
      ::truncate(path.c_str(), 0);
      ::truncate(path.c_str(), 1 << 20);
    }
  });
  pci::Location location;
  location.path = path;
  for (int i = 0; i < 2000; ++i) {
    const auto source = RegionSource::open(location);
    ASSERT_TRUE(source) << source.error().text;
    const auto report = read_region(*source);
    EXPECT_TRUE(report.problem);
  }
  end = true;
  shrinker.join();
  std::filesystem::remove(path);
}

TEST(RegionReport, AFileThatWasLetGoOfIsOpenedForEachReadAlone) {
  const std::string path = "/dev/shm/vgpu-test-let-go-" + std::to_string(::getpid());
  std::ofstream(path, std::ios::binary) << "12345678";
  pci::Location location;
  location.path = path;
  auto source = RegionSource::open(location);
  ASSERT_TRUE(source);
  source->let_go();
  EXPECT_EQ(source->read_word(0), 0x3837363534333231U);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    EXPECT_NE(std::filesystem::read_symlink(entry.path(), gone).string(), path);
  }
  std::filesystem::remove(path);
  EXPECT_EQ(source->read_word(0), std::nullopt);
}

TEST(RegionReport, DirectoriesFifosAndDevicesAreRefusedAtOnce) {
  for (const char* path : {"/dev/null", "/tmp", "/dev/shm/vgpu-not-there"}) {
    pci::Location location;
    location.path = path;
    EXPECT_FALSE(RegionSource::open(location)) << path;
  }
}

}  // namespace
}  // namespace vgpu::tools
