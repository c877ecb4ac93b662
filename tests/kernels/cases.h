// Kernels with their launches, inputs and expected results, computed by plain C++. The same cases run through
// every implementation of KernelRunner: the oracle, the compiler, a whole device.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace vgpu::testing::kernels {

enum class Status : std::uint8_t { kDone, kIllegalAddress, kTrap, kUnsupported, kOther };

struct LaunchStatus {
  Status status = Status::kDone;
  std::string message;
};

struct Dim {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
};

struct LaunchRequest {
  std::string kernel;
  Dim grid;
  Dim block;
  std::uint32_t dynamic_shared_bytes = 0;
  bool blocks_wait_for_each_other = false;  // all blocks must make progress at once
  std::vector<std::byte> params;            // the packed parameter block
};

// What runs kernels. One runner serves one case: load once, then allocate, launch and read.
class KernelRunner {
 public:
  virtual ~KernelRunner() = default;
  // Empty, or why the PTX was refused. `name` is for messages.
  virtual std::string load(const std::string& ptx, const std::string& name) = 0;
  // Device memory, aligned to 256 bytes at least.
  virtual std::uint64_t allocate(std::size_t bytes) = 0;
  virtual void write(std::uint64_t address, std::span<const std::byte> bytes) = 0;
  virtual void read(std::uint64_t address, std::span<std::byte> out) = 0;
  virtual LaunchStatus launch(const LaunchRequest& request) = 0;
};

enum class Compare : std::uint8_t {
  kIgnore,  // an input, or left open
  kExact,
  kFloat,  // f32, all NaNs equal, within `tolerance` relative to the larger magnitude, or absolute below 1
  kDouble,
};

struct Buffer {
  std::vector<std::byte> input;
  std::vector<std::byte> expected;
  Compare compare = Compare::kIgnore;
  double tolerance = 0;
};

struct Argument {
  enum class Kind : std::uint8_t { kBytes, kAddress, kDistance } kind = Kind::kBytes;
  std::vector<std::byte> bytes;  // kBytes
  std::size_t align = 1;
  std::size_t buffer = 0;  // kAddress: of this buffer; kDistance: from this one
  std::size_t other = 0;   // kDistance: to this one
};

struct Launch {
  std::string kernel;
  Dim grid;
  Dim block;
  std::uint32_t dynamic_shared_bytes = 0;
  bool blocks_wait_for_each_other = false;
  std::vector<Argument> arguments;
  Status expected = Status::kDone;

  Launch& pointer(std::size_t buffer);
  Launch& distance(std::size_t from, std::size_t to);
  template <typename T>
  Launch& value(const T& v) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_pointer_v<T>);
    Argument argument;
    argument.bytes.resize(sizeof v);
    std::memcpy(argument.bytes.data(), &v, sizeof v);
    argument.align = alignof(T);
    arguments.push_back(std::move(argument));
    return *this;
  }
};

struct Case {
  std::string name;
  std::string file;  // names the PTX in messages
  std::string ptx;
  bool recursive = false;  // calls itself or calls through pointers: a compiler may refuse it
  std::vector<Buffer> buffers;
  std::vector<Launch> launches;

  template <typename T>
  std::size_t in(const std::vector<T>& input) {
    Buffer buffer;
    buffer.input = to_bytes(input);
    buffers.push_back(std::move(buffer));
    return buffers.size() - 1;
  }
  template <typename T>
  std::size_t in_out(const std::vector<T>& input, const std::vector<T>& expected, double tolerance = 0) {
    Buffer buffer;
    buffer.input = to_bytes(input);
    buffer.expected = to_bytes(expected);
    buffer.compare = tolerance == 0              ? Compare::kExact
                     : std::is_same_v<T, double> ? Compare::kDouble
                                                 : Compare::kFloat;
    buffer.tolerance = tolerance;
    buffers.push_back(std::move(buffer));
    return buffers.size() - 1;
  }
  // Filled with a pattern before, so that what a kernel leaves untouched shows.
  template <typename T>
  std::size_t out(const std::vector<T>& expected, double tolerance = 0) {
    std::vector<T> before(expected.size());
    std::memset(before.data(), 0xA5, before.size() * sizeof(T));
    return in_out(before, expected, tolerance);
  }
  Launch& launch(std::string kernel, Dim grid, Dim block);

  template <typename T>
  static std::vector<std::byte> to_bytes(const std::vector<T>& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
};

// Compares what the launches left with what was expected. Empty, or what differs and where.
[[nodiscard]] std::string run(const Case& test, KernelRunner& runner);

// All cases: compiled CUDA C++ first, then single instructions in PTX written by hand.
[[nodiscard]] const std::vector<Case>& all_cases();

// PTX that tests/kernels/<name>.cu was compiled to.
[[nodiscard]] const std::string& compiled(const std::string& name);
[[nodiscard]] Case compiled_case(std::string name, const std::string& file);

// Deterministic inputs.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E37'79B9'7F4A'7C15U + 1) {}
  std::uint64_t bits();
  std::int32_t integer(std::int32_t low, std::int32_t high);
  float real(float low, float high);
  std::vector<std::int32_t> integers(std::size_t n, std::int32_t low, std::int32_t high);
  std::vector<float> reals(std::size_t n, float low, float high);

 private:
  std::uint64_t state_;
};

void add_elementwise_cases(std::vector<Case>& cases);
void add_cooperation_cases(std::vector<Case>& cases);
void add_memory_cases(std::vector<Case>& cases);
void add_control_cases(std::vector<Case>& cases);
void add_half_cases(std::vector<Case>& cases);
void add_integer_form_cases(std::vector<Case>& cases);
void add_float_form_cases(std::vector<Case>& cases);
void add_statement_form_cases(std::vector<Case>& cases);

}  // namespace vgpu::testing::kernels
