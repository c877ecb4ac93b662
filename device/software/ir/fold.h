// Integer operations on constants, shared by simplify and the lane-shape analysis.
#pragma once

#include <cstdint>
#include <optional>

#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

[[nodiscard]] bool can_fold(Op op);
// Result of an operation with one operand (a) or two; bits beyond the operands' types are ignored. Nothing if
// the operation is not folded here or has no defined result (division by zero).
[[nodiscard]] std::optional<std::uint64_t> fold(Op op, Type type, std::int64_t imm, Type a_type,
                                                std::uint64_t a, Type b_type, std::uint64_t b);

}  // namespace vgpu::software::ir
