// See real_launches.h.
#include "tests/device/software/checked/real_launches.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <unordered_map>

#include "device/software/oracle/oracle.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/checked/described_launches.h"
#include "tests/device/software/checked/real_launch.h"
#include "tests/device/software/fuzz/dice.h"

namespace vgpu::testing {
namespace {

using fuzz::Dice;
using software::ptx::Opcode;
using software::ptx::OperandKind;
using software::ptx::StateSpace;

constexpr std::size_t kBufferBytes = 256 << 10;
constexpr int kGuesses = 40;
constexpr int kDescriptions = 4;                  // shapes of which some change nothing
constexpr std::uint64_t kSharedBytes = 48 << 10;  // static and dynamic
constexpr std::uint64_t kMaxSteps = 60'000;       // warp instructions of a guessed launch
constexpr std::uint64_t kMaxDescribedSteps = 3'000'000;

// Memory that tells whether anything changed, and whether one byte got different values: then the order
// of threads may have decided, and a difference says nothing.
class CountingMemory final : public software::oracle::FlatMemory {
 public:
  bool write(std::uint64_t address, std::span<const std::byte> bytes) override {
    std::vector<std::byte> before(is_changed ? 0 : bytes.size());
    if (!is_changed && read(address, before)) is_changed = !std::ranges::equal(before, bytes);
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      const auto [found, is_new] = stored_.try_emplace(address + n, bytes[n]);
      if (!is_new && found->second != bytes[n]) is_contested = true;
    }
    return FlatMemory::write(address, bytes);
  }
  bool is_changed = false;
  bool is_contested = false;

 private:
  std::unordered_map<std::uint64_t, std::byte> stored_;
};

// Whatever type reads it: halves and floats of moderate size, or small whole numbers.
std::vector<std::byte> moderate(Dice& dice, std::size_t bytes) {
  if (!dice.chance(35)) return moderate_bytes(dice, bytes);
  const std::uint32_t most = dice.chance(50) ? 2 : 8;
  std::vector<std::byte> data(bytes);
  for (std::size_t at = 0; at + 4 <= bytes; at += 4) {
    const std::uint32_t word = dice.below(most);
    std::memcpy(data.data() + at, &word, 4);
  }
  return data;
}

RealLaunch guess(const RealKernel& kernel, const software::ptx::FunctionDecl& decl,
                 const std::vector<ParameterField>& fields, std::uint64_t static_shared, std::uint64_t seed) {
  Dice dice(seed);
  RealLaunch made;
  made.max_steps = kMaxSteps;
  const auto shape = likely_shape(kernel);
  std::copy_n(shape.ntid, 3, made.block);
  if (kernel.bounds.max_threads[0] == 0 && kernel.bounds.required_threads[0] == 0) {
    static constexpr std::uint32_t kBlocks[][2] = {{32, 1}, {64, 1}, {100, 1}, {256, 1},
                                                   {32, 4}, {32, 8}, {33, 1},  {512, 1}};
    const auto& block = kBlocks[dice.below(8)];
    made.block[0] = block[0];
    made.block[1] = block[1];
  }
  made.grid[0] = dice.between(1, 3);
  made.grid[1] = dice.chance(30) ? 2 : 1;
  made.dynamic_shared_bytes =
      static_cast<std::uint32_t>(kSharedBytes - std::min(kSharedBytes, static_shared));
  const bool has_absent = dice.chance(25);
  made.params.resize(decl.parameter_bytes);
  static constexpr std::uint32_t kNumbers[4][6] = {
      {1, 1, 1, 1, 1, 1}, {1, 2, 4, 1, 1, 2}, {1, 32, 64, 33, 1, 256}, {1, 256, 512, 2, 1, 5}};
  const auto& numbers = kNumbers[dice.below(4)];
  std::uint32_t divisor = 0;
  for (const ParameterField& field : fields) {
    std::uint64_t value = 0;
    if (field.is_pointer) {
      if (has_absent && dice.chance(30)) continue;  // optional ones
      made.pointers.push_back(field.offset);
      made.data.push_back(moderate(dice, kBufferBytes));
      continue;
    }
    if (field.divisor_part >= 0) {
      if (field.divisor_part == 0) divisor = dice.chance(60) ? dice.below(3) : dice.below(8);
      value = field.divisor_part == 0 ? 1 : field.divisor_part == 1 ? divisor : 1u << divisor;
    } else if (field.is_float) {
      const float number = dice.chance(30) ? 0.0F : 0.5F + static_cast<float>(dice.below(8)) / 8;
      std::uint32_t bits = 0;
      std::memcpy(&bits, &number, 4);
      value = bits;
    } else if (field.is_member && field.bytes == 8) {
      value = 0;  // a pointer behind conditions, which may be absent
    } else {
      value = field.bytes == 1 ? dice.below(2) : numbers[dice.below(6)];
    }
    if (field.offset + field.bytes <= made.params.size())
      std::memcpy(made.params.data() + field.offset, &value, std::min<std::size_t>(field.bytes, 8));
  }
  return made;
}

// The launch on a device that reports its check to `last`. kNoLaunch: it proves nothing there. `is_open`:
// threads may store to one place, or shuffle what is not there.
RealCheck run_on(device::Backend& backend, const software::checked::Check& last, const RealKernel& kernel,
                 const RealLaunch& made, bool is_open) {
  using Result = RealCheck::Result;
  auto context = backend.create_context({});
  if (!context) return {Result::kNoLaunch, context.error().reason};
  device::Context& device = **context;
  const auto text = std::as_bytes(std::span(kernel.module->text()));
  if (const auto loaded = device.load_module(1, {text.begin(), text.end()}); !loaded)
    return {Result::kCompilerFails, loaded.error().reason};
  std::vector<std::byte> params = made.params;
  for (std::size_t i = 0; i < made.pointers.size(); ++i) {
    const std::uint64_t address = device.allocate(made.data[i].size()).value_or(0);
    if (!device.copy_to_device(address, 0, made.data[i], 0, {.width = made.data[i].size(), .height = 1}))
      return {Result::kNoLaunch, "no memory on the device"};
    std::memcpy(params.data() + made.pointers[i], &address, 8);
  }
  if (const auto found = device.get_function(1, 1, kernel.name); !found)
    return {Result::kCompilerFails, found.error().reason};
  protocol::LaunchRequest request;
  request.function = 1;
  request.grid_x = made.grid[0];
  request.grid_y = made.grid[1];
  request.grid_z = made.grid[2];
  request.block_x = static_cast<std::uint16_t>(made.block[0]);
  request.block_y = static_cast<std::uint16_t>(made.block[1]);
  request.block_z = static_cast<std::uint16_t>(made.block[2]);
  request.shared_bytes = made.dynamic_shared_bytes;
  if (const auto launched = device.launch(0, request, params); !launched)
    return {is_open ? Result::kNoLaunch : Result::kCompilerFails, launched.error().reason};
  switch (last.verdict) {
    case software::checked::Verdict::kExact:
    case software::checked::Verdict::kWithin:
      return {Result::kAgrees, ""};
    case software::checked::Verdict::kMismatch:
      if (is_open)
        return {Result::kNoLaunch, "threads store to the same place, or shuffle what is not there"};
      return {Result::kDiffers, last.detail};
    default:
      return {Result::kNoLaunch, last.detail};
  }
}

}  // namespace

