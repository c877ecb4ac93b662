// A fixed sample of the kernels of a real llama.cpp library against the oracle, with described or guessed
// launches: every 7th of its 3570, in parts that can run beside each other. Each kernel with all passes of
// the compiler on, and with one other choice of them: none, or one off. VGPU_REAL_SAMPLE=all: with every
// choice.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/device/software/checked/real_launches.h"
#include "tests/device/software/fuzz/switches.h"

namespace vgpu::testing {
namespace {

constexpr std::size_t kEvery = 7;
constexpr std::size_t kParts = 15;
constexpr std::size_t kInPart = 34;  // kernels, all of which must have been compared

struct Choice {
  std::string name;
  std::vector<std::string> off;  // names of passes
};

// The first: all passes on.
std::vector<Choice> choices() {
  std::vector<Choice> all(2);
  all[0].name = "all passes";
  all[1].name = "no pass";
  for (const fuzz::Switch& each : fuzz::switches()) {
    all[1].off.push_back(each.name);
    all.push_back({.name = std::string("without ") + each.name, .off = {each.name}});
  }
  return all;
}

// The choices that kernel `n` of the sample runs with.
std::vector<std::size_t> choices_of(std::size_t n, std::size_t count, bool is_whole) {
  std::vector<std::size_t> which = {0};
  // The second term keeps a choice from meeting one kind of kernel only, where kinds take turns too.
  const std::size_t others = count - 1;
  const std::size_t turn = (n + n / others) % others;
  for (std::size_t i = 0; i < others; ++i) {
    if (is_whole || i == turn) which.push_back(1 + i);
  }
  return which;
}

struct Count {
  std::size_t agree = 0;
  std::size_t wrong = 0;
  std::size_t without_launch = 0;
};

void judge(const RealCheck& check, const std::string& kernel, const std::string& choice, Count& count) {
  switch (check.result) {
    case RealCheck::Result::kAgrees:
      ++count.agree;
      break;
    case RealCheck::Result::kNoLaunch:
      ++count.without_launch;
      ADD_FAILURE() << "no launch of " << kernel << " (" << choice << "): " << check.what;
      break;
    case RealCheck::Result::kDiffers:
      ++count.wrong;
      ADD_FAILURE() << kernel << " (" << choice << ") differs: " << check.what;
      break;
    case RealCheck::Result::kCompilerFails:
      ++count.wrong;
      ADD_FAILURE() << kernel << " (" << choice << ") does not run: " << check.what;
      break;
  }
}

class RealSample : public ::testing::TestWithParam<std::size_t> {};

TEST_P(RealSample, AgreesWithTheOracle) {
  const char* const wish = std::getenv("VGPU_REAL_SAMPLE");
  const bool is_whole = wish != nullptr && std::string_view(wish) == "all";
  ASSERT_TRUE(wish == nullptr || is_whole)
      << "VGPU_REAL_SAMPLE is '" << wish << "': expected 'all', or nothing";
  const auto library = find_llama_library();
  if (!library)
    GTEST_SKIP() << "llama.cpp's CUDA 12 library is not installed (VGPU_LLAMA_DIR); scripts/demo gets it";
  const auto kernels = list_real_kernels(*library);
  ASSERT_TRUE(kernels.has_value()) << kernels.error();
  ASSERT_EQ(kernels->kernels.size(), 3570u);

  const std::vector<Choice> all = choices();
  std::vector<std::unique_ptr<software::KernelCompiler>> compilers;
  // Our passes are the same at every level of LLVM's, which take most of the time: of what scripts/test runs,
  // every other kernel with all passes on has them. Last the compiler for those that have not.
  for (const Choice& choice : all) {
    const int level = is_whole || choice.off.empty() ? 1 : 0;
    compilers.push_back(software::make_jit_compiler(fuzz::options_without(choice.off, level)));
  }
  compilers.push_back(software::make_jit_compiler(fuzz::options_without({}, 0)));
  RealLaunches launches(std::move(compilers));
  std::vector<Count> counts(all.size());
  for (std::size_t n = GetParam(); n * kEvery < kernels->kernels.size(); n += kParts) {
    const RealKernel& kernel = kernels->kernels[n * kEvery];
    const std::vector<std::size_t> which = choices_of(n, all.size(), is_whole);
    std::vector<std::size_t> by = which;
    if (!is_whole && n % 2 != 0) by[0] = all.size();
    const std::vector<RealCheck> checks = launches.check(kernel, n + 1, by);
    for (std::size_t i = 0; i < which.size(); ++i)
      judge(checks[i], kernel.name, all[which[i]].name, counts[which[i]]);
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::printf("%s: %zu agree, %zu wrong, %zu without a launch\n", all[i].name.c_str(), counts[i].agree,
                counts[i].wrong, counts[i].without_launch);
  }
  EXPECT_EQ(counts[0].agree, kInPart) << "too few kernels were compared";
}

INSTANTIATE_TEST_SUITE_P(Parts, RealSample, ::testing::Range<std::size_t>(0, kParts));

}  // namespace
}  // namespace vgpu::testing
