// Several blocks or warps at a time give what one at a time gives: each block has its own index and shared
// memory, each warp its row, grids need not come out even, and which code runs is the runtime's choice.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <set>
#include <span>
#include <string>

#include "device/software/runtime/kernel_codes.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "device/software/runtime/warp_frames.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"
#include "tests/device/software/runtime/words_stored.h"

namespace vgpu::testing::kernels {
namespace {

constexpr std::uint32_t kThreads = 64;

// Each thread puts its number in the grid into shared memory and stores that of the thread opposite.
constexpr const char* kOpposite = R"(
.version 8.4
.target sm_61
.address_size 64
.visible .entry opposite(.param .u64 out)
{
 .reg .b32 %r<12>; .reg .b64 %q<4>;
 .shared .align 4 .b32 words[64];
 mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %nctaid.x;
 mad.lo.u32 %r4, %r2, %r3, %r1;
 mad.lo.u32 %r5, %r4, 64, %r0;
 mov.u32 %r6, words;
 mad.lo.u32 %r7, %r0, 4, %r6;
 st.shared.u32 [%r7], %r5;
 bar.sync 0;
 sub.u32 %r8, 63, %r0;
 mad.lo.u32 %r9, %r8, 4, %r6;
 ld.shared.u32 %r10, [%r9];
 ld.param.u64 %q0, [out];
 mad.wide.u32 %q1, %r5, 4, %q0;
 st.global.u32 [%q1], %r10;
 ret;
}
)";

// Blocks and lanes go several ways, round a loop of their own too, before and behind a barrier.
constexpr const char* kParting = R"(
.version 8.4
.target sm_61
.address_size 64
.visible .entry parting(.param .u64 out)
{
 .reg .b32 %r<16>; .reg .b64 %q<4>; .reg .pred %p<8>;
 .shared .align 4 .b32 words[64];
 mov.u32 %r0, %tid.x; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ctaid.y; mov.u32 %r3, %nctaid.x;
 mad.lo.u32 %r4, %r2, %r3, %r1;
 mad.lo.u32 %r5, %r4, 64, %r0;
 mul.lo.u32 %r6, %r5, 2654435761;
 and.b32 %r7, %r4, 3;
 setp.eq.u32 %p0, %r7, 1;
 @%p0 bra $loop_start;
 setp.gt.u32 %p1, %r7, 1;
 @%p1 xor.b32 %r6, %r6, 255;
 setp.lt.u32 %p2, %r6, 2147483648;
 @%p2 bra $met;
 add.u32 %r6, %r6, 7;
 bra $met;
$loop_start:
 and.b32 %r8, %r6, 7;
$loop:
 mad.lo.u32 %r6, %r6, 3, 1;
 setp.eq.u32 %p3, %r8, 0;
 @%p3 bra $met;
 sub.u32 %r8, %r8, 1;
 bra $loop;
$met:
 mov.u32 %r9, words;
 mad.lo.u32 %r10, %r0, 4, %r9;
 st.shared.u32 [%r10], %r6;
 bar.sync 0;
 xor.b32 %r11, %r0, 33;
 mad.lo.u32 %r11, %r11, 4, %r9;
 ld.shared.u32 %r12, [%r11];
 ld.param.u64 %q0, [out];
 mad.wide.u32 %q1, %r5, 4, %q0;
 and.b32 %r13, %r12, 1;
 setp.ne.u32 %p4, %r13, 0;
 @%p4 st.global.u32 [%q1], %r12;
 ret;
}
)";

