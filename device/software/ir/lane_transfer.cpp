// Rules of the lane-shape analysis. A rule that cannot prove its claim says uniform (if all operands are) or
// varying, which are always right.
#include "device/software/ir/lane_transfer.h"

#include <algorithm>
#include <bit>

#include "device/software/ir/fold.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

namespace {

__extension__ typedef __int128 Wide;

constexpr std::uint64_t kMaxAlign = std::uint64_t{1} << 32;
constexpr std::int64_t kMaxOffset = std::int64_t{1} << 40;

std::int64_t lowest(Type type) {
  return bits_of(type) >= 64 ? INT64_MIN : -(std::int64_t{1} << (bits_of(type) - 1));
}
std::int64_t highest(Type type) {
  return bits_of(type) >= 64 ? INT64_MAX : (std::int64_t{1} << (bits_of(type) - 1)) - 1;
}
bool fits(Wide low, Wide high, Type type) {
  return low >= lowest(type) && high <= highest(type);
}
std::int64_t wrap(std::int64_t value, Type type) {
  const std::uint32_t unused = 64 - bits_of(type);
  return static_cast<std::int64_t>(static_cast<std::uint64_t>(value) << unused) >> unused;
}
std::uint64_t align_of(std::int64_t value) {
  if (value == 0) return kMaxAlign;
  const auto bits = static_cast<std::uint64_t>(value);
  return std::min(kMaxAlign, bits & (~bits + 1));
}
bool is_integer(Type type) {
  return type >= Type::kI8 && type <= Type::kI64;
}
std::int64_t low_of(const LaneTable& table) {
  return *std::ranges::min_element(table);
}
std::int64_t high_of(const LaneTable& table) {
  return *std::ranges::max_element(table);
}

}  // namespace

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

Shape LaneTransfer::add(const Shape& a, const Shape& b, std::int64_t sign, Type type) {
  LaneTable table = shapes_.tables[a.table];
  const LaneTable other = shapes_.tables[b.table];
  for (std::size_t i = 0; i < kWarpSize; ++i) table[i] += sign * other[i];
  Shape shape = offsets(table, type);
  if (shape.is_varying()) return shape;
  shape.align = std::min(a.align, b.align);
  const Wide low = Wide{a.low} + (sign > 0 ? Wide{b.low} : -Wide{b.high});
  const Wide high = Wide{a.high} + (sign > 0 ? Wide{b.high} : -Wide{b.low});
  if (a.exact && b.exact && fits(low, high, type)) {
    shape.exact = true;
    shape.low = static_cast<std::int64_t>(low);
    shape.high = static_cast<std::int64_t>(high);
  }
  return shape;
}

Shape LaneTransfer::multiply(const Shape& a, const Shape& b, Type type) {
  const Shape& factor = b.known && b.is_uniform() ? b : a;
  const Shape& other = &factor == &b ? a : b;
  Shape shape = uniform(type);
  if (!a.is_uniform() || !b.is_uniform()) {
    if (!factor.known || !factor.is_uniform()) return Shape{.kind = ShapeKind::kVarying};
    LaneTable table = shapes_.tables[other.table];
    for (std::int64_t& entry : table) {
      const Wide product = Wide{entry} * factor.base;
      if (product > kMaxOffset || product < -kMaxOffset) return Shape{.kind = ShapeKind::kVarying};
      entry = static_cast<std::int64_t>(product);
    }
    shape = offsets(table, type);
    if (shape.is_varying()) return shape;
  }
  const auto log = std::countr_zero(a.align) + std::countr_zero(b.align);
  shape.align = std::min<std::uint64_t>(kMaxAlign, std::uint64_t{1} << std::min(log, 32));
  const Wide corners[] = {Wide{a.low} * b.low, Wide{a.low} * b.high, Wide{a.high} * b.low,
                          Wide{a.high} * b.high};
  const Wide low = std::min({corners[0], corners[1], corners[2], corners[3]});
  const Wide high = std::max({corners[0], corners[1], corners[2], corners[3]});
  if (a.exact && b.exact && fits(low, high, type)) {
    shape.exact = true;
    shape.low = static_cast<std::int64_t>(low);
    shape.high = static_cast<std::int64_t>(high);
  }
  return shape;
}

Shape LaneTransfer::shift_right(const Shape& a, const Shape& b, bool is_signed, Type type) {
  const bool all_uniform = a.is_uniform() && b.is_uniform();
  const Shape fallback = all_uniform ? uniform(type) : Shape{.kind = ShapeKind::kVarying};
  if (!b.known || !b.is_uniform() || b.base < 0 || b.base >= bits_of(type)) return fallback;
  const auto amount = static_cast<std::uint32_t>(b.base);
  if (!a.is_varying() && (is_signed || a.low >= 0) && a.low >> amount == a.high >> amount) {
    // All that could differ is shifted out: the sign of what cannot be negative, for one.
    LaneTable values{};
    values.fill(a.low >> amount);
    return lanes(values, type);
  }
  Shape shape = fallback;
  if (!all_uniform) {
    // floor((base + c) / 2^k) = base / 2^k + floor(c / 2^k) where 2^k divides base.
    if (!a.exact || (!is_signed && a.low < 0) || a.align < (std::uint64_t{1} << amount)) return fallback;
    LaneTable table = shapes_.tables[a.table];
    for (std::int64_t& entry : table) entry >>= amount;
    shape = offsets(table, type);
    if (shape.is_varying()) return shape;
  }
  if (is_signed || a.low >= 0) {
    shape.low = a.low >> amount;
    shape.high = a.high >> amount;
    shape.exact = true;
    shape.align = std::max<std::uint64_t>(1, a.align >> amount);
  } else if (amount > 0) {
    shape.low = 0;
    shape.high = static_cast<std::int64_t>(
        (bits_of(type) == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << bits_of(type)) - 1) >> amount);
    shape.exact = true;
  }
  return shape;
}

