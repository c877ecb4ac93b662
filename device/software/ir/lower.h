// First pass: PTX to our form, still with registers (kRegRead, kRegWrite) instead of SSA values. Predication
// becomes branches or selects, calls of functions with a body are inlined, modifiers are spelled out.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "device/software/ir/ir.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

enum class LowerErrorKind : std::uint8_t { kNotFound, kParse, kUnsupported };

struct LowerError {
  LowerErrorKind kind = LowerErrorKind::kUnsupported;
  std::string message;
};

struct LowerOptions {
  std::uint32_t ntid[3] = {1, 1, 1};
  bool indices_fit_31_bits = false;
  std::uint64_t null_params = 0;  // words of the parameters that are 0 (ptx/null_tests.h)
  bool merge_loads = true;        // see passes.h
  bool split_loads = true;
};

[[nodiscard]] std::expected<Function, LowerError> lower(const ptx::Module& module, std::string_view kernel,
                                                        const LowerOptions& options);

}  // namespace vgpu::software::ir
