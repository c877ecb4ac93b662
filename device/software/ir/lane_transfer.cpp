// Rules of the lane-shape analysis. A rule that cannot prove its claim says uniform (if all operands are) or
// varying, which are always right.
#include "device/software/ir/lane_transfer.h"

#include <algorithm>

#include "device/software/ir/fold.h"
#include "device/software/ir/lane_math.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

std::uint32_t LaneTransfer::intern(const LaneTable& table) {
  const auto at = std::ranges::find(shapes_.tables, table);
  if (at != shapes_.tables.end()) return static_cast<std::uint32_t>(at - shapes_.tables.begin());
  shapes_.tables.push_back(table);
  return static_cast<std::uint32_t>(shapes_.tables.size() - 1);
}

void LaneTransfer::forget_range(Shape& shape, Type type) const {
  shape.low = lowest(type);
  shape.high = highest(type);
  shape.known = false;
  shape.base = 0;
  shape.align = 1;
  shape.exact = shape.is_uniform();
}

Shape LaneTransfer::uniform(Type type) const {
  Shape shape{.kind = ShapeKind::kUniform};
  if (type != Type::kVoid) forget_range(shape, type);
  return shape;
}

Shape LaneTransfer::lanes(const LaneTable& values, Type type) {
  LaneTable table{};
  for (std::size_t i = 0; i < kWarpSize; ++i) table[i] = values[i] - values[0];
  Shape shape{.kind = ShapeKind::kUniform, .known = true, .exact = true};
  shape.base = values[0];
  shape.align = align_of(values[0]);
  shape.low = low_of(values);
  shape.high = high_of(values);
  if (table == LaneTable{}) return shape;
  if (is_float(type) || high_of(table) > kMaxOffset || low_of(table) < -kMaxOffset) {
    return Shape{.kind = ShapeKind::kVarying};
  }
  shape.kind = ShapeKind::kOffsets;
  shape.table = intern(table);
  return shape;
}

Shape LaneTransfer::offsets(const LaneTable& table, Type type) {
  if (table == LaneTable{}) return uniform(type);
  if (high_of(table) > kMaxOffset || low_of(table) < -kMaxOffset) return Shape{.kind = ShapeKind::kVarying};
  Shape shape{.kind = ShapeKind::kOffsets};
  shape.table = intern(table);
  forget_range(shape, type);
  return shape;
}

LaneTable LaneTransfer::values_of(const Shape& shape) const {
  LaneTable values = shapes_.tables[shape.table];
  for (std::int64_t& value : values) value += shape.base;
  return values;
}

Shape LaneTransfer::constant(const Value& value) const {
  if (value.is_undef) return uniform(value.type);
  const std::int64_t bits = wrap(static_cast<std::int64_t>(value.bits), value.type);
  Shape shape{.kind = ShapeKind::kUniform, .known = true, .exact = true};
  shape.base = shape.low = shape.high = bits;
  shape.align = align_of(bits);
  return shape;
}

Shape LaneTransfer::join(const Shape& a, const Shape& b) const {
  if (a == b) return a;
  if (a.kind != b.kind || a.is_varying() || a.table != b.table) return Shape{.kind = ShapeKind::kVarying};
  Shape shape = a;
  shape.known = a.known && b.known && a.base == b.base;
  if (!shape.known) shape.base = 0;
  shape.exact = a.exact && b.exact;
  shape.align = std::min(a.align, b.align);
  shape.low = std::min(a.low, b.low);
  shape.high = std::max(a.high, b.high);
  return shape;
}

// Thread number in the block is warp * 32 + lane; dimensions come out of it by division.
Shape LaneTransfer::thread_index(int dimension) {
  const std::int64_t nx = function_.ntid[0];
  const std::int64_t ny = function_.ntid[1];
  const std::int64_t threads = function_.threads();
  const std::int64_t size = function_.ntid[static_cast<std::size_t>(dimension)];
  const std::int64_t step = dimension == 0 ? 1 : dimension == 1 ? nx : nx * ny;
  if (size == 1) return lanes({}, Type::kI32);
  if (threads <= kWarpSize) {
    LaneTable values{};
    for (std::int64_t i = 0; i < kWarpSize; ++i) values[static_cast<std::size_t>(i)] = i / step % size;
    return lanes(values, Type::kI32);
  }
  // Lanes of a warp differ by the same amounts in every warp if the dimension's period and the warp fit.
  const std::int64_t period = step * size;
  Shape shape;
  if (step % kWarpSize == 0) {
    shape = uniform(Type::kI32);
    shape.align = 1;
  } else if (kWarpSize % step == 0 && period % kWarpSize == 0) {
    LaneTable table{};
    for (std::int64_t i = 0; i < kWarpSize; ++i) table[static_cast<std::size_t>(i)] = i / step;
    shape = offsets(table, Type::kI32);
    shape.align = static_cast<std::uint64_t>(kWarpSize / step);
  } else if (kWarpSize % period == 0) {
    LaneTable values{};
    for (std::int64_t i = 0; i < kWarpSize; ++i) values[static_cast<std::size_t>(i)] = i / step % size;
    return lanes(values, Type::kI32);
  } else {
    return Shape{.kind = ShapeKind::kVarying};
  }
  shape.exact = true;
  shape.low = 0;
  shape.high = size - 1;
  return shape;
}

