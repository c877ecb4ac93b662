// What Jit promises besides right results: the disk cache, refusals, and that a loop can be cancelled.
#include "device/software/jit/jit.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

namespace vgpu::software::jit {
namespace {

constexpr const char* kPtx = R"(.version 8.4
.target sm_61
.address_size 64
.visible .entry store(.param .u64 p)
{
  .reg .b64 %q<3>;
  .reg .b32 %r<2>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 4, %q0;
  st.global.u32 [%q1], %r0;
  ret;
}
.visible .entry blocks(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<4>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 18, %q0;
  ld.global.u16 %r1, [%q1];
  ld.global.u16 %r2, [%q1+2];
  add.u32 %r3, %r1, %r2;
  st.global.u16 [%q1+4], %r3;
  ret;
}
.visible .entry quants(.param .u64 p)
{
  .reg .b64 %q<3>;
  .reg .b32 %r<6>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  shr.u32 %r1, %r0, 2;
  mad.wide.u32 %q1, %r1, 34, %q0;
  and.b32 %r2, %r0, 3;
  mad.wide.u32 %q2, %r2, 8, %q1;
  ld.global.u32 %r3, [%q2+2];
  ld.global.u32 %r4, [%q2+6];
  add.u32 %r5, %r3, %r4;
  st.global.u32 [%q0], %r5;
  ret;
}
.visible .entry quads(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<8>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 18, %q0;
  ld.global.u32 %r1, [%q1+2];
  ld.global.u32 %r2, [%q1+6];
  ld.global.u32 %r3, [%q1+10];
  ld.global.u32 %r4, [%q1+14];
  add.u32 %r5, %r1, %r2;
  mad.lo.u32 %r6, %r3, %r4, %r5;
  st.global.u32 [%q0], %r6;
  ret;
}
.visible .entry ahead(.param .u64 p)
{
  .reg .b64 %q<3>;
  .reg .b32 %r<6>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mov.u32 %r1, %ctaid.x;
  mad.wide.u32 %q1, %r1, 4096, %q0;
  mad.wide.u32 %q2, %r0, 4, %q1;
  ld.global.u32 %r2, [%q2+64];
  ld.global.u32 %r3, [%q2];
  bar.sync 0;
  add.u32 %r4, %r2, %r3;
  st.global.u32 [%q2], %r4;
  ret;
}
.visible .entry dots(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<10>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 4, %q0;
  ld.global.u32 %r1, [%q1];
  ld.global.u32 %r2, [%q1+128];
  ld.global.u32 %r3, [%q1+256];
  dp4a.s32.s32 %r4, %r1, %r2, %r0;
  dp4a.s32.s32 %r5, %r2, %r3, %r4;
  dp4a.s32.s32 %r6, %r3, %r1, %r5;
  st.global.u32 [%q1], %r6;
  ret;
}
.visible .entry rows(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<7>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 1028, %q0;
  ld.global.u32 %r1, [%q1];
  ld.global.u32 %r2, [%q1+12];
  ld.global.u32 %r3, [%q1+16];
  ld.global.u16 %r4, [%q1+20];
  add.u32 %r5, %r1, %r2;
  mad.lo.u32 %r6, %r3, %r4, %r5;
  st.global.u32 [%q1+4], %r6;
  ret;
}
.visible .entry divided(.param .u64 p, .param .u32 n)
{
  .reg .b64 %q<4>;
  .reg .b32 %r<6>;
  ld.param.u64 %q0, [p];
  ld.param.u32 %r0, [n];
  mov.u32 %r1, %tid.x;
  rem.u32 %r2, %r1, %r0;
  mad.wide.u32 %q1, %r2, 4, %q0;
  ld.global.u32 %r3, [%q1];
  mad.wide.u32 %q2, %r3, 4, %q0;
  ld.global.u32 %r4, [%q2];
  add.u32 %r5, %r3, %r4;
  st.global.u32 [%q1], %r5;
  ret;
}
.visible .entry table(.param .u64 p)
{
  .shared .align 4 .b8 words[4096];
  .reg .b64 %q0;
  .reg .b32 %r<7>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %ctaid.x;
  mov.u32 %r1, words;
  mad.lo.u32 %r2, %r0, 4, %r1;
  ld.shared.u32 %r3, [%r2];
  add.u32 %r4, %r2, 256;
  ld.shared.u32 %r5, [%r4+64];
  add.u32 %r6, %r3, %r5;
  st.shared.u32 [%r2+8], %r6;
  st.global.u32 [%q0], %r6;
  ret;
}
.visible .entry tail(.param .u64 p, .param .u32 n)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<3>;
  .reg .pred %p0;
  ld.param.u64 %q0, [p];
  ld.param.u32 %r1, [n];
  mov.u32 %r0, %tid.x;
  mov.u32 %r2, 0;
$top:
  setp.ge.u32 %p0, %r0, %r1;
  @%p0 bra $end;
  add.u32 %r2, %r2, 1;
  add.u32 %r0, %r0, 64;
  bra $top;
$end:
  mad.wide.u32 %q1, %r0, 4, %q0;
  st.global.u32 [%q1], %r2;
  ret;
}
.visible .entry meet()
{
  bar.sync 0;
  ret;
}
.visible .entry meet_and_leave(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<2>;
  .reg .pred %p<2>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  bar.sync 0;
  setp.gt.u32 %p0, %r0, 31;
  @%p0 ret;
  st.global.u32 [%q0], %r0;
  ret;
}
.visible .entry bounded() .reqntid 64
{
  ret;
}
)";

class JitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "vgpu-jit-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    auto module = ptx::Module::parse(kPtx, "jit_test.ptx");
    ASSERT_TRUE(module.has_value());
    module_.emplace(std::move(*module));
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] Options options() const {
    Options result;
    result.cache_directory = directory_;
    return result;
  }
  [[nodiscard]] static LaunchShape shape(std::uint32_t x) {
    LaunchShape result;
    result.ntid[0] = x;
    return result;
  }
  // How a kernel of one dimension was compiled.
  [[nodiscard]] AccessCounts accesses(std::string_view kernel, const Options& options,
                                      std::uint32_t threads = 32) const {
    Jit jit(options);
    const auto compiled = jit.compile(*module_, kernel, shape(threads));
    EXPECT_TRUE(compiled.has_value()) << compiled.error().message;
    return compiled ? (*compiled)->accesses : AccessCounts{};
  }
  [[nodiscard]] std::filesystem::path only_entry() const {
    std::vector<std::filesystem::path> entries;
    for (const auto& item : std::filesystem::directory_iterator(directory_)) entries.push_back(item.path());
    EXPECT_EQ(entries.size(), 1u);
    return entries.front();
  }

  std::filesystem::path directory_;
  std::optional<ptx::Module> module_;
};

// 18 bytes from lane to lane: loads of one block share wide loads, where the processor has them.
TEST_F(JitTest, CountsHowLoadsWereCompiled) {
  Options chosen = options();
  chosen.cpu = "skylake-avx512";
  const AccessCounts with = accesses("blocks", chosen);
  chosen.passes.windows = false;
  const AccessCounts without = accesses("blocks", chosen);
  EXPECT_EQ(with.loads_windowed, 2u);
  EXPECT_EQ(with.loads_gathered, 0u);
  // Four lanes want 3 * 18 + 4 bytes of 64; both loads share the windows.
  EXPECT_EQ(with.window_loads, 8u);
  EXPECT_EQ(without.loads_windowed, 0u);
  EXPECT_EQ(without.loads_gathered, 2u);
  EXPECT_EQ(without.window_loads, 0u);
}

std::size_t occurrences(const std::string& text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++count;
  return count;
}

// How often `what` occurs in the code of a stage.
std::size_t occurrences(const ptx::Module& module, std::string_view kernel, Options options,
                        std::string_view what, std::string_view wanted_stage = "llvm") {
  std::size_t count = 0;
  options.cache_directory.clear();
  options.verify = true;
  options.dump = [&](std::string_view stage, const std::string& text) {
    if (stage == wanted_stage) count += occurrences(text, what);
  };
  LaunchShape shape;
  shape.ntid[0] = 64;
  Jit jit(options);
  const auto compiled = jit.compile(module, kernel, shape);
  EXPECT_TRUE(compiled.has_value()) << compiled.error().message;
  return count;
}

// Runs of 32 bytes, two bytes between them: windows that are put together of them need no permutes of words,
// which are cheap on some processors only.
TEST_F(JitTest, WindowsArePutTogetherOfPiecesWherePermutesOfWordsAreExpensive) {
  Options chosen = options();
  chosen.cpu = "sapphirerapids";
  EXPECT_EQ(occurrences(*module_, "quants", chosen, "load <32 x i8>"), 8u);
  EXPECT_EQ(occurrences(*module_, "quants", chosen, "load <64 x i8>"), 0u);
  chosen.cpu = "znver4";
  EXPECT_EQ(occurrences(*module_, "quants", chosen, "load <32 x i8>"), 0u);
  EXPECT_EQ(occurrences(*module_, "quants", chosen, "load <64 x i8>"), 6u);
}

// A lane to a block of 18 bytes, all 16 behind the scale: 32 pieces where 10 windows would do, and no
// gathers.
TEST_F(JitTest, ManyPiecesAreNotTakenForAReasonToGather) {
  for (const char* cpu : {"sapphirerapids", "znver4"}) {
    Options chosen = options();
    chosen.cpu = cpu;
    const AccessCounts counts = accesses("quads", chosen);
    EXPECT_EQ(counts.loads_windowed, 4u) << cpu;
    EXPECT_EQ(counts.loads_gathered, 0u) << cpu;
  }
}