std::vector<ParameterField> parameter_fields(const software::ptx::Module& module,
                                             const software::ptx::Function& function) {
  std::map<std::uint32_t, ParameterField> fields;
  std::map<std::uint32_t, std::uint32_t> holds;  // register → offset of the field it was loaded from
  const auto& decl = module.functions()[function.index];
  for (const auto& instruction : function.instructions) {
    const auto operands = function.operands_of(instruction);
    if (instruction.opcode == Opcode::kLd && instruction.space == StateSpace::kParam &&
        operands[1].memory_base == software::ptx::MemoryBase::kSymbol && !operands[1].in_module) {
      const auto& variable = function.variables[operands[1].index];
      const auto first =
          static_cast<std::uint32_t>(variable.offset + static_cast<std::uint64_t>(operands[1].value));
      const auto elements = instruction.vector > 1 ? function.elements_of(operands[0]) : operands.first(1);
      for (std::uint32_t n = 0; n < instruction.vector; ++n) {
        ParameterField field;
        field.bytes = software::ptx::bytes_of(instruction.type);
        field.offset = first + n * field.bytes;
        field.is_float = instruction.type == software::ptx::Type::kF32;
        field.is_member = variable.size > 8;
        if (variable.size == 12 && field.bytes == 4)
          field.divisor_part = static_cast<int>((field.offset - variable.offset) / 4);
        fields.emplace(field.offset, field);
        if (elements[n].kind == OperandKind::kRegister) holds[elements[n].index] = field.offset;
      }
      continue;
    }
    for (const auto& operand : operands) {
      const bool address =
          operand.kind == OperandKind::kMemory && operand.memory_base == software::ptx::MemoryBase::kRegister;
      const bool converted = instruction.opcode == Opcode::kCvta && operand.kind == OperandKind::kRegister;
      if (!address && !converted) continue;
      if (const auto found = holds.find(operand.index); found != holds.end())
        fields[found->second].is_pointer = true;
    }
    // A pointer that is added to first; sizes are multiplied, or compared.
    if (instruction.opcode == Opcode::kMov && operands[0].kind == OperandKind::kRegister &&
        operands[1].kind == OperandKind::kRegister) {
      if (const auto found = holds.find(operands[1].index); found != holds.end())
        holds[operands[0].index] = found->second;
    }
  }
  // A divisor of which only parts are read is one all the same.
  std::vector<ParameterField> all;
  for (const auto& [offset, field] : fields) {
    if (field.divisor_part > 0 && (all.empty() || all.back().divisor_part != field.divisor_part - 1)) {
      for (int part = 0; part < field.divisor_part; ++part) {
        const auto at = offset - 4 * static_cast<std::uint32_t>(field.divisor_part - part);
        if (all.empty() || all.back().offset < at)
          all.push_back({.offset = at, .bytes = 4, .divisor_part = part});
      }
    }
    if (offset + field.bytes <= decl.parameter_bytes) all.push_back(field);
  }
  return all;
}

