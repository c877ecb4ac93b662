// Lowering: integer arithmetic, logic, moves and comparisons.
#include "device/software/ir/lowering.h"

namespace vgpu::software::ir {

bool Lowering::lower_alu(const Inst& inst) {
  using ptx::Opcode;
  switch (inst.opcode) {
    case Opcode::kMov:
      lower_mov(inst);
      return true;
    case Opcode::kCvt:
      lower_cvt(inst);
      return true;
    case Opcode::kSetp:
    case Opcode::kSet:
      lower_compare(inst);
      return true;
    case Opcode::kSelp: {
      const auto ops = operands(inst);
      const Type type = type_of_ptx(inst.type);
      const ValueId yes = operand(inst, ops[1], type);
      const ValueId no = operand(inst, ops[2], type);
      write(ops[0], select(operand(inst, ops[3], Type::kI1), yes, no));
      return true;
    }
    case Opcode::kSlct: {
      const auto ops = operands(inst);
      const Type type = type_of_ptx(inst.type);
      const ValueId yes = operand(inst, ops[1], type);
      const ValueId no = operand(inst, ops[2], type);
      ValueId c = operand(inst, ops[3], type_of_ptx(inst.source_type));
      if (inst.source_type == ptx::Type::kF32 && inst.has(ptx::kFlagFtz))
        c = value(Op::kFlush, Type::kF32, {c});
      const ValueId condition =
          inst.source_type == ptx::Type::kF32
              ? compare_values(ptx::Compare::kGe, ptx::Type::kF32, c, constant(Type::kF32, 0))
              : icmp(Compare::kGeS, c, constant(Type::kI32, 0));
      write(ops[0], select(condition, yes, no));
      return true;
    }
    default:
      break;
  }
  if (ptx::is_float(inst.type)) return lower_float(inst);
  return lower_integer(inst);
}

void Lowering::lower_mov(const Inst& inst) {
  const auto ops = operands(inst);
  const Type type = type_of_ptx(inst.type);
  const auto element_bits = [&](const ptx::Operand& vector) { return bits_of(type) / vector.count; };
  if (ops[0].kind == ptx::OperandKind::kVector) {
    const ValueId source = operand(inst, ops[1], type);
    const auto elements = frame_->function->elements_of(ops[0]);
    const std::uint32_t width = element_bits(ops[0]);
    for (std::uint32_t i = 0; i < elements.size(); ++i) {
      if (elements[i].kind != ptx::OperandKind::kRegister) continue;
      const ValueId whole = as(source, int_type(bits_of(type)));
      const ValueId part =
          i == 0 ? whole : value(Op::kLShr, type_of(whole), {whole, constant(Type::kI32, i * width)});
      write(elements[i], as(part, int_type(width)));
    }
    return;
  }
  if (ops[1].kind == ptx::OperandKind::kVector) {
    const auto elements = frame_->function->elements_of(ops[1]);
    const std::uint32_t width = element_bits(ops[1]);
    const Type whole = int_type(bits_of(type));
    ValueId result = kNone;
    for (std::uint32_t i = 0; i < elements.size(); ++i) {
      ValueId part = as(operand(inst, elements[i], int_type(width)), whole);
      if (i != 0) part = value(Op::kShl, whole, {part, constant(Type::kI32, i * width)});
      result = i == 0 ? part : value(Op::kOr, whole, {result, part});
    }
    return write(ops[0], result);
  }
  write(ops[0], operand(inst, ops[1], type));
}

ValueId Lowering::compare_values(ptx::Compare compare, ptx::Type type, ValueId a, ValueId b) {
  using C = ptx::Compare;
  if (type_of(a) == Type::kF32 || type_of(a) == Type::kF64) {
    Compare c = Compare::kOrd;
    switch (compare) {
      case C::kEq:
        c = Compare::kOEq;
        break;
      case C::kNe:
        c = Compare::kONe;
        break;
      case C::kLt:
        c = Compare::kOLt;
        break;
      case C::kLe:
        c = Compare::kOLe;
        break;
      case C::kGt:
        c = Compare::kOGt;
        break;
      case C::kGe:
        c = Compare::kOGe;
        break;
      case C::kEqu:
        c = Compare::kUEq;
        break;
      case C::kNeu:
        c = Compare::kUNe;
        break;
      case C::kLtu:
        c = Compare::kULt;
        break;
      case C::kLeu:
        c = Compare::kULe;
        break;
      case C::kGtu:
        c = Compare::kUGt;
        break;
      case C::kGeu:
        c = Compare::kUGe;
        break;
      case C::kNan:
        c = Compare::kUno;
        break;
      default:
        break;
    }
    return value(Op::kFCmp, type_of(a), {a, b}, static_cast<std::int64_t>(c));
  }
  const bool is_signed = ptx::is_signed(type);
  Compare c = Compare::kEq;
  switch (compare) {
    case C::kNe:
      c = Compare::kNe;
      break;
    case C::kLt:
      c = is_signed ? Compare::kLtS : Compare::kLtU;
      break;
    case C::kLe:
      c = is_signed ? Compare::kLeS : Compare::kLeU;
      break;
    case C::kGt:
      c = is_signed ? Compare::kGtS : Compare::kGtU;
      break;
    case C::kGe:
      c = is_signed ? Compare::kGeS : Compare::kGeU;
      break;
    default:
      break;
  }
  return icmp(c, a, b);
}

// setp's third operand.
ValueId Lowering::combine(const Inst& inst, ValueId outcome, std::size_t index) {
  if (inst.bool_op == ptx::BoolOp::kNone) return outcome;
  const ValueId c = operand(inst, operands(inst)[index], Type::kI1);
  const Op op = inst.bool_op == ptx::BoolOp::kAnd  ? Op::kAnd
                : inst.bool_op == ptx::BoolOp::kOr ? Op::kOr
                                                   : Op::kXor;
  return value(op, Type::kI1, {outcome, c});
}

void Lowering::lower_compare(const Inst& inst) {
  const bool is_set = inst.opcode == ptx::Opcode::kSet;
  const ptx::Type compared = is_set ? inst.source_type : inst.type;
  if (compared == ptx::Type::kF16x2) return lower_half_compare(inst);
  const auto ops = operands(inst);
  const std::size_t first = inst.destination_count;
  const Type type = type_of_ptx(compared);
  ValueId a = operand(inst, ops[first], type);
  ValueId b = operand(inst, ops[first + 1], type);
  if (compared == ptx::Type::kF16) {
    a = value(Op::kHalfToF32, Type::kF32, {a});
    b = value(Op::kHalfToF32, Type::kF32, {b});
  } else if (compared == ptx::Type::kF32) {
    a = float_in(inst, a);
    b = float_in(inst, b);
  }
  const ValueId outcome = compare_values(inst.compare, compared, a, b);
  const ValueId result = combine(inst, outcome, first + 2);
  if (!is_set) {
    // The third operand may be one of the destinations.
    const ValueId opposite = first == 2 ? combine(inst, negate(outcome), first + 2) : kNone;
    write(ops[0], result);
    if (first == 2) write(ops[1], opposite);
    return;
  }
  const Type out = type_of_ptx(inst.type);
  const std::uint64_t one = inst.type == ptx::Type::kF32   ? 0x3F800000u
                            : inst.type == ptx::Type::kF16 ? 0x3C00u
                                                           : ~0ull;
  write(ops[0], select(result, constant(out, one), constant(out, 0)));
}

// add.cc and its like: the carry flag is one more register.
void Lowering::lower_carry(const Inst& inst) {
  using ptx::Opcode;
  const auto ops = operands(inst);
  const Type type = type_of_ptx(inst.type);
  const bool with_carry =
      inst.opcode == Opcode::kAddc || inst.opcode == Opcode::kSubc || inst.opcode == Opcode::kMadc;
  const bool subtracts = inst.opcode == Opcode::kSub || inst.opcode == Opcode::kSubc;
  ValueId a = operand(inst, ops[1], type);
  ValueId b = operand(inst, ops[2], type);
  if (inst.opcode == Opcode::kMad || inst.opcode == Opcode::kMadc) {
    a = multiply(inst, a, b);
    b = operand(inst, ops[3], type);
  }
  const Op op = subtracts ? Op::kSub : Op::kAdd;
  ValueId result = value(op, type, {a, b});
  ValueId carry = subtracts ? icmp(Compare::kLtU, a, b) : icmp(Compare::kLtU, result, a);
  if (with_carry) {
    const ValueId in = as(read(frame_->carry_register), type);
    const ValueId sum = value(op, type, {result, in});
    const ValueId again = subtracts ? icmp(Compare::kLtU, result, in) : icmp(Compare::kLtU, sum, result);
    carry = value(Op::kOr, Type::kI1, {carry, again});
    result = sum;
  }
  if (inst.has(ptx::kFlagCarryOut)) write(frame_->carry_register, carry);
  write(ops[0], result);
}

ValueId Lowering::multiply(const Inst& inst, ValueId a, ValueId b) {
  const Type type = type_of(a);
  const bool is_signed = ptx::is_signed(inst.type);
  switch (inst.mul_part) {
    case ptx::MulPart::kHi:
      return value(is_signed ? Op::kMulHiS : Op::kMulHiU, type, {a, b});
    case ptx::MulPart::kWide: {
      const Type wide = int_type(bits_of(type) * 2);
      return value(Op::kMul, wide, {extend(a, wide, is_signed), extend(b, wide, is_signed)});
    }
    default:
      return value(Op::kMul, type, {a, b});
  }
}

void Lowering::lower_mul(const Inst& inst) {
  using ptx::Opcode;
  const auto ops = operands(inst);
  const Type type = type_of_ptx(inst.type);
  const bool is_signed = ptx::is_signed(inst.type);
  const bool is_24 = inst.opcode == Opcode::kMul24 || inst.opcode == Opcode::kMad24;
  const bool adds = inst.opcode == Opcode::kMad || inst.opcode == Opcode::kMad24;
  ValueId a = operand(inst, ops[1], type);
  ValueId b = operand(inst, ops[2], type);
  ValueId result;
  if (is_24) {
    const auto low24 = [&](ValueId v) {
      const ValueId shifted = value(Op::kShl, type, {v, constant(Type::kI32, 8)});
      return value(is_signed ? Op::kAShr : Op::kLShr, type, {shifted, constant(Type::kI32, 8)});
    };
    const ValueId product =
        value(Op::kMul, Type::kI64,
              {extend(low24(a), Type::kI64, is_signed), extend(low24(b), Type::kI64, is_signed)});
    const bool high = inst.mul_part == ptx::MulPart::kHi;
    result = as(high ? value(Op::kLShr, Type::kI64, {product, constant(Type::kI32, 16)}) : product, type);
  } else {
    result = multiply(inst, a, b);
  }
  if (adds) {
    const ValueId c = operand(inst, ops[3], type_of(result));
    if (inst.has(ptx::kFlagSat)) {
      const ValueId sum =
          value(Op::kAdd, Type::kI64, {extend(result, Type::kI64, true), extend(c, Type::kI64, true)});
      const ValueId low = value(Op::kMaxS, Type::kI64, {sum, constant(Type::kI64, 0xFFFF'FFFF'8000'0000)});
      result = as(value(Op::kMinS, Type::kI64, {low, constant(Type::kI64, 0x7FFF'FFFF)}), Type::kI32);
    } else {
      result = value(Op::kAdd, type_of(result), {result, c});
    }
  }
  write(ops[0], result);
}

bool Lowering::lower_integer(const Inst& inst) {
  using ptx::Opcode;
  const auto ops = operands(inst);
  const Type type = type_of_ptx(inst.type);
  const bool is_signed = ptx::is_signed(inst.type);
  const auto in = [&](std::size_t i) { return operand(inst, ops[i], type); };
  const auto in32 = [&](std::size_t i) { return operand(inst, ops[i], Type::kI32); };
  const auto two = [&](Op op) { write(ops[0], value(op, type, {in(1), in(2)})); };
  switch (inst.opcode) {
    case Opcode::kAdd:
    case Opcode::kSub:
      if (inst.has(ptx::kFlagCarryOut)) {
        lower_carry(inst);
      } else if (inst.has(ptx::kFlagSat)) {
        const ValueId sum = value(inst.opcode == Opcode::kAdd ? Op::kAdd : Op::kSub, Type::kI64,
                                  {extend(in(1), Type::kI64, true), extend(in(2), Type::kI64, true)});
        const ValueId low = value(Op::kMaxS, Type::kI64, {sum, constant(Type::kI64, 0xFFFF'FFFF'8000'0000)});
        write(ops[0], as(value(Op::kMinS, Type::kI64, {low, constant(Type::kI64, 0x7FFF'FFFF)}), Type::kI32));
      } else {
        two(inst.opcode == Opcode::kAdd ? Op::kAdd : Op::kSub);
      }
      return true;
    case Opcode::kAddc:
    case Opcode::kSubc:
    case Opcode::kMadc:
      lower_carry(inst);
      return true;
    case Opcode::kMad:
      if (inst.has(ptx::kFlagCarryOut)) {
        lower_carry(inst);
        return true;
      }
      [[fallthrough]];
    case Opcode::kMul:
    case Opcode::kMul24:
    case Opcode::kMad24:
      lower_mul(inst);
      return true;
    case Opcode::kDiv:
      two(is_signed ? Op::kDivS : Op::kDivU);
      return true;
    case Opcode::kRem:
      two(is_signed ? Op::kRemS : Op::kRemU);
      return true;
    case Opcode::kMin:
      two(is_signed ? Op::kMinS : Op::kMinU);
      return true;
    case Opcode::kMax:
      two(is_signed ? Op::kMaxS : Op::kMaxU);
      return true;
    case Opcode::kAnd:
      two(Op::kAnd);
      return true;
    case Opcode::kOr:
      two(Op::kOr);
      return true;
    case Opcode::kXor:
      two(Op::kXor);
      return true;
    case Opcode::kNot:
      write(ops[0], value(Op::kXor, type, {in(1), constant(type, ~0ull)}));
      return true;
    case Opcode::kCnot:
      write(ops[0],
            select(icmp(Compare::kEq, in(1), constant(type, 0)), constant(type, 1), constant(type, 0)));
      return true;
    case Opcode::kNeg:
      write(ops[0], value(Op::kSub, type, {constant(type, 0), in(1)}));
      return true;
    case Opcode::kAbs:
      write(ops[0], value(Op::kAbs, type, {in(1)}));
      return true;
    case Opcode::kShl:
      write(ops[0], value(Op::kShl, type, {in(1), in32(2)}));
      return true;
    case Opcode::kShr:
      write(ops[0], value(is_signed ? Op::kAShr : Op::kLShr, type, {in(1), in32(2)}));
      return true;
    case Opcode::kShf: {
      // shf d, low, high, amount
      const ValueId low = in32(1);
      const ValueId high = in32(2);
      const Op op = inst.has(ptx::kFlagRight) ? Op::kFunnelR : Op::kFunnelL;
      write(ops[0], value(op, Type::kI32, {high, low, in32(3)}, inst.has(ptx::kFlagWrap) ? 1 : 0));
      return true;
    }
    case Opcode::kPopc:
      write(ops[0], value(Op::kPopc, Type::kI32, {in(1)}));
      return true;
    case Opcode::kClz:
      write(ops[0], value(Op::kClz, Type::kI32, {in(1)}));
      return true;
    case Opcode::kBrev:
      write(ops[0], value(Op::kBrev, type, {in(1)}));
      return true;
    case Opcode::kBfe:
      write(ops[0], value(is_signed ? Op::kBfeS : Op::kBfeU, type, {in(1), in32(2), in32(3)}));
      return true;
    case Opcode::kBfi:
      write(ops[0], value(Op::kBfi, type, {in(1), in(2), in32(3), in32(4)}));
      return true;
    case Opcode::kBfind:
      write(ops[0], value(is_signed ? Op::kBfindS : Op::kBfindU, Type::kI32, {in(1)},
                          inst.has(ptx::kFlagShiftAmount) ? 1 : 0));
      return true;
    case Opcode::kFns:
      write(ops[0], value(Op::kFns, Type::kI32, {in32(1), in32(2), in32(3)}));
      return true;
    case Opcode::kPrmt:
      write(ops[0],
            value(Op::kPrmt, Type::kI32, {in32(1), in32(2), in32(3)}, static_cast<std::int64_t>(inst.prmt)));
      return true;
    case Opcode::kLop3:
      write(ops[0], value(Op::kLop3, Type::kI32, {in32(1), in32(2), in32(3)}, inst.lop3_table));
      return true;
    case Opcode::kSad: {
      const ValueId a = in(1);
      const ValueId b = in(2);
      const ValueId high = value(is_signed ? Op::kMaxS : Op::kMaxU, type, {a, b});
      const ValueId low = value(is_signed ? Op::kMinS : Op::kMinU, type, {a, b});
      write(ops[0], value(Op::kAdd, type, {in(3), value(Op::kSub, type, {high, low})}));
      return true;
    }
    case Opcode::kDp4a:
    case Opcode::kDp2a: {
      std::int64_t form = (ptx::is_signed(inst.type) ? 1 : 0) | (ptx::is_signed(inst.source_type) ? 2 : 0);
      if (inst.mul_part == ptx::MulPart::kHi) form |= 4;
      const Op op = inst.opcode == Opcode::kDp4a ? Op::kDp4a : Op::kDp2a;
      write(ops[0], value(op, Type::kI32, {in32(1), in32(2), in32(3)}, form));
      return true;
    }
    default:
      return false;
  }
}

}  // namespace vgpu::software::ir
