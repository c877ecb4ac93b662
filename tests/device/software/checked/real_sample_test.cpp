// A fixed sample of the kernels of a real llama.cpp library against the oracle, with guessed launches: every
// 7th of its 3570, in parts that can run beside each other.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/device/software/checked/real_launches.h"

namespace vgpu::testing {
namespace {

constexpr std::size_t kEvery = 7;
constexpr int kParts = 30;
constexpr std::size_t kLeast = 10;  // kernels of a part that must have been compared: 300 in all

class RealSample : public ::testing::TestWithParam<int> {};

TEST_P(RealSample, AgreesWithTheOracle) {
  const auto library = find_llama_library();
  if (!library)
    GTEST_SKIP() << "llama.cpp's CUDA 12 library is not installed (VGPU_LLAMA_DIR); scripts/demo gets it";
  const auto kernels = list_real_kernels(*library);
  ASSERT_TRUE(kernels.has_value()) << kernels.error();
  ASSERT_EQ(kernels->kernels.size(), 3570u);
  RealLaunches launches(software::make_jit_compiler({.opt_level = 1}));
  std::size_t counts[4] = {};
  for (std::size_t n = static_cast<std::size_t>(GetParam()); n * kEvery < kernels->kernels.size();
       n += kParts) {
    const RealKernel& kernel = kernels->kernels[n * kEvery];
    const RealCheck check = launches.check(kernel, n + 1);
    ++counts[static_cast<std::size_t>(check.result)];
    EXPECT_NE(check.result, RealCheck::Result::kDiffers) << kernel.name << ": " << check.what;
    EXPECT_NE(check.result, RealCheck::Result::kCompilerFails) << kernel.name << ": " << check.what;
    if (check.result == RealCheck::Result::kNoLaunch)
      std::printf("no launch of %s: %s\n", kernel.name.c_str(), check.what.c_str());
  }
  std::printf("%zu agree, %zu differ, %zu not compiled, %zu without a launch\n", counts[0], counts[1],
              counts[2], counts[3]);
}

INSTANTIATE_TEST_SUITE_P(Parts, RealSample, ::testing::Range(0, kParts));

}  // namespace
}  // namespace vgpu::testing
