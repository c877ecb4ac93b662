// Loads whose lanes differ by constants, in every way the code generator may take: with each step on and off,
// with all lanes and with part of a warp, at the very end of an allocation, and with indices that wrap
// around. What every thread loaded is compared with the oracle's.
#include <gtest/gtest.h>

#include <stdlib.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

using software::jit::Passes;

struct PassCase {
  const char* name;
  Passes passes;
};

Passes without(bool Passes::* pass) {
  Passes passes;
  passes.*pass = false;
  return passes;
}

const PassCase kPassCases[] = {
    {"all", {}},
    {"none", Passes::none()},
    {"no_guards", without(&Passes::guards)},
    {"no_windows", without(&Passes::windows)},
    {"no_transposes", without(&Passes::transposes)},
    {"no_convergence", without(&Passes::convergence)},
    {"no_merging", without(&Passes::merging)},
    {"no_splitting", without(&Passes::splitting)},
    {"no_prefetch", without(&Passes::prefetch)},
    {"no_rows", without(&Passes::rows)},
};

constexpr const char* kHead =
    ".version 8.4\n.target sm_61\n.address_size 64\n"
    ".visible .entry k(.param .u64 out, .param .u64 in, .param .u32 n, .param .u32 stride)\n{\n"
    " .reg .b32 %r<40>; .reg .b16 %h<12>; .reg .b64 %q<20>; .reg .pred %p<8>; .reg .f32 %f<8>;\n"
    " ld.param.u64 %q0, [out];\n ld.param.u64 %q1, [in];\n ld.param.u32 %r0, [n];\n ld.param.u32 %r1, "
    "[stride];\n"
    " mov.u32 %r2, %tid.x;\n mov.u32 %r3, %ctaid.x;\n mov.u32 %r4, %ntid.x;\n mad.lo.u32 %r5, %r3, %r4, "
    "%r2;\n"
    " mad.wide.u32 %q2, %r5, 4, %q0;\n mov.u32 %r20, 0;\n";

// Rows of blocks of 18 bytes: a scale and 16 bytes, four lanes to a block, as quantised weights lie.
const std::string kBlocks18 = std::string(kHead) +
                              " shr.u32 %r6, %r2, 2;\n and.b32 %r7, %r2, 3;\n"
                              " mul.lo.u32 %r8, %r3, %r1;\n"
                              "$loop:\n setp.ge.u32 %p0, %r6, %r0;\n @%p0 bra $done;\n"
                              " add.u32 %r9, %r8, %r6;\n cvt.s64.s32 %q3, %r9;\n mul.lo.s64 %q4, %q3, 18;\n"
                              " add.s64 %q5, %q1, %q4;\n ld.global.nc.u16 %h0, [%q5];\n"
                              " mul.wide.u32 %q6, %r7, 4;\n add.s64 %q7, %q5, %q6;\n"
                              " ld.global.nc.u16 %h1, [%q7+2];\n ld.global.nc.u16 %h2, [%q7+4];\n"
                              " cvt.u32.u16 %r10, %h1;\n cvt.u32.u16 %r11, %h2;\n shl.b32 %r12, %r11, 16;\n"
                              " or.b32 %r13, %r10, %r12;\n cvt.u32.u16 %r14, %h0;\n"
                              " mad.lo.u32 %r20, %r13, 31, %r20;\n xor.b32 %r20, %r20, %r14;\n"
                              " add.u32 %r6, %r6, 16;\n bra $loop;\n"
                              "$done:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

