// Running a case, and what the case files share: see cases.h.
#include "tests/kernels/cases.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>

namespace vgpu::testing::kernels {
namespace {

std::string hex(std::uint64_t value) {
  std::ostringstream out;
  out << "0x" << std::hex << value;
  return out.str();
}

template <typename T>
std::string compare_reals(const Buffer& buffer, std::span<const std::byte> got) {
  for (std::size_t i = 0; i + sizeof(T) <= got.size(); i += sizeof(T)) {
    T expected;
    T actual;
    std::memcpy(&expected, buffer.expected.data() + i, sizeof(T));
    std::memcpy(&actual, got.data() + i, sizeof(T));
    if (std::isnan(expected) && std::isnan(actual)) continue;
    if (expected == actual) continue;
    const double scale =
        std::max({1.0, std::fabs(static_cast<double>(expected)), std::fabs(static_cast<double>(actual))});
    const double difference = std::fabs(static_cast<double>(expected) - static_cast<double>(actual));
    if (std::isfinite(difference) && difference <= buffer.tolerance * scale) continue;
    std::ostringstream out;
    out.precision(17);
    out << "element " << i / sizeof(T) << " is " << actual << ", expected " << expected;
    return out.str();
  }
  return {};
}

std::string compare(const Buffer& buffer, std::span<const std::byte> got) {
  switch (buffer.compare) {
    case Compare::kIgnore:
      return {};
    case Compare::kFloat:
      return compare_reals<float>(buffer, got);
    case Compare::kDouble:
      return compare_reals<double>(buffer, got);
    case Compare::kExact:
      break;
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == buffer.expected[i]) continue;
    const std::size_t word = i / 4 * 4;
    std::uint32_t actual = 0;
    std::uint32_t expected = 0;
    const std::size_t size = std::min<std::size_t>(4, got.size() - word);
    std::memcpy(&actual, got.data() + word, size);
    std::memcpy(&expected, buffer.expected.data() + word, size);
    return "byte " + std::to_string(i) + ": the word " + std::to_string(word / 4) + " is " + hex(actual) +
           ", expected " + hex(expected);
  }
  return {};
}

const char* name_of(Status status) {
  switch (status) {
    case Status::kDone:
      return "done";
    case Status::kIllegalAddress:
      return "illegal address";
    case Status::kTrap:
      return "trap";
    case Status::kUnsupported:
      return "unsupported";
    case Status::kOther:
      break;
  }
  return "other";
}

}  // namespace

Launch& Launch::pointer(std::size_t buffer) {
  Argument argument;
  argument.kind = Argument::Kind::kAddress;
  argument.align = 8;
  argument.buffer = buffer;
  arguments.push_back(std::move(argument));
  return *this;
}

Launch& Launch::distance(std::size_t from, std::size_t to) {
  pointer(from);
  arguments.back().kind = Argument::Kind::kDistance;
  arguments.back().other = to;
  return *this;
}

Launch& Case::launch(std::string kernel, Dim grid, Dim block) {
  Launch launch;
  launch.kernel = std::move(kernel);
  launch.grid = grid;
  launch.block = block;
  launches.push_back(std::move(launch));
  return launches.back();
}

std::string run(const Case& test, KernelRunner& runner) {
  if (std::string reason = runner.load(test.ptx, test.file); !reason.empty()) return "load: " + reason;
  std::vector<std::uint64_t> addresses;
  for (const Buffer& buffer : test.buffers) {
    addresses.push_back(runner.allocate(buffer.input.size()));
    runner.write(addresses.back(), buffer.input);
  }
  bool failed = false;
  for (const Launch& launch : test.launches) {
    LaunchRequest request;
    request.kernel = launch.kernel;
    request.grid = launch.grid;
    request.block = launch.block;
    request.dynamic_shared_bytes = launch.dynamic_shared_bytes;
    request.blocks_wait_for_each_other = launch.blocks_wait_for_each_other;
    for (const Argument& argument : launch.arguments) {
      std::uint64_t word = 0;
      std::span<const std::byte> bytes = argument.bytes;
      if (argument.kind != Argument::Kind::kBytes) {
        word = argument.kind == Argument::Kind::kAddress
                   ? addresses[argument.buffer]
                   : addresses[argument.other] - addresses[argument.buffer];
        bytes = std::as_bytes(std::span(&word, 1));
      }
      request.params.resize((request.params.size() + argument.align - 1) / argument.align * argument.align);
      request.params.insert(request.params.end(), bytes.begin(), bytes.end());
    }
    const LaunchStatus status = runner.launch(request);
    if (status.status != launch.expected) {
      return std::string(launch.kernel) + ": " + name_of(status.status) + " (" + status.message +
             "), expected " + name_of(launch.expected);
    }
    failed = failed || status.status != Status::kDone;
  }
  if (failed) return {};  // what a faulting kernel leaves in memory is open
  for (std::size_t i = 0; i < test.buffers.size(); ++i) {
    std::vector<std::byte> got(test.buffers[i].input.size());
    runner.read(addresses[i], got);
    if (std::string difference = compare(test.buffers[i], got); !difference.empty()) {
      return "buffer " + std::to_string(i) + ", " + difference;
    }
  }
  return {};
}

const std::string& compiled(const std::string& name) {
  static std::map<std::string, std::string> texts;
  auto found = texts.find(name);
  if (found == texts.end()) {
    const std::string path = std::string(VGPU_KERNEL_DIR) + "/" + name + ".ptx";
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    if (!file) throw std::runtime_error("cannot read " + path);
    found = texts.emplace(name, text.str()).first;
  }
  return found->second;
}

Case compiled_case(std::string name, const std::string& file) {
  Case test;
  test.name = std::move(name);
  test.file = file + ".ptx";
  test.ptx = compiled(file);
  return test;
}

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    add_elementwise_cases(all);
    add_cooperation_cases(all);
    add_memory_cases(all);
    add_control_cases(all);
    add_half_cases(all);
    add_integer_form_cases(all);
    add_float_form_cases(all);
    add_statement_form_cases(all);
    return all;
  }();
  return cases;
}

std::uint64_t Random::bits() {
  // xorshift64*
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545'F491'4F6C'DD1DU;
}

std::int32_t Random::integer(std::int32_t low, std::int32_t high) {
  const auto range = static_cast<std::uint64_t>(static_cast<std::int64_t>(high) - low + 1);
  return static_cast<std::int32_t>(low + static_cast<std::int64_t>((bits() >> 16) % range));
}

float Random::real(float low, float high) {
  const float unit = static_cast<float>(bits() >> 40) / 16777216.0F;
  return low + unit * (high - low);
}

std::vector<std::int32_t> Random::integers(std::size_t n, std::int32_t low, std::int32_t high) {
  std::vector<std::int32_t> values(n);
  for (auto& v : values) v = integer(low, high);
  return values;
}

std::vector<float> Random::reals(std::size_t n, float low, float high) {
  std::vector<float> values(n);
  for (auto& v : values) v = real(low, high);
  return values;
}

}  // namespace vgpu::testing::kernels
