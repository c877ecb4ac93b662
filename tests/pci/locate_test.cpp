// Where the shim looks, in which order, and what it says when there is nothing or something else.
#include "pci/locate.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "tests/pci/fake_machine.h"

namespace vgpu::pci::test {
namespace {

TEST(PciAddressText, IsReadAndWritten) {
  EXPECT_EQ(parse_pci_address("0000:00:04.0")->text(), "0000:00:04.0");
  EXPECT_EQ(parse_pci_address("00:04.0")->text(), "0000:00:04.0");
  EXPECT_EQ(parse_pci_address("abcd:ff:1f.7")->text(), "abcd:ff:1f.7");
  EXPECT_EQ(parse_pci_address("10000:01:00.0")->text(), "10000:01:00.0");
  for (const char* bad :
       {"", ":", "00:04", "00:04.", "00:04.8", "00:20.0", "100:04.0", "0000:00:04.0 ", "0000:00:04.0x",
        "0000::04.0", "x:00:04.0", "0000:0000:00:04.0", "-1:04.0", "00:04.0.0", "123456789:00:00.0"}) {
    EXPECT_FALSE(parse_pci_address(bad).has_value()) << bad;
  }
}

TEST(Locate, NothingAnywhereListsWhatWasLookedAt) {
  const FakeMachine machine;
  const auto found = locate(machine.options());
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kNotFound);
  for (const std::string& part : {std::string("VGPU_DEVICE"), machine.devices(), machine.shm()}) {
    EXPECT_NE(found.error().text.find(part), std::string::npos) << found.error().text;
  }
}

TEST(Locate, MachineWithoutPciIsFine) {
  const FakeMachine machine;
  std::filesystem::remove_all(machine.sysfs());
  EXPECT_EQ(locate(machine.options()).error().code, ErrorCode::kNotFound);
}

TEST(Locate, RegionInBar2IsFound) {
  const FakeMachine machine;
  machine.add_device("0000:00:01.0", "0x8086", "0x1237", 0);
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  const auto found = locate(machine.options());
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().carrier, Carrier::kPciBar);
  EXPECT_EQ(found->front().found_by, FoundBy::kPci);
  EXPECT_EQ(found->front().address.text(), "0000:00:04.0");
  auto bar = open_location(found->front());
  ASSERT_TRUE(bar.has_value());
  EXPECT_TRUE(ring::check_region(bar->bytes(), 0, 0).has_value());
}

TEST(Locate, TwoDevicesComeInTheOrderOfTheirAddresses) {
  const FakeMachine machine;
  for (const char* address : {"0001:00:02.0", "0000:10:00.0", "0000:02:00.1", "0000:02:00.0"}) {
    FakeMachine::format(machine.add_ivshmem(address) + "/resource2");
  }
  const auto found = locate(machine.options());
  ASSERT_TRUE(found.has_value());
  std::string order;
  for (const Location& location : *found) {
    order += location.address.text() + " ";
  }
  EXPECT_EQ(order, "0000:02:00.0 0000:02:00.1 0000:10:00.0 0001:00:02.0 ");
}

TEST(Locate, ForeignIvshmemDeviceIsNotTaken) {
  const FakeMachine machine;
  machine.add_ivshmem("0000:00:04.0");  // somebody's shared memory without our header
  const auto found = locate(machine.options());
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, ErrorCode::kNotARegion);
  FakeMachine::format(machine.add_ivshmem("0000:00:05.0") + "/resource2");
  const auto second = locate(machine.options());
  ASSERT_TRUE(second.has_value());
  ASSERT_EQ(second->size(), 1U);
  EXPECT_EQ(second->front().address.text(), "0000:00:05.0");
}

TEST(Locate, TruncatedBarIsSaidSo) {
  const FakeMachine machine;
  machine.add_ivshmem("0000:00:04.0", 1024);
  EXPECT_EQ(locate(machine.options()).error().code, ErrorCode::kTruncated);
}

TEST(Locate, RegionLongerThanItsBarIsFoundByTheCheck) {
  const FakeMachine machine;
  const std::string file = machine.add_ivshmem("0000:00:04.0") + "/resource2";
  FakeMachine::format(file);
  std::filesystem::resize_file(file, kRegionBytes / 2);
  const auto found = locate(machine.options());
  ASSERT_TRUE(found.has_value());
  auto bar = open_location(found->front());
  ASSERT_TRUE(bar.has_value());
  EXPECT_EQ(ring::check_region(bar->bytes(), 0, 0).error().code, ErrorCode::kTruncated);
}