Shape LaneTransfer::special(const Instruction& inst) {
  using SR = ptx::SpecialRegister;
  const auto reg = static_cast<SR>(inst.imm);
  const auto per_lane = [&](auto value_of) {
    LaneTable values{};
    for (std::uint32_t i = 0; i < kWarpSize; ++i) {
      values[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(value_of(i)));
    }
    return lanes(values, Type::kI32);
  };
  const auto ranged = [&](std::int64_t high) {
    Shape shape = uniform(inst.type);
    shape.low = 0;
    shape.high = high;
    return shape;
  };
  switch (reg) {
    case SR::kTidX:
    case SR::kTidY:
    case SR::kTidZ:
      return thread_index(static_cast<int>(reg) - static_cast<int>(SR::kTidX));
    case SR::kLaneid:
      return per_lane([](std::uint32_t i) { return i; });
    case SR::kLanemaskEq:
      return per_lane([](std::uint32_t i) { return 1u << i; });
    case SR::kLanemaskLt:
      return per_lane([](std::uint32_t i) { return (1u << i) - 1; });
    case SR::kLanemaskLe:
      return per_lane([](std::uint32_t i) { return (2u << i) - 1; });
    case SR::kLanemaskGt:
      return per_lane([](std::uint32_t i) { return ~((2u << i) - 1); });
    case SR::kLanemaskGe:
      return per_lane([](std::uint32_t i) { return ~((1u << i) - 1); });
    case SR::kCtaidX:
    case SR::kCtaidY:
    case SR::kCtaidZ:
    case SR::kNctaidX:
    case SR::kNctaidY:
    case SR::kNctaidZ: {
      const bool is_count = reg >= SR::kNctaidX;
      const auto dimension =
          static_cast<std::size_t>(reg) - static_cast<std::size_t>(is_count ? SR::kNctaidX : SR::kCtaidX);
      std::int64_t most = dimension == 0 ? INT32_MAX : 65535;
      if (function_.indices_fit_31_bits) {
        most = std::min(most, (std::int64_t{1} << 31) / static_cast<std::int64_t>(function_.ntid[dimension]));
      }
      return ranged(is_count ? std::min<std::int64_t>(most, INT32_MAX) : most - 1);
    }
    case SR::kWarpid:
      return ranged(static_cast<std::int64_t>(function_.threads() / kWarpSize));
    default:
      return uniform(inst.type);
  }
}