// Bytes, words, pairs and quadruples at odd distances, some lanes at the same place.
const std::string kWidths =
    std::string(kHead) +
    " setp.ge.u32 %p0, %r5, %r0;\n @%p0 bra $end;\n"
    " mul.lo.u32 %r6, %r2, 3;\n mul.wide.u32 %q3, %r6, 1;\n add.s64 %q4, %q1, %q3;\n"
    " ld.global.u8 %r7, [%q4+1];\n ld.global.s8 %r8, [%q4+2];\n"
    " mul.wide.u32 %q5, %r6, 4;\n add.s64 %q6, %q1, %q5;\n"
    " ld.global.u32 %r9, [%q6];\n ld.global.nc.u32 %r10, [%q6+8];\n"
    " mul.wide.u32 %q7, %r6, 8;\n add.s64 %q8, %q1, %q7;\n"
    " ld.global.v2.u32 {%r11, %r12}, [%q8];\n ld.global.u64 %q9, [%q8+8];\n"
    " cvt.u32.u64 %r13, %q9;\n shr.u64 %q10, %q9, 32;\n cvt.u32.u64 %r14, %q10;\n"
    " mul.wide.u32 %q11, %r6, 16;\n add.s64 %q12, %q1, %q11;\n"
    " ld.global.v4.u32 {%r15, %r16, %r17, %r18}, [%q12];\n"
    " shr.u32 %r21, %r2, 3;\n mul.wide.u32 %q13, %r21, 20;\n add.s64 %q14, %q1, %q13;\n"
    " ld.global.u32 %r22, [%q14+4];\n"
    " mad.lo.u32 %r20, %r7, 3, %r8;\n mad.lo.u32 %r20, %r20, 5, %r9;\n"
    " mad.lo.u32 %r20, %r20, 7, %r10;\n mad.lo.u32 %r20, %r20, 9, %r11;\n"
    " mad.lo.u32 %r20, %r20, 11, %r12;\n mad.lo.u32 %r20, %r20, 13, %r13;\n"
    " mad.lo.u32 %r20, %r20, 15, %r14;\n mad.lo.u32 %r20, %r20, 17, %r15;\n"
    " mad.lo.u32 %r20, %r20, 19, %r16;\n mad.lo.u32 %r20, %r20, 21, %r17;\n"
    " mad.lo.u32 %r20, %r20, 23, %r18;\n mad.lo.u32 %r20, %r20, 25, %r22;\n"
    "$end:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

// Rows of blocks of 104 bytes: two words each of two lanes, side by side, and of four lanes; so windows are
// put together of pieces.
const std::string kRuns =
    std::string(kHead) +
    " setp.ge.u32 %p0, %r5, %r0;\n @%p0 bra $end;\n"
    " shr.u32 %r6, %r2, 1;\n and.b32 %r7, %r2, 1;\n mul.wide.u32 %q3, %r6, 104;\n mul.wide.u32 %q4, %r7, 8;\n"
    " add.s64 %q5, %q1, %q3;\n add.s64 %q5, %q5, %q4;\n"
    " ld.global.nc.u32 %r8, [%q5];\n ld.global.nc.u32 %r9, [%q5+4];\n"
    " shr.u32 %r10, %r2, 2;\n and.b32 %r11, %r2, 3;\n mul.wide.u32 %q6, %r10, 104;\n mul.wide.u32 %q7, %r11, "
    "8;\n"
    " add.s64 %q8, %q1, %q6;\n add.s64 %q8, %q8, %q7;\n"
    " ld.global.nc.u32 %r12, [%q8+32];\n ld.global.nc.u32 %r13, [%q8+36];\n"
    " mad.lo.u32 %r20, %r8, 3, %r9;\n mad.lo.u32 %r20, %r20, 5, %r12;\n mad.lo.u32 %r20, %r20, 7, %r13;\n"
    "$end:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

// A load, a store to the same memory, and the load again: what the store changed must be seen.
const std::string kStoreBetween =
    std::string(kHead) +
    " mul.wide.u32 %q3, %r2, 12;\n add.s64 %q4, %q1, %q3;\n ld.global.u32 %r6, [%q4];\n"
    " add.u32 %r7, %r6, %r5;\n st.global.u32 [%q4+4], %r7;\n ld.global.u32 %r8, [%q4+4];\n"
    " ld.global.u32 %r9, [%q4];\n mad.lo.u32 %r20, %r8, 3, %r9;\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

// Places that are divided by a parameter: rows if it is large, and pieces of rows if it is not.
const std::string kDivided =
    std::string(kHead) +
    " div.u32 %r6, %r5, %r0;\n rem.u32 %r7, %r5, %r0;\n mad.lo.u32 %r8, %r6, %r1, %r7;\n"
    " mul.wide.u32 %q3, %r8, 8;\n add.s64 %q4, %q1, %q3;\n ld.global.v2.u32 {%r9, %r10}, [%q4];\n"
    " ld.global.u16 %h0, [%q4+2];\n cvt.u32.u16 %r11, %h0;\n add.u32 %r12, %r10, %r5;\n"
    " st.global.v2.u32 [%q4], {%r12, %r9};\n ld.global.u64 %q5, [%q4];\n cvt.u32.u64 %r13, %q5;\n"
    " mad.lo.u32 %r20, %r9, 3, %r13;\n mad.lo.u32 %r20, %r20, 5, %r11;\n st.global.u32 [%q2], %r20;\n "
    "ret;\n}\n";

