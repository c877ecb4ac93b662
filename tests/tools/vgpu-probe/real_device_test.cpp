// vgpu-probe's commands that use a device, on a real one: vgpu-device with the software backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/device/server/guest.h"
#include "tests/system/system_device.h"
#include "tests/tools/vgpu-probe/run_probe.h"

namespace vgpu::tools {
namespace {

using device::testing::Guest;
using system_tests::SystemDevice;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::probe;

std::map<std::string, std::string> results(const nlohmann::json& answer) {
  std::map<std::string, std::string> all;
  for (const auto& check : answer["checks"]) {
    all[check["group"].get<std::string>() + "/" + check["name"].get<std::string>()] = check["result"];
  }
  return all;
}

TEST(ProbeTest, PassesOnAGoodDeviceAndGivesBackWhatItTook) {
  SystemDevice device;
  const auto answer = probe({"test", device.path(), "--json"});
  EXPECT_EQ(answer.status, 0) << answer.text;
  const auto json = answer.json();
  EXPECT_EQ(json["ok"], true);
  EXPECT_EQ(json["failed"], 0);
  EXPECT_EQ(json["skipped"], 0);
  for (const auto& [name, result] : results(json)) EXPECT_EQ(result, "passed") << name;
  for (const char* name : {"region/protocol", "ring/order", "ring/wrap-around", "memory/large copies",
                           "kernels/shared memory", "errors/bad module", "recovery/illegal address"}) {
    EXPECT_TRUE(results(json).contains(name)) << name;
  }
  EXPECT_TRUE(device::testing::eventually([&] { return device.channels_served() == 0; }));
  EXPECT_EQ(device.memory_in_use(), 0U);
  const auto text = probe({"test", device.path()});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.text, HasSubstr("all is well"));
}

TEST(ProbeTest, DisturbsNobodyOnADeviceInUse) {
  SystemDevice device;
  system_tests::Client program("bystander");
  ASSERT_EQ(program.line(), "fine");
  const auto answer = probe({"test", device.path()});
  EXPECT_EQ(answer.status, 0) << answer.text;
  ASSERT_TRUE(program.tell());
  EXPECT_EQ(program.line(), "fine") << device.log();
  EXPECT_TRUE(device::testing::eventually([&] { return device.channels_served() == 1; }));
}

TEST(ProbeTest, FailsWithAdviceWhenTheDeviceWasKilled) {
  SystemDevice device;
  const auto worker = static_cast<pid_t>(ring::load_relaxed(device.status().worker_pid));
  device.program().kill(SIGKILL);
  device.program().wait();
  // The worker goes with its supervisor, and the device's lock with both.
  ASSERT_TRUE(device::testing::eventually([&] { return ::kill(worker, 0) != 0; }));
  const auto answer = probe({"test", device.path()});
  EXPECT_EQ(answer.status, 1);
  EXPECT_THAT(answer.text, HasSubstr("its vgpu-device is gone"));
  EXPECT_THAT(answer.text, HasSubstr("start it again: vgpu-device --path"));
  EXPECT_THAT(answer.text, Not(HasSubstr("wrap-around")));
  device.start();
  EXPECT_EQ(probe({"test", device.path()}).status, 0);
}

TEST(ProbeTest, FailsWhenEveryChannelIsTaken) {
  SystemDevice device;
  std::vector<std::unique_ptr<Guest>> guests;
  for (auto guest = Guest::attach(device.path()); guest; guest = Guest::attach(device.path())) {
    guests.push_back(std::move(*guest));
  }
  ASSERT_FALSE(guests.empty());
  const auto answer = probe({"test", device.path(), "--json"});
  EXPECT_EQ(answer.status, 1);
  EXPECT_EQ(results(answer.json())["channel/claim"], "failed");
}

TEST(ProbeLatency, TellsPercentilesThatGrow) {
  SystemDevice device;
  const auto answer = probe({"latency", device.path(), "--count", "100", "--json"});
  ASSERT_EQ(answer.status, 0) << answer.text;
  const auto json = answer.json();
  ASSERT_EQ(json["mappings"].size(), 1U);
  EXPECT_EQ(json["mappings"][0]["kind"], "write-back");
  const auto& cases = json["mappings"][0]["cases"];
  ASSERT_EQ(cases.size(), 7U);
  for (const auto& one : cases) {
    if (one["count"] == 0) continue;  // a device that is never idle has no sleeper to wake
    EXPECT_LE(one["min_ns"], one["p50_ns"]) << one["name"];
    EXPECT_LE(one["p50_ns"], one["p99_ns"]) << one["name"];
    EXPECT_LE(one["p99.9_ns"], one["max_ns"]) << one["name"];
    uint64_t in_buckets = 0;
    for (const auto& bucket : one["histogram"]) in_buckets += bucket["count"].get<uint64_t>();
    EXPECT_EQ(one["count"], in_buckets) << one["name"];
  }
  EXPECT_EQ(cases[0]["name"], "round_trip");
  EXPECT_EQ(cases[0]["count"], 100);
  const auto text = probe({"latency", device.path(), "--count", "100"});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.text, HasSubstr("round trip"));
}

