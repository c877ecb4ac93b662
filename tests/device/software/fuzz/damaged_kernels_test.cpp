// Generated kernels with random damage, as a hostile guest would send them: refused with a place and a
// reason, or compiled and run to some end within their own memory. What they compute is not looked at.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/fuzz/dice.h"
#include "tests/device/software/fuzz/minimise.h"
#include "tests/device/software/fuzz/switches.h"

namespace vgpu::testing::fuzz {
namespace {

// Remembers what the compiler itself got wrong.
class WatchedCompiler final : public software::KernelCompiler {
 public:
  explicit WatchedCompiler(std::string& defect)
      : jit_(software::make_jit_compiler(options_without({}, 0))), defect_(defect) {}
  Outcome compile(const software::ptx::Module& module, std::string_view kernel,
                  const software::jit::LaunchShape& shape) override {
    auto result = jit_->compile(module, kernel, shape);
    if (!result && result.error().kind == software::jit::ErrorKind::kInternal)
      defect_ = result.error().message;
    return result;
  }
  [[nodiscard]] software::jit::Counters counters() const override { return jit_->counters(); }

 private:
  std::unique_ptr<software::KernelCompiler> jit_;
  std::string& defect_;
};

// Cancels a context that is still at work after a while.
class Watchdog {
 public:
  Watchdog(device::Context& context, std::chrono::milliseconds limit)
      : thread_([this, &context, limit] {
          std::unique_lock lock(mutex_);
          if (!changed_.wait_for(lock, limit, [this] { return done_; })) context.cancel();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

// Damage that leaves most of a kernel valid: lines lost, doubled, exchanged; other registers, numbers, types.
std::string damage(const std::string& text, Dice& dice) {
  std::vector<std::string> lines;
  std::istringstream input(text);
  for (std::string line; std::getline(input, line);) lines.push_back(line);
  const auto any_line = [&] { return dice.below(static_cast<std::uint32_t>(lines.size())); };
  const auto replace_word = [&](const std::string& first, const std::string& by) {
    for (int tries = 0; tries < 50; ++tries) {
      std::string& line = lines[any_line()];
      const auto at = line.find(first);
      if (at == std::string::npos) continue;
      auto end = at + 1;
      while (end < line.size() && (std::isalnum(static_cast<unsigned char>(line[end])) != 0)) ++end;
      line.replace(at, end - at, by);
      return;
    }
  };
  for (std::uint32_t edits = dice.between(1, 4); edits > 0; --edits) {
    const std::uint32_t at = any_line();
    switch (dice.below(8)) {
      case 0:
        lines.erase(lines.begin() + at);
        break;
      case 1:
        lines.insert(lines.begin() + at, lines[any_line()]);
        break;
      case 2:
        std::swap(lines[at], lines[any_line()]);
        break;
      case 3:
        replace_word(dice.any({"%r", "%x", "%y", "%q", "%u"}),
                     dice.any({"%r0", "%r7", "%x6", "%y4", "%q1", "%u2", "%x19", "%base"}));
        break;
      case 4:
        replace_word(dice.any({", 0", ", 1", ", 3", "+1", "+8"}),
                     dice.any({", -1", ", 2147483647", ", 65536", "+4096", "+-64", ", 33"}));
        break;
      case 5:
        replace_word(dice.any({".u32", ".s32", ".b32", ".u64"}),
                     dice.any({".u32", ".s32", ".b32", ".f32", ".u64", ".b64"}));
        break;
      case 6:
        replace_word("$L", text.find("$L3:") != std::string::npos ? "$L3" : "$end");
        break;
      default:
        replace_word(dice.any({".global", ".shared", ".local", ".lt", ".ge"}),
                     dice.any({".global", ".shared", ".local", ".param", ".const", ".eq"}));
        break;
    }
  }
  std::string result;
  for (const std::string& line : lines) result += line + "\n";
  return result;
}

enum class End : std::uint8_t { kRefused, kRan, kStopped };

End run_to_some_end(device::Backend& backend, const FuzzCase& test) {
  auto context = std::move(*backend.create_context({}));
  const auto bytes = std::as_bytes(std::span(test.ptx));
  if (const auto loaded = context->load_module(1, {bytes.begin(), bytes.end()}); !loaded) {
    EXPECT_FALSE(loaded.error().reason.empty());
    return End::kRefused;
  }
  std::vector<std::byte> params;
  for (const ParamSpec& param : test.params) {
    const std::size_t align = param.is_buffer ? 8 : param.align;
    params.resize((params.size() + align - 1) / align * align);
    if (param.is_buffer) {
      const std::uint64_t address = context->allocate(test.buffers[param.buffer].bytes).value_or(0);
      const auto data = std::as_bytes(std::span(&address, 1));
      params.insert(params.end(), data.begin(), data.end());
    } else {
      const auto data = std::as_bytes(std::span(param.bytes));
      params.insert(params.end(), data.begin(), data.end());
    }
  }
  const auto found = context->get_function(1, 1, "k");
  if (!found) {
    EXPECT_FALSE(found.error().reason.empty());
    return End::kRefused;
  }
  const auto& layout = found->parameters;
  params.resize(layout.empty() ? 0 : std::size_t{layout.back().offset} + layout.back().bytes);
  protocol::LaunchRequest request;
  request.function = 1;
  request.grid_x = test.grid[0];
  request.grid_y = test.grid[1];
  request.grid_z = test.grid[2];
  request.block_x = static_cast<std::uint16_t>(test.block[0]);
  request.block_y = static_cast<std::uint16_t>(test.block[1]);
  request.block_z = static_cast<std::uint16_t>(test.block[2]);
  request.shared_bytes = test.dynamic_shared_bytes;
  const Watchdog watchdog(*context, std::chrono::milliseconds(2000));
  auto launched = context->launch(0, request, params);
  if (launched) launched = context->wait_idle();
  if (launched) return End::kRan;
  EXPECT_FALSE(launched.error().reason.empty());
  return launched.error().status == protocol::Status::kInvalidPtx ? End::kRefused : End::kStopped;
}

TEST(DamagedKernels, AreRefusedOrStayWithinTheirMemory) {
  std::string defect;
  auto backend = software::make_backend({.memory_bytes = std::uint64_t{1} << 28, .threads = 2},
                                        std::make_unique<WatchedCompiler>(defect));
  ASSERT_TRUE(backend) << backend.error().reason;
  std::size_t ends[3] = {};
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (std::uint64_t seed = 1; seed <= 300 && (seed <= 20 || std::chrono::steady_clock::now() < limit);
       ++seed) {
    Dice dice(seed + 9000);
    Generated made = generate(seed % 40 + 1);
    made.shape.ptx = damage(made.program.text(), dice);
    // A process that dies tells no more: VGPU_FUZZ_KEEP names a file for the kernel that is running.
    if (const char* file = std::getenv("VGPU_FUZZ_KEEP")) std::ofstream(file) << made.shape.text();
    ++ends[static_cast<std::size_t>(run_to_some_end(**backend, made.shape))];
    ASSERT_EQ(defect, "") << made.shape.text();
  }
  std::printf("%zu refused, %zu ran, %zu stopped\n", ends[0], ends[1], ends[2]);
  EXPECT_GT(ends[0], 0U);
  EXPECT_GT(ends[1], 0U);
}

}  // namespace
}  // namespace vgpu::testing::fuzz
