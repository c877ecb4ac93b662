// vgpu-probe against living, dead, foreign and corrupt regions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/device/server/guest.h"
#include "tests/device/server/test_device.h"
#include "tests/tools/vgpu-probe/run_probe.h"

namespace vgpu::tools {
namespace {

using device::testing::Guest;
using device::testing::RegionPath;
using device::testing::TestDevice;
using nlohmann::json;
using ::testing::HasSubstr;

using testing::probe;

TEST(Probe, ShowsStateOwnersCountersAndTheLastError) {
  TestDevice device;
  auto guest = Guest::attach(device.path());
  ASSERT_TRUE(guest) << guest.error().text;
  (*guest)->call(protocol::PingRequest{.cookie = 1});
  (*guest)->call(protocol::MemAllocRequest{.bytes = 12345});
  (*guest)->call(protocol::MemFreeRequest{.address = 99});
  ASSERT_TRUE(device::testing::eventually([&] {
    return ring::load_relaxed(device.header().totals.commands) == 3 &&
           ring::load_relaxed((*guest)->view().control->counters.commands) == 3;
  }));
  const auto answer = probe({"show", device.path(), "--json"});
  ASSERT_EQ(answer.status, 0);
  const auto region = json::parse(answer.text);
  EXPECT_EQ(region["status"]["state"], "ready");
  EXPECT_EQ(region["status"]["heartbeat_grows"], true);
  EXPECT_EQ(region["status"]["device_lock"], "held");
  EXPECT_EQ(region["header"]["protocol_matches"], true);
  EXPECT_EQ(region["device"]["name"], "fake");
  EXPECT_EQ(region["device"]["attributes"]["10"], 32);
  EXPECT_EQ(region["totals"]["by_command"]["Ping"], 1);
  const auto& channel = region["channels"][0];
  EXPECT_EQ(channel["owner"]["pid"], ::getpid());
  EXPECT_EQ(channel["owner"]["process"], "test guest");
  EXPECT_EQ(channel["lock"], "held");
  EXPECT_EQ(channel["counters"]["memory_in_use_bytes"], 12345);
  EXPECT_EQ(channel["last_error"]["command"], "MemFree");
  EXPECT_THAT(channel["last_error"]["reason"].get<std::string>(), HasSubstr("address 99 is not allocated"));
  const auto text = probe({"show", device.path()}).text;
  EXPECT_THAT(text, HasSubstr(", beats; age at most"));
  EXPECT_THAT(text, HasSubstr("test guest (pid " + std::to_string(::getpid())));
  EXPECT_THAT(text, HasSubstr("CUDA_ERROR_INVALID_VALUE (1) in MemFree"));
}

TEST(Probe, ListsTheDeviceThatTheEnvironmentNames) {
  TestDevice device;
  ::setenv("VGPU_DEVICE", device.path().c_str(), 1);
  const auto answer = probe({"list", "--json"});
  const auto text = probe({"list"});
  ::unsetenv("VGPU_DEVICE");
  EXPECT_EQ(answer.status, 0);
  const auto first = json::parse(answer.text)["devices"][0];
  EXPECT_EQ(first["path"], device.path());
  EXPECT_EQ(first["state"], "ready");
  EXPECT_EQ(first["health"], "ready");
  EXPECT_EQ(first["found_by"], "VGPU_DEVICE");
  EXPECT_EQ(first["usable"], true);
  EXPECT_THAT(text.text, HasSubstr(device.path() + ": ready\n    fake, compute capability"));
}

TEST(Probe, SaysWhatToDoWhenTheNamedDeviceIsNotThere) {
  for (const char* command : {"show", "test", "latency", "bandwidth", "kernels"}) {
    const auto answer = probe({command, "/dev/shm/vgpu-not-there"}, true);
    EXPECT_EQ(answer.status, 1) << command;
    EXPECT_THAT(answer.text, HasSubstr("/dev/shm/vgpu-not-there")) << command;
  }
}

TEST(Probe, ADeviceThatStoppedIsShownAndNotUsed) {
  TestDevice device;
  device.stop_ticking();
  device.server().stop("enough for today");
  const auto shown = probe({"show", device.path()});
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.text, HasSubstr("enough for today"));
  EXPECT_THAT(shown.text, HasSubstr("do:    start it again: vgpu-device --path"));
  const auto measured = probe({"latency", device.path()}, true);
  EXPECT_EQ(measured.status, 1);
  EXPECT_THAT(measured.text, HasSubstr("no device serves"));
}

TEST(Probe, AnotherProtocolIsShownAndRefusedWithBothVersions) {
  RegionPath path;
  auto bar = pci::Bar::create_file(path.text(), 1u << 20, 0);
  ASSERT_TRUE(bar);
  ring::GeometryOptions options;
  options.region_bytes = 1u << 20;
  options.channel_count = 1;
  options.ring_bytes = 64u << 10;
  options.reply_count = 4;
  const auto geometry = ring::RegionGeometry::compute(options);
  ASSERT_TRUE(geometry) << geometry.error().text;
  ASSERT_TRUE(ring::format_region(bar->bytes(), *geometry, ring::DeviceInfo{},
                                  {.protocol_version = 77,
                                   .protocol_hash = 0xabcd,
                                   .feature_bits = 0,
                                   .generation = 0,
                                   .vgpu_version = "9.9"}));
  const auto shown = probe({"show", path.text()}, true);
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.text, HasSubstr("77 (000000000000abcd); NOT this program's"));
  const auto tested = probe({"test", path.text(), "--json"});
  EXPECT_EQ(tested.status, 1);
  EXPECT_THAT(tested.text, HasSubstr("77 (000000000000abcd, vgpu 9.9), not this program's"));
}

