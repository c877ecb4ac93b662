// Every case of tests/kernels through a whole software device, with the compiler's own checks on. Kernels
// that recurse are refused with a reason, not miscompiled.
#include <gtest/gtest.h>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

class DeviceCase : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 30, .threads = 2},
                                          software::make_jit_compiler({.verify = true}));
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
  }
  std::unique_ptr<device::Backend> backend_;
};

TEST_P(DeviceCase, GivesWhatPlainCppGives) {
  DeviceRunner runner(*backend_);
  const std::string difference = run(GetParam(), runner);
  if (GetParam().recursive) {
    EXPECT_NE(difference, "") << "the compiler takes recursion now: this case can be like the others";
  } else {
    EXPECT_EQ(difference, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, DeviceCase, ::testing::ValuesIn(all_cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace vgpu::testing::kernels
