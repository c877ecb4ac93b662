// How one thread runs blocks whose warps meet at barriers: block after block, kernel after kernel, and after
// blocks that were left in the middle.
#include "device/software/runtime/block_runner.h"

#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>

#include "device/software/runtime/fault_guard.h"
#include "tests/device/software/runtime/hand_kernels.h"

namespace vgpu::software {
namespace {

using testing::back_edge;
using testing::device;
using testing::kept;
using testing::parameter;
using testing::reduce;
using testing::sync;
using testing::sync_some;
using testing::wait_at;

uint32_t warps_of(const BlockState* state) {
  return (state->ntid[0] + kWarpSize - 1) / kWarpSize;
}
uint64_t out(const BlockState* state, uint32_t index) {
  return parameter<uint64_t>(state, 0) + uint64_t{index} * 4;
}
uint32_t argument(const BlockState* state) {
  return parameter<uint32_t>(state, 8);
}
uint64_t shared(const BlockState* state, uint32_t index) {
  return state->shared_base + uint64_t{index} * 4;
}
// out[block * warps + warp]
void answer(const BlockState* state, uint32_t warp, uint32_t value) {
  device<uint32_t>(out(state, state->ctaid[0] * warps_of(state) + warp)) = value;
}

// What each warp of `block` gets from the kernels below that sum: all warps' contributions.
uint32_t expected_sum(uint32_t block, uint32_t warps) {
  return warps * block * 100 + warps * (warps + 1) / 2;
}
void contribute(const BlockState* state, uint32_t warp) {
  device<uint32_t>(shared(state, warp)) = state->ctaid[0] * 100 + warp + 1;
}
uint32_t sum(const BlockState* state) {
  uint32_t all = 0;
  for (uint32_t warp = 0; warp < warps_of(state); ++warp) all += device<uint32_t>(shared(state, warp));
  return all;
}

uint32_t sum_once(BlockState* state, uint32_t warp, WarpFrame* frame) {
  if (frame->point == 0) {
    contribute(state, warp);
    return sync(frame, 1);
  }
  answer(state, warp, sum(state));
  return kWarpEnded;
}
// What it keeps fills its frame, which is larger than a page.
constexpr uint32_t kLargeFrame = 5000;
uint32_t sum_with_large_frame(BlockState* state, uint32_t warp, WarpFrame* frame) {
  auto* first = reinterpret_cast<uint32_t*>(frame + 1);
  const uint32_t words = (kLargeFrame - sizeof(WarpFrame)) / sizeof(uint32_t);
  const uint32_t mark = state->ctaid[0] * 100 + warp;
  if (frame->point == 0) std::fill_n(first, words, mark);
  const uint32_t stop = sum_once(state, warp, frame);
  if (stop == kWarpEnded && std::count(first, first + words, mark) != words) answer(state, warp, 0);
  return stop;
}
uint32_t sum_often(BlockState* state, uint32_t warp, WarpFrame* frame) {
  uint32_t& round = kept(frame, 0);
  uint32_t& last = kept(frame, 1);
  switch (frame->point) {
    case 0:
      round = 0;
      break;
    case 1:
      last = sum(state);
      return sync(frame, 2);
    case 2:
      device<uint32_t>(shared(state, warp)) = 0;
      return sync(frame, 3, 3);
    default:
      if (++round < 5) break;
      answer(state, warp, last);
      return kWarpEnded;
  }
  contribute(state, warp);
  return sync(frame, 1);
}
uint32_t alone(BlockState* state, uint32_t warp, WarpFrame*) {
  answer(state, warp, expected_sum(state->ctaid[0], warps_of(state)));
  return kWarpEnded;
}

[[gnu::noinline]] uint32_t dig(volatile uint32_t* from, uint32_t depth) {
  volatile uint32_t room[256];
  room[0] = *from + depth;
  return depth == 0 ? room[0] : dig(room, depth - 1) + room[0];
}

struct Kernel {
  const char* name = "";
  WarpFunction entry = nullptr;
  uint32_t frame_bytes = sizeof(testing::HandFrame);
};
constexpr Kernel kSumOnce{.name = "sum_once", .entry = sum_once};
constexpr Kernel kSumWithLargeFrame{
    .name = "sum_with_large_frame", .entry = sum_with_large_frame, .frame_bytes = kLargeFrame};
constexpr Kernel kSumOften{.name = "sum_often", .entry = sum_often};
constexpr Kernel kAlone{.name = "alone", .entry = alone, .frame_bytes = 0};
constexpr std::array kGood = {kSumOnce, kSumWithLargeFrame, kSumOften, kAlone};

class BlockRuns : public ::testing::Test {
 protected:
  static constexpr uint64_t kBytes = 1 << 16;

