// Discovery through libpci, and locality through hwloc.
#include "pci/discover.h"

#include <gtest/gtest.h>

#include "pci/topology.h"
#include "tests/pci/fake_machine.h"

namespace vgpu::pci::test {
namespace {

TEST(Discover, MachineWithoutPciHasNoDevices) {
  const FakeMachine machine;
  EXPECT_TRUE(discover(machine.sysfs())->empty());
  std::filesystem::remove_all(machine.sysfs());
  EXPECT_TRUE(discover(machine.sysfs())->empty());
}

TEST(Discover, DeviceIsDescribedWhole) {
  const FakeMachine machine;
  machine.add_device("0000:00:01.0", "0x8086", "0x1237", 0);
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  const auto found = discover(machine.sysfs());
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 1U);
  const DiscoveredDevice& device = found->front();
  EXPECT_EQ(device.address.text(), "0000:00:04.0");
  EXPECT_EQ(device.vendor, 0x1af4);
  EXPECT_EQ(device.device, 0x1110);
  EXPECT_EQ(device.subsystem_vendor, 0x1af4);
  EXPECT_EQ(device.subsystem_device, 0x1100);
  EXPECT_EQ(device.revision, 1);
  EXPECT_EQ(device.numa_node, -1);
  EXPECT_EQ(device.driver, "");
  EXPECT_FALSE(device.memory_enabled);  // its command register is 0
  EXPECT_EQ(device.acpi_index, -1);
  EXPECT_FALSE(device.has_doorbell());  // no BAR1
  EXPECT_TRUE(device.has_region) << device.why_not;
  ASSERT_EQ(device.bars.size(), 2U);
  EXPECT_EQ(device.bars[0].index, 0U);
  EXPECT_EQ(device.bars[0].bytes, 256U);
  EXPECT_FALSE(device.bars[0].prefetchable);
  EXPECT_EQ(device.bars[1].index, 2U);
  EXPECT_EQ(device.bars[1].bytes, kRegionBytes);
  EXPECT_EQ(device.bars[1].bus_address, 0xfe0000000U);
  EXPECT_TRUE(device.bars[1].memory);
  EXPECT_TRUE(device.bars[1].is_64bit);
  EXPECT_TRUE(device.bars[1].prefetchable);
}

TEST(Discover, EachUnusableDeviceSaysWhy) {
  const FakeMachine machine;
  machine.add_ivshmem("0000:00:03.0");                                      // foreign
  machine.add_ivshmem("0000:00:04.0", 1024);                                // truncated
  machine.add_ivshmem("0000:00:05.0", 0);                                   // no BAR2
  FakeMachine::format(machine.add_ivshmem("0000:00:06.0") + "/resource2");  // good
  const auto found = discover(machine.sysfs());
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 4U);
  EXPECT_NE(found->at(0).why_not.find("no vgpu region"), std::string::npos) << found->at(0).why_not;
  EXPECT_NE(found->at(1).why_not.find("1024 bytes"), std::string::npos) << found->at(1).why_not;
  EXPECT_NE(found->at(2).why_not.find("resource2"), std::string::npos) << found->at(2).why_not;
  EXPECT_TRUE(found->at(3).has_region);
  EXPECT_FALSE(found->at(0).has_region || found->at(1).has_region || found->at(2).has_region);
}

TEST(Discover, LibpciErrorOnOneDeviceSparesTheProcessAndTheOthers) {
  const FakeMachine machine;
  const std::string broken = machine.add_ivshmem("0000:00:04.0");
  std::filesystem::remove(broken + "/resource");  // libpci's default handler would exit here
  FakeMachine::format(machine.add_ivshmem("0000:00:05.0") + "/resource2");
  const auto found = discover(machine.sysfs());
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 2U);
  EXPECT_NE(found->at(0).why_not.find("libpci"), std::string::npos) << found->at(0).why_not;
  EXPECT_TRUE(found->at(1).has_region) << found->at(1).why_not;
}

TEST(Discover, UnreadableTreeIsAnErrorNotAnExit) {
  const FakeMachine machine;
  std::filesystem::remove_all(machine.devices());
  machine.write(machine.devices(), "a file where a directory should be");
  const auto found = discover(machine.sysfs());
  ASSERT_FALSE(found.has_value());
  EXPECT_NE(found.error().text.find("libpci"), std::string::npos) << found.error().text;
}

TEST(Discover, AgreesWithTheShimsOwnSearch) {
  const FakeMachine machine;
  machine.add_device("0000:00:02.0", "0x10de", "0x1b80", kRegionBytes);
  machine.add_ivshmem("0000:00:03.0");
  for (const char* address : {"0000:00:07.0", "0000:00:04.0", "0001:00:01.0"}) {
    FakeMachine::format(machine.add_ivshmem(address) + "/resource2");
  }
  const auto by_libpci = discover(machine.sysfs());
  const auto by_shim = locate(machine.options());
  ASSERT_TRUE(by_libpci && by_shim);
  std::vector<std::string> first;
  for (const DiscoveredDevice& device : *by_libpci) {
    if (device.has_region) {
      first.push_back(device.address.text() + " " + device.sysfs_directory);
    }
  }
  std::vector<std::string> second;
  for (const Location& location : *by_shim) {
    second.push_back(location.address.text() + " " + location.path);
  }
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.size(), 3U);
}

TEST(LocalityOf, WholeMachineHasItsProcessors) {
  const auto locality = node_locality(-1);
  ASSERT_TRUE(locality.has_value()) << locality.error().text;
  EXPECT_GT(locality->machine_cpus, 0U);
  EXPECT_EQ(locality->cpus.size(), locality->machine_cpus);
  EXPECT_TRUE(locality->numa_nodes.empty());
}

TEST(LocalityOf, FirstNodeIsPartOfTheMachine) {
  const auto locality = node_locality(0);
  ASSERT_TRUE(locality.has_value()) << locality.error().text;
  EXPECT_EQ(locality->numa_nodes, std::vector<uint32_t>{0});
  EXPECT_FALSE(locality->cpus.empty());
  EXPECT_LE(locality->cpus.size(), locality->machine_cpus);
}

TEST(LocalityOf, WhatDoesNotExistIsAnError) {
  EXPECT_EQ(node_locality(4095).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(pci_locality(*parse_pci_address("0000:fe:1f.7")).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace vgpu::pci::test
