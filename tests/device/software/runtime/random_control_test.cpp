// Random control flow, reducible or not, with uniform and varying branches: what the compiler's masks and
// chains must get right for any graph. Every thread's registers at the end are compared with the oracle's.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"
#include "tests/device/software/runtime/words_stored.h"

namespace vgpu::testing::kernels {
namespace {

constexpr std::uint32_t kRegisters = 6;
constexpr std::uint32_t kThreads = 80;  // two full warps and half of one
constexpr std::uint32_t kGrid = 2;

// Registers 0 to 2 start with the thread's number in them, 3 to 5 the same for all. Steps are bounded per
// thread. At the end the registers are stored.
const std::string kStart =
    ".version 8.4\n.target sm_61\n.address_size 64\n.visible .entry k(.param .u64 out)\n{\n"
    " .reg .b32 %r<8>, %t, %g, %fuel;\n .reg .pred %p<3>;\n .reg .b64 %q<3>;\n"
    " mov.u32 %t, %tid.x;\n mov.u32 %g, %ctaid.x;\n"
    " mad.lo.u32 %r0, %t, 2654435761, %g;\n mov.u32 %r1, %t;\n shr.u32 %r2, %t, 3;\n"
    " mov.u32 %r3, %g;\n mov.u32 %r4, 7;\n mov.u32 %r5, 0;\n mov.u32 %fuel, 40;\n"
    " ld.param.u64 %q0, [out];\n mad.lo.u32 %r6, %g, 80, %t;\n mad.wide.u32 %q0, %r6, 24, %q0;\n";
const std::string kStep = " sub.u32 %fuel, %fuel, 1;\n setp.eq.u32 %p0, %fuel, 0;\n @%p0 bra $end;\n";
const std::string kEnd =
    "$end:\n st.global.u32 [%q0], %r0;\n st.global.u32 [%q0+4], %r1;\n st.global.u32 [%q0+8], %r2;\n"
    " st.global.u32 [%q0+12], %r3;\n st.global.u32 [%q0+16], %r4;\n st.global.u32 [%q0+20], %r5;\n"
    " ret;\n}\n";
static_assert(kThreads == 80 && kRegisters == 6, "as in the text above");

// With `memory` threads also load and count in words of their own: what cannot be computed anew.
std::string random_program(std::uint64_t seed, bool memory) {
  Random random(seed);
  const auto pick = [&](std::int32_t n) { return std::to_string(random.integer(0, n - 1)); };
  const auto reg = [&] { return "%r" + pick(kRegisters); };
  const auto word = [&] { return std::to_string(4 * random.integer(0, kRegisters - 1)); };
  std::string text = kStart;
  const std::int32_t blocks = random.integer(3, 10);
  for (std::int32_t block = 0; block < blocks; ++block) {
    text += "$b" + std::to_string(block) + ":\n";
    for (std::int32_t i = random.integer(1, 3); i > 0; --i) {
      const std::string to = reg();
      switch (random.integer(0, memory ? 7 : 5)) {
        case 0:
          text += " add.u32 " + to + ", " + to + ", " + pick(9) + ";\n";
          break;
        case 1:
          text += " mad.lo.u32 " + to + ", " + reg() + ", 5, " + reg() + ";\n";
          break;
        case 2:
          text += " xor.b32 " + to + ", " + reg() + ", " + reg() + ";\n";
          break;
        case 3:
          text += " shr.u32 " + to + ", " + reg() + ", " + pick(5) + ";\n";
          break;
        case 4:
          text +=
              " setp.lt.u32 %p1, " + reg() + ", " + reg() + ";\n @%p1 add.u32 " + to + ", " + to + ", 1;\n";
          break;
        case 5:
          text += " mov.u32 " + to + ", " + reg() + ";\n";
          break;
        case 6:
          text += " ld.global.u32 " + to + ", [%q0+" + word() + "];\n";
          break;
        default:
          text += " atom.global.add.u32 " + to + ", [%q0+" + word() + "], 3;\n";
          break;
      }
    }
    text += kStep;
    const std::string target = "$b" + pick(blocks);
    switch (random.integer(0, 4)) {
      case 0:
        text += " bra " + target + ";\n";
        break;
      case 1:
        text += " and.b32 %r6, " + reg() + ", 3;\n setp.eq.u32 %p1, %r6, 1;\n @!%p1 bra " + target + ";\n";
        break;
      case 2:
        text += " setp.gt.u32 %p1, " + reg() + ", " + pick(64) + ";\n @%p1 bra " + target + ";\n";
        break;
      case 3:
        text += " and.b32 %r6, " + reg() + ", 7;\n setp.ne.u32 %p1, %r6, 0;\n @%p1 bra " + target + ";\n" +
                (random.integer(0, 7) == 0 ? " exit;\n" : "");
        break;
      default:
        break;
    }
  }
  return text + kEnd;
}

std::vector<std::uint32_t> outcome(KernelRunner& runner, const std::string& program) {
  EXPECT_EQ(runner.load(program, "random.ptx"), "");
  return words_stored(runner, "k", {kGrid, 1, 1}, {kThreads, 1, 1},
                      std::size_t{kThreads} * kGrid * kRegisters);
}

void expect_agreement_with_the_oracle(const std::vector<std::string>& programs) {
  auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 26, .threads = 1},
                                        software::make_jit_compiler({.opt_level = 1, .verify = true}));
  ASSERT_TRUE(backend) << backend.error().reason;
  for (std::size_t i = 0; i < programs.size(); ++i) {
    OracleRunner oracle;
    DeviceRunner compiled(**backend);
    const auto expected = outcome(oracle, programs[i]);
    const auto got = outcome(compiled, programs[i]);
    const auto differs = std::ranges::mismatch(expected, got);
    ASSERT_EQ(differs.in1, expected.end())
        << "program " << i << ": register " << (differs.in1 - expected.begin()) % kRegisters << " of thread "
        << (differs.in1 - expected.begin()) / kRegisters << " is " << *differs.in2 << ", expected "
        << *differs.in1 << "\n"
        << programs[i];
  }
}

// Lanes go on with the outer loop out of the inner one, each in its own round of that, while others still
// read what the outer loop's round has given to all.
TEST(Control, OuterLoopsGoRoundFromWithinInnerOnes) {
  expect_agreement_with_the_oracle({kStart +
                                    " mov.u32 %r3, 1;\n"
                                    "$outer: mov.u32 %r4, %r3;\n mad.lo.u32 %r3, %r4, 5, 1;\n"
                                    "$inner: add.u32 %r2, %r2, %r4;\n add.u32 %r5, %r5, 1;\n" +
                                    kStep +
                                    " shr.u32 %r1, %r0, %r5;\n and.b32 %r1, %r1, 1;\n"
                                    " setp.ne.u32 %p1, %r1, 0;\n @%p1 bra $outer;\n bra $inner;\n" +
                                    kEnd});
}

class RandomControl : public ::testing::TestWithParam<std::tuple<bool, int>> {};

TEST_P(RandomControl, CompiledCodeAgreesWithTheOracle) {
  const auto& [memory, part] = GetParam();
  std::vector<std::string> programs;
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    programs.push_back(random_program(static_cast<std::uint64_t>(part) * 10 + seed, memory));
  expect_agreement_with_the_oracle(programs);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomControl, ::testing::Combine(::testing::Bool(), ::testing::Range(0, 14)),
                         [](const auto& instance) {
                           return (std::get<0>(instance.param) ? "memory_" : "registers_") +
                                  std::to_string(std::get<1>(instance.param));
                         });

}  // namespace
}  // namespace vgpu::testing::kernels
