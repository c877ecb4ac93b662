// A kernel with everything that running it takes: launch shape, memory, parameters. Its text form is a PTX
// file whose first lines, `//! …`, say the rest: what a failure prints is a regression test as it stands.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace vgpu::testing::fuzz {

enum class Fill : std::uint8_t {
  kPattern,  // bytes 0xA5: what a kernel leaves untouched shows
  kZero,
  kRandom,
  kFloats,   // f32, among them zeros, subnormals, infinities, NaNs
  kDoubles,  // f64 likewise
  kHalves,   // f16 likewise
};

// Where the buffer lies on the device: an access beyond its end, or before its start, faults there.
enum class Place : std::uint8_t { kAnywhere, kAtEnd, kAtStart };

struct BufferSpec {
  std::uint64_t bytes = 0;  // kAtEnd: a multiple of 16
  Fill fill = Fill::kRandom;
  std::uint64_t seed = 0;
  Place place = Place::kAnywhere;
};

struct ParamSpec {
  bool is_buffer = false;
  std::size_t buffer = 0;
  std::vector<std::uint8_t> bytes;
  std::size_t align = 1;
};

struct FuzzCase {
  std::uint64_t seed = 0;  // that generated it, for the reader
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::array<std::uint32_t, 3> block{1, 1, 1};
  std::uint32_t dynamic_shared_bytes = 0;
  int opt_level = 1;
  std::vector<std::string> switched_off;  // names in switches.h
  std::vector<BufferSpec> buffers;
  std::vector<ParamSpec> params;
  std::string ptx;  // the kernel is named `k`

  [[nodiscard]] std::string text() const;
  [[nodiscard]] static std::expected<FuzzCase, std::string> parse(const std::string& text);
};

[[nodiscard]] std::vector<std::byte> contents(const BufferSpec& buffer);

}  // namespace vgpu::testing::fuzz
