// Every case of tests/kernels through a whole software device, with the compiler's own checks on. Kernels
// that recurse are refused with a reason, not miscompiled.
#include <gtest/gtest.h>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

// Whether blocks run one at a time, or as many as can be where the kernel allows that.
class DeviceCase : public ::testing::TestWithParam<std::tuple<Case, bool>> {
 protected:
  void SetUp() override {
    auto backend = software::make_backend(
        {.memory_bytes = std::uint64_t{1} << 30, .threads = 2, .always_coarsen = std::get<1>(GetParam())},
        software::make_jit_compiler({.verify = true}));
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
  }
  std::unique_ptr<device::Backend> backend_;
};

TEST_P(DeviceCase, GivesWhatPlainCppGives) {
  DeviceRunner runner(*backend_);
  const Case& test = std::get<0>(GetParam());
  const std::string difference = run(test, runner);
  if (test.recursive) {
    EXPECT_NE(difference, "") << "the compiler takes recursion now: this case can be like the others";
  } else {
    EXPECT_EQ(difference, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, DeviceCase,
                         ::testing::Combine(::testing::ValuesIn(all_cases()), ::testing::Bool()),
                         [](const auto& instance) {
                           return std::get<0>(instance.param).name +
                                  (std::get<1>(instance.param) ? "_coarsened" : "");
                         });

}  // namespace
}  // namespace vgpu::testing::kernels
