// The checking backend notices what it is there to notice. The compiled code is made wrong by compiling
// another text than the module's.
#include "tests/device/software/checked/checked_backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"

namespace vgpu::software::checked {
namespace {

// Of pairs of a float and a number: scale makes (3 * float, thread + 7) and sets `last`, power makes 2^float.
constexpr const char* kKernels = R"(
.version 6.4
.target sm_50
.address_size 64
.visible .global .align 4 .u32 last;
.visible .entry scale(.param .u64 scale_memory)
{
  .reg .b32 %r<8>;
  .reg .b64 %rd<6>;
  .reg .f32 %f<6>;
  ld.param.u64 %rd1, [scale_memory];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %rd2, %r4, 8;
  add.s64 %rd3, %rd1, %rd2;
  ld.global.f32 %f1, [%rd3];
  mul.f32 %f2, %f1, 0f40400000;
  st.global.f32 [%rd3], %f2;
  add.s32 %r5, %r4, 7;
  st.global.s32 [%rd3+4], %r5;
  st.global.u32 [last], 1;
  ret;
}
.visible .entry power(.param .u64 power_memory)
{
  .reg .b32 %r<8>;
  .reg .b64 %rd<6>;
  .reg .f32 %f<6>;
  ld.param.u64 %rd1, [power_memory];
  mov.u32 %r3, %tid.x;
  mul.wide.u32 %rd2, %r3, 8;
  add.s64 %rd3, %rd1, %rd2;
  ld.global.f32 %f1, [%rd3];
  ex2.approx.f32 %f2, %f1;
  mul.f32 %f3, %f2, 0f3F800000;
  st.global.f32 [%rd3], %f3;
  ret;
}
)";

constexpr uint32_t kThreads = 64;
constexpr uint32_t kBlocks = 16;
constexpr uint64_t kBytes = uint64_t{8} * kThreads * kBlocks;

// Compiles the text with `from` replaced by `to`.
class WrongCompiler final : public KernelCompiler {
 public:
  WrongCompiler(std::string from, std::string to)
      : compiler_(make_jit_compiler({})), from_(std::move(from)), to_(std::move(to)) {}

  Outcome compile(const ptx::Module& module, std::string_view kernel,
                  const jit::LaunchShape& shape) override {
    std::string text(module.text());
    if (!from_.empty()) {
      const auto at = text.find(from_);
      EXPECT_NE(at, std::string::npos) << from_;
      text.replace(at, from_.size(), to_);
    }
    const auto changed = ptx::Module::parse(text, "changed");
    EXPECT_TRUE(changed) << changed.error().describe();
    return compiler_->compile(*changed, kernel, shape);
  }
  [[nodiscard]] jit::Counters counters() const override { return compiler_->counters(); }