  void SetUp() override {
    ASSERT_TRUE(install_fault_handlers());
    auto window = DeviceWindow::reserve();
    ASSERT_TRUE(window) << window.error().reason;
    window_ = std::move(*window);
    auto memory = WindowRange::take(*window_, kBytes);
    ASSERT_TRUE(memory) << memory.error().reason;
    ASSERT_TRUE(window_->commit(memory->address(), kBytes));
    memory_ = std::move(*memory);
    runner_ = std::make_unique<BlockRunner>(*window_);
  }
  void TearDown() override {
    runner_.reset();
    memory_ = WindowRange();
    window_.reset();
  }

  Result<void> run(const Kernel& kernel, uint32_t threads, uint32_t blocks, uint32_t argument = 0,
                   uint32_t mxcsr = 0x1F80) {
    stop_ = kRunning;
    const uint64_t address = memory_.address();
    std::memcpy(parameters_.data(), &address, 8);
    std::memcpy(parameters_.data() + 8, &argument, 4);
    struct Compiled : jit::CompiledKernel {};
    const auto compiled = std::make_shared<Compiled>();
    compiled->entry = kernel.entry;
    compiled->frame_bytes = kernel.frame_bytes;
    KernelCodes codes(compiled);
    LaunchPlan plan;
    plan.codes = &codes;
    plan.kind = &codes.kind(0);
    plan.mxcsr = mxcsr;
    plan.threads = threads;
    plan.shared_bytes = 4096;
    plan.prototype.params = parameters_.data();
    plan.prototype.cancel = reinterpret_cast<const uint32_t*>(&stop_);
    plan.prototype.ntid[0] = threads;
    plan.prototype.ntid[1] = plan.prototype.ntid[2] = 1;
    plan.prototype.nctaid[0] = blocks;
    plan.prototype.nctaid[1] = plan.prototype.nctaid[2] = 1;
    plan.blocks = blocks;
    plan.kernel = kernel.name;
    plan.print = &print_;
    plan.stop = &stop_;
    if (const auto ready = runner_->prepare(plan); !ready) return ready;
    return runner_->run(0, blocks);
  }
  uint32_t result(uint32_t index) { return device<uint32_t>(memory_.address() + uint64_t{index} * 4); }
  void clear() { std::memset(reinterpret_cast<void*>(memory_.address()), 0xEE, kBytes); }

  void expect_sums(const Kernel& kernel, uint32_t threads, uint32_t blocks) {
    clear();
    const auto ran = run(kernel, threads, blocks);
    ASSERT_TRUE(ran) << ran.error().reason;
    const uint32_t warps = (threads + kWarpSize - 1) / kWarpSize;
    for (uint32_t block = 0; block < blocks; ++block) {
      for (uint32_t warp = 0; warp < warps; ++warp) {
        ASSERT_EQ(result(block * warps + warp), expected_sum(block, warps))
            << kernel.name << " with " << threads << " threads, block " << block << " warp " << warp;
      }
    }
  }
  void expect_all_good() {
    for (const Kernel& kernel : kGood) expect_sums(kernel, 160, 4);
  }

