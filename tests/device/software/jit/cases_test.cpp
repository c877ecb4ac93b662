// Every case of tests/kernels through the compiler: results must be those of plain C++. Kernels that recurse
// or call through pointers are refused with a reason, not miscompiled.
#include <gtest/gtest.h>

#include "tests/device/software/jit/jit_runner.h"

namespace vgpu::testing::kernels {
namespace {

software::jit::Jit& shared_jit() {
  static software::jit::Jit jit = [] {
    software::jit::Options options;
    options.verify = true;
    return software::jit::Jit(std::move(options));
  }();
  return jit;
}

class JitCase : public ::testing::TestWithParam<Case> {};

TEST_P(JitCase, GivesWhatPlainCppGives) {
  JitRunner runner(shared_jit());
  if (GetParam().recursive) {
    ASSERT_EQ(runner.load(GetParam().ptx, GetParam().file), "");
    const auto& launch = GetParam().launches.front();
    LaunchRequest request;
    request.kernel = launch.kernel;
    request.grid = launch.grid;
    request.block = launch.block;
    const auto status = runner.launch(request);
    EXPECT_EQ(status.status, Status::kUnsupported);
    EXPECT_NE(status.message, "");
    return;
  }
  const std::string difference = run(GetParam(), runner);
  if (GetParam().ptx.find("bar.arrive") != std::string::npos) {
    // The contract with the runtime has no barrier that is passed without waiting: refused, by name.
    EXPECT_NE(difference.find("bar.arrive is not supported"), std::string::npos);
    return;
  }
  EXPECT_EQ(difference, "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, JitCase, ::testing::ValuesIn(all_cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace vgpu::testing::kernels
