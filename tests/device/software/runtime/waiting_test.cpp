// What a warp has behind a barrier is what it had in front of it: values of every kind, in loops, in every
// form of a kernel. What threads store is compared with the oracle's.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"
#include "tests/device/software/runtime/words_stored.h"

namespace vgpu::testing::kernels {
namespace {

using software::jit::Passes;

// r2: the thread in its block, r5: in the grid; q2: where its word goes; r7: address of its shared word, r8:
// of another warp's.
std::string kernel(const std::string& declarations, const std::string& body) {
  return ".version 8.4\n.target sm_61\n.address_size 64\n.visible .entry k(.param .u64 out)\n{\n"
         " .shared .align 4 .b8 words[4096];\n .reg .b32 %r<40>; .reg .b64 %q<20>; .reg .pred %p<8>;\n"
         " .reg .f32 %f<8>; .reg .f64 %d<48>; .reg .b16 %h<4>;\n" +
         declarations +
         " ld.param.u64 %q0, [out];\n mov.u32 %r2, %tid.x;\n mov.u32 %r3, %ctaid.x;\n mov.u32 %r4, %ntid.x;\n"
         " mad.lo.u32 %r5, %r3, %r4, %r2;\n mul.wide.u32 %q1, %r5, 4;\n add.s64 %q2, %q0, %q1;\n"
         " mov.u32 %r6, words;\n mad.lo.u32 %r7, %r2, 4, %r6;\n add.u32 %r8, %r2, 37;\n"
         " rem.u32 %r8, %r8, %r4;\n mad.lo.u32 %r8, %r8, 4, %r6;\n" +
         body + " ret;\n}\n";
}

// Five rounds: each thread gives a word to a thread of another warp, and mixes what it gets with what it
// kept.
std::string every_kind(bool with_local_memory) {
  const std::string store_local = with_local_memory ? " and.b32 %r20, %r15, 3;\n shl.b32 %r20, %r20, 2;\n"
                                                      " mov.u32 %r21, own;\n add.u32 %r20, %r20, %r21;\n"
                                                      " st.local.u32 [%r20], %r10;\n"
                                                    : "";
  const std::string load_local =
      with_local_memory ? " ld.local.u32 %r22, [%r20];\n add.u32 %r10, %r10, %r22;\n" : "";
  return kernel(with_local_memory ? " .local .align 4 .b8 own[16];\n" : "",
                " mov.u32 %r10, %r5;\n mov.u32 %r15, 0;\n mov.u32 %r16, %r3;\n cvt.rn.f32.u32 %f1, %r2;\n"
                " cvt.rn.f64.u32 %d1, %r5;\n cvt.u16.u32 %h1, %r2;\n cvt.u64.u32 %q5, %r2;\n"
                " setp.eq.u32 %p6, %r3, 1;\n"
                "$again:\n and.b32 %r11, %r10, 1;\n setp.eq.u32 %p1, %r11, 1;\n" +
                    store_local +
                    " st.shared.u32 [%r7], %r10;\n bar.sync 0;\n ld.shared.u32 %r12, [%r8];\n"
                    " mad.lo.u32 %r10, %r12, 3, %r15;\n @%p1 xor.b32 %r10, %r10, 21845;\n"
                    " @%p6 add.u32 %r10, %r10, %r16;\n add.u32 %r16, %r16, 3;\n" +
                    load_local +
                    " fma.rn.f32 %f1, %f1, 0f3FC00000, 0f3F800000;\n add.f64 %d1, %d1, %d1;\n"
                    " cvt.u64.u32 %q6, %r12;\n mad.lo.s64 %q5, %q5, 5, %q6;\n add.u16 %h1, %h1, 7;\n"
                    " bar.red.popc.u32 %r13, 1, %p1;\n add.u32 %r10, %r10, %r13;\n"
                    " add.u32 %r15, %r15, 1;\n setp.lt.u32 %p0, %r15, 5;\n @%p0 bra $again;\n"
                    " mov.b32 %r17, %f1;\n xor.b32 %r10, %r10, %r17;\n cvt.rzi.u32.f64 %r18, %d1;\n"
                    " add.u32 %r10, %r10, %r18;\n shr.u64 %q5, %q5, 3;\n cvt.u32.u64 %r19, %q5;\n"
                    " xor.b32 %r10, %r10, %r19;\n cvt.u32.u16 %r19, %h1;\n add.u32 %r10, %r10, %r19;\n"
                    " st.global.u32 [%q2], %r10;\n");
}

// Lanes part, so that the warp goes on in the masked form, in rounds of their own number; they meet, and come
// to a barrier that a branch leads to which goes one way for each warp, though nothing shows that.
const std::string kParted =
    kernel("", R"( mov.u32 %r10, %r5; mov.u32 %r15, 0; and.b32 %r16, %r2, 7; shr.u32 %r17, %r2, 5;
 st.shared.u32 [%r7], %r17;
 bar.sync 0;
 ld.shared.u32 %r18, [%r7];
$again:
 bar.sync 2;
 setp.lt.u32 %p0, %r16, %r15; @%p0 bra $skip;
 mad.lo.u32 %r10, %r10, 5, %r16;
$skip:
 and.b32 %r19, %r18, 1; setp.eq.u32 %p1, %r19, 1; @%p1 bra $odd;
 st.shared.u32 [%r7], %r10;
 bar.sync 0;
 xor.b32 %r10, %r10, 99;
 bra $met;
$odd:
 add.u32 %r10, %r10, %r15;
 st.shared.u32 [%r7], %r10;
 bar.sync 0;
$met:
 ld.shared.u32 %r12, [%r8];
 add.u32 %r10, %r10, %r12;
 add.u32 %r15, %r15, 1; setp.lt.u32 %p2, %r15, 8; @%p2 bra $again;
 st.global.u32 [%q2], %r10;
)");

// The index wraps around in the first warp of a block (words hold 0xA5A5A5A5 at first), which the code takes
// not to happen: that warp runs by the generic copy, and meets the others in five rounds.
const std::string kWraps =
    kernel("", R"( ld.global.u32 %r10, [%q2]; mov.u32 %r14, 0; shfl.sync.idx.b32 %r10, %r10, 0, 31, -1;
 add.u32 %r10, %r10, 1515870795;
 add.u32 %r11, %r2, %r10; mul.wide.u32 %q5, %r11, 4; mul.wide.u32 %q6, %r10, 4; sub.s64 %q7, %q0, %q6;
 setp.lt.u32 %p0, %r11, %r10; mov.b64 %q8, 0x400000000; selp.b64 %q9, %q8, 0, %p0;
 add.s64 %q7, %q7, %q5; add.s64 %q7, %q7, %q9;
 ld.global.u32 %r12, [%q7]; xor.b32 %r12, %r12, %r5; cvt.rn.f64.u32 %d0, %r2; mov.u32 %r15, 0;
$again:
 st.shared.u32 [%r7], %r12;
 bar.sync 0;
 ld.shared.u32 %r13, [%r8]; mad.lo.u32 %r12, %r13, 7, %r12; add.f64 %d0, %d0, %d0;
 bar.sync 0;
 add.u32 %r15, %r15, 1; setp.lt.u32 %p1, %r15, 5; @%p1 bra $again;
 cvt.rzi.u32.f64 %r14, %d0; add.u32 %r12, %r12, %r14;
 bar.sync 0;
 st.global.u32 [%q2], %r12;
)");

// Forty doubles each, 10 KiB for a warp, over two barriers.
std::string much_to_keep() {
  std::string body = " cvt.rn.f64.u32 %d40, %r5;\n";
  const auto each = [&](const auto& line) {
    for (int i = 0; i < 40; ++i) body += line("%d" + std::to_string(i), std::to_string(i + 3));
  };
  each([](const std::string& d, const std::string& n) {
    return " cvt.rn.f64.u32 " + d + ", " + n + ";\n mul.f64 " + d + ", " + d + ", %d40;\n";
  });
  body +=
      " st.shared.u32 [%r7], %r5;\n bar.sync 0;\n ld.shared.u32 %r9, [%r8];\n cvt.rn.f64.u32 %d41, %r9;\n";
  each([](const std::string& d, const std::string&) { return " add.f64 " + d + ", " + d + ", %d41;\n"; });
  body += " bar.sync 0;\n mov.f64 %d42, 0d0000000000000000;\n";
  each([](const std::string& d, const std::string& n) {
    return " cvt.rn.f64.u32 %d43, " + n + ";\n fma.rn.f64 %d42, " + d + ", %d43, %d42;\n";
  });
  return kernel("", body + " cvt.rzi.u32.f64 %r10, %d42;\n st.global.u32 [%q2], %r10;\n");
}

// All but some threads of the second warp and those of the first only end behind the last barrier.
const std::string kMostLeave = kernel("", R"( st.shared.u32 [%r7], %r5;
 bar.sync 0;
 ld.shared.u32 %r10, [%r8];
 bar.sync 0;
 st.shared.u32 [%r7], %r10;
 bar.sync 0;
 setp.ge.u32 %p0, %r2, 40; @%p0 ret;
 mov.u32 %r11, 0; mov.u32 %r12, 0;
$sum:
 mad.lo.u32 %r13, %r12, 4, %r6; ld.shared.u32 %r14, [%r13]; mad.lo.u32 %r11, %r11, 3, %r14;
 add.u32 %r12, %r12, 1; setp.lt.u32 %p1, %r12, %r4; @%p1 bra $sum;
 st.global.u32 [%q2], %r11;
)");

// The upper half of the warps makes words and does not wait; the lower half waits for them, eight times.
const std::string kMakersAndTakers = kernel("", R"( shr.u32 %r9, %r4, 1; mov.u32 %r15, 0; mov.u32 %r12, %r5;
 setp.ge.u32 %p0, %r2, %r9; @%p0 bra $make;
$take:
 bar.sync 1, %r4;
 mad.lo.u32 %r10, %r9, 4, %r7; ld.shared.u32 %r11, [%r10]; mad.lo.u32 %r12, %r12, 3, %r11;
 bar.arrive 2, %r4;
 add.u32 %r15, %r15, 1; setp.lt.u32 %p1, %r15, 8; @%p1 bra $take;
 bra $end;
$make:
 mad.lo.u32 %r12, %r12, 5, %r15; st.shared.u32 [%r7], %r12;
 bar.arrive 1, %r4;
 bar.sync 2, %r4;
 add.u32 %r15, %r15, 1; setp.lt.u32 %p1, %r15, 8; @%p1 bra $make;
$end:
 st.global.u32 [%q2], %r12;
)");

struct Program {
  const char* name;
  std::string text;
};
const Program kPrograms[] = {
    {"EveryKind", every_kind(true)},
    {"EveryKindInRegisters", every_kind(false)},
    {"Parted", kParted},
    {"Wraps", kWraps},
    {"MuchToKeep", much_to_keep()},
    {"MostLeave", kMostLeave},
    {"MakersAndTakers", kMakersAndTakers},
};

class Waiting : public ::testing::TestWithParam<Program> {};

std::unique_ptr<device::Backend> backend_with(Passes passes, bool coarsens = false) {
  auto backend = software::make_backend(
      {.memory_bytes = std::uint64_t{1} << 26, .threads = 1, .always_coarsen = coarsens},
      software::make_jit_compiler({.passes = passes, .verify = true}));
  EXPECT_TRUE(backend) << backend.error().reason;
  return std::move(*backend);
}

void expect_as_oracle(device::Backend& backend, const Program& program, Dim grid, std::uint32_t threads) {
  OracleRunner oracle;
  DeviceRunner runner(backend);
  ASSERT_EQ(oracle.load(program.text, program.name), "");
  ASSERT_EQ(runner.load(program.text, program.name), "");
  const std::size_t count = std::size_t{grid.x} * threads;
  const auto expected = words_stored(oracle, "k", grid, {threads, 1, 1}, count);
  EXPECT_EQ(words_stored(runner, "k", grid, {threads, 1, 1}, count), expected) << threads << " threads";
}

TEST_P(Waiting, GivesWhatTheOracleGives) {
  for (const Passes& passes : {Passes(), Passes::none()}) {
    const auto backend = backend_with(passes);
    for (const std::uint32_t threads : {64U, 256U, 1024U})
      expect_as_oracle(*backend, GetParam(), {3, 1, 1}, threads);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Waiting, ::testing::ValuesIn(kPrograms),
                         [](const auto& instance) { return std::string(instance.param.name); });

std::string report_of(device::Backend& backend, const Program& program, std::uint64_t& generic_warps) {
  DeviceRunner runner(backend);
  EXPECT_EQ(runner.load(program.text, program.name), "");
  (void)words_stored(runner, "k", {8, 1, 1}, {128, 1, 1}, 1024);
  const auto report = runner.context().kernel_figures(0);
  EXPECT_TRUE(report);
  generic_warps = report->figures.generic_warps;
  return report->counts;
}

// That the tests above come where they are meant to come.
TEST(WaitingForms, WarpsWaitInTheMaskedFormInTheGenericCopyAndForSeveralBlocks) {
  std::uint64_t generic = 0;
  const std::string parted = report_of(*backend_with({}), kPrograms[2], generic);
  EXPECT_NE(parted.find("masked_warps 32\n"), std::string::npos) << parted;
  EXPECT_EQ(generic, 0U);
  (void)report_of(*backend_with({}), kPrograms[3], generic);
  EXPECT_EQ(generic, 8U);
  const auto coarse = backend_with({}, true);
  const std::string report = report_of(*coarse, kPrograms[5], generic);
  EXPECT_NE(report.find("blocks_at_a_time 4\n"), std::string::npos) << report;
  expect_as_oracle(*coarse, kPrograms[5], {11, 1, 1}, 128);
}

}  // namespace
}  // namespace vgpu::testing::kernels