  std::unique_ptr<DeviceWindow> window_;
  WindowRange memory_;
  std::unique_ptr<BlockRunner> runner_;
  std::atomic<uint32_t> stop_{kRunning};
  static_assert(sizeof stop_ == sizeof(uint32_t));
  alignas(16) std::array<std::byte, 128> parameters_{};
  PrintSink print_ = [](std::string_view) {};
};

TEST_F(BlockRuns, WarpCountsAndKindsOfKernelTakeTurns) {
  for (const uint32_t threads : {128u, 32u, 1024u, 33u, 256u, 64u, 1000u}) {
    for (const Kernel& kernel : kGood) expect_sums(kernel, threads, 7);
  }
  for (const uint32_t threads : {1024u, 1u, 64u}) expect_sums(kSumOnce, threads, 1);
}

TEST_F(BlockRuns, ABlockAfterOneThatFaultedIsWhole) {
  constexpr auto fault = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) return sync(frame, 1);
    if (state->ctaid[0] == 2 && warp == argument(state)) device<uint32_t>(0) = 1;
    return kWarpEnded;
  };
  constexpr auto fault_among_waiting = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 1) return kWarpEnded;
    if (state->ctaid[0] == 2 && warp == argument(state)) device<uint32_t>(0) = 1;
    return sync(frame, 1);
  };
  for (const WarpFunction entry : {WarpFunction{fault}, WarpFunction{fault_among_waiting}}) {
    for (uint32_t warp = 0; warp < 5; ++warp) {
      const auto ran = run({.name = "faulting", .entry = entry}, 160, 9, warp);
      ASSERT_FALSE(ran);
      EXPECT_EQ(ran.error().status, Status::kIllegalAddress);
      EXPECT_NE(ran.error().reason.find("faulting block (2, 0, 0)"), std::string::npos) << ran.error().reason;
      expect_all_good();
    }
  }
}

// Warp `argument` of block 1 sees that the kernel was cancelled.
void see_cancelled(BlockState* state, uint32_t warp) {
  if (state->ctaid[0] != 1 || warp != argument(state)) return;
  const_cast<uint32_t&>(*state->cancel) = kCancelledByOwner;
  back_edge(state, warp);
}

TEST_F(BlockRuns, ABlockAfterOneThatWasCancelledIsWhole) {
  // While others wait, or went on before it.
  constexpr auto before = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 1) return kWarpEnded;
    see_cancelled(state, warp);
    return sync(frame, 1);
  };
  constexpr auto behind = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) return sync(frame, 1);
    see_cancelled(state, warp);
    return kWarpEnded;
  };
  // The block ends; the next does not start.
  constexpr auto between = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) return sync(frame, 1);
    if (state->ctaid[0] == 1 && warp == argument(state)) {
      const_cast<uint32_t&>(*state->cancel) = kCancelledByOwner;
    }
    return kWarpEnded;
  };
  for (const WarpFunction entry : {WarpFunction{before}, WarpFunction{behind}, WarpFunction{between}}) {
    for (uint32_t warp = 0; warp < 3; ++warp) {
      const auto ran = run({.name = "cancelled", .entry = entry}, 96, 4, warp);
      ASSERT_FALSE(ran);
      EXPECT_EQ(ran.error().status, Status::kDeviceUnavailable) << ran.error().reason;
      expect_all_good();
    }
  }
}

TEST_F(BlockRuns, ADeadlockIsNamedAndTheNextBlockIsWhole) {
  constexpr auto lonely = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) return sync(frame, 1);
    if (frame->point == 1 && state->ctaid[0] == 1 && warp == 2) return sync_some(frame, 2, 5, 64);
    return kWarpEnded;
  };
  const auto ran = run({.name = "lonely", .entry = lonely}, 128, 4);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().status, Status::kLaunchFailed);
  EXPECT_EQ(ran.error().reason,
            "kernel lonely block (1, 0, 0): no warp can go on: barrier 5 has warps 0x4 waiting");
  expect_all_good();
}

TEST_F(BlockRuns, WarpsAtBarriersOfTheWholeBlockThatDifferAreADeadlock) {
  constexpr auto apart = [](BlockState*, uint32_t warp, WarpFrame* frame) -> uint32_t {
    return frame->point == 0 ? sync(frame, 1, warp == 3 ? 7 : 6) : kWarpEnded;
  };
  const auto ran = run({.name = "apart", .entry = apart}, 128, 2);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().reason,
            "kernel apart block (0, 0, 0): no warp can go on: barrier 6 has warps 0x7 waiting barrier 7 has "
            "warps 0x8 waiting");
  expect_all_good();
}