// Several compilers as one, because a process has room for one device.
class RealLaunches::Turns final : public software::KernelCompiler {
 public:
  explicit Turns(std::vector<std::unique_ptr<software::KernelCompiler>> all) : all_(std::move(all)) {}
  // For the contexts that are created from now on; of those before none is left.
  void take(std::size_t which) { now_ = which; }
  Outcome compile(const software::ptx::Module& module, std::string_view kernel,
                  const software::jit::LaunchShape& shape) override {
    return all_[now_]->compile(module, kernel, shape);
  }
  [[nodiscard]] software::jit::Counters counters() const override { return all_[now_]->counters(); }

 private:
  const std::vector<std::unique_ptr<software::KernelCompiler>> all_;
  std::atomic<std::size_t> now_ = 0;
};

RealLaunches::RealLaunches(std::vector<std::unique_ptr<software::KernelCompiler>> compilers) {
  auto turns = std::make_unique<Turns>(std::move(compilers));
  turns_ = turns.get();
  auto backend = software::make_backend(
      {.memory_bytes = std::uint64_t{1} << 28, .threads = 1, .always_coarsen = true}, std::move(turns));
  if (!backend) throw std::runtime_error(backend.error().reason);
  backend_ = software::checked::check_backend(std::move(*backend),
                                              {.per_shape = 1,
                                               .max_steps = kMaxDescribedSteps,
                                               .report = [this](const auto& check) { last_ = check; }});
}

RealLaunches::~RealLaunches() = default;

std::vector<RealCheck> RealLaunches::check(const RealKernel& kernel, std::uint64_t seed,
                                           std::span<const std::size_t> which) {
  const auto function = kernel.module->parse_function(kernel.name);
  if (!function) return {which.size(), {RealCheck::Result::kNoLaunch, function.error().describe()}};
  const auto& decl = *kernel.module->find_function(kernel.name);
  const auto fields = parameter_fields(*kernel.module, *function);
  const software::ptx::Function* const body = &*function;
  const std::uint64_t static_shared =
      software::ptx::layout_shared(*kernel.module, std::span(&body, 1)).dynamic_offset;
  std::vector<RealCheck> checks(which.size(), {RealCheck::Result::kNoLaunch, "no launch changed memory"});
  const auto is_unproven = [](const RealCheck& check) {
    return check.result == RealCheck::Result::kNoLaunch;
  };
  for (int round = 0; std::ranges::any_of(checks, is_unproven); ++round) {
    Dice dice(seed * 1000 + static_cast<std::uint64_t>(round));
    std::optional<RealLaunch> made = describe_launch(kernel, dice);
    if (round == (made ? kDescriptions : kGuesses)) break;
    if (made && made->params.size() != decl.parameter_bytes) {
      const std::string what = "described with " + std::to_string(made->params.size()) +
                               " bytes of parameters, of which it has " +
                               std::to_string(decl.parameter_bytes);
      return {which.size(), {RealCheck::Result::kNoLaunch, what}};
    }
    if (!made)
      made = guess(kernel, decl, fields, static_shared, seed * 1000 + static_cast<std::uint64_t>(round));
    CountingMemory memory;
    const auto globals = software::oracle::place_globals(*kernel.module, memory);
    std::vector<std::byte> params = made->params;
    for (std::size_t i = 0; i < made->pointers.size(); ++i) {
      const std::uint64_t address = memory.allocate(made->data[i].size());
      memory.FlatMemory::write(address, made->data[i]);
      std::memcpy(params.data() + made->pointers[i], &address, 8);
    }
    software::oracle::LaunchConfig config;
    config.grid = {made->grid[0], made->grid[1], made->grid[2]};
    config.block = {made->block[0], made->block[1], made->block[2]};
    config.dynamic_shared_bytes = made->dynamic_shared_bytes;
    config.params = params;
    config.globals = globals;
    config.max_steps = made->max_steps;
    const auto ran = software::oracle::run_grid(*kernel.module, kernel.name, config, memory);
    const bool is_done = ran.outcome == software::oracle::Outcome::kDone;
    if (is_done && !memory.is_changed && !made->leaves_memory) continue;
    for (std::size_t i = 0; i < which.size(); ++i) {
      if (!is_unproven(checks[i])) continue;
      if (!is_done) {
        checks[i].what = ran.message;
        continue;
      }
      last_ = {};
      turns_->take(which[i]);
      checks[i] = run_on(*backend_, last_, kernel, *made, memory.is_contested || ran.open_values != 0);
      if (!checks[i].what.empty()) checks[i].what += " (launch " + std::to_string(round) + ")";
    }
  }
  return checks;
}

}  // namespace vgpu::testing
