// Suite: what a benchmark program writes, and what its exit status means.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

using nlohmann::json;

class SuiteTest : public testing::Test {
 protected:
  SuiteTest() {
    char name[] = "/tmp/vgpu-suite-test.XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  ~SuiteTest() override { std::filesystem::remove_all(folder_); }
  std::string out() const { return folder_ + "/out.json"; }
  int run(const std::string& arguments) const {
    const std::string command = std::string(EXAMPLE_SUITE) + " " + arguments + " >" + folder_ + "/log 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  json result() const { return json::parse(std::ifstream(out())); }
  std::string log() const {
    std::ifstream file(folder_ + "/log");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string folder_;
};

TEST_F(SuiteTest, WritesWhereItRanAndFromWhat) {
  ASSERT_EQ(run("--quick --out " + out()), 0) << log();
  const json all = result();
  EXPECT_EQ(all.at("format"), 1);
  EXPECT_EQ(all.at("suite"), "example_suite");
  EXPECT_FALSE(all.at("commit").get<std::string>().empty());
  EXPECT_TRUE(all.at("dirty").is_boolean());
  EXPECT_FALSE(all.at("compiler").get<std::string>().empty());
  EXPECT_FALSE(all.at("build_type").get<std::string>().empty());
  EXPECT_EQ(all.at("started").get<std::string>().size(), std::string("2026-01-01T00:00:00Z").size());
  const json& machine = all.at("machine");
  EXPECT_FALSE(machine.at("cpu").get<std::string>().empty());
  EXPECT_GE(machine.at("cores"), 1);
  EXPECT_GT(machine.at("memory_bytes"), 1 << 20);
  EXPECT_GE(machine.at("numa_nodes"), 1);
  EXPECT_TRUE(machine.at("caches").is_array());
  for (const char* name : {"same_core", "same_cache", "far"}) {
    const json& pair = machine.at("placements").at(name);
    EXPECT_TRUE(pair.is_null() || pair.size() == 2) << name;
  }
  EXPECT_EQ(all.at("options").at("quick"), true);
  EXPECT_EQ(all.at("options").at("with-failure"), false);
  EXPECT_EQ(all.at("notes").at("mapping"), "none");
}

TEST_F(SuiteTest, KeepsEveryRoundAndAllOfThemTogether) {
  ASSERT_EQ(run("--rounds 3 --out " + out()), 0) << log();
  const json all = result();
  ASSERT_EQ(all.at("results").size(), 4U);
  const json& latency = all.at("results").at(0);
  EXPECT_EQ(latency.at("name"), "round_trip");
  EXPECT_EQ(latency.at("variant"), "fixed");
  EXPECT_EQ(latency.at("parameters").at("bytes"), 64);
  EXPECT_EQ(latency.at("parameters").at("placement"), "same_cache");
  EXPECT_EQ(latency.at("kind"), "latency");
  EXPECT_EQ(latency.at("unit"), "ns");
  ASSERT_EQ(latency.at("rounds").size(), 3U);
  for (const json& round : latency.at("rounds")) {
    EXPECT_NEAR(round.at("p50").get<double>(), 50, 0.5);
    EXPECT_EQ(round.at("count"), 100);
  }
  EXPECT_NEAR(latency.at("p50").get<double>(), 50, 0.5);
  EXPECT_NEAR(latency.at("p90").get<double>(), 90, 0.9);
  EXPECT_NEAR(latency.at("p99").get<double>(), 99, 1);
  EXPECT_NEAR(latency.at("p99_9").get<double>(), 100, 1);
  EXPECT_EQ(latency.at("max"), 100);
  EXPECT_EQ(latency.at("count"), 300);
  EXPECT_EQ(latency.at("notes").at("round"), 2);
  uint64_t in_histogram = 0;
  for (const json& bucket : latency.at("histogram")) {
    in_histogram += bucket.at(1).get<uint64_t>();
  }
  EXPECT_EQ(in_histogram, 300U);

  const json& rate = all.at("results").at(2);
  EXPECT_EQ(rate.at("kind"), "rate");
  EXPECT_EQ(rate.at("unit"), "B/s");
  EXPECT_EQ(rate.at("p50"), 2e9);
  EXPECT_EQ(rate.at("max"), 3e9);
  EXPECT_EQ(rate.at("count"), 9);
}

TEST_F(SuiteTest, ACaseMaySitOutLaterRounds) {
  ASSERT_EQ(run("--rounds 3 --out " + out()), 0) << log();
  const json all = result();
  const json& idle = all.at("results").at(3);
  EXPECT_EQ(idle.at("name"), "idle");
  EXPECT_EQ(idle.at("rounds").size(), 1U);
  EXPECT_EQ(idle.at("p50"), 7);
  EXPECT_EQ(idle.at("count"), 1);
}

TEST_F(SuiteTest, RunsTheVariantsOfOneMeasurementNextToEachOther) {
  ASSERT_EQ(run("--rounds 1 --out " + out()), 0) << log();
  const json all = result();
  EXPECT_EQ(all.at("results").at(0).at("variant"), "fixed");
  EXPECT_EQ(all.at("results").at(1).at("variant"), "other") << "registered after another measurement's";
}

TEST_F(SuiteTest, RoundsCanBeCutIntoShorterOnes) {
  ASSERT_EQ(run("--rounds 2 --budget-ms 20 --cut-rounds --out " + out()), 0) << log();
  const json all = result();
  EXPECT_EQ(all.at("options").at("rounds"), 8);
  EXPECT_EQ(all.at("options").at("budget_ms"), 5);
  EXPECT_EQ(all.at("results").at(0).at("rounds").size(), 8U);
}

TEST_F(SuiteTest, SaysWhatItSkippedAndWhy) {
  ASSERT_EQ(run("--quick --out " + out()), 0) << log();
  const json all = result();
  ASSERT_EQ(all.at("skipped").size(), 1U);
  EXPECT_EQ(all.at("skipped").at(0).at("variant"), "nowhere");
  EXPECT_EQ(all.at("skipped").at(0).at("why"), "this machine has no such cores");
}

TEST_F(SuiteTest, AFailedCaseIsNamedAndTheRestIsWritten) {
  ASSERT_EQ(run("--quick --with-failure --out " + out()), 1) << log();
  const json all = result();
  ASSERT_EQ(all.at("failed").size(), 1U);
  EXPECT_EQ(all.at("failed").at(0).at("variant"), "broken");
  EXPECT_EQ(all.at("failed").at(0).at("why"), "the peer is gone");
  EXPECT_EQ(all.at("results").size(), 4U);
}

TEST_F(SuiteTest, AFilterChoosesCases) {
  ASSERT_EQ(run("--quick --benchmark_filter=copy --out " + out()), 0) << log();
  ASSERT_EQ(result().at("results").size(), 1U);
  EXPECT_EQ(result().at("results").at(0).at("name"), "copy");
}

TEST_F(SuiteTest, AFilterThatMatchesNothingIsAFailure) {
  EXPECT_EQ(run("--quick --benchmark_filter=nothing_like_this --out " + out()), 1);
}

TEST_F(SuiteTest, AnUnknownFlagIsRefused) {
  EXPECT_EQ(run("--no-such-flag"), 2);
}

TEST_F(SuiteTest, AFileThatCannotBeWrittenIsAFailure) {
  EXPECT_EQ(run("--quick --out " + folder_ + "/no/such/folder.json"), 1);
}

TEST_F(SuiteTest, ListsItsCasesWithoutMeasuring) {
  ASSERT_EQ(run("--benchmark_list_tests"), 0);
  EXPECT_NE(log().find("round_trip/fixed/bytes:64/placement:same_cache"), std::string::npos) << log();
}

TEST_F(SuiteTest, TellsItsFactsWithoutMeasuring) {
  ASSERT_EQ(run("--facts"), 0) << log();
  const json facts = json::parse(log());
  EXPECT_FALSE(facts.at("commit").get<std::string>().empty());
  EXPECT_GE(facts.at("machine").at("cores"), 1);
}

TEST_F(SuiteTest, HelpNamesItsFlags) {
  ASSERT_EQ(run("--help"), 0);
  for (const char* flag : {"--out", "--rounds", "--quick", "--with-failure", "--benchmark_filter"}) {
    EXPECT_NE(log().find(flag), std::string::npos) << flag;
  }
}

}  // namespace
