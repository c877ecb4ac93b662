// The software backend as it is used: PTX compiled by the JIT, under the suite every backend must pass.
#include "device/software/runtime/software_backend.h"

#include <filesystem>

#include "tests/device/backend_conformance.h"

namespace vgpu::device {
namespace {

class Compiled : public BackendConformance {};

TEST_P(Compiled, SharedMemoryEndsWithThePageTheLaunchAskedFor) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "store_shared");
  ASSERT_DONE(context->launch(0, launch_of(1, 1, 32, 4096), Parameters().add(uint32_t{4092})));
  EXPECT_STATUS(context->launch(0, launch_of(1, 1, 32, 4096), Parameters().add(uint32_t{4096})),
                kIllegalAddress);
  const auto none = make_context();
  load_kernels(*none);
  get_kernel(*none, 1, "store_shared");
  EXPECT_STATUS(none->launch(0, launch_of(1, 1, 32, 0), Parameters().add(uint32_t{0})), kIllegalAddress);
}

TEST_P(Compiled, CodeIsKeptOnDiskBetweenBackends) {
  const std::string directory = ::testing::TempDir() + "vgpu-software-backend-test";
  std::filesystem::remove_all(directory);
  for (const char* expected : {"compiled 1 ", "compiled 0 "}) {
    backend_.reset();
    auto backend = software::make_backend(
        {.memory_bytes = uint64_t{64} << 20, .threads = 1, .cache_directory = directory});
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
    const auto context = make_context();
    load_kernels(*context);
    get_kernel(*context, 1, "bump");
    for (int i = 0; i < 3; ++i) ASSERT_DONE(context->launch(0, launch_of(1, 10, 32), {}));
    EXPECT_EQ(load<uint32_t>(*context, context->get_global(1, "counter")->address, 1)[0], 5u + 3 * 320);
    EXPECT_NE(backend_->statistics().find(expected), std::string::npos) << backend_->statistics();
  }
  std::filesystem::remove_all(directory);
}

const auto kTarget = testing::Values(ConformanceTarget{
    "compiled kernels",
    [] { return software::make_backend({.memory_bytes = uint64_t{256} << 20, .threads = 3}); }});

INSTANTIATE_TEST_SUITE_P(Software, Compiled, kTarget);

}  // namespace

INSTANTIATE_TEST_SUITE_P(Compiled, BackendConformance, kTarget);

}  // namespace vgpu::device
