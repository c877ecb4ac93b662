// See differ.h.
#include "tests/device/software/fuzz/differ.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/fuzz/program.h"
#include "tests/device/software/fuzz/switches.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::fuzz {

using kernels::DeviceRunner;
using kernels::KernelRunner;
using kernels::LaunchRequest;
using kernels::OracleRunner;
using kernels::Status;

// The JIT with options that may change from case to case.
class Differ::Compiler final : public software::KernelCompiler {
 public:
  // No compiled kernel may be alive.
  void use(const std::vector<std::string>& off, int level) {
    std::string key = std::to_string(level);
    for (const std::string& name : off) key += " " + name;
    if (jits_.size() > 8 && !jits_.contains(key)) jits_.clear();
    auto& jit = jits_[key];
    if (!jit) jit = std::make_unique<software::jit::Jit>(options_without(off, level));
    current_ = jit.get();
  }
  Outcome compile(const software::ptx::Module& module, std::string_view kernel,
                  const software::jit::LaunchShape& shape) override {
    return current_->compile(module, kernel, shape);
  }
  [[nodiscard]] software::jit::Counters counters() const override { return {}; }

 private:
  std::map<std::string, std::unique_ptr<software::jit::Jit>> jits_;
  software::jit::Jit* current_ = nullptr;
};

namespace {

constexpr std::size_t kOwnMapping =
    (std::size_t{1} << 20) + 4096;  // larger allocations end in unmapped pages
constexpr std::size_t kPage = 4096;

struct Outcome {
  std::string problem;
  std::vector<std::vector<std::byte>> memory;
};

Outcome run(KernelRunner& runner, const FuzzCase& test, bool place) {
  Outcome out;
  out.problem = runner.load(test.ptx, "fuzz.ptx");
  if (!out.problem.empty()) return out;
  std::vector<std::uint64_t> addresses;
  for (const BufferSpec& buffer : test.buffers) {
    std::size_t size = buffer.bytes;
    std::size_t offset = 0;
    if (place && buffer.place != Place::kAnywhere) {
      size = std::max(kOwnMapping, (size + kPage - 1) / kPage * kPage);
      if (buffer.place == Place::kAtEnd) offset = size - buffer.bytes;
    }
    addresses.push_back(runner.allocate(size) + offset);
    runner.write(addresses.back(), contents(buffer));
  }
  LaunchRequest request;
  request.kernel = "k";
  request.grid = {test.grid[0], test.grid[1], test.grid[2]};
  request.block = {test.block[0], test.block[1], test.block[2]};
  request.dynamic_shared_bytes = test.dynamic_shared_bytes;
  for (const ParamSpec& param : test.params) {
    const std::size_t align = param.is_buffer ? 8 : param.align;
    request.params.resize((request.params.size() + align - 1) / align * align);
    const std::size_t at = request.params.size();
    if (param.is_buffer) {
      request.params.resize(at + 8);
      std::memcpy(request.params.data() + at, &addresses[param.buffer], 8);
    } else {
      request.params.resize(at + param.bytes.size());
      std::memcpy(request.params.data() + at, param.bytes.data(), param.bytes.size());
    }
  }
  const auto status = runner.launch(request);
  if (status.status != Status::kDone) {
    out.problem = status.message.empty() ? "failed" : status.message;
    return out;
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    auto& bytes = out.memory.emplace_back(test.buffers[i].bytes);
    runner.read(addresses[i], bytes);
  }
  return out;
}

std::string difference(const Outcome& expected, const Outcome& got) {
  std::string text;
  for (std::size_t i = 0; i < expected.memory.size(); ++i) {
    const auto& a = expected.memory[i];
    const auto& b = got.memory[i];
    std::size_t differing = 0;
    std::string first;
    for (std::size_t at = 0; at + 4 <= a.size(); at += 4) {
      std::uint32_t x = 0;
      std::uint32_t y = 0;
      std::memcpy(&x, a.data() + at, 4);
      std::memcpy(&y, b.data() + at, 4);
      if (x == y) continue;
      if (++differing > 4) continue;
      char line[96];
      std::snprintf(line, sizeof line, "  byte %zu: expected %08x, is %08x\n", at, x, y);
      first += line;
    }
    if (differing == 0 && a != b) first = "  in its last bytes\n";
    if (differing != 0 || a != b) text += Text{"buffer ", i, ": ", differing, " words differ\n", first};
  }
  return text;
}

}  // namespace

Differ::Differ() {
  auto compiler = std::make_unique<Compiler>();
  compiler_ = compiler.get();
  auto backend = software::make_backend(
      {.memory_bytes = std::uint64_t{1} << 28, .threads = 2, .always_coarsen = true}, std::move(compiler));
  if (backend) {
    backend_ = std::move(*backend);
  } else {
    problem_ = backend.error().reason;
  }
}

Differ::~Differ() = default;

Comparison Differ::compare(const FuzzCase& test) {
  OracleRunner oracle;
  const Outcome expected = run(oracle, test, false);
  const std::uint64_t steps = oracle.result.steps;
  if (!expected.problem.empty()) return {Verdict::kInvalid, "oracle: " + expected.problem, steps};
  compiler_->use(test.switched_off, test.opt_level);
  DeviceRunner device(*backend_);
  const Outcome got = run(device, test, true);
  if (!got.problem.empty()) return {Verdict::kRefused, "compiled: " + got.problem, steps};
  const std::string text = difference(expected, got);
  return {text.empty() ? Verdict::kSame : Verdict::kDiffers, text, steps};
}

}  // namespace vgpu::testing::fuzz