// The instruction multiplies unsigned bytes by signed ones: signed bytes are made unsigned by 128, and what
// that is too much is taken off once.
TEST_F(JitTest, SumsOfSignedProductsAreCorrectedOnce) {
  Options chosen = options();
  chosen.cpu = "icelake-server";
  EXPECT_EQ(occurrences(*module_, "dots", chosen, "vpdpbusd.512(", "llvm-optimised"), 12u + 1u)
      << "two halves of three products and of what is too much, and a declaration";
  EXPECT_EQ(occurrences(*module_, "dots", chosen, " = sub <16 x i32>", "llvm-optimised"), 2u);
}

// Two loads of 128 bytes, 64 of which are the same; and what is prefetched for them, to both caches, before
// the barrier, behind which code may be entered anew.
TEST_F(JitTest, PrefetchesEachLineOnce) {
  Options chosen = options();
  EXPECT_EQ(occurrences(*module_, "ahead", chosen, "call void @llvm.prefetch"), 2u * 3u);
  chosen.passes.prefetch = false;
  EXPECT_EQ(occurrences(*module_, "ahead", chosen, "call void @llvm.prefetch"), 0u);
}

// Places that may be a row; what lanes loaded hardly ever makes one.
TEST_F(JitTest, LooksForRowsThatWereNotForeseen) {
  Options chosen = options();
  const AccessCounts with = accesses("divided", chosen);
  chosen.passes.rows = false;
  const AccessCounts without = accesses("divided", chosen);
  EXPECT_EQ(with.loads_gathered, 2u);
  EXPECT_EQ(with.rows_checked, 2u) << "a load and a store, but not the load by what was loaded";
  EXPECT_EQ(without.rows_checked, 0u);
}

// Three places that differ by constants, and one comparison with the end of shared memory.
TEST_F(JitTest, PlacesInSharedMemoryAreConfinedTogether) {
  EXPECT_EQ(occurrences(*module_, "table", options(), "call i32 @llvm.smin.i32"), 1u);
}

// Lanes a kilobyte apart: one wide load for each of them, but for the halfword.
TEST_F(JitTest, CountsLoadsThatWereTransposed) {
  Options chosen = options();
  const AccessCounts with = accesses("rows", chosen);
  chosen.passes.transposes = false;
  const AccessCounts without = accesses("rows", chosen);
  EXPECT_EQ(with.loads_transposed, 3u);
  EXPECT_EQ(with.loads_gathered, 1u);
  EXPECT_EQ(without.loads_transposed, 0u);
  EXPECT_EQ(without.loads_gathered, 4u);
}

// More vectors than there are registers. Where they lie on the stack they are aligned, whatever the caller's
// stack is: a vector across two cache lines costs twice as much each time.
TEST_F(JitTest, VectorsOnTheStackAreAligned) {
  constexpr int kVectors = 40;
  std::string ptx = R"(.version 8.4
.target sm_61
.address_size 64
.visible .entry many(.param .u64 p)
{
  .reg .b64 %q<2>;
  .reg .b32 %r<)" + std::to_string(kVectors + 1) +
                    R"(>;
  ld.param.u64 %q0, [p];
  mov.u32 %r0, %tid.x;
  mad.wide.u32 %q1, %r0, 4, %q0;
)";
  const auto at = [](int place) { return "[%q1+" + std::to_string(128 * place) + "]"; };
  for (int i = 1; i <= kVectors; ++i) ptx += "ld.global.u32 %r" + std::to_string(i) + ", " + at(i) + ";\n";
  for (int i = 1; i <= kVectors; ++i)
    ptx += "st.global.u32 " + at(i - 1) + ", %r" + std::to_string(i) + ";\n";
  const auto module = ptx::Module::parse(ptx + "ret;\n}\n", "many.ptx");
  ASSERT_TRUE(module.has_value());
  Jit jit({.cpu = "x86-64-v3"});
  const auto compiled = jit.compile(*module, "many", shape(32));
  ASSERT_TRUE(compiled.has_value()) << compiled.error().message;
  constexpr unsigned char kAlignStack[] = {0x48, 0x83, 0xE4, 0xE0};  // and rsp, -32
  const std::span<const unsigned char> prologue(reinterpret_cast<const unsigned char*>((*compiled)->entry),
                                                32);
  EXPECT_FALSE(std::ranges::search(prologue, kAlignStack).empty());
}