// A block of rows: each row makes its own words, in a way that depends on the row, twice in a loop whose
// barriers all rows come by, and mixes them with those of the row before. Some rows end early.
constexpr const char* kRows = R"(
.version 8.4
.target sm_61
.address_size 64
.visible .entry rows(.param .u64 out)
{
 .reg .b32 %r<20>; .reg .b64 %q<4>; .reg .pred %p<8>;
 .shared .align 4 .b32 words[1024];
 mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z; mov.u32 %r3, %ntid.y;
 mad.lo.u32 %r4, %r2, %r3, %r1;
 mov.u32 %r6, %ntid.x;
 mad.lo.u32 %r5, %r4, %r6, %r0;
 mov.u32 %r6, %warpid;
 mad.lo.u32 %r7, %r6, 77, %r0;
 mov.u32 %r8, words;
 mad.lo.u32 %r9, %r5, 4, %r8;
 mov.u32 %r10, 0;
$round:
 and.b32 %r11, %r1, 3;
 setp.eq.u32 %p0, %r11, 1;
 @%p0 bra $turn;
 setp.gt.u32 %p1, %r11, 1;
 @%p1 xor.b32 %r7, %r7, 255;
 setp.lt.u32 %p2, %r0, 9;
 @%p2 bra $met;
 mov.u32 %r12, %tid.y;
 mov.u32 %r19, %ctaid.x;
 mad.lo.u32 %r7, %r19, 1000, %r7;
 add.u32 %r7, %r7, %r12;
 bra $met;
$turn:
 and.b32 %r13, %r7, 7;
$again:
 mad.lo.u32 %r7, %r7, 3, 1;
 setp.eq.u32 %p3, %r13, 0;
 @%p3 bra $met;
 sub.u32 %r13, %r13, 1;
 bra $again;
$met:
 mov.u32 %r12, %tid.y;
 mad.lo.u32 %r7, %r12, 5, %r7;
 st.shared.u32 [%r9], %r7;
 bar.sync 0;
 setp.eq.u32 %p4, %r4, 0;
 mov.u32 %r14, %r9;
 @!%p4 sub.u32 %r14, %r9, 128;
 ld.shared.u32 %r15, [%r14];
 add.u32 %r7, %r7, %r15;
 bar.sync 0;
 add.u32 %r10, %r10, 1;
 setp.lt.u32 %p5, %r10, 2;
 @%p5 bra $round;
 mov.u32 %r16, %ctaid.x;
 setp.lt.u32 %p6, %r16, %r1;
 @%p6 bra $end;
 mov.u32 %r17, %ntid.z;
 mul.lo.u32 %r17, %r17, %r3;
 mov.u32 %r18, %ntid.x;
 mul.lo.u32 %r17, %r17, %r18;
 mad.lo.u32 %r18, %r16, %r17, %r5;
 ld.param.u64 %q0, [out];
 mad.wide.u32 %q1, %r18, 4, %q0;
 st.global.u32 [%q1], %r7;
$end:
 ret;
}
)";

// A word for each thread.
std::size_t words_of(Dim grid) {
  return std::size_t{grid.x} * grid.y * kThreads;
}

std::vector<std::uint32_t> outcome(KernelRunner& runner, const char* kernel, Dim grid) {
  return words_stored(runner, kernel, grid, {kThreads, 1, 1}, words_of(grid));
}

std::unique_ptr<device::Backend> backend_that(bool always_coarsens, software::jit::Passes passes = {}) {
  auto backend = software::make_backend(
      {.memory_bytes = std::uint64_t{1} << 28, .threads = 2, .always_coarsen = always_coarsens},
      software::make_jit_compiler({.passes = passes, .verify = true}));
  EXPECT_TRUE(backend) << backend.error().reason;
  return std::move(*backend);
}

void expect_opposites_at(std::uint64_t out, DeviceRunner& runner, Dim grid) {
  const auto words = words_stored_at(out, runner, "opposite", grid, {kThreads, 1, 1}, words_of(grid));
  for (std::size_t t = 0; t < words.size(); ++t) {
    ASSERT_EQ(words[t], t / kThreads * kThreads + (kThreads - 1 - t % kThreads))
        << "thread " << t % kThreads << " of block " << t / kThreads;
  }
}

void expect_opposites(DeviceRunner& runner, Dim grid) {
  expect_opposites_at(runner.allocate(words_of(grid) * 4), runner, grid);
}

std::string counts_of(DeviceRunner& runner) {
  const auto report = runner.context().kernel_figures(0);
  return report ? report->counts : report.error().reason;
}