// The index wraps around at 32 bits in the middle of a warp: lanes 16 and up load from the front.
const std::string kWraps =
    std::string(kHead) +
    " add.u32 %r6, %r2, %r1;\n mul.wide.u32 %q3, %r6, 4;\n"
    " mul.wide.u32 %q5, %r1, 4;\n sub.s64 %q4, %q1, %q5;\n"
    " setp.lt.u32 %p0, %r6, %r1;\n mov.b64 %q6, 0x400000000;\n selp.b64 %q7, %q6, 0, %p0;\n"
    " add.s64 %q4, %q4, %q3;\n add.s64 %q4, %q4, %q7;\n"
    " ld.global.u32 %r20, [%q4];\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

// The same in a loop and behind a store and a barrier, where a warp cannot be started anew.
const std::string kWrapsLate =
    std::string(kHead) +
    " st.global.u32 [%q2], 1;\n bar.sync 0;\n mov.u32 %r7, 0;\n mul.wide.u32 %q5, %r1, 4;\n"
    " sub.s64 %q9, %q1, %q5;\n mov.b64 %q6, 0x400000000;\n"
    "$again:\n add.u32 %r8, %r2, %r7;\n add.u32 %r6, %r8, %r1;\n mul.wide.u32 %q3, %r6, 4;\n"
    " setp.lt.u32 %p0, %r6, %r1;\n selp.b64 %q7, %q6, 0, %p0;\n"
    " add.s64 %q4, %q9, %q3;\n add.s64 %q4, %q4, %q7;\n"
    " ld.global.u32 %r9, [%q4];\n mad.lo.u32 %r20, %r20, 31, %r9;\n st.global.u32 [%q2], %r20;\n"
    " add.u32 %r7, %r7, 32;\n setp.lt.u32 %p1, %r7, %r0;\n @%p1 bra $again;\n ret;\n}\n";

// Behind the end of the data, zeros of the thread's own are read in its place, by a generic address.
const std::string kZerosBehind =
    std::string(kHead).replace(std::string(kHead).find(" .reg .b32"), 0,
                               " .local .align 16 .b8 zeros[16];\n") +
    " mov.u64 %q9, zeros;\n cvta.local.u64 %q10, %q9;\n st.local.v2.u32 [zeros], {%r20, %r20};\n mov.u32 "
    "%r6, %r2;\n"
    "$again:\n mov.u64 %q4, %q10;\n setp.ge.u32 %p0, %r6, %r0;\n @%p0 bra $chosen;\n"
    " mul.wide.u32 %q3, %r6, 8;\n add.s64 %q4, %q1, %q3;\n"
    "$chosen:\n ld.v2.u32 {%r8, %r9}, [%q4];\n mad.lo.u32 %r20, %r20, 31, %r8;\n mad.lo.u32 %r20, %r20, 7, "
    "%r9;\n"
    " add.u32 %r6, %r6, %r4;\n setp.lt.u32 %p1, %r6, %r1;\n @%p1 bra $again;\n"
    " st.global.u32 [%q2], %r20;\n ret;\n}\n";

// Lanes leave a loop together or not, and go different ways in it, by their indices alone; what they have
// then (a count and a pointer that were the same or side by side, a sum, a barrier to come, another loop)
// must be there.
const std::string kParts =
    std::string(kHead) +
    " mov.u32 %r6, %r2;\n mov.u32 %r7, 0;\n mul.wide.u32 %q3, %r2, 4;\n add.s64 %q4, %q1, %q3;\n"
    " mul.wide.u32 %q5, %r4, 4;\n"
    "$loop:\n setp.ge.u32 %p0, %r6, %r0;\n @%p0 bra $done;\n"
    " ld.global.u32 %r8, [%q4];\n mad.lo.u32 %r20, %r20, 31, %r8;\n add.u32 %r7, %r7, 1;\n"
    " setp.lt.u32 %p1, %r6, %r1;\n @%p1 bra $skip;\n xor.b32 %r20, %r20, %r7;\n"
    "$skip:\n add.u32 %r6, %r6, %r4;\n add.s64 %q4, %q4, %q5;\n bra $loop;\n"
    "$done:\n bar.sync 0;\n mad.lo.u32 %r20, %r20, 7, %r7;\n sub.s64 %q6, %q4, %q1;\n cvt.u32.u64 %r10, "
    "%q6;\n"
    " mad.lo.u32 %r20, %r20, 5, %r10;\n setp.ge.u32 %p2, %r2, %r1;\n @%p2 bra $end;\n mov.u32 %r11, 0;\n"
    "$more:\n add.u32 %r20, %r20, %r11;\n add.u32 %r11, %r11, 3;\n setp.lt.u32 %p3, %r11, %r6;\n @%p3 bra "
    "$more;\n"
    " mad.lo.u32 %r20, %r20, 3, %r11;\n"
    "$end:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";