TEST_F(JitTest, CountsBarriersInFrontOfWhichThreadsLeave) {
  Options chosen = options();
  const AccessCounts with = accesses("meet_and_leave", chosen, 64);
  chosen.passes.leaving = false;
  const AccessCounts without = accesses("meet_and_leave", chosen, 64);
  EXPECT_EQ(with.barriers_skipped, 1u);
  EXPECT_EQ(without.barriers_skipped, 0u);
}

TEST_F(JitTest, CountsBranchesTakenToConverge) {
  Options chosen = options();
  const AccessCounts with = accesses("tail", chosen, 64);
  chosen.passes.convergence = false;
  const AccessCounts without = accesses("tail", chosen, 64);
  EXPECT_EQ(with.branches_converging, 1u);
  EXPECT_EQ(with.branches_parting, 0u);
  EXPECT_EQ(without.branches_converging, 0u);
  EXPECT_EQ(without.branches_parting, 1u);
}

TEST_F(JitTest, SecondProcessTakesCodeFromDisk) {
  {
    Jit first(options());
    ASSERT_TRUE(first.compile(*module_, "store", shape(64)).has_value());
    EXPECT_EQ(first.counters().compiled, 1u);
    EXPECT_EQ(first.counters().cache_hits, 0u);
  }
  Jit second(options());
  const auto kernel = second.compile(*module_, "store", shape(64));
  ASSERT_TRUE(kernel.has_value());
  EXPECT_TRUE((*kernel)->from_cache);
  EXPECT_EQ(second.counters().compiled, 0u);
}

TEST_F(JitTest, TellsWhatWarpsKeepAtBarriersWhereverTheCodeComesFrom) {
  for (const bool from_cache : {false, true}) {
    Jit jit(options());
    const auto none = jit.compile(*module_, "store", shape(64));
    const auto meets = jit.compile(*module_, "meet", shape(64));
    const auto alone = jit.compile(*module_, "meet", shape(32));
    ASSERT_TRUE(none && meets && alone);
    EXPECT_EQ((*meets)->from_cache, from_cache);
    EXPECT_EQ((*none)->frame_bytes, 0u);
    EXPECT_EQ((*alone)->frame_bytes, 0u);
    EXPECT_GE((*meets)->frame_bytes, sizeof(WarpFrame));
  }
}

TEST_F(JitTest, AnotherBlockShapeIsAnotherEntry) {
  Jit jit(options());
  ASSERT_TRUE(jit.compile(*module_, "store", shape(64)).has_value());
  ASSERT_TRUE(jit.compile(*module_, "store", shape(96)).has_value());
  EXPECT_EQ(jit.counters().compiled, 2u);
}

// Code whose addresses are not confined may not come to anybody who did not ask for it.
TEST_F(JitTest, UnconfinedCodeIsNeitherKeptNorTakenFromDisk) {
  const auto clamps = [&](bool unconfined) {
    Options asked = options();
    asked.unconfined = unconfined;
    std::size_t found = 0;
    asked.dump = [&](std::string_view stage, const std::string& text) {
      if (stage == "llvm") found += occurrences(text, "call i64 @llvm.umin");
    };
    Jit jit(asked);
    EXPECT_TRUE(jit.compile(*module_, "store", shape(64)).has_value());
    EXPECT_EQ(jit.counters().compiled, 1u);
    return found;
  };
  EXPECT_EQ(clamps(true), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
  EXPECT_GT(clamps(false), 0u);
  EXPECT_EQ(clamps(true), 0u);
}

TEST_F(JitTest, DamagedEntryIsCompiledAnew) {
  ASSERT_TRUE(Jit(options()).compile(*module_, "store", shape(64)).has_value());
  const auto path = only_entry();
  const auto size = std::filesystem::file_size(path);
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size / 2));
    const char other = static_cast<char>(file.peek() ^ 0x55);
    file.seekp(static_cast<std::streamoff>(size / 2));
    file.put(other);
  }
  Jit damaged(options());
  ASSERT_TRUE(damaged.compile(*module_, "store", shape(64)).has_value());
  EXPECT_EQ(damaged.counters().compiled, 1u);
  std::filesystem::resize_file(path, size / 3);
  Jit truncated(options());
  ASSERT_TRUE(truncated.compile(*module_, "store", shape(64)).has_value());
  EXPECT_EQ(truncated.counters().compiled, 1u);
}

TEST_F(JitTest, RefusesWhatCannotBeLaunched) {
  Jit jit(options());
  EXPECT_EQ(jit.compile(*module_, "missing", shape(64)).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(jit.compile(*module_, "store", shape(0)).error().kind, ErrorKind::kLaunchShape);
  EXPECT_EQ(jit.compile(*module_, "store", shape(1025)).error().kind, ErrorKind::kLaunchShape);
  EXPECT_EQ(jit.counters().failures, 3u);
}

}  // namespace
}  // namespace vgpu::software::jit