// Locks of a guest's processes are its own kernel's: nothing that takes a channel may run on the host.
TEST(Probe, AGuestsRegionIsListedByNameAndNotUsedFromTheHost) {
  const std::string directory = "/dev/shm/vgpu-test-guests-" + std::to_string(::getpid());
  std::filesystem::create_directory(directory);
  {
    auto bar = pci::Bar::create_file(directory + "/vm1.bar", 1u << 20, 0);
    ASSERT_TRUE(bar) << bar.error().text;
    ring::GeometryOptions options;
    options.region_bytes = 1u << 20;
    options.channel_count = 1;
    options.ring_bytes = 64u << 10;
    options.reply_count = 4;
    ring::FormatOptions format;
    format.protocol_version = protocol::kProtocolVersion;
    format.protocol_hash = protocol::kProtocolHash;
    ASSERT_TRUE(ring::format_region(bar->bytes(), *ring::RegionGeometry::compute(options), ring::DeviceInfo{},
                                    format));
    const auto listed = json::parse(probe({"list", "--guests-dir", directory, "--json"}).text);
    bool found = false;
    for (const auto& device : listed["devices"]) {
      if (device.value("guest", "") != "vm1") continue;
      found = true;
      EXPECT_EQ(device["path"], directory + "/vm1.bar");
      EXPECT_EQ(device["health"], "silent");  // its lock is held, and nobody advances the heartbeat
    }
    EXPECT_TRUE(found) << listed;
    const auto shown = probe({"show", "vm1", "--guests-dir", directory});
    EXPECT_EQ(shown.status, 0);
    EXPECT_THAT(shown.text, HasSubstr("region of a virtual machine's guest (vm1)"));
    for (const char* command : {"latency", "bandwidth", "kernels"}) {
      const auto refused = probe({command, "vm1", "--guests-dir", directory}, true);
      EXPECT_EQ(refused.status, 1) << command;
      EXPECT_THAT(refused.text, HasSubstr("which alone knows who owns")) << command;
    }
  }
  EXPECT_EQ(json::parse(probe({"show", "vm1", "--guests-dir", directory, "--json"}).text)["health"], "dead");
  std::filesystem::remove_all(directory);
}

// The device of these tests runs no kernels: the suite notices.
TEST(Probe, TheTestFailsOnADeviceThatDoesNotWork) {
  TestDevice device;
  const auto answer = probe({"test", device.path(), "--json"});
  EXPECT_EQ(answer.status, 1);
  const auto suite = json::parse(answer.text);
  EXPECT_EQ(suite["ok"], false);
  EXPECT_GT(suite["failed"], 0);
  for (const auto& check : suite["checks"]) {
    if (check["group"] == "kernels" && check["name"] != "module") {
      EXPECT_NE(check["result"], "passed") << check;
    }
  }
}

// Whatever a file holds, the probe answers or refuses; it never crashes.
TEST(Probe, SurvivesForeignTruncatedAndCorruptRegions) {
  TestDevice device(1);
  std::ifstream file(device.path(), std::ios::binary);
  std::string good(64 << 10, '\0');
  file.read(good.data(), static_cast<std::streamsize>(good.size()));
  RegionPath path;
  uint64_t random = 88172645463325252u;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  const auto check = [&](const std::string& bytes, const std::string& what) {
    std::ofstream(path.text(), std::ios::binary | std::ios::trunc) << bytes;
    for (const char* command : {"show", "test", "latency"}) {
      const auto answer = probe({command, path.text()}, true);
      EXPECT_TRUE(answer.status == 0 || answer.status == 1)
          << command << " on " << what << ": " << answer.status;
      EXPECT_FALSE(answer.text.empty()) << command << " on " << what;
    }
  };
  check("", "an empty file");
  check("hello", "a text");
  check(good.substr(0, 4096), "a header alone");
  check(good, "a truncated region");
  for (int i = 0; i < 20; ++i) {
    // A whole file (sparse beyond what was copied) whose header has rubbish in it.
    std::string bad = good;
    for (int j = 0; j < 4; ++j) {
      const uint64_t value = next() >> (next() % 64);
      std::memcpy(bad.data() + 8 + next() % 190, &value, sizeof value);
    }
    std::ofstream(path.text(), std::ios::binary | std::ios::trunc) << bad;
    std::filesystem::resize_file(path.text(), TestDevice::kRegionBytes);
    const auto answer = probe({"show", path.text()}, true);
    EXPECT_TRUE(answer.status == 0 || answer.status == 1) << i << ": " << answer.status << answer.text;
  }
}

}  // namespace
}  // namespace vgpu::tools
