// Kernels are compiled for the parameters that are null: one way or the other, they do what their text says.
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

// Adds 1, 2 and 4, each at the place that its own parameter names, if it names one.
constexpr const char* kPtx = R"(.version 8.4
.target sm_61
.address_size 64
.visible .entry add(.param .u64 a, .param .align 8 .b8 more[16])
{
  .reg .b64 %q<4>;
  .reg .b32 %r<4>;
  .reg .pred %p<4>;
  ld.param.u64 %q0, [a];
  ld.param.u64 %q1, [more];
  mov.u32 %r1, %tid.x;
  setp.eq.u32 %p3, %r1, 0;
  @%p3 ld.param.u64 %q2, [more+8];
  @!%p3 ld.param.u64 %q2, [a];
  setp.eq.s64 %p0, %q0, 0;
  @%p0 bra $b;
  ld.global.u32 %r0, [%q0];
  add.u32 %r0, %r0, 1;
  st.global.u32 [%q0], %r0;
$b:
  setp.eq.s64 %p1, %q1, 0;
  @%p1 bra $c;
  ld.global.u32 %r0, [%q1];
  add.u32 %r0, %r0, 2;
  st.global.u32 [%q1], %r0;
$c:
  setp.ne.s64 %p2, %q2, 0;
  @!%p2 bra $d;
  ld.global.u32 %r0, [%q2];
  add.u32 %r0, %r0, 4;
  st.global.u32 [%q2], %r0;
$d:
  ret;
}
)";

struct Outcome {
  std::uint64_t compiled;     // kernels
  std::string of_first_code;  // what `vgpu-probe kernels` tells of the code of the first launch
};

// All eight choices of nulls, none given first, twice, one launch behind the other.
Outcome launch_all(bool nulls) {
  software::jit::Passes passes;
  passes.nulls = nulls;
  auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 26, .threads = 1},
                                        software::make_jit_compiler({.passes = passes, .verify = true}));
  EXPECT_TRUE(backend);
  DeviceRunner device(**backend);
  EXPECT_EQ(device.load(kPtx, "add"), "");
  const std::uint64_t sum = device.allocate(4);
  for (std::uint32_t i = 0; i < 16; ++i) {
    const std::uint32_t choice = i % 8;
    const std::uint32_t start = 1000 * i;
    device.write(sum, std::as_bytes(std::span(&start, 1)));
    std::uint64_t words[3];
    for (std::uint32_t word = 0; word < 3; ++word) words[word] = (choice >> word & 1) != 0 ? sum : 0;
    LaunchRequest request{.kernel = "add", .grid = {1, 1, 1}, .block = {1, 1, 1}, .params = {}};
    const auto bytes = std::as_bytes(std::span(words));
    request.params.assign(bytes.begin(), bytes.end());
    EXPECT_EQ(device.launch(request).status, Status::kDone);
    std::uint32_t got = 0;
    device.read(sum, std::as_writable_bytes(std::span(&got, 1)));
    EXPECT_EQ(got, start + choice) << "launch " << i;
  }
  const auto report = device.context().kernel_figures(0);
  EXPECT_TRUE(report);
  return {(*backend)->counts().kernels_compiled, report->counts};
}

TEST(NullParams, AreKnownInSomeLaunchesAndRightInAll) {
  const Outcome outcome = launch_all(true);
  EXPECT_EQ(outcome.compiled, 5U) << "for the first four choices, and for all others together";
  EXPECT_NE(outcome.of_first_code.find("null_params 4\n"), std::string::npos) << outcome.of_first_code;
  EXPECT_NE(outcome.of_first_code.find("null_words 7\n"), std::string::npos) << outcome.of_first_code;
}

TEST(NullParams, AreAsRightWhereNothingIsKnown) {
  const Outcome outcome = launch_all(false);
  EXPECT_NE(outcome.of_first_code.find("null_params 0\n"), std::string::npos) << outcome.of_first_code;
}

}  // namespace
}  // namespace vgpu::testing::kernels
