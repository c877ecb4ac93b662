// The lane-shape analysis's rules for integer arithmetic.
#include <algorithm>
#include <bit>

#include "device/software/ir/lane_math.h"
#include "device/software/ir/lane_transfer.h"

namespace vgpu::software::ir {

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

// A power of two that divides every lane's value.
std::uint64_t LaneTransfer::lane_align(const Shape& shape) const {
  std::uint64_t align = shape.align;
  for (const std::int64_t entry : shapes_.tables[shape.table]) align = std::min(align, align_of(entry));
  return align;
}

Shape LaneTransfer::disjoint_sum(const Shape& high, const Shape& low, Type type) {
  Shape shape = add(high, low, 1, type);
  if (!shape.is_varying() && high.exact && !shape.exact) {
    shape.exact = true;
    shape.low = high.low;
    shape.high = highest(type);
  }
  return shape;
}

// No lane has a bit in both. Bits below the base's alignment are those of a lane's table entry.
bool LaneTransfer::bits_never_meet(const Shape& a, const Shape& b) const {
  if (!b.known) return b.exact && b.low >= 0 && static_cast<std::uint64_t>(b.high) < lane_align(a);
  const LaneTable& offsets = shapes_.tables[a.table];
  return std::ranges::equal(offsets, values_of(b), [&](std::int64_t offset, std::int64_t value) {
    return value >= 0 && static_cast<std::uint64_t>(value) < a.align && (offset & value) == 0;
  });
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
  // Bits that the value never has need not be kept.
  std::uint64_t kept_bits = raw;
  if (a.exact && a.low >= 0) kept_bits |= ~(std::bit_ceil(static_cast<std::uint64_t>(a.high) + 1) - 1);
  const std::uint64_t cleared = ~kept_bits;  // only low bits that base does not have
  if ((cleared == 0 || std::has_single_bit(cleared + 1)) && cleared < a.align) {
    LaneTable kept = table;
    for (std::int64_t& entry : kept) entry &= static_cast<std::int64_t>(kept_bits);
    shape = offsets(kept, type);
    if (!shape.is_varying() && a.exact) {
      shape.exact = true;
      shape.low = a.low & static_cast<std::int64_t>(kept_bits);
      shape.high = a.high & static_cast<std::int64_t>(kept_bits);
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

// The value itself, or it plus what is known to be zero, as compilers round signed numbers.
bool LaneTransfer::is_same(ValueId value, ValueId as) const {
  if (value == as) return true;
  const Instruction* sum = function_.definition(value);
  if (sum == nullptr || sum->op != Op::kAdd) return false;
  const auto is_zero = [&](ValueId id) {
    const Shape& shape = shapes_.of[id];
    return shape.is_uniform() && shape.known && shape.base == 0;
  };
  return (sum->operands[0] == as && is_zero(sum->operands[1])) ||
         (sum->operands[1] == as && is_zero(sum->operands[0]));
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
    case Op::kSub: {
      // What rounding down takes off: x - (x & ~low bits) is x & low bits.
      const Instruction* rounded = function_.definition(inst.operands[1]);
      if (rounded != nullptr && rounded->op == Op::kAnd && function_.is_constant(rounded->operands[1]) &&
          is_same(rounded->operands[0], inst.operands[0])) {
        const auto bits = static_cast<std::int64_t>(function_.values[rounded->operands[1]].bits);
        const Shape taken_off = mask(a, ~wrap(bits, type), type);
        if (!taken_off.is_varying()) return taken_off;
      }
      return add(a, b, -1, type);
    }
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
    case Op::kBfeU: {
      const Shape& length = operands[2];
      const std::uint32_t bits = bits_of(type);
      if (!length.known || !length.is_uniform() || length.base < 0 || length.base >= bits) return fallback;
      const Shape shifted = shift_right(a, b, false, type);
      return shifted.is_varying() ? shifted : mask(shifted, (std::int64_t{1} << length.base) - 1, type);
    }
    case Op::kAnd:
      if (b.known && b.is_uniform()) return mask(a, b.base, type);
      if (a.known && a.is_uniform()) return mask(b, a.base, type);
      return fallback;
    case Op::kOr:
    case Op::kXor:
      // They add up, without a carry.
      if (bits_never_meet(a, b)) return disjoint_sum(a, b, type);
      if (bits_never_meet(b, a)) return disjoint_sum(b, a, type);
      return fallback;
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

}  // namespace vgpu::software::ir