TEST(ProbeBandwidth, MeasuresBothDirectionsUpToTheLargestSize) {
  SystemDevice device;
  const auto answer = probe({"bandwidth", device.path(), "--largest", "64k", "--json"});
  ASSERT_EQ(answer.status, 0) << answer.text;
  const auto json = answer.json();
  const auto& sizes = json["mappings"][0]["sizes"];
  ASSERT_EQ(sizes.size(), 6U);
  for (const auto& size : sizes) {
    for (const char* key :
         {"pageable_in", "pageable_out", "pinned_in", "pinned_out", "cpu_store", "cpu_load"}) {
      EXPECT_GT(size[std::string(key) + "_gb_per_s"], 0) << size["bytes"] << " " << key;
    }
  }
  EXPECT_EQ(sizes.back()["bytes"], 65536);
  EXPECT_TRUE(device::testing::eventually([&] { return device.memory_in_use() == 0; }));
}

// The suite's kernels, asked for when the process that launched them is gone.
TEST(ProbeKernels, TellsWhatRanHowOftenAndHowItWasCompiled) {
  SystemDevice device;
  EXPECT_THAT(probe({"kernels", device.path()}).text, HasSubstr("nothing has run on " + device.path()));
  ASSERT_EQ(probe({"test", device.path()}).status, 0);
  const auto answer = probe({"kernels", device.path(), "--json"});
  ASSERT_EQ(answer.status, 0) << answer.text;
  const auto json = answer.json();
  std::map<std::string, nlohmann::json> kernels;
  uint64_t launches = 0;
  uint64_t before = UINT64_MAX;
  for (const auto& kernel : json["kernels"]) {
    kernels[kernel["function"]] = kernel;
    launches += kernel["launches"].get<uint64_t>();
    EXPECT_LE(kernel["time_ns"].get<uint64_t>(), before) << "what took longest comes first";
    before = kernel["time_ns"];
    EXPECT_LE(kernel["longest_ns"], kernel["time_ns"]) << kernel;
  }
  EXPECT_EQ(json["launches"], launches);
  ASSERT_TRUE(kernels.contains("block_sum")) << answer.text;
  const auto& sum = kernels["block_sum"];
  EXPECT_EQ(sum["block"], (nlohmann::json{256, 1, 1}));
  EXPECT_EQ(sum["launches"], 1);
  EXPECT_EQ(sum["blocks"], 32);
  EXPECT_EQ(sum["compiled"], 1);
  EXPECT_EQ(sum["from_cache"], 0);
  EXPECT_GT(sum["compile_ns"], 0);
  EXPECT_GT(sum["counts"]["loads_contiguous"], 0) << "each thread loads one element of a row";
  EXPECT_EQ(sum["counts"]["loads_gathered"], 0);
  EXPECT_TRUE(kernels.contains("(BLAS: gemm)"));

  // Another process finds the code in the cache, and adds to the same record.
  ASSERT_EQ(probe({"test", device.path()}).status, 0);
  for (const auto& kernel : probe({"kernels", device.path(), "--json"}).json()["kernels"]) {
    if (kernel["function"] != "block_sum") continue;
    EXPECT_EQ(kernel["launches"], 2);
    EXPECT_EQ(kernel["compiled"], 1);
    EXPECT_EQ(kernel["from_cache"], 1);
  }
  const auto text = probe({"kernels", device.path(), "--top", "1", "--details"});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.text, HasSubstr("longest launch"));
  EXPECT_THAT(text.text, HasSubstr("more"));
}

TEST(ProbeLatency, ARegionTruncatedUnderItIsAMessageAndNoCrash) {
  SystemDevice device;
  device::testing::ChildProcess measuring(
      {VGPU_PROBE_PROGRAM, "latency", device.path(), "--count", "100000000", "--json"}, true);
  ASSERT_TRUE(device::testing::eventually([&] { return device.channels_served() == 1; }));
  // From here on nothing may look at the region.
  ASSERT_EQ(::truncate(device.path().c_str(), 0), 0);
  const std::string text = measuring.read_all();
  const int status = measuring.wait();
  ASSERT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(text, HasSubstr("its file was truncated"));
}

}  // namespace
}  // namespace vgpu::tools
