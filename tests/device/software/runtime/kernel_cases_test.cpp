// Every case of tests/kernels through a whole software device, with the compiler's own checks on. Kernels
// that recurse are refused with a reason, not miscompiled.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

// What runs at a time, where the kernel allows it: one warp, several blocks, or several warps of a block.
enum class AtATime : std::uint8_t { kOne, kBlocks, kWarps };

using CaseAndWay = std::pair<Case, AtATime>;

class DeviceCase : public ::testing::TestWithParam<CaseAndWay> {
 protected:
  void SetUp() override {
    const AtATime way = GetParam().second;
    software::jit::Passes passes;
    passes.coarsening = way == AtATime::kBlocks;
    passes.warps = way == AtATime::kWarps;
    auto backend = software::make_backend(
        {.memory_bytes = std::uint64_t{1} << 30, .threads = 2, .always_coarsen = way != AtATime::kOne},
        software::make_jit_compiler({.passes = passes, .verify = true}));
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
  }
  std::unique_ptr<device::Backend> backend_;
};

// Several warps only of what has blocks whose rows are warps.
std::vector<CaseAndWay> all_ways() {
  std::vector<CaseAndWay> ways;
  for (const Case& test : all_cases()) {
    ways.emplace_back(test, AtATime::kOne);
    ways.emplace_back(test, AtATime::kBlocks);
    const bool has_rows = std::ranges::any_of(
        test.launches, [](const Launch& launch) { return launch.block.x == 32 && launch.block.y % 2 == 0; });
    if (has_rows) ways.emplace_back(test, AtATime::kWarps);
  }
  return ways;
}

TEST_P(DeviceCase, GivesWhatPlainCppGives) {
  DeviceRunner runner(*backend_);
  const Case& test = GetParam().first;
  const std::string difference = run(test, runner);
  if (test.recursive) {
    EXPECT_NE(difference, "") << "the compiler takes recursion now: this case can be like the others";
  } else {
    EXPECT_EQ(difference, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, DeviceCase, ::testing::ValuesIn(all_ways()), [](const auto& instance) {
  const AtATime way = instance.param.second;
  return instance.param.first.name + (way == AtATime::kOne      ? ""
                                      : way == AtATime::kBlocks ? "_blocks"
                                                                : "_warps");
});

}  // namespace
}  // namespace vgpu::testing::kernels