TEST_F(BlockRuns, WarpsThatLeaveBeforeTheBarrierHoldNobodyUp) {
  // The block's index says which of its warps leave.
  constexpr auto some_leave = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) {
      answer(state, warp, 0);
      if ((state->ctaid[0] >> warp & 1) != 0) return kWarpEnded;
      device<uint32_t>(shared(state, warp)) = 1000 + state->ctaid[0];
      return sync(frame, 1);
    }
    uint32_t present = 0;
    for (uint32_t other = 0; other < warps_of(state); ++other) {
      if (device<uint32_t>(shared(state, other)) == 1000 + state->ctaid[0]) present |= 1u << other;
    }
    answer(state, warp, present);
    return kWarpEnded;
  };
  clear();
  const auto ran = run({.name = "some_leave", .entry = some_leave}, 160, 32);
  ASSERT_TRUE(ran) << ran.error().reason;
  for (uint32_t block = 0; block < 32; ++block) {
    for (uint32_t warp = 0; warp < 5; ++warp) {
      EXPECT_EQ(result(block * 5 + warp), (block >> warp & 1) != 0 ? 0 : 31 & ~block) << block << " " << warp;
    }
  }
}

TEST_F(BlockRuns, WarpsThatLeaveLetThoseGoWhoWaitForThem) {
  // Warp 3 leaves in the second round, when the others already wait.
  constexpr auto late = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point < 2 && (warp != 3 || frame->point == 0))
      return sync(frame, frame->point + 1, frame->point);
    answer(state, warp, frame->point);
    return kWarpEnded;
  };
  clear();
  const auto ran = run({.name = "late", .entry = late}, 128, 1);
  ASSERT_TRUE(ran) << ran.error().reason;
  for (uint32_t warp = 0; warp < 4; ++warp) EXPECT_EQ(result(warp), warp == 3 ? 1u : 2u);
}

TEST_F(BlockRuns, EveryWarpGetsTheReductionWhereverItWaits) {
  constexpr auto count = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0)
      return reduce(state, warp, frame, 1, BarrierKind::kReducePopcount, (1u << warp) - 1);
    answer(state, warp, frame->result);
    return kWarpEnded;
  };
  clear();
  const auto ran = run({.name = "count", .entry = count}, 256, 3);
  ASSERT_TRUE(ran) << ran.error().reason;
  for (uint32_t i = 0; i < 24; ++i) EXPECT_EQ(result(i), 28u);
}

TEST_F(BlockRuns, AStackThatOverflowsWhileWarpsWaitEndsTheKernelOnly) {
  constexpr auto overflow = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 1) return kWarpEnded;
    if (warp == 3) {
      volatile uint32_t start = 0;
      device<uint32_t>(state->shared_base) = dig(&start, 100'000'000);
    }
    return sync(frame, 1);
  };
  const auto ran = run({.name = "overflow", .entry = overflow}, 128, 2);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().status, Status::kLaunchFailed);
  EXPECT_NE(ran.error().reason.find("the warp's stack overflowed"), std::string::npos) << ran.error().reason;
  expect_all_good();
}

TEST_F(BlockRuns, ABarrierLeftHalfFullIsEmptyInTheNextBlock) {
  // One warp of two that barrier 4 is for arrives and does not wait. In the next block both wait there.
  constexpr auto half = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (state->ctaid[0] == 0) {
      if (warp != 0 || frame->point != 0) return kWarpEnded;
      return wait_at(frame, 1, BarrierKind::kArrive, 4, 64, 0, 0xFFFF'FFFF);
    }
    if (frame->point == 0) {
      contribute(state, warp);
      return sync_some(frame, 1, 4, 64);
    }
    answer(state, warp, sum(state));
    return kWarpEnded;
  };
  const auto ran = run({.name = "half", .entry = half}, 64, 2);
  ASSERT_TRUE(ran) << ran.error().reason;
  EXPECT_EQ(result(2), expected_sum(1, 2));
  EXPECT_EQ(result(3), expected_sum(1, 2));
}