TEST(Coarsening, EveryGridGivesWhatOneBlockAtATimeGives) {
  const auto backend = backend_that(true);
  DeviceRunner runner(*backend);
  ASSERT_EQ(runner.load(kOpposite, "opposite.ptx"), "");
  for (const Dim grid : {Dim{1, 1, 1}, Dim{2, 1, 1}, Dim{3, 1, 1}, Dim{4, 3, 1}, Dim{5, 4, 1}, Dim{1, 9, 1},
                         Dim{1000, 1, 1}, Dim{333, 3, 1}}) {
    expect_opposites(runner, grid);
  }
  EXPECT_NE(counts_of(runner).find("blocks_at_a_time 4\n"), std::string::npos) << counts_of(runner);
}

TEST(Coarsening, BlocksThatPartGiveWhatTheOracleGives) {
  const auto backend = backend_that(true);
  DeviceRunner runner(*backend);
  OracleRunner oracle;
  ASSERT_EQ(runner.load(kParting, "parting.ptx"), "");
  ASSERT_EQ(oracle.load(kParting, "parting.ptx"), "");
  for (const Dim grid : {Dim{4, 1, 1}, Dim{11, 3, 1}})
    EXPECT_EQ(outcome(runner, "parting", grid), outcome(oracle, "parting", grid));
  EXPECT_NE(counts_of(runner).find("blocks_at_a_time 4\n"), std::string::npos) << counts_of(runner);
}

// Of blocks of six rows two go together, of three none.
TEST(Coarsening, WarpsGiveWhatTheOracleGives) {
  const struct {
    Dim block;
    const char* at_a_time;
  } shapes[] = {{{32, 2, 1}, "warps_at_a_time 2\n"}, {{32, 4, 1}, "warps_at_a_time 4\n"},
                {{32, 8, 1}, "warps_at_a_time 4\n"}, {{32, 6, 1}, "warps_at_a_time 2\n"},
                {{32, 4, 3}, "warps_at_a_time 4\n"}, {{32, 3, 1}, "warps_at_a_time 1\n"},
                {{64, 4, 1}, "warps_at_a_time 1\n"}};
  for (const auto& [block, at_a_time] : shapes) {
    SCOPED_TRACE(at_a_time);
    const auto backend = backend_that(true, software::jit::passes_without("coarsening"));
    DeviceRunner runner(*backend);
    OracleRunner oracle;
    ASSERT_EQ(runner.load(kRows, "rows.ptx"), "");
    ASSERT_EQ(oracle.load(kRows, "rows.ptx"), "");
    const Dim grid{7, 1, 1};
    const std::size_t words = std::size_t{grid.x} * block.x * block.y * block.z;
    EXPECT_EQ(words_stored(runner, "rows", grid, block, words),
              words_stored(oracle, "rows", grid, block, words));
    EXPECT_NE(counts_of(runner).find(at_a_time), std::string::npos) << counts_of(runner);
  }
}

// Says that a warp of four blocks keeps more at barriers than there is room for.
class GreedyForFour final : public software::KernelCompiler {
 public:
  Outcome compile(const software::ptx::Module& module, std::string_view kernel,
                  const software::jit::LaunchShape& shape) override {
    struct Greedy : software::jit::CompiledKernel {};
    if (shape.at_a_time < 4) return jit_->compile(module, kernel, shape);
    auto compiled = std::make_shared<Greedy>();
    compiled->frame_bytes = software::WarpFrames::kMostBytes + 1;
    return compiled;
  }
  [[nodiscard]] software::jit::Counters counters() const override { return jit_->counters(); }

 private:
  std::unique_ptr<software::KernelCompiler> jit_ = software::make_jit_compiler({.verify = true});
};

TEST(Coarsening, NoMoreBlocksAtATimeThanFramesHaveRoomFor) {
  const auto backend =
      software::make_backend({.memory_bytes = std::uint64_t{1} << 28, .threads = 2, .always_coarsen = true},
                             std::make_unique<GreedyForFour>());
  ASSERT_TRUE(backend) << backend.error().reason;
  DeviceRunner runner(**backend);
  ASSERT_EQ(runner.load(kOpposite, "opposite.ptx"), "");
  expect_opposites(runner, {11, 1, 1});
  EXPECT_NE(counts_of(runner).find("blocks_at_a_time 2\n"), std::string::npos) << counts_of(runner);
}

