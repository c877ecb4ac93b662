// What the oracle does beside computing: faults with their place, limits, printf, module variables.
#include "device/software/oracle/oracle.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace vgpu::software::oracle {
namespace {

std::string kernel(const std::string& body, const std::string& before = "") {
  return ".version 8.4\n.target sm_61\n.address_size 64\n" + before +
         "\n.entry k(.param .u64 a)\n{\n.reg .pred %p<4>;\n.reg .b32 %r<6>;\n.reg .b64 %q<6>;\n.reg .f32 "
         "%f<4>;\n" +
         "ld.param.u64 %q0, [a];\nmov.u32 %r0, %tid.x;\n" + body + "\nret;\n}\n";
}

struct Run {
  Result result;
  std::vector<std::uint32_t> memory;
};

Run run(const std::string& ptx, std::uint32_t threads, LaunchConfig config = {}) {
  const auto module = ptx::Module::parse(ptx, "oracle.ptx");
  EXPECT_TRUE(module) << module.error().describe();
  FlatMemory memory;
  const auto globals = place_globals(*module, memory);
  const std::uint64_t buffer = memory.allocate(256);
  config.block = {threads, 1, 1};
  config.globals = globals;
  config.params = std::as_bytes(std::span(&buffer, 1));
  Run run{run_grid(*module, "k", config, memory), std::vector<std::uint32_t>(64)};
  memory.read(buffer, std::as_writable_bytes(std::span(run.memory)));
  return run;
}

TEST(Oracle, IllegalAddressNamesLineThreadAndAddress) {
  const auto r = run(kernel("mad.wide.u32 %q1, %r0, 64, %q0;\nst.global.u32 [%q1], %r0;"), 8).result;
  EXPECT_EQ(r.outcome, Outcome::kIllegalAddress);
  EXPECT_EQ(r.thread, 4U);  // 4 * 64 is the first offset behind 256 bytes
  EXPECT_EQ(r.line, 14U);
  EXPECT_NE(r.message.find("st.global.u32 [%q1], %r0;"), std::string::npos) << r.message;
}

TEST(Oracle, SharedAndLocalMemoryAreBounded) {
  EXPECT_EQ(run(kernel(".shared .b8 box[16];\nst.shared.u32 [box+16], %r0;"), 1).result.outcome,
            Outcome::kIllegalAddress);
  EXPECT_EQ(run(kernel(".local .b8 box[16];\nst.local.u32 [box+16], %r0;"), 1).result.outcome,
            Outcome::kIllegalAddress);
  EXPECT_EQ(run(kernel(".shared .b8 box[16];\nst.shared.u32 [box+12], %r0;"), 1).result.outcome,
            Outcome::kDone);
}

TEST(Oracle, RunsOnlyTheBlocksItIsAskedFor) {
  const auto text = kernel(
      "mov.u32 %r1, %ctaid.y;\nmad.lo.u32 %r1, %r1, 4, 1;\nmov.u32 %r2, %ctaid.x;\nadd.u32 %r1, %r1, %r2;\n"
      "mad.wide.u32 %q1, %r1, 4, %q0;\nst.global.u32 [%q1], %r1;");
  const std::uint64_t blocks[] = {1, 6};
  LaunchConfig config;
  config.grid = {4, 2, 1};
  config.blocks = blocks;
  const auto r = run(text, 1, config);
  EXPECT_EQ(r.result.outcome, Outcome::kDone) << r.result.message;
  std::vector<std::uint32_t> expected(64);
  expected[2] = 2;
  expected[7] = 7;
  EXPECT_EQ(r.memory, expected);
  const std::uint64_t outside[] = {8};
  config.blocks = outside;
  EXPECT_EQ(run(text, 1, config).result.outcome, Outcome::kUnsupported);
}

TEST(Oracle, MisalignedAddressIsAFault) {
  const auto r = run(kernel("ld.global.v2.u32 {%r1, %r2}, [%q0+4];"), 1).result;
  EXPECT_EQ(r.outcome, Outcome::kMisalignedAddress);
  EXPECT_EQ(r.address % 8, 4U);
}

TEST(Oracle, EndlessLoopsEndAtTheStepLimit) {
  LaunchConfig config;
  config.max_steps = 1000;
  const auto r = run(kernel("$l: bra $l;"), 32, config).result;
  EXPECT_EQ(r.outcome, Outcome::kStepLimit);
  EXPECT_EQ(r.steps, 1001U);
}

TEST(Oracle, BarriersThatCannotFillAreADeadlock) {
  EXPECT_EQ(run(kernel("bar.sync 0, 96;"), 64).result.outcome, Outcome::kDeadlock);
  EXPECT_EQ(run(kernel("setp.lt.u32 %p0, %r0, 32;\n@%p0 bra $one;\nbar.sync 1;\nret;\n$one: bar.sync 2;"), 64)
                .result.outcome,
            Outcome::kDeadlock);
}

TEST(Oracle, ThreadsThatExitedCountForNoBarrier) {
  const auto r = run(
      kernel("setp.lt.u32 %p0, %r0, 40;\n@%p0 ret;\nbar.sync 0;\nmov.u32 %r1, 9;\nst.global.u32 [%q0], %r1;"),
      64);
  EXPECT_EQ(r.result.outcome, Outcome::kDone) << r.result.message;
  EXPECT_EQ(r.memory[0], 9U);
}

TEST(Oracle, CountedBarriersTakePartialWarpsWhole) {
  const auto r = run(kernel("bar.sync 0, 64;\nst.global.u32 [%q0], %r0;"), 40);
  EXPECT_EQ(r.result.outcome, Outcome::kDone) << r.result.message;
}

TEST(Oracle, TrapEndsTheGrid) {
  LaunchConfig config;
  config.grid = {3, 1, 1};
  const auto r =
      run(kernel("mov.u32 %r1, %ctaid.x;\nsetp.eq.u32 %p0, %r1, 1;\n@%p0 trap;\nst.global.u32 [%q0], %r1;"),
          1, config);
  EXPECT_EQ(r.result.outcome, Outcome::kTrap);
  EXPECT_EQ(r.result.block.x, 1U);
  EXPECT_EQ(r.memory[0], 0U);  // block 2 did not run
}

const char* const kPrintf =
    ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n.global .align 1 .b8 text[6] = "
    "{104, 105, 37, 100, 10, 0};";
const char* const kCallPrintf =
    ".local .align 8 .b8 arguments[8];\nst.local.u32 [arguments], %r0;\nmov.u64 %q1, text;\ncvta.global.u64 "
    "%q1, %q1;\nmov.u64 %q2, arguments;\ncvta.local.u64 %q2, %q2;\n"
    "{\n.param .b64 p0;\nst.param.b64 [p0], %q1;\n.param .b64 p1;\nst.param.b64 [p1], %q2;\n.param .b32 "
    "r0;\ncall.uni (r0), vprintf, (p0, p1);\nld.param.b32 %r1, [r0];\n}\n"
    "st.global.u32 [%q0], %r1;";

TEST(Oracle, PrintfReachesTheHook) {
  LaunchConfig config;
  std::string seen;
  config.vprintf = [&](std::uint64_t format, std::uint64_t arguments, const LaunchConfig::Read& read) {
    char text[6] = {};
    std::int32_t number = 0;
    EXPECT_TRUE(read(format, std::as_writable_bytes(std::span(text))));
    EXPECT_TRUE(read(arguments, std::as_writable_bytes(std::span(&number, 1))));
    std::byte beyond[8];
    EXPECT_FALSE(read(0, beyond));
    seen += text + std::to_string(number);
    return 7;
  };
  const auto r = run(kernel(kCallPrintf, kPrintf), 2, config);
  EXPECT_EQ(r.result.outcome, Outcome::kDone) << r.result.message;
  EXPECT_EQ(seen, "hi%d\n0hi%d\n1");
  EXPECT_EQ(r.memory[0], 7U);
}

TEST(Oracle, CallsOfUndefinedFunctionsAreNamed) {
  const auto r = run(kernel(kCallPrintf, kPrintf), 1).result;
  EXPECT_EQ(r.outcome, Outcome::kUnsupported);
  EXPECT_NE(r.message.find("`vprintf`"), std::string::npos) << r.message;
}

TEST(Oracle, EndlessRecursionIsATrap) {
  const auto r = run(kernel("call f;", ".func f() { call f; ret; }"), 1).result;
  EXPECT_EQ(r.outcome, Outcome::kTrap);
  EXPECT_NE(r.message.find("call stack"), std::string::npos) << r.message;
}

TEST(Oracle, LaunchesWithoutSenseAreRefused) {
  EXPECT_EQ(run(kernel(""), 0).result.outcome, Outcome::kUnsupported);
  EXPECT_EQ(run(kernel(""), 1025).result.outcome, Outcome::kUnsupported);
  EXPECT_EQ(run(kernel("frob;"), 1).result.outcome, Outcome::kInvalidPtx);
  LaunchConfig config;
  config.grid = {0, 1, 1};
  EXPECT_EQ(run(kernel(""), 1, config).result.outcome, Outcome::kUnsupported);
}

}  // namespace
}  // namespace vgpu::software::oracle