TEST_F(BlockRuns, WarpsThatMeetAgainAndAgainDoNotKeepAnotherFromGoingOn) {
  // Warp 3 comes last and leaves; 0 and 1 could let each other go for ever, and 2 is what they wait for.
  constexpr auto wait_by_meeting = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    uint32_t& rounds = kept(frame);
    switch (frame->point) {
      case 0:
        rounds = 0;
        if (warp == 2) device<uint32_t>(shared(state, 0)) = 0;
        return sync(frame, 1);
      case 1:
        if (warp == 2) device<uint32_t>(shared(state, 0)) = 1;
        break;
      case 2:
        return sync_some(frame, 3, 1, 64);
      default:
        break;
    }
    if (warp < 2 && device<uint32_t>(shared(state, 0)) == 0 && rounds < 1000) {
      ++rounds;
      return sync_some(frame, 2, 1, 64);
    }
    answer(state, warp, rounds);
    return kWarpEnded;
  };
  const auto ran = run({.name = "wait_by_meeting", .entry = wait_by_meeting}, 128, 1);
  ASSERT_TRUE(ran) << ran.error().reason;
  EXPECT_LT(result(0), 1000u);
  EXPECT_EQ(result(0), result(1));
}

TEST_F(BlockRuns, EveryKernelHasItsFloatModesBeforeAndBehindABarrier) {
  constexpr auto modes = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    const uint32_t now = _mm_getcsr() & ~0x3Fu;  // without what happened so far
    if (frame->point == 0) {
      kept(frame) = now;
      return sync(frame, 1);
    }
    answer(state, warp, kept(frame) == now ? now : 0);
    return kWarpEnded;
  };
  const uint32_t host = _mm_getcsr();
  for (const uint32_t mode : {0x1F80u, 0x9FC0u, 0x1F80u}) {
    clear();
    ASSERT_TRUE(run({.name = "modes", .entry = modes}, 128, 3, 0, mode));
    for (uint32_t i = 0; i < 12; ++i) EXPECT_EQ(result(i), mode & ~0x3Fu);
    EXPECT_EQ(_mm_getcsr() & ~0x3Fu, host & ~0x3Fu);
  }
}

TEST_F(BlockRuns, FramesThatGrowWhileWarpsWaitKeepWhatIsInThem) {
  // Warp 2 of block 1 asks for room as code does that goes on by another copy.
  constexpr auto grow = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    if (frame->point == 0) {
      if (state->ctaid[0] == 1 && warp == 2) {
        frame = state->hooks->grow_frames(state, warp, 3 * 4096);
        std::memset(frame + 1, 0xFF, 3 * 4096 - sizeof *frame);
      }
      kept(frame) = 7 + warp;
      return sync(frame, 1);
    }
    answer(state, warp, kept(frame));
    return kWarpEnded;
  };
  clear();
  const auto ran = run({.name = "grow", .entry = grow}, 128, 3);
  ASSERT_TRUE(ran) << ran.error().reason;
  for (uint32_t i = 0; i < 12; ++i) EXPECT_EQ(result(i), 7 + i % 4);
  expect_all_good();
}

TEST_F(BlockRuns, AFrameBeyondAllMeasureIsRefused) {
  const auto ran = run({.name = "hog", .entry = sum_once, .frame_bytes = WarpFrames::kMostBytes + 1}, 128, 1);
  ASSERT_FALSE(ran);
  EXPECT_EQ(ran.error().status, Status::kLaunchOutOfResources);
  EXPECT_NE(ran.error().reason.find("1048577 bytes"), std::string::npos) << ran.error().reason;
  constexpr auto grow = [](BlockState* state, uint32_t warp, WarpFrame* frame) -> uint32_t {
    state->hooks->grow_frames(state, warp, WarpFrames::kMostBytes + 1);
    return sync(frame, 1);
  };
  const auto grown = run({.name = "hog", .entry = grow}, 128, 1);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().status, Status::kLaunchOutOfResources);
  expect_all_good();
}

}  // namespace
}  // namespace vgpu::software