TEST(Locate, PciComesBeforeTheDefaultPath) {
  const FakeMachine machine;
  machine.add_region_file("vgpu-" + std::to_string(::geteuid()));
  auto found = locate(machine.options());
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().carrier, Carrier::kFile);
  EXPECT_EQ(found->front().found_by, FoundBy::kDefaultPath);
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  found = locate(machine.options());
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().carrier, Carrier::kPciBar);
}

TEST(Locate, FurtherDefaultFilesAreFurtherDevices) {
  const FakeMachine machine;
  const auto uid = static_cast<uint32_t>(::geteuid());
  machine.add_region_file("vgpu-" + std::to_string(uid));
  machine.add_region_file("vgpu-" + std::to_string(uid) + ".2");
  const auto found = locate(machine.options());
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 2U);
  EXPECT_EQ(found->at(0).path, default_region_path(machine.options(), uid, 0));
  EXPECT_EQ(found->at(1).path, default_region_path(machine.options(), uid, 2));
}

TEST(Locate, DefaultFileOfAnotherUserIsIgnored) {
  const FakeMachine machine;
  const std::string file = machine.add_region_file("vgpu-" + std::to_string(::geteuid()));
  if (::chown(file.c_str(), 12345, 12345) != 0) {
    GTEST_SKIP() << "giving a file to another user needs root";
  }
  EXPECT_EQ(locate(machine.options()).error().code, ErrorCode::kNotFound);
}

TEST(Locate, DefaultFileThatIsALinkIsIgnored) {
  const FakeMachine machine;
  const std::string file = machine.add_region_file("elsewhere");
  std::filesystem::create_symlink(file,
                                  default_region_path(machine.options(), static_cast<uint32_t>(::geteuid())));
  EXPECT_EQ(locate(machine.options()).error().code, ErrorCode::kNotFound);
}

TEST(Locate, NamedPathIsTheOnlyOne) {
  const FakeMachine machine;
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  const std::string file = machine.add_region_file("mine");
  const auto found = locate(machine.options(file));
  ASSERT_TRUE(found.has_value()) << found.error().text;
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().path, file);
  EXPECT_EQ(found->front().found_by, FoundBy::kEnvironment);
}

TEST(Locate, NamedAddressIsTheOnlyOne) {
  const FakeMachine machine;
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  FakeMachine::format(machine.add_ivshmem("0000:00:05.0") + "/resource2");
  for (const char* name : {"0000:00:05.0", "00:05.0"}) {
    const auto found = locate(machine.options(name));
    ASSERT_TRUE(found.has_value()) << found.error().text;
    ASSERT_EQ(found->size(), 1U);
    EXPECT_EQ(found->front().address.text(), "0000:00:05.0");
  }
}

TEST(Locate, BadNamesAreErrorsAndNothingElseIsTried) {
  const FakeMachine machine;
  FakeMachine::format(machine.add_ivshmem("0000:00:04.0") + "/resource2");
  machine.add_ivshmem("0000:00:06.0");
  const std::pair<std::string, ErrorCode> rows[] = {
      {"gpu0", ErrorCode::kInvalidArgument},    {"relative/path", ErrorCode::kInvalidArgument},
      {"00:99.0", ErrorCode::kInvalidArgument}, {"0000:00:05.0", ErrorCode::kNotFound},
      {"0000:00:06.0", ErrorCode::kNotARegion}, {machine.path("nothing"), ErrorCode::kNotFound},
      {machine.shm(), ErrorCode::kNotARegion},
  };
  for (const auto& [name, code] : rows) {
    const auto found = locate(machine.options(name));
    ASSERT_FALSE(found.has_value()) << name;
    EXPECT_EQ(found.error().code, code) << found.error().text;
    EXPECT_NE(found.error().text.find(name), std::string::npos) << found.error().text;
  }
}

TEST(Locate, EnvironmentIsRead) {
  const FakeMachine machine;
  const std::string file = machine.add_region_file("mine");
  ASSERT_EQ(::setenv("VGPU_DEVICE", file.c_str(), 1), 0);
  const auto found = locate_from_environment();
  ::unsetenv("VGPU_DEVICE");
  ASSERT_TRUE(found.has_value()) << found.error().text;
  EXPECT_EQ(found->front().path, file);
}

}  // namespace
}  // namespace vgpu::pci::test
