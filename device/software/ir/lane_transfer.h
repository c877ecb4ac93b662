// One instruction's shape from its operands' shapes: the rules of the lane-shape analysis.
#pragma once

#include <span>
#include <utility>
#include <vector>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"
#include "device/software/ir/wrap_guards.h"

namespace vgpu::software::ir {

class LaneTransfer {
 public:
  // `guardable`: extensions that may rely on a check at run time.
  LaneTransfer(const Function& function, LaneShapes& shapes, GuardableExtensions guardable)
      : function_(function), shapes_(shapes), guardable_(std::move(guardable)) {}
  // Shape of a kSExt or kZExt of this operand needs the check.
  [[nodiscard]] static bool needs_guard(const Instruction& inst, const Shape& operand) {
    return operand.kind == ShapeKind::kOffsets &&
           !(operand.exact && (inst.op == Op::kSExt || operand.low >= 0));
  }

  [[nodiscard]] bool is_guarded_on_entry(const Instruction& inst) const {
    return guardable_.on_entry[inst.results[0]] && !shapes_.partial[inst.block];
  }
  [[nodiscard]] Shape constant(const Value& value) const;
  // Shape of result `index`. kUnreached as long as an operand is.
  [[nodiscard]] Shape apply(const Instruction& inst, std::uint32_t index, std::span<const Shape> operands);
  // One of two, the same one for all lanes.
  [[nodiscard]] Shape join(const Shape& a, const Shape& b) const;
  void forget_range(Shape& shape, Type type) const;

 private:
  [[nodiscard]] Shape uniform(Type type) const;
  [[nodiscard]] Shape lanes(const LaneTable& values, Type type);   // all lanes known
  [[nodiscard]] Shape offsets(const LaneTable& table, Type type);  // base not known, not exact
  [[nodiscard]] std::uint32_t intern(const LaneTable& table);
  [[nodiscard]] Shape special(const Instruction& inst);
  [[nodiscard]] Shape thread_index(int dimension);
  [[nodiscard]] Shape add(const Shape& a, const Shape& b, std::int64_t sign, Type type);
  [[nodiscard]] std::uint64_t lane_align(const Shape& shape) const;
  [[nodiscard]] bool bits_never_meet(const Shape& a, const Shape& b) const;
  [[nodiscard]] Shape disjoint_sum(const Shape& high, const Shape& low, Type type);
  [[nodiscard]] Shape multiply(const Shape& a, const Shape& b, Type type);
  [[nodiscard]] Shape shift_right(const Shape& a, const Shape& b, bool is_signed, Type type);
  [[nodiscard]] Shape mask(const Shape& a, std::int64_t bits, Type type);
  [[nodiscard]] Shape integer(const Instruction& inst, std::span<const Shape> operands);
  [[nodiscard]] bool is_same(ValueId value, ValueId as) const;
  [[nodiscard]] LaneTable values_of(const Shape& shape) const;

  const Function& function_;
  LaneShapes& shapes_;
  GuardableExtensions guardable_;
};

}  // namespace vgpu::software::ir