struct Launch {
  const char* name;
  const std::string* program;
  std::uint32_t grid, block, n, stride;
  std::size_t input_bytes;  // exactly what the threads read
};

const Launch kLaunches[] = {
    {"blocks_even", &kBlocks18, 3, 64, 32, 32, 3u * 32 * 18},
    {"blocks_tail", &kBlocks18, 3, 64, 18, 18, 3u * 18 * 18},
    {"blocks_few", &kBlocks18, 2, 64, 1, 1, 2u * 18},
    {"blocks_partial_warp", &kBlocks18, 2, 72, 21, 21, 2u * 21 * 18},
    {"blocks_long", &kBlocks18, 1, 128, 61, 61, 61u * 18},
    {"blocks_wide_rows", &kBlocks18, 2, 32, 7, 300, 307u * 18},
    {"widths_full", &kWidths, 1, 32, 32, 0, 31u * 48 + 16},
    {"widths_tail", &kWidths, 1, 64, 43, 0, 42u * 48 + 16},
    {"widths_one", &kWidths, 1, 32, 1, 0, 32},
    {"runs_full", &kRuns, 1, 64, 64, 0, 31u * 104 + 16},
    {"runs_tail", &kRuns, 1, 64, 43, 0, 21u * 104 + 8},
    {"runs_partial_warp", &kRuns, 1, 40, 40, 0, 19u * 104 + 16},
    {"runs_one", &kRuns, 1, 32, 1, 0, 40},
    {"store_between", &kStoreBetween, 1, 64, 0, 0, 63u * 12 + 8},
    {"divided_rows", &kDivided, 2, 64, 64, 64, 128u * 8},
    {"divided_pieces_of_rows", &kDivided, 2, 64, 24, 27, 143u * 8},
    {"divided_one_place", &kDivided, 1, 32, 32, 0, 32u * 8},
    {"divided_partial_warp", &kDivided, 1, 40, 40, 40, 40u * 8},
    {"zeros_behind_all", &kZerosBehind, 1, 64, 128, 200, 128u * 8},
    {"zeros_behind_some", &kZerosBehind, 1, 64, 75, 200, 75u * 8},
    {"parts_nowhere", &kParts, 2, 64, 128, 64, 128u * 4},
    {"parts_in_the_last_round", &kParts, 2, 64, 100, 32, 100u * 4},
    {"parts_at_once", &kParts, 1, 64, 1, 1, 4},
    {"parts_by_the_second_bound", &kParts, 1, 64, 0, 1000, 4},
    {"parts_in_a_later_round", &kParts, 2, 72, 189, 150, 189u * 4},
    {"wraps", &kWraps, 1, 64, 0, 0xFFFF'FFF0u, 64u * 4},
    {"wraps_late", &kWrapsLate, 1, 64, 96, 0xFFFF'FFD0u, 128u * 4},
    {"no_wrap_late", &kWrapsLate, 2, 64, 96, 0x7FFF'0000u, 128u * 4},
    {"no_wrap", &kWraps, 1, 64, 0, 0x7FFF'0000u, 64u * 4},
};

std::vector<std::uint32_t> outcome(KernelRunner& runner, const Launch& launch, std::uint64_t page_end) {
  EXPECT_EQ(runner.load(*launch.program, "lanes.ptx"), "");
  std::vector<std::uint32_t> words(std::size_t{launch.grid} * launch.block, 0xA5A5A5A5);
  Random random(launch.input_bytes);
  std::vector<std::byte> input(launch.input_bytes);
  for (std::byte& byte : input) byte = static_cast<std::byte>(random.integer(0, 255));
  // The input ends where its memory ends, so that a byte too many would fault.
  const std::size_t room = (launch.input_bytes + page_end - 1) / page_end * page_end;
  const std::uint64_t memory = runner.allocate(room);
  const std::size_t spare = room - launch.input_bytes;
  const std::uint64_t in = memory + spare;
  runner.write(in, input);
  const std::uint64_t out = runner.allocate(words.size() * 4);
  runner.write(out, std::as_bytes(std::span(words)));
  LaunchRequest request;
  request.kernel = "k";
  request.grid = {launch.grid, 1, 1};
  request.block = {launch.block, 1, 1};
  request.params.resize(24);
  std::memcpy(request.params.data(), &out, 8);
  std::memcpy(request.params.data() + 8, &in, 8);
  std::memcpy(request.params.data() + 16, &launch.n, 4);
  std::memcpy(request.params.data() + 20, &launch.stride, 4);
  const LaunchStatus status = runner.launch(request);
  EXPECT_EQ(status.status, Status::kDone) << status.message;
  runner.read(out, std::as_writable_bytes(std::span(words)));
  return words;
}

class LaneAccess : public ::testing::TestWithParam<std::tuple<PassCase, Launch>> {};

TEST_P(LaneAccess, GivesWhatTheOracleGives) {
  const auto& [pass_case, launch] = GetParam();
  auto backend =
      software::make_backend({.memory_bytes = std::uint64_t{1} << 26, .threads = 1},
                             software::make_jit_compiler({.passes = pass_case.passes, .verify = true}));
  ASSERT_TRUE(backend) << backend.error().reason;
  OracleRunner oracle;
  DeviceRunner compiled(**backend);
  const auto expected = outcome(oracle, launch, 4096);
  const auto got = outcome(compiled, launch, std::uint64_t{2} << 20);
  EXPECT_EQ(got, expected);
}

const Launch& launch_named(std::string_view name) {
  return *std::ranges::find(kLaunches, name,
                            [](const Launch& launch) { return std::string_view(launch.name); });
}

// Warps whose lanes do not agree where the code takes them to agree are counted: they run slower.
TEST(Convergence, WarpsThatGoOnMaskedAreCounted) {
  const std::string program = std::string(kHead) +
                              " setp.ge.u32 %p0, %r2, %r0;\n @%p0 bra $behind;\n add.u32 %r20, %r20, %r2;\n"
                              "$behind:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";
  const auto masked_warps = [&](std::uint32_t bound) {
    auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 26, .threads = 2},
                                          software::make_jit_compiler({}));
    EXPECT_TRUE(backend);
    DeviceRunner device(**backend);
    (void)outcome(device, {"bound", &program, 2, 64, bound, 0, 4}, std::uint64_t{2} << 20);
    const auto report = device.context().kernel_figures(0);
    EXPECT_TRUE(report);
    const auto at = report->counts.find("masked_warps ");
    EXPECT_NE(at, std::string::npos) << report->counts;
    return std::strtoull(report->counts.c_str() + at + std::strlen("masked_warps "), nullptr, 10);
  };
  EXPECT_EQ(masked_warps(32), 0U);
  EXPECT_EQ(masked_warps(40), 2U) << "the second warp of each of two blocks";
}

// The copy without guards is there for the warps that need it, and is made for no others.
TEST(GenericCopy, IsCompiledWhenAGuardFailsAndThenKept) {
  char folder[] = "/tmp/vgpu-generic-copy-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const auto run = [&](std::string_view name) {
    auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 26, .threads = 2},
                                          software::make_jit_compiler({.cache_directory = folder}));
    EXPECT_TRUE(backend);
    OracleRunner oracle;
    DeviceRunner device(**backend);
    const auto expected = outcome(oracle, launch_named(name), 4096);
    EXPECT_EQ(outcome(device, launch_named(name), std::uint64_t{2} << 20), expected) << name;
    const auto report = device.context().kernel_figures(0);
    EXPECT_TRUE(report);
    return std::pair(report->figures.generic_warps, (*backend)->counts());
  };
  const auto [none, first] = run("no_wrap");
  EXPECT_EQ(none, 0U);
  EXPECT_EQ(first.kernels_compiled, 1U);
  const auto [wrapped, second] = run("wraps");
  EXPECT_EQ(wrapped, 1U) << "the index wraps around in the first of two warps";
  EXPECT_EQ(second.kernels_from_cache, 1U);
  EXPECT_EQ(second.kernels_compiled, 1U) << "the generic copy";
  const auto [again, third] = run("wraps");
  EXPECT_EQ(again, 1U);
  EXPECT_EQ(third.kernels_from_cache, 2U);
  EXPECT_EQ(third.kernels_compiled, 0U);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LaneAccess,
                         ::testing::Combine(::testing::ValuesIn(kPassCases), ::testing::ValuesIn(kLaunches)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param).name) + "_" +
                                  std::get<1>(instance.param).name;
                         });

}  // namespace
}  // namespace vgpu::testing::kernels