 private:
  std::unique_ptr<KernelCompiler> compiler_;
  std::string from_, to_;
};

struct Run {
  std::string from = {};  // what the compiled code has otherwise,
  std::string to = {};    // and what instead
  std::string kernel = "scale";
  uint32_t blocks = kBlocks;
  bool mapped_memory = false;  // by the calls of virtual memory management
  int launches = 1;
  Options options = {};
};

std::vector<Check> checks_of(Run run) {
  std::vector<Check> checks;
  run.options.report = [&checks](const Check& check) { checks.push_back(check); };
  auto inner = make_backend({.memory_bytes = uint64_t{64} << 20, .threads = 1},
                            std::make_unique<WrongCompiler>(run.from, run.to));
  EXPECT_TRUE(inner) << inner.error().reason;
  const auto backend = check_backend(std::move(*inner), run.options);
  auto created = backend->create_context({.memory_bytes = uint64_t{64} << 20});
  EXPECT_TRUE(created) << created.error().reason;
  device::Context& context = **created;

  uint64_t memory = 0;
  if (run.mapped_memory) {
    constexpr uint64_t kGranule = uint64_t{2} << 20;
    memory = *context.reserve_address(kGranule, kGranule, 0);
    EXPECT_TRUE(context.create_physical(1, kGranule));
    EXPECT_TRUE(context.map({.address = memory, .bytes = kGranule, .offset = 0, .physical = 1}));
    EXPECT_TRUE(context.set_access({.address = memory, .bytes = kGranule, .access = 3}));
  } else {
    memory = *context.allocate(kBytes);
  }
  std::vector<float> values(kBytes / 4);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = 0.37f * static_cast<float>(i % 50);
  EXPECT_TRUE(
      context.copy_to_device(memory, 0, std::as_bytes(std::span(values)), 0, {.width = kBytes, .height = 1}));

  const auto text = std::as_bytes(std::span(kKernels, std::strlen(kKernels) + 1));
  EXPECT_TRUE(context.load_module(1, {text.begin(), text.end()}));
  EXPECT_TRUE(context.get_function(1, 1, run.kernel));
  const auto parameters = std::as_bytes(std::span(&memory, 1));
  for (int n = 0; n < run.launches; ++n) {
    const auto launched = context.launch(0,
                                         {.function = 1,
                                          .grid_x = run.blocks,
                                          .grid_y = 1,
                                          .grid_z = 1,
                                          .block_x = kThreads,
                                          .block_y = 1,
                                          .block_z = 1},
                                         parameters);
    EXPECT_TRUE(launched) << launched.error().reason;
  }
  return checks;
}

Check check_of(Run run) {
  const auto checks = checks_of(std::move(run));
  EXPECT_EQ(checks.size(), 1u);
  return checks.empty() ? Check{} : checks[0];
}

TEST(CheckedBackend, FindsARightKernelExact) {
  for (const bool mapped : {false, true}) {
    const auto check = check_of({.mapped_memory = mapped});
    EXPECT_EQ(check.verdict, Verdict::kExact) << check.detail;
    EXPECT_EQ(check.blocks_checked, kBlocks);
    EXPECT_EQ(check.bytes_stored, kBytes + 4);
    EXPECT_FALSE(check.approximate);
  }
}

TEST(CheckedBackend, ReportsALastPlaceThatDiffers) {
  for (const bool mapped : {false, true}) {
    const auto check = check_of({.from = "0f40400000", .to = "0f40400001", .mapped_memory = mapped});
    EXPECT_EQ(check.verdict, Verdict::kMismatch);
    EXPECT_GT(check.differing_values, 0u);
    EXPECT_LE(check.max_ulp, 2u);
    EXPECT_EQ(check.differing_strays, 0u);
  }
}

TEST(CheckedBackend, ReportsAnIntegerThatDiffers) {
  EXPECT_EQ(check_of({.from = "%r4, 7;", .to = "%r4, 8;"}).verdict, Verdict::kMismatch);
}

TEST(CheckedBackend, ReportsAVariableThatDiffers) {
  EXPECT_EQ(check_of({.from = "[last], 1;", .to = "[last], 2;"}).verdict, Verdict::kMismatch);
}

TEST(CheckedBackend, ReportsAStoreThatIsMissing) {
  EXPECT_EQ(check_of({.from = "st.global.u32 [last], 1;", .to = ""}).verdict, Verdict::kMismatch);
}

TEST(CheckedBackend, ReportsAStoreNobodyAskedFor) {
  const auto check = check_of({.from = "st.global.f32 [%rd3], %f3;",
                               .to = "st.global.f32 [%rd3], %f3; st.global.u32 [%rd3+512], 1234567;",
                               .kernel = "power",
                               .blocks = 1});
  EXPECT_EQ(check.verdict, Verdict::kMismatch);
  EXPECT_GT(check.differing_strays, 0u);
}

TEST(CheckedBackend, AllowsApproximateInstructionsTheirError) {
  const auto right = check_of({.kernel = "power", .blocks = 1});
  EXPECT_TRUE(right.approximate);
  EXPECT_TRUE(right.verdict == Verdict::kExact || right.verdict == Verdict::kWithin) << right.detail;
  const auto near = check_of({.from = "0f3F800000", .to = "0f3F800003", .kernel = "power", .blocks = 1});
  EXPECT_EQ(near.verdict, Verdict::kWithin) << near.detail;
  const auto far = check_of({.from = "0f3F800000", .to = "0f3F801000", .kernel = "power", .blocks = 1});
  EXPECT_EQ(far.verdict, Verdict::kMismatch) << far.detail;
}

TEST(CheckedBackend, ChecksALargeGridInPart) {
  const Options few{.max_steps = 150};
  const auto right = check_of({.options = few});
  EXPECT_EQ(right.verdict, Verdict::kExact) << right.detail;
  EXPECT_GT(right.blocks_checked, 1u);
  EXPECT_LT(right.blocks_checked, kBlocks);
  EXPECT_EQ(check_of({.from = "0f40400000", .to = "0f40400001", .options = few}).verdict, Verdict::kMismatch);
}

TEST(CheckedBackend, SaysSoWhenAKernelIsTooLongForTheOracle) {
  const auto check = check_of({.options = {.max_steps = 5}});
  EXPECT_EQ(check.verdict, Verdict::kNotChecked);
  EXPECT_NE(check.detail.find("more than 5 instructions"), std::string::npos) << check.detail;
}

TEST(CheckedBackend, SamplesEachShapeAndEveryNth) {
  const auto launches = [](const std::vector<Check>& checks) {
    std::vector<uint64_t> numbers;
    for (const auto& check : checks) numbers.push_back(check.launch);
    return numbers;
  };
  EXPECT_EQ(launches(checks_of({.launches = 20, .options = {.per_shape = 3}})),
            (std::vector<uint64_t>{1, 2, 4}));
  EXPECT_EQ(launches(checks_of({.launches = 20, .options = {.per_shape = 1, .every = 6}})),
            (std::vector<uint64_t>{1, 6, 12, 18}));
}

}  // namespace
}  // namespace vgpu::software::checked
