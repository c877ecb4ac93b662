// Random kernels, compiled and by the oracle: a fixed range of seeds, as many as fit the time, then whatever
// VGPU_FUZZ_SEED (a first seed) asks for beside them; and every kernel that ever failed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/device/software/fuzz/minimise.h"

namespace vgpu::testing::fuzz {
namespace {

// Seconds for one part of the seeds; four parts run. Sanitizers make all of it about ten times slower.
#if defined(__SANITIZE_ADDRESS__)
constexpr long kSeconds = 6;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr long kSeconds = 6;
#else
constexpr long kSeconds = 12;
#endif
#else
constexpr long kSeconds = 12;
#endif
constexpr std::uint64_t kSeedsOfAPart = 400;
constexpr std::uint64_t kAlways = 10;  // kernels that run however slow the machine is

std::uint64_t environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class GeneratedKernels : public ::testing::TestWithParam<int> {};

TEST_P(GeneratedKernels, CompiledCodeAgreesWithTheOracle) {
  Differ differ;
  ASSERT_EQ(differ.problem(), "");
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(environment("VGPU_FUZZ_SECONDS", kSeconds));
  const std::uint64_t first =
      environment("VGPU_FUZZ_SEED", 1) + static_cast<std::uint64_t>(GetParam()) * kSeedsOfAPart;
  std::uint64_t done = 0;
  for (; done < kSeedsOfAPart && (done < kAlways || std::chrono::steady_clock::now() < end); ++done) {
    const Finding finding = fuzz_one(first + done, differ, std::chrono::seconds(60));
    ASSERT_EQ(finding.verdict, Verdict::kSame) << finding.report();
  }
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(first + done - 1));
}

INSTANTIATE_TEST_SUITE_P(Parts, GeneratedKernels, ::testing::Range(0, 4));

TEST(KernelsThatFailedOnce, AgreeWithTheOracle) {
  Differ differ;
  ASSERT_EQ(differ.problem(), "");
  std::size_t count = 0;
  for (const auto& item : std::filesystem::directory_iterator(VGPU_FUZZ_REGRESSIONS)) {
    if (item.path().extension() != ".ptx") continue;
    ++count;
    std::ifstream input(item.path());
    const std::string text{std::istreambuf_iterator<char>(input), {}};
    const auto test = FuzzCase::parse(text);
    ASSERT_TRUE(test.has_value()) << item.path() << ": " << test.error();
    const Comparison result = differ.compare(*test);
    EXPECT_EQ(result.verdict, Verdict::kSame) << item.path() << ": " << result.what;
  }
  EXPECT_GT(count, 0U) << "no kernels in " VGPU_FUZZ_REGRESSIONS;
}

TEST(FuzzCases, AreTheSameAfterWritingAndReading) {
  Generated made = generate_with_switches(7);
  made.shape.ptx = made.program.text();
  const std::string text = made.shape.text();
  const auto again = FuzzCase::parse(text);
  ASSERT_TRUE(again.has_value()) << again.error();
  FuzzCase copy = *again;
  copy.ptx = made.shape.ptx;  // a file that was read has its own first lines in front
  EXPECT_EQ(copy.text(), text);
}

TEST(FuzzCases, RefuseUnknownDirectives) {
  EXPECT_FALSE(FuzzCase::parse("//! grids 1 1 1\n").has_value());
  EXPECT_FALSE(FuzzCase::parse("//! pointer 0\n").has_value());
}

TEST(GeneratedPrograms, DependOnTheSeedAlone) {
  EXPECT_EQ(generate(11).program.text(), generate(11).program.text());
  EXPECT_NE(generate(11).program.text(), generate(12).program.text());
}

}  // namespace
}  // namespace vgpu::testing::fuzz
