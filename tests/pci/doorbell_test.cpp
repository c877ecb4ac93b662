// ivshmem's doorbell: what is stored where, and who may be rung.
#include "pci/doorbell.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "pci/bar.h"
#include "tests/pci/fake_machine.h"

namespace vgpu::pci::test {
namespace {

uint32_t word_at(const std::string& path, std::size_t offset) {
  std::ifstream file(path, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  uint32_t word = 0;
  file.read(reinterpret_cast<char*>(&word), sizeof(word));
  return word;
}

TEST(Doorbells, RingStoresPeerAndVectorInRegisterTwelve) {
  FakeMachine machine;
  machine.interrupts = true;
  const std::string directory = machine.add_ivshmem("0000:00:04.0");
  auto doorbell = Doorbell::open(directory);
  ASSERT_TRUE(doorbell.has_value()) << doorbell.error().text;
  EXPECT_TRUE(doorbell->mapped());
  doorbell->ring(0x1234, 0x0a);
  EXPECT_EQ(word_at(directory + "/resource0", 12), 0x1234000aU);
  const Doorbell moved = std::move(*doorbell);
  moved.ring(1, 2);
  EXPECT_EQ(word_at(directory + "/resource0", 12), 0x10002U);
}

TEST(Doorbells, RegistersMayBeginInsideAPage) {
  FakeMachine machine;
  machine.interrupts = true;
  machine.bar0_offset = 0x300;
  const std::string directory = machine.add_ivshmem("0000:00:04.0");
  const auto doorbell = Doorbell::open(directory);
  ASSERT_TRUE(doorbell.has_value()) << doorbell.error().text;
  doorbell->ring(3, 15);
  EXPECT_EQ(word_at(directory + "/resource0", 0x30c), 0x3000fU);
}

TEST(Doorbells, WithoutInterruptsThereIsNone) {
  const FakeMachine machine;
  const std::string directory = machine.add_ivshmem("0000:00:04.0");
  EXPECT_EQ(Doorbell::open(directory).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Doorbell::open(machine.devices() + "/0000:00:05.0").error().code, ErrorCode::kNotFound);
  machine.write(directory + "/resource", "nonsense");
  EXPECT_EQ(Doorbell::open(directory).error().code, ErrorCode::kCorrupt);
}

TEST(Doorbells, WakingAChannelRingsItsVector) {
  FakeMachine machine;
  machine.interrupts = true;
  const std::string directory = machine.add_ivshmem("0000:00:04.0", 4 * kRegionBytes);
  auto bar = Bar::open_pci(directory, kRegionBar, Access::kReadWrite);
  ASSERT_TRUE(bar.has_value()) << bar.error().text;
  const auto geometry = ring::RegionGeometry::compute({4 * kRegionBytes, 4, 64 << 10, 8, 256});
  ASSERT_TRUE(ring::format_region(bar->bytes(), *geometry, {},
                                  {.feature_bits = ring::kFeatureIvshmemDoorbell, .doorbell_peer = 9})
                  .has_value());
  const auto found = ring::check_region(bar->bytes(), 0, 0);
  ASSERT_TRUE(found.has_value()) << found.error().text;
  std::string why_not;
  ASSERT_TRUE(bar->connect_doorbell(*found, &why_not)) << why_not;
  const Bar moved = std::move(*bar);
  const ring::RegionView region(moved.bytes(), found->geometry);
  for (uint32_t channel = 0; channel < 4; ++channel) {
    ring::GuestWaits(*region.channel(channel).control, moved.wait_ops()).ring_doorbell();
    EXPECT_EQ(word_at(directory + "/resource0", 12), 9U << 16 | channel);
    EXPECT_EQ(region.channel(channel).control->doorbell.doorbell, 1U);
  }
}

TEST(Doorbells, AreRungOnlyWhereTheDeviceListens) {
  FakeMachine machine;
  machine.interrupts = true;
  const std::string directory = machine.add_ivshmem("0000:00:04.0");
  machine.format(directory + "/resource2");
  auto bar = Bar::open_pci(directory, kRegionBar, Access::kReadWrite);
  ASSERT_TRUE(bar.has_value());
  std::string why_not;
  EXPECT_FALSE(bar->connect_doorbell(*ring::check_region(bar->bytes(), 0, 0), &why_not));
  EXPECT_EQ(why_not, "the device listens to no doorbell");
  EXPECT_EQ(&bar->wait_ops(), &ring::polling_wait_ops());
}

}  // namespace
}  // namespace vgpu::pci::test
