// In which order the code prefetches: as the lines of a matrix lie in memory, whichever warp reads which.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>

#include "device/software/jit/jit.h"
#include "device/software/runtime/device_window.h"

namespace vgpu::software {
namespace {

// Each block reads 512 bytes of one matrix and 1024 of another, each warp a fourth of that.
constexpr const char* kPtx = R"(.version 8.4
.target sm_61
.address_size 64
.visible .entry two(.param .u64 a, .param .u64 b)
{
  .reg .b64 %q<8>;
  .reg .b32 %r<8>;
  ld.param.u64 %q0, [a];
  ld.param.u64 %q1, [b];
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, %ctaid.x;
  mad.wide.u32 %q2, %r1, 512, %q0;
  mad.wide.u32 %q3, %r0, 4, %q2;
  ld.global.u32 %r2, [%q3];
  mad.wide.u32 %q4, %r1, 1024, %q1;
  mad.wide.u32 %q5, %r0, 8, %q4;
  ld.global.v2.u32 {%r3, %r4}, [%q5];
  add.u32 %r5, %r2, %r3;
  st.global.u32 [%q3], %r5;
  ret;
}
)";

constexpr std::uint64_t kBytes = 4 << 20;
constexpr std::uint64_t kFar = 32 << 10;

class PrefetchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto window = DeviceWindow::reserve();
    ASSERT_TRUE(window.has_value()) << window.error().reason;
    window_ = std::move(*window);
    for (std::uint64_t& matrix : matrices_) {
      const auto range = window_->take_range(kBytes);
      ASSERT_TRUE(range.has_value()) << range.error().reason;
      ASSERT_TRUE(window_->commit(*range, kBytes).has_value());
      matrix = *range;
    }
    auto module = ptx::Module::parse(kPtx, "prefetch_test.ptx");
    ASSERT_TRUE(module.has_value());
    jit::LaunchShape shape;
    shape.ntid[0] = 128;
    auto kernel = jit_.compile(*module, "two", shape);
    ASSERT_TRUE(kernel.has_value()) << kernel.error().message;
    kernel_ = *kernel;
    std::memcpy(params_.data(), matrices_.data(), sizeof matrices_);
    state_.params = params_.data();
    state_.cancel = &cancel_;
    state_.ntid[0] = 128;
    state_.ntid[1] = state_.ntid[2] = 1;
    state_.nctaid[0] = kBytes / 1024;
    state_.nctaid[1] = state_.nctaid[2] = 1;
  }

  void run(std::uint32_t block) {
    state_.ctaid[0] = block;
    for (const std::uint32_t warp : {2U, 0U, 3U, 1U})
      EXPECT_EQ(kernel_->entry(&state_, warp, nullptr), kWarpEnded);
  }
  [[nodiscard]] std::uint64_t next(std::size_t sequence) const { return state_.prefetch_next[sequence]; }

  std::unique_ptr<DeviceWindow> window_;
  std::array<std::uint64_t, 2> matrices_{};
  jit::Jit jit_{jit::Options{}};
  std::shared_ptr<const jit::CompiledKernel> kernel_;
  std::array<std::byte, 256> params_{};
  std::uint32_t cancel_ = 0;
  BlockState state_{};
};

TEST_F(PrefetchTest, GoesOnFromBlockToBlockWhicheverWarpReads) {
  run(0);
  // Begun by warp 2, and moved on by all.
  const std::uint64_t a = matrices_[0] + 2 * 128 + kFar;
  const std::uint64_t b = matrices_[1] + 2 * 256 + kFar;
  EXPECT_EQ(next(0), a + 512);
  EXPECT_EQ(next(1), b + 1024);
  run(1);
  run(2);
  EXPECT_EQ(next(0), a + 3 * 512);
  EXPECT_EQ(next(1), b + 3 * 1024);
}

TEST_F(PrefetchTest, BeginsAnewFarAway) {
  run(0);
  run(2000);
  EXPECT_EQ(next(0), matrices_[0] + 2000 * 512 + 2 * 128 + kFar + 512);
  EXPECT_EQ(next(1), matrices_[1] + 2000 * 1024 + 2 * 256 + kFar + 1024);
  run(0);
  EXPECT_EQ(next(0), matrices_[0] + 2 * 128 + kFar + 512);
}

// A block that reads the same lines again and again moves its sequence no further than it may get astray.
TEST_F(PrefetchTest, StaysNearWhatIsRead) {
  for (int i = 0; i < 1000; ++i) {
    run(5);
    EXPECT_LE(next(0), matrices_[0] + 6 * 512 + 2 * kFar);
    EXPECT_GE(next(0), matrices_[0] + 5 * 512);
  }
}

}  // namespace
}  // namespace vgpu::software
