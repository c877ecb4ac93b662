// Lowering: f32, f64, f16 arithmetic and conversions. f16 is computed in f32 (f64 for fma) and rounded once:
// wide enough that the second rounding never changes the result.
#include "device/software/ir/lowering.h"

namespace vgpu::software::ir {

// Flush-to-zero of an f32 operand, where the processor's mode does not do it.
ValueId Lowering::float_in(const Inst& inst, ValueId v) {
  if (!inst.has(ptx::kFlagFtz) || out_.flush != FlushMode::kExplicit || type_of(v) != Type::kF32) return v;
  return value(Op::kFlush, Type::kF32, {v});
}

ValueId Lowering::float_out(const Inst& inst, ValueId v) {
  if (inst.has(ptx::kFlagFtz) && out_.flush == FlushMode::kExplicit && type_of(v) == Type::kF32) {
    v = value(Op::kFlush, Type::kF32, {v});
  }
  if (inst.has(ptx::kFlagSat)) v = value(Op::kSaturate, type_of(v), {v});
  return v;
}

bool Lowering::lower_float(const Inst& inst) {
  using ptx::Opcode;
  if (inst.type == ptx::Type::kF16 || inst.type == ptx::Type::kF16x2) {
    lower_half(inst);
    return true;
  }
  const auto ops = operands(inst);
  const Type type = type_of_ptx(inst.type);
  const auto rounding = static_cast<std::int64_t>(rounding_of(inst.rounding));
  const auto in = [&](std::size_t i) { return float_in(inst, operand(inst, ops[i], type)); };
  const auto out = [&](ValueId v) { write(ops[0], float_out(inst, v)); };
  // These move bits or pick an operand: the processor's mode does not flush their result.
  const auto flushed = [&](ValueId v) {
    out(inst.has(ptx::kFlagFtz) && type == Type::kF32 ? value(Op::kFlush, type, {v}) : v);
  };
  const auto one = constant(type, type == Type::kF32 ? 0x3F800000u : 0x3FF0'0000'0000'0000u);
  switch (inst.opcode) {
    case Opcode::kAdd:
      out(value(Op::kFAdd, type, {in(1), in(2)}, rounding));
      return true;
    case Opcode::kSub:
      out(value(Op::kFSub, type, {in(1), in(2)}, rounding));
      return true;
    case Opcode::kMul:
      out(value(Op::kFMul, type, {in(1), in(2)}, rounding));
      return true;
    case Opcode::kFma:
    case Opcode::kMad:
      out(value(Op::kFFma, type, {in(1), in(2), in(3)}, rounding));
      return true;
    case Opcode::kDiv:
      out(value(Op::kFDiv, type, {in(1), in(2)}, rounding));
      return true;
    case Opcode::kRcp:
      out(value(Op::kFDiv, type, {one, in(1)}, rounding));
      return true;
    case Opcode::kSqrt:
      out(value(Op::kFSqrt, type, {in(1)}, rounding));
      return true;
    case Opcode::kRsqrt:
      out(value(Op::kRsqrt, type, {in(1)}));
      return true;
    case Opcode::kEx2:
      out(value(Op::kEx2, type, {in(1)}));
      return true;
    case Opcode::kLg2:
      out(value(Op::kLg2, type, {in(1)}));
      return true;
    case Opcode::kSin:
      out(value(Op::kSin, type, {in(1)}));
      return true;
    case Opcode::kCos:
      out(value(Op::kCos, type, {in(1)}));
      return true;
    case Opcode::kTanh:
      out(value(Op::kTanh, type, {in(1)}));
      return true;
    case Opcode::kNeg:
      flushed(value(Op::kFNeg, type, {in(1)}));
      return true;
    case Opcode::kAbs:
      flushed(value(Op::kFAbs, type, {in(1)}));
      return true;
    case Opcode::kMin:
    case Opcode::kMax:
      flushed(value(inst.opcode == Opcode::kMin ? Op::kFMin : Op::kFMax, type, {in(1), in(2)},
                    inst.has(ptx::kFlagNan) ? 1 : 0));
      return true;
    case Opcode::kCopysign: {
      const Type bits = int_type(bits_of(type));
      const std::uint64_t sign = std::uint64_t{1} << (bits_of(type) - 1);
      const ValueId from = value(Op::kAnd, bits, {operand(inst, ops[1], bits), constant(bits, sign)});
      const ValueId magnitude = value(Op::kAnd, bits, {operand(inst, ops[2], bits), constant(bits, ~sign)});
      write(ops[0], value(Op::kOr, bits, {from, magnitude}));
      return true;
    }
    case Opcode::kTestp:
      write(ops[0],
            value(Op::kTestP, type, {operand(inst, ops[1], type)}, static_cast<std::int64_t>(inst.testp)));
      return true;
    default:
      return false;
  }
}

// One f16 result from f16 operands.
ValueId Lowering::half_op(const Inst& inst, Op op, const std::vector<ValueId>& halves) {
  const auto clear_sign = [&](ValueId h) {
    return value(Op::kAnd, Type::kI16, {h, constant(Type::kI16, 0x7FFF)});
  };
  if (op == Op::kFAbs) return clear_sign(halves[0]);
  if (op == Op::kFNeg) return value(Op::kXor, Type::kI16, {halves[0], constant(Type::kI16, 0x8000)});
  std::vector<ValueId> wide;
  for (const ValueId half : halves) {
    ValueId v = value(Op::kHalfToF32, Type::kF32, {half});
    if (inst.has(ptx::kFlagFtz)) {
      // f16 subnormals are below 2^-14.
      const ValueId tiny =
          compare_values(ptx::Compare::kLt, ptx::Type::kF32, value(Op::kFAbs, Type::kF32, {v}),
                         constant(Type::kF32, 0x38800000));
      const ValueId sign = value(Op::kAnd, Type::kI32, {as(v, Type::kI32), constant(Type::kI32, 0x80000000)});
      v = select(tiny, as(sign, Type::kF32), v);
    }
    if (op == Op::kFFma) v = value(Op::kFExt, Type::kF64, {v});
    wide.push_back(v);
  }
  const Type type = type_of(wide[0]);
  const bool propagates_nan = (op == Op::kFMin || op == Op::kFMax) && inst.has(ptx::kFlagNan);
  ValueId result = value(op, type, std::move(wide), propagates_nan ? 1 : 0);
  if (inst.has(ptx::kFlagSat)) result = value(Op::kSaturate, type, {result});
  result = value(type == Type::kF64 ? Op::kF64ToHalf : Op::kF32ToHalf, Type::kI16, {result});
  if (inst.has(ptx::kFlagFtz)) {
    const ValueId tiny = icmp(Compare::kLtU, clear_sign(result), constant(Type::kI16, 0x0400));
    result = select(tiny, value(Op::kAnd, Type::kI16, {result, constant(Type::kI16, 0x8000)}), result);
  }
  return result;
}

void Lowering::lower_half(const Inst& inst) {
  using ptx::Opcode;
  const auto ops = operands(inst);
  Op op;
  switch (inst.opcode) {
    case Opcode::kAdd:
      op = Op::kFAdd;
      break;
    case Opcode::kSub:
      op = Op::kFSub;
      break;
    case Opcode::kMul:
      op = Op::kFMul;
      break;
    case Opcode::kFma:
      op = Op::kFFma;
      break;
    case Opcode::kNeg:
      op = Op::kFNeg;
      break;
    case Opcode::kAbs:
      op = Op::kFAbs;
      break;
    case Opcode::kMin:
      op = Op::kFMin;
      break;
    case Opcode::kMax:
      op = Op::kFMax;
      break;
    case Opcode::kEx2:
      op = Op::kEx2;
      break;
    case Opcode::kTanh:
      op = Op::kTanh;
      break;
    default:
      return void(fail(inst, "unsupported f16 instruction"));
  }
  const std::size_t sources = ops.size() - 1;
  const std::uint32_t lanes = inst.type == ptx::Type::kF16x2 ? 2 : 1;
  std::vector<ValueId> whole;
  for (std::size_t i = 0; i < sources; ++i) whole.push_back(operand(inst, ops[i + 1], int_type(16 * lanes)));
  ValueId result = kNone;
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    std::vector<ValueId> halves;
    for (const ValueId v : whole) {
      halves.push_back(
          as(lane == 0 ? v : value(Op::kLShr, Type::kI32, {v, constant(Type::kI32, 16)}), Type::kI16));
    }
    const ValueId half = half_op(inst, op, halves);
    if (lane == 0) {
      result = half;
    } else {
      const ValueId high = value(Op::kShl, Type::kI32, {as(half, Type::kI32), constant(Type::kI32, 16)});
      result = value(Op::kOr, Type::kI32, {as(result, Type::kI32), high});
    }
  }
  write(ops[0], result);
}

void Lowering::lower_half_compare(const Inst& inst) {
  const auto ops = operands(inst);
  const std::size_t first = inst.destination_count;
  const bool is_set = inst.opcode == ptx::Opcode::kSet;
  const ValueId a = operand(inst, ops[first], Type::kI32);
  const ValueId b = operand(inst, ops[first + 1], Type::kI32);
  ValueId outcomes[2];
  ValueId packed = kNone;
  for (std::uint32_t lane = 0; lane < 2; ++lane) {
    const auto half = [&](ValueId v) {
      const ValueId part = lane == 0 ? v : value(Op::kLShr, Type::kI32, {v, constant(Type::kI32, 16)});
      return value(Op::kHalfToF32, Type::kF32, {as(part, Type::kI16)});
    };
    outcomes[lane] =
        combine(inst, compare_values(inst.compare, ptx::Type::kF16, half(a), half(b)), first + 2);
    if (!is_set) continue;
    const std::uint64_t one = inst.type == ptx::Type::kF16x2 ? 0x3C00 : 0xFFFF;
    const ValueId part =
        select(outcomes[lane], constant(Type::kI32, one << (16 * lane)), constant(Type::kI32, 0));
    packed = lane == 0 ? part : value(Op::kOr, Type::kI32, {packed, part});
  }
  if (is_set) return write(ops[0], packed);
  // Last, since the third operand may be one of the destinations.
  for (std::uint32_t lane = 0; lane < first; ++lane) write(ops[lane], outcomes[lane]);
}

void Lowering::lower_cvt(const Inst& inst) {
  const auto ops = operands(inst);
  const ptx::Type to = inst.type;
  const ptx::Type from = inst.source_type;
  const auto rounding = static_cast<std::int64_t>(rounding_of(inst.rounding));
  const bool to_integral = inst.rounding >= ptx::Rounding::kRni;
  if (to == ptx::Type::kF16x2) {
    // Two f32 packed: the first source is the high half.
    ValueId halves[2];
    for (std::size_t i = 0; i < 2; ++i) {
      ValueId v = operand(inst, ops[i + 1], Type::kF32);
      if (inst.has(ptx::kFlagSat)) v = value(Op::kSaturate, Type::kF32, {v});
      halves[i] = as(value(Op::kF32ToHalf, Type::kI16, {v}, rounding), Type::kI32);
    }
    const ValueId high = value(Op::kShl, Type::kI32, {halves[0], constant(Type::kI32, 16)});
    return write(ops[0], value(Op::kOr, Type::kI32, {high, halves[1]}));
  }
  ValueId v = operand(inst, ops[1], type_of_ptx(from));
  const auto finish = [&](ValueId result) {
    if (ops[0].kind != ptx::OperandKind::kRegister) return;
    const Type reg = out_.registers[frame_->first_register + ops[0].index];
    write(ops[0], extend(result, reg, ptx::is_signed(to)));
  };
  if (!ptx::is_float(from) && !ptx::is_float(to)) {
    const bool is_signed = ptx::is_signed(from);
    if (inst.has(ptx::kFlagSat)) {
      const ValueId wide = extend(v, Type::kI64, is_signed);
      const std::uint32_t bits = ptx::bits_of(to);
      const std::uint64_t top = ptx::is_signed(to) ? (std::uint64_t{1} << (bits - 1)) - 1
                                : bits == 64       ? ~std::uint64_t{0}
                                                   : (std::uint64_t{1} << bits) - 1;
      ValueId clamped = wide;
      if (is_signed) {
        const std::uint64_t bottom = ptx::is_signed(to) ? ~top : 0;
        clamped = value(Op::kMaxS, Type::kI64, {clamped, constant(Type::kI64, bottom)});
        if (bits < 64) clamped = value(Op::kMinS, Type::kI64, {clamped, constant(Type::kI64, top)});
      } else {
        clamped = value(Op::kMinU, Type::kI64, {clamped, constant(Type::kI64, top)});
      }
      return finish(as(clamped, type_of_ptx(to)));
    }
    return finish(extend(v, type_of_ptx(to), is_signed));
  }
  if (ptx::is_float(from) && from != ptx::Type::kF64) {
    v = from == ptx::Type::kF16 ? value(Op::kHalfToF32, Type::kF32, {v}) : float_in(inst, v);
  }
  if (!ptx::is_float(to)) {
    const Type result = type_of_ptx(to);
    return finish(value(ptx::is_signed(to) ? Op::kFToS : Op::kFToU, result, {v}, rounding));
  }
  if (!ptx::is_float(from)) {
    const Type wide = to == ptx::Type::kF64 ? Type::kF64 : Type::kF32;
    if (bits_of(type_of(v)) < 32) v = extend(v, Type::kI32, ptx::is_signed(from));
    // Integers that f32 does not hold exactly are beyond f16's range: rounding them twice is harmless.
    const std::int64_t first = to == ptx::Type::kF16 ? 0 : rounding;
    v = value(ptx::is_signed(from) ? Op::kSToF : Op::kUToF, wide, {v}, first);
  }
  if (to_integral && ptx::is_float(from)) v = value(Op::kFRound, type_of(v), {v}, rounding);
  const std::int64_t narrowing = to_integral ? 0 : rounding;
  if (to == ptx::Type::kF64) {
    if (type_of(v) == Type::kF32) v = value(Op::kFExt, Type::kF64, {v});
  } else if (to == ptx::Type::kF32) {
    if (type_of(v) == Type::kF64) v = value(Op::kFTrunc, Type::kF32, {v}, narrowing);
    if (inst.has(ptx::kFlagFtz) && from == ptx::Type::kF32) v = value(Op::kFlush, Type::kF32, {v});
  } else {
    if (inst.has(ptx::kFlagSat)) v = value(Op::kSaturate, type_of(v), {v});
    const Op op = type_of(v) == Type::kF64 ? Op::kF64ToHalf : Op::kF32ToHalf;
    return finish(value(op, Type::kI16, {v}, narrowing));
  }
  write(ops[0], float_out(inst, v));
}

}  // namespace vgpu::software::ir
