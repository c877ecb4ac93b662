// How the software runtime runs blocks: barriers and reductions, local and shared memory, faults while
// warps wait, printf, floating point modes.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "device/software/runtime/software_backend.h"
#include "tests/device/backend_conformance.h"
#include "tests/device/software/runtime/hand_kernels.h"
#include "tests/device/software/runtime/runtime_kernels.h"

namespace vgpu::software {
namespace {

using device::launch_of;
using device::Parameters;

class Launches : public ::testing::Test {
 protected:
  void SetUp() override {
    BackendOptions options;
    options.memory_bytes = uint64_t{64} << 20;
    options.threads = 2;
    options.print = [this](std::string_view text) { printed_ += text; };
    auto backend = make_backend(std::move(options), std::make_unique<testing::HandCompiler>());
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
    context_ = make_context();
    memory_ = *context_->allocate(65536);
    clear();
  }
  void TearDown() override {
    context_.reset();
    backend_.reset();
  }

  std::unique_ptr<device::Context> make_context() {
    auto context = std::move(*backend_->create_context({}));
    const std::string_view text = testing::kRuntimeKernels;
    const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
    EXPECT_TRUE(context->load_module(1, {bytes.begin(), bytes.end()}));
    return context;
  }
  device::Result<void> launch(device::Context& context, std::string_view kernel, uint32_t blocks,
                              uint16_t threads, std::span<const std::byte> parameters = {},
                              uint32_t shared_bytes = 0) {
    const uint32_t function = next_function_++;
    const auto found = context.get_function(1, function, kernel);
    if (!found) return std::unexpected(found.error());
    return context.launch(0, launch_of(function, blocks, threads, shared_bytes), parameters);
  }
  void clear() {
    ASSERT_DONE(context_->memset(
        {.destination = memory_, .width = 65536, .height = 1, .pitch = 0, .value = 0, .element_bytes = 1}));
  }
  static std::vector<uint32_t> read(device::Context& context, uint64_t address, std::size_t count) {
    std::vector<uint32_t> values(count);
    EXPECT_TRUE(context.copy_from_device(std::as_writable_bytes(std::span(values)), 0, address, 0,
                                         {.width = count * 4, .height = 1}));
    return values;
  }