Shape LaneTransfer::mask(const Shape& a, std::int64_t bits, Type type) {
  const auto raw = static_cast<std::uint64_t>(bits);
  const LaneTable table = shapes_.tables[a.table];
  // Low bits of base + c are those of c where base has none.
  const std::uint32_t unused = 64 - bits_of(type);
  const std::uint64_t used = (raw << unused) >> unused;
  if (used < a.align) {
    LaneTable values{};
    for (std::size_t i = 0; i < kWarpSize; ++i) {
      values[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(table[i]) & used);
    }
    return lanes(values, type);
  }
  Shape shape = a.is_uniform() ? uniform(type) : Shape{.kind = ShapeKind::kVarying};
  const std::uint64_t cleared = ~raw;  // clears only low bits that base does not have
  if (std::has_single_bit(cleared + 1) && cleared < a.align) {
    LaneTable kept = table;
    for (std::int64_t& entry : kept) entry &= bits;
    shape = offsets(kept, type);
    if (!shape.is_varying() && a.exact) {
      shape.exact = true;
      shape.low = a.low & bits;
      shape.high = a.high & bits;
      shape.align = a.align;
    }
    return shape;
  }
  if (!shape.is_varying() && bits >= 0) {
    shape.low = 0;
    shape.high = bits;
  }
  if (shape.is_uniform() && cleared + 1 != 0) shape.align = std::max(a.align, align_of(bits));
  return shape;
}

Shape LaneTransfer::integer(const Instruction& inst, std::span<const Shape> operands) {
  const Type type = inst.type;
  const bool all_uniform = std::ranges::all_of(operands, &Shape::is_uniform);
  Shape fallback = all_uniform ? uniform(type) : Shape{.kind = ShapeKind::kVarying};
  const Shape& a = operands[0];
  const Shape& b = operands[operands.size() > 1 ? 1 : 0];
  switch (inst.op) {
    case Op::kAdd:
      return add(a, b, 1, type);
    case Op::kSub:
      return add(a, b, -1, type);
    case Op::kMul:
      return multiply(a, b, type);
    case Op::kShl: {
      if (!b.known || !b.is_uniform() || b.base < 0 || b.base >= bits_of(type)) return fallback;
      Shape factor{.kind = ShapeKind::kUniform, .known = true, .exact = true};
      factor.base = factor.low = factor.high = static_cast<std::int64_t>(std::uint64_t{1} << b.base);
      factor.align = align_of(factor.base);
      return b.base == 63 ? fallback : multiply(a, factor, type);
    }
    case Op::kLShr:
      return shift_right(a, b, false, type);
    case Op::kAShr:
      return shift_right(a, b, true, type);
    case Op::kAnd:
      if (b.known && b.is_uniform()) return mask(a, b.base, type);
      if (a.known && a.is_uniform()) return mask(b, a.base, type);
      return fallback;
    case Op::kOr:
    case Op::kXor: {
      // Bits that do not meet add up.
      const bool b_small = b.exact && b.low >= 0 && static_cast<std::uint64_t>(b.high) < a.align;
      const bool a_small = a.exact && a.low >= 0 && static_cast<std::uint64_t>(a.high) < b.align;
      if (b_small && a.is_uniform()) return add(a, b, 1, type);
      if (a_small && b.is_uniform()) return add(b, a, 1, type);
      return fallback;
    }
    case Op::kDivU:
    case Op::kDivS:
      if (all_uniform && a.low >= 0 && b.low > 0) {
        fallback.low = 0;
        fallback.high = a.high / b.low;
      }
      return fallback;
    case Op::kRemU:
    case Op::kRemS:
      if (all_uniform && a.low >= 0 && b.low > 0) {
        fallback.low = 0;
        fallback.high = std::min(a.high, b.high - 1);
      }
      return fallback;
    case Op::kMinS:
    case Op::kMaxS:
      if (all_uniform) {
        const bool is_min = inst.op == Op::kMinS;
        fallback.low = is_min ? std::min(a.low, b.low) : std::max(a.low, b.low);
        fallback.high = is_min ? std::min(a.high, b.high) : std::max(a.high, b.high);
      }
      return fallback;
    default:
      return fallback;
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
      if (operands[0].is_uniform() && index == 0) return operands[0];
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
    if (!all_uniform) return varying;
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