Shape LaneTransfer::apply(const Instruction& inst, std::uint32_t index, std::span<const Shape> operands) {
  const Shape varying{.kind = ShapeKind::kVarying};
  const Type type = result_type(inst, index);
  for (const Shape& shape : operands) {
    if (shape.kind == ShapeKind::kUnreached) return {};
  }
  switch (inst.op) {
    case Op::kSpecial:
      return special(inst);
    case Op::kLoad: {
      if (inst.space == Space::kLocal || !operands[0].is_uniform()) return varying;
      return uniform(type);
    }
    case Op::kShfl: {
      if (index != 0) return varying;  // whether the lane is in range
      if (operands[0].is_uniform()) return operands[0];
      // Every lane reads the same lane of the whole warp.
      const bool whole = operands[2].known && operands[2].is_uniform() && operands[2].base == 31;
      if (inst.sub == static_cast<std::uint8_t>(ptx::ShuffleMode::kIdx) && whole &&
          operands[1].is_uniform() && operands[1].low >= 0 && operands[1].high <= 31) {
        return uniform(type);
      }
      return varying;
    }
    case Op::kGlobalAddr:
    case Op::kSharedWindow: {
      Shape shape = uniform(type);
      shape.align = inst.op == Op::kSharedWindow ? 65536 : 1;
      return shape;
    }
    case Op::kLocalWindow:
    case Op::kAtomic:
    case Op::kMatch:
    case Op::kKeep:
    case Op::kPrintf:
      return varying;
    case Op::kVote:
    case Op::kActiveMask:
    case Op::kBarrier:
    case Op::kClock:
    case Op::kSharedEnd:
    case Op::kLocalStart:
    case Op::kLocalEnd:
      return uniform(type);
    default:
      break;
  }
  if (std::ranges::any_of(operands, &Shape::is_varying)) return varying;
  const bool all_uniform = std::ranges::all_of(operands, &Shape::is_uniform);

  // All lanes known: compute them.
  const bool all_known = std::ranges::all_of(operands, [](const Shape& s) { return s.known; });
  if (all_known && !is_float(type) && can_fold(inst.op) && operands.size() <= 2) {
    const LaneTable left = values_of(operands[0]);
    const LaneTable right = values_of(operands.back());
    const Type left_type = function_.values[inst.operands.front()].type;
    const Type right_type = function_.values[inst.operands.back()].type;
    LaneTable values{};
    bool complete = true;
    for (std::size_t i = 0; i < kWarpSize && complete; ++i) {
      const auto result = fold(inst.op, type, inst.imm, left_type, static_cast<std::uint64_t>(left[i]),
                               right_type, static_cast<std::uint64_t>(right[i]));
      complete = result.has_value();
      if (complete) values[i] = wrap(static_cast<std::int64_t>(*result), type);
    }
    if (complete) return lanes(values, type);
  }
  if (inst.op == Op::kSelect) {
    const Shape& yes = operands[1];
    const Shape& no = operands[2];
    if (!operands[0].is_uniform()) {
      if (!operands[0].known || !yes.known || !no.known || is_float(type)) return varying;
      const LaneTable pick = values_of(operands[0]);
      const LaneTable a = values_of(yes);
      LaneTable values = values_of(no);
      for (std::size_t i = 0; i < kWarpSize; ++i) {
        if (pick[i] != 0) values[i] = a[i];
      }
      return lanes(values, type);
    }
    return join(yes, no);
  }
  if (is_float(type) || type == Type::kI1) return all_uniform ? uniform(type) : varying;
  const Type source = inst.operands.empty() ? type : function_.values[inst.operands[0]].type;
  if (inst.op == Op::kSExt || inst.op == Op::kZExt) {
    if (!is_integer(source)) return all_uniform ? uniform(type) : varying;
    const bool in_range = inst.op == Op::kSExt || operands[0].low >= 0;
    if (operands[0].exact && in_range) {
      Shape shape = operands[0];
      if (!shape.is_uniform() || !shape.known) shape.known = false;
      if (!shape.known) shape.base = 0;
      return shape;
    }
    if (!all_uniform) {
      if (!guardable_.by_restart[inst.results[0]] && !is_guarded_on_entry(inst)) return varying;
      Shape shape = operands[0];
      shape.known = false;
      shape.base = 0;
      shape.exact = true;
      shape.low = inst.op == Op::kSExt ? lowest(source) : 0;
      shape.high = inst.op == Op::kSExt
                       ? highest(source)
                       : static_cast<std::int64_t>((std::uint64_t{1} << bits_of(source)) - 1);
      return shape;
    }
    Shape shape = uniform(type);
    if (inst.op == Op::kZExt) {
      shape.low = 0;
      shape.high = static_cast<std::int64_t>((std::uint64_t{1} << bits_of(source)) - 1);
      shape.align = operands[0].align;
    }
    return shape;
  }
  if (inst.op == Op::kTrunc) {
    if (operands[0].exact && operands[0].low >= lowest(type) && operands[0].high <= highest(type)) {
      Shape shape = operands[0];
      shape.known = false;
      shape.base = 0;
      return shape;
    }
    LaneTable table = shapes_.tables[operands[0].table];
    for (std::int64_t& entry : table) entry = wrap(entry, type);
    Shape shape = offsets(table, type);
    if (!shape.is_varying())
      shape.align = std::min(operands[0].align, std::uint64_t{1} << std::min(31u, bits_of(type)));
    return shape;
  }
  if (is_float(source)) return all_uniform ? uniform(type) : varying;
  switch (inst.op) {
    case Op::kPopc:
    case Op::kClz: {
      if (!all_uniform) return varying;
      Shape shape = uniform(type);
      shape.low = 0;
      shape.high = 64;
      return shape;
    }
    default:
      return integer(inst, operands);
  }
}

}  // namespace vgpu::software::ir