TEST(Coarsening, WhileItIsMeasuredToo) {
  const auto backend = backend_that(false);
  DeviceRunner runner(*backend);
  ASSERT_EQ(runner.load(kOpposite, "opposite.ptx"), "");
  constexpr Dim kGrid{3001, 1, 1};
  const std::uint64_t out = runner.allocate(words_of(kGrid) * 4);
  std::uint64_t compiled = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (compiled < 3 && std::chrono::steady_clock::now() < end) {
    expect_opposites_at(out, runner, kGrid);
    compiled = backend->counts().kernels_compiled;
  }
  EXPECT_EQ(compiled, 3U) << "for one, two and four blocks at a time, once it has run for a while";
  for (int i = 0; i < 20; ++i) expect_opposites_at(out, runner, kGrid);
  EXPECT_EQ(backend->counts().kernels_compiled, 3U);
}

TEST(KernelCodes, TheFastestIsChosenWhenAllAreMeasured) {
  struct Compiled : software::jit::CompiledKernel {};
  software::KernelCodes codes(std::make_shared<Compiled>());
  software::LaunchKind& kind = codes.kind(1);
  EXPECT_EQ(kind.chosen(), 0U);
  codes.add(std::make_shared<Compiled>());
  codes.add(std::make_shared<Compiled>());
  const std::uint64_t nanoseconds[] = {900, 500, 700};
  for (std::uint32_t part = 0; part < software::LaunchKind::kPartsMeasured; ++part) {
    EXPECT_GE(kind.chosen(), codes.count());
    // A slow part says nothing: something else ran.
    for (std::uint32_t i = 0; i < 3; ++i)
      kind.measured(codes.count(), i, 8, nanoseconds[i] + (part % 2 == 0 ? 10'000 : 0));
  }
  EXPECT_EQ(kind.chosen(), 1U);
  EXPECT_EQ(&codes.kind(1), &kind);
  EXPECT_GE(codes.kind(2).chosen(), codes.count()) << "launches of another kind are measured by themselves";
  codes.choose_last();
  EXPECT_EQ(kind.chosen(), 2U);
  EXPECT_EQ(codes.kind(3).chosen(), 2U);
}

TEST(KernelCodes, MoreKindsThanAreToldApartAreOneTogether) {
  struct Compiled : software::jit::CompiledKernel {};
  software::KernelCodes codes(std::make_shared<Compiled>());
  std::set<const software::LaunchKind*> kinds;
  for (std::uint64_t key = 0; key < 100; ++key) kinds.insert(&codes.kind(key));
  EXPECT_EQ(kinds.size(), software::KernelCodes::kMostKinds);
  EXPECT_EQ(&codes.kind(98), &codes.kind(99));
  EXPECT_NE(&codes.kind(0), &codes.kind(1));
}

TEST(LaunchKey, IsOfAllParametersButAddresses) {
  struct Parameters {
    std::uint64_t matrix = software::kDeviceWindowBase + 4096;
    std::uint64_t bias = software::kDeviceWindowBase + 8192;
    std::uint32_t columns = 2048;
    std::uint32_t rows = 512;
    std::uint32_t stride = 1;  // half of the last word
  };
  const auto key = [](const Parameters& parameters) {
    return software::launch_key(
        std::as_bytes(std::span(&parameters, 1)).first(offsetof(Parameters, stride) + sizeof(std::uint32_t)));
  };
  const std::uint64_t plain = key({});
  EXPECT_EQ(key({.matrix = software::kDeviceWindowBase + software::kDeviceWindowBytes - 4}), plain);
  EXPECT_EQ(key({.matrix = Parameters{}.bias, .bias = Parameters{}.matrix}), plain);
  std::set<std::uint64_t> keys{plain};
  for (const Parameters& other : {Parameters{.bias = 0}, Parameters{.columns = 8192}, Parameters{.rows = 513},
                                  Parameters{.columns = 512, .rows = 2048}, Parameters{.stride = 2}})
    keys.insert(key(other));
  EXPECT_EQ(keys.size(), 6U);
}

}  // namespace
}  // namespace vgpu::testing::kernels