  std::unique_ptr<device::Backend> backend_;
  std::unique_ptr<device::Context> context_;
  uint64_t memory_ = 0;
  uint32_t next_function_ = 1;
  std::string printed_;
};

TEST_F(Launches, ReductionsOverABlockWithAPartialWarp) {
  ASSERT_DONE(launch(*context_, "reductions", 1, 80, Parameters().add(memory_)));
  // 80 threads: 40 odd ones. "All" fails in warp 1 alone, which fails it for the block.
  const auto out = read(*context_, memory_, 12);
  for (int warp = 0; warp < 3; ++warp) {
    EXPECT_EQ(out[static_cast<std::size_t>(warp) * 4], 40u);
    EXPECT_EQ(out[static_cast<std::size_t>(warp) * 4 + 1], 0u);
    EXPECT_EQ(out[static_cast<std::size_t>(warp) * 4 + 2], 1u);
    EXPECT_EQ(out[static_cast<std::size_t>(warp) * 4 + 3], 0u);
  }
}

TEST_F(Launches, ABlockOfOneWarpPassesItsBarriersWithItsOwnResults) {
  ASSERT_DONE(launch(*context_, "reductions", 1, 20, Parameters().add(memory_)));
  EXPECT_EQ(read(*context_, memory_, 4), (std::vector<uint32_t>{10, 1, 0, 0}));
}

TEST_F(Launches, NamedBarriersPassValuesBetweenTwoWarpsWhileOthersHaveLeft) {
  ASSERT_DONE(launch(*context_, "named_barriers", 1, 256, Parameters().add(memory_)));
  const auto out = read(*context_, memory_, 100);
  for (uint32_t i = 0; i < 100; ++i) EXPECT_EQ(out[i], i);
}

TEST_F(Launches, ThirtyTwoWarpsMeetAThousandTimes) {
  ASSERT_DONE(launch(*context_, "barriers_1000", 4, 1024));
}

TEST_F(Launches, LocalMemoryIsThePrivateOfEachThreadAndOfItsContext) {
  ASSERT_DONE(launch(*context_, "use_local", 1, 96, Parameters().add(memory_)));
  EXPECT_EQ(read(*context_, memory_, 96), std::vector<uint32_t>(96, 0));
  const auto other = make_context();
  const uint64_t out = *other->allocate(4096);
  for (int round = 0; round < 2; ++round) {
    ASSERT_DONE(launch(*other, "use_local", 64, 16, Parameters().add(out)));
  }
  // The same threads of the first context again: nothing of the other context is left.
  clear();
  ASSERT_DONE(launch(*context_, "use_local", 1, 96, Parameters().add(memory_)));
  const auto seen = read(*context_, memory_, 96);
  for (uint32_t thread = 0; thread < 96; ++thread)
    EXPECT_TRUE(seen[thread] == 0 || seen[thread] == thread + 1);
}

TEST_F(Launches, SharedMemoryIsWholeAndNothingOfItReachesAnotherContext) {
  const auto other = make_context();
  const uint64_t out = *other->allocate(4096);
  for (int round = 0; round < 20; ++round) {
    ASSERT_DONE(launch(*context_, "use_shared", 200, 32, Parameters().add(memory_), 48 * 1024));
    const auto before = std::vector<uint32_t>{0};
    ASSERT_DONE(other->memset(
        {.destination = out, .width = 4096, .height = 1, .pitch = 0, .value = 0, .element_bytes = 1}));
    if (round == 0) {
      ASSERT_DONE(launch(*other, "use_shared", 1, 32, Parameters().add(out), 48 * 1024));
      EXPECT_EQ(read(*other, out, 1), before);
    }
  }
}

TEST_F(Launches, AFaultWhileOtherWarpsWaitEndsTheKernelAndTheThreadGoesOn) {
  for (int round = 0; round < 20; ++round) {
    const auto victim = make_context();
    EXPECT_STATUS(launch(*victim, "fault_between_barriers", 9, 128), kIllegalAddress);
    ASSERT_DONE(launch(*context_, "barriers_1000", 9, 128));
  }
}

TEST_F(Launches, AnEndlessRecursionEndsTheKernelOnly) {
  const auto victim = make_context();
  EXPECT_STATUS(launch(*victim, "overflow", 1, 64), kLaunchFailed);
  EXPECT_STATUS(victim->wait_idle(), kLaunchFailed);
  const auto single = make_context();
  EXPECT_STATUS(launch(*single, "overflow", 1, 32), kLaunchFailed);
  ASSERT_DONE(launch(*context_, "barriers_1000", 2, 64));
}

TEST_F(Launches, KernelsRunWithTheirFloatModesAndTheHostKeepsItsOwn) {
  const uint32_t before = _mm_getcsr();
  ASSERT_DONE(launch(*context_, "write_mxcsr", 1, 1, Parameters().add(memory_)));
  EXPECT_EQ(read(*context_, memory_, 1)[0] & 0x9FC0u, 0x9FC0u);
  EXPECT_EQ(_mm_getcsr(), before);
  const auto victim = make_context();
  EXPECT_STATUS(launch(*victim, "store_at", 1, 1, Parameters().add(uint64_t{8}).add(1u)), kIllegalAddress);
  EXPECT_EQ(_mm_getcsr(), before);
}

TEST_F(Launches, KernelsPrint) {
  struct Buffer {
    char format[128] = "%d %5.2f|%s|%lld %c%% %x %-4u|%*d %q\n";
    char text[16] = "text";
    struct {
      int32_t number = -7;
      double real = 3.14159;
      uint64_t text = 0;
      int64_t wide = -1'234'567'890'123;
      int32_t character = 'c';
      uint32_t hexadecimal = 0xbeef;
      uint32_t padded = 42;
      int32_t width = 4;
      int32_t narrow = 9;
    } arguments;
  } buffer;
  static_assert(offsetof(Buffer, arguments) % 8 == 0);
  buffer.arguments.text = memory_ + offsetof(Buffer, text);
  ASSERT_DONE(context_->copy_to_device(memory_, 0, std::as_bytes(std::span(&buffer, 1)), 0,
                                       {.width = sizeof buffer, .height = 1}));
  const uint64_t out = memory_ + 4096;
  ASSERT_DONE(launch(*context_, "print", 1, 1,
                     Parameters().add(memory_).add(memory_ + offsetof(Buffer, arguments)).add(out)));
  EXPECT_EQ(printed_, "-7  3.14|text|-1234567890123 c% beef 42  |   9 %q\n");
  EXPECT_EQ(read(*context_, out, 1)[0], 9u);
  // No format, then an address that is not there.
  ASSERT_DONE(launch(*context_, "print", 1, 1, Parameters().add(uint64_t{0}).add(uint64_t{0}).add(out)));
  EXPECT_EQ(static_cast<int32_t>(read(*context_, out, 1)[0]), -1);
  EXPECT_STATUS(launch(*context_, "print", 1, 1, Parameters().add(uint64_t{64}).add(uint64_t{0}).add(out)),
                kIllegalAddress);
}

TEST_F(Launches, WhatTheCompilerRefusesIsReportedWithItsReasonAndIsNotSticky) {
  const auto result = launch(*context_, "not_compilable", 1, 1);
  EXPECT_STATUS(result, kInvalidPtx);
  EXPECT_NE(result.error().reason.find("module.ptx:12: unknown opcode frobnicate"), std::string::npos);
  ASSERT_DONE(launch(*context_, "empty", 1, 1));
}

TEST_F(Launches, ARegionFileCutShortEndsTheCallsAndNothingElse) {
  const int file = ::memfd_create("launch-test", MFD_CLOEXEC);
  ASSERT_EQ(::ftruncate(file, 65536), 0);
  auto* memory = static_cast<std::byte*>(::mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
  const auto victim = make_context();
  const auto bulk = victim->map_bulk({memory, 65536}, file, 0);
  ASSERT_TRUE(bulk);
  const uint64_t own = *victim->allocate(65536);
  ASSERT_EQ(::ftruncate(file, 4096), 0);
  EXPECT_STATUS(victim->copy_to_device(own, 0, {memory, 65536}, 0, {.width = 65536, .height = 1}),
                kInvalidValue);
  EXPECT_STATUS(victim->copy_from_device({memory, 65536}, 0, own, 0, {.width = 65536, .height = 1}),
                kInvalidValue);
  EXPECT_STATUS(victim->copy_on_device(own, 0, *bulk, 0, {.width = 65536, .height = 1}), kInvalidValue);
  EXPECT_STATUS(
      victim->memset(
          {.destination = *bulk + 8192, .width = 1, .height = 1, .pitch = 0, .value = 0, .element_bytes = 4}),
      kInvalidValue);
  protocol::GemmRequest gemm;
  gemm.a = gemm.b = *bulk + 8192;
  gemm.c = own;
  gemm.alpha = 0x3ff0000000000000;
  gemm.m = gemm.n = gemm.k = gemm.lda = gemm.ldb = gemm.ldc = 4;
  gemm.batch_count = 1;
  gemm.compute_type = 68;
  EXPECT_STATUS(victim->gemm(0, gemm), kInvalidValue);
  EXPECT_STATUS(launch(*victim, "store_at", 1, 1, Parameters().add(*bulk + 8192).add(1u)), kIllegalAddress);
  ASSERT_DONE(launch(*context_, "empty", 1, 1));
  ::munmap(memory, 65536);
  ::close(file);
}

TEST_F(Launches, AnEndlessKernelOnAllThreadsEndsWhenCancelledWhileOthersWork) {
  const auto victim = make_context();
  const uint64_t flag = *victim->allocate(64);
  ASSERT_DONE(victim->memset(
      {.destination = flag, .width = 64, .height = 1, .pitch = 0, .value = 0, .element_bytes = 1}));
  std::thread runner([&] {
    const auto result = launch(*victim, "spin", 64, 64, Parameters().add(flag));
    EXPECT_STATUS(result, kDeviceUnavailable);
  });
  for (uint32_t i = 0; i < 100; ++i) {
    const auto done = context_->get_function(1, 1000 + i, "barriers_1000");
    ASSERT_TRUE(done);
    ASSERT_DONE(context_->launch(0, launch_of(1000 + i, 3, 64), {}));
  }
  victim->cancel();
  runner.join();
}

TEST(Backend, OnlyOneExistsAtATimeAndTheSecondSaysSo) {
  auto first = make_backend({.memory_bytes = uint64_t{64} << 20}, std::make_unique<testing::HandCompiler>());
  ASSERT_TRUE(first) << first.error().reason;
  const auto second =
      make_backend({.memory_bytes = uint64_t{64} << 20}, std::make_unique<testing::HandCompiler>());
  EXPECT_STATUS(second, kOperatingSystem);
  EXPECT_NE(second.error().reason.find("window"), std::string::npos);
  first->reset();
  EXPECT_TRUE(make_backend({.memory_bytes = uint64_t{64} << 20}, std::make_unique<testing::HandCompiler>()));
}

}  // namespace
}  // namespace vgpu::software
