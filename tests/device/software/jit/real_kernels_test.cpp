// A fixed sample of the kernels of a real llama.cpp library compiles: every 30th of its 3570.
#include "tests/device/software/jit/real_kernels.h"

#include <gtest/gtest.h>

namespace vgpu::testing {
namespace {

constexpr std::size_t kEvery = 30;

TEST(RealKernels, FixedSampleCompiles) {
  const auto library = find_llama_library();
  if (!library)
    GTEST_SKIP() << "llama.cpp's CUDA 12 library is not installed (VGPU_LLAMA_DIR); scripts/demo gets it";
  const auto kernels = list_real_kernels(*library);
  ASSERT_TRUE(kernels.has_value()) << kernels.error();
  ASSERT_EQ(kernels->kernels.size(), 3570u);
  software::jit::Options options;
  options.opt_level = 1;
  software::jit::Jit jit(std::move(options));
  std::size_t compiled = 0;
  for (std::size_t i = 0; i < kernels->kernels.size(); i += kEvery, ++compiled) {
    const RealKernel& kernel = kernels->kernels[i];
    const auto result = jit.compile(*kernel.module, kernel.name, likely_shape(kernel));
    EXPECT_TRUE(result.has_value()) << kernel.name << ": " << result.error().message;
  }
  EXPECT_GE(compiled, 100u);
}

}  // namespace
}  // namespace vgpu::testing
