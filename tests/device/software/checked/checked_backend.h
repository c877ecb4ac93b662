// A backend that runs sampled launches twice, compiled and by the oracle, from the same memory, and compares
// all of the memory afterwards. A kernel without approximate instructions must agree to the bit; one with
// them within kApproximateError. For tests: a sampled launch copies the context's whole memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "device/backend.h"

namespace vgpu::software::checked {

// Relative to the larger of the value and the largest one its launch stored.
inline constexpr double kApproximateError = 1e-6;
// Halves: two of their last places.
inline constexpr double kApproximateHalfError = 1e-3;

enum class Verdict : uint8_t {
  kExact,       // every byte of memory is the same
  kWithin,      // an approximate kernel, within its bound
  kMismatch,    // anything else that was compared
  kNotChecked,  // the oracle did not run the launch to its end; `detail` says why
};
[[nodiscard]] std::string_view name_of(Verdict verdict);

struct Check {
  Verdict verdict = Verdict::kNotChecked;
  std::string kernel;  // demangled
  uint32_t grid[3] = {};
  uint32_t block[3] = {};
  uint64_t launch = 0;          // which of the context's launches
  uint64_t blocks_checked = 0;  // of the grid; all of them: memory was compared whole
  uint64_t steps = 0;           // warp instructions the oracle ran
  bool approximate = false;
  uint64_t bytes_stored = 0;       // by the oracle
  uint64_t differing_values = 0;   // stored ones
  uint64_t differing_strays = 0;   // bytes that only the compiled code changed
  uint64_t max_ulp = 0;            // of differing floats
  double max_relative = 0;         // of differing floats, each to itself
  double max_scaled_relative = 0;  // what the bounds are about
  std::string detail;
};

struct Options {
  uint64_t per_shape = 2;        // checks of each kernel and block shape, at its launches 1, 2, 4, 8, …
  uint64_t every = 0;            // and of every so many launches of the context, whatever they are; 0: none
  uint64_t max_steps = 500'000;  // of the oracle per check; a grid above that is checked in part
  double max_seconds = 1e9;      // that checks may take in all
  std::function<void(const Check&)> report = {};
};

[[nodiscard]] std::unique_ptr<device::Backend> check_backend(std::unique_ptr<device::Backend> inner,
                                                             Options options);

}  // namespace vgpu::software::checked
