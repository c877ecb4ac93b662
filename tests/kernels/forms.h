// Single instructions as cases: a few lines of PTX between loads and a store, run over edge values.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <vector>

#include "tests/kernels/cases.h"

namespace vgpu::testing::kernels {

using Slots = std::array<std::uint64_t, 4>;

struct Form {
  std::string name;
  std::string inputs;  // types of %a, %b, %c, %e: "u32 f32"
  std::string output;  // type of %d: 32 or 64 bits
  std::string body;    // may use %p0…%p3, %h0…%h3 (b16), %r0…%r7 (b32), %q0…%q3 (b64), %f0…%f3 (f32)
  std::function<std::uint64_t(const Slots&)> expected;  // inputs zero-extended; result likewise
  double tolerance = 0;  // of an f32 or f64 output; all NaNs are equal if not 0
};

// Runs `form` over the values that matter for its types: all pairs of edge values, then mixtures.
void add_form(std::vector<Case>& cases, const Form& form);

// Short-hands for expectations.
inline std::int32_t s32(std::uint64_t v) {
  return static_cast<std::int32_t>(v);
}
inline std::uint32_t u32(std::uint64_t v) {
  return static_cast<std::uint32_t>(v);
}
inline std::int64_t s64(std::uint64_t v) {
  return static_cast<std::int64_t>(v);
}
inline float f32(std::uint64_t v) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(v));
}
inline double f64(std::uint64_t v) {
  return std::bit_cast<double>(v);
}
inline std::uint64_t bits(std::int32_t v) {
  return static_cast<std::uint32_t>(v);
}
inline std::uint64_t bits(std::uint32_t v) {
  return v;
}
inline std::uint64_t bits(std::int64_t v) {
  return static_cast<std::uint64_t>(v);
}
inline std::uint64_t bits(std::uint64_t v) {
  return v;
}
inline std::uint64_t bits(float v) {
  return std::bit_cast<std::uint32_t>(v);
}
inline std::uint64_t bits(double v) {
  return std::bit_cast<std::uint64_t>(v);
}
inline std::uint64_t bits(bool v) {
  return v ? 1 : 0;
}

// Kernel text: header, registers, and `body` as an entry `form(in, out, n)`.
std::string form_header();

}  // namespace vgpu::testing::kernels
