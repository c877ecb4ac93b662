// Which parameters a kernel is found to ask whether they are null.
#include "device/software/ptx/null_tests.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace vgpu::software::ptx {
namespace {

// Of a kernel with the words a (0), b (1), and s (2 to 4), which is a structure.
std::uint64_t tested(const std::string& body) {
  const auto module = Module::parse(
      ".version 8.4\n.target sm_61\n.address_size 64\n"
      ".visible .entry k(.param .u64 a, .param .u64 b, .param .align 8 .b8 s[24])\n{\n"
      ".reg .pred %p<4>; .reg .b32 %r<4>; .reg .b64 %q<8>;\n" +
          body + "\nret;\n}\n",
      "test.ptx");
  EXPECT_TRUE(module) << module.error().describe();
  const auto kernel = module->parse_function("k");
  EXPECT_TRUE(kernel) << kernel.error().describe();
  return null_tested_words(*kernel);
}

TEST(NullTests, AreComparisonsOfWordsWithZero) {
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; setp.eq.s64 %p0, %q0, 0;"), 1U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [b]; setp.ne.b64 %p0, 0, %q0;"), 2U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [s+16]; setp.eq.u64 %p0|%p1, %q0, 0;"), 16U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; ld.param.u64 %q1, [s];"
                   "setp.eq.s64 %p0, %q0, 0; setp.ne.s64 %p1, %q1, 0;"),
            1U + 4U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; ld.param.u64 %q0, [b]; setp.eq.s64 %p0, %q0, 0;"), 1U + 2U)
      << "which of the two it is depends on the way there";
}

TEST(NullTests, AreNothingElse) {
  EXPECT_EQ(tested(""), 0U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; ld.param.u64 %q1, [b]; setp.eq.s64 %p0, %q0, %q1;"), 0U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; setp.eq.s64 %p0, %q0, 8;"), 0U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; setp.lt.s64 %p0, %q0, 0;"), 0U);
  EXPECT_EQ(tested("ld.param.u32 %r0, [a]; setp.eq.s32 %p0, %r0, 0;"), 0U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [s+4]; setp.eq.s64 %p0, %q0, 0;"), 0U) << "half of two words";
  EXPECT_EQ(tested("ld.param.v2.u64 {%q0, %q1}, [s]; setp.eq.s64 %p0, %q0, 0;"), 0U);
  EXPECT_EQ(tested("ld.param.u64 %q0, [a]; ld.global.u64 %q1, [%q0]; setp.eq.s64 %p0, %q1, 0;"), 0U);
}

TEST(NullTests, FindWhatIsNullInALaunch) {
  const std::array<std::uint64_t, 4> words{0, 7, 0, 0};
  const auto parameters = std::as_bytes(std::span(words));
  EXPECT_EQ(null_words(0b1111, parameters), 0b1101U);
  EXPECT_EQ(null_words(0b0110, parameters), 0b0100U);
  EXPECT_EQ(null_words(0b1111, parameters.first(23)), 0b0001U) << "what is not there is not null";
  EXPECT_EQ(null_words(~std::uint64_t{0}, {}), 0U);
}

}  // namespace
}  // namespace vgpu::software::ptx
