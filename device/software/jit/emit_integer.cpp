// Integer arithmetic that PTX has and LLVM spells otherwise: clamped shifts, wide products, quotients, bit
// fields, byte permutations, dot products.
#include <llvm/IR/IntrinsicsX86.h>

#include "device/software/jit/emitter.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

using ir::Op;
using ir::Type;
using llvm::Value;

// PTX clamps shift amounts: at or beyond the width everything is shifted out.
Value* Emitter::shift_amount(Value* amount, Value* like) {
  return b_.CreateZExtOrTrunc(amount, like->getType());
}

Value* Emitter::shift(Op op, Value* value, Value* amount) {
  const unsigned width = value->getType()->getScalarSizeInBits();
  Value* last = same(amount, Type::kI32, width - 1);
  Value* clamped = shift_amount(b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, amount, last), value);
  if (op == Op::kAShr) return b_.CreateAShr(value, clamped);
  Value* shifted = op == Op::kShl ? b_.CreateShl(value, clamped) : b_.CreateLShr(value, clamped);
  return b_.CreateSelect(b_.CreateICmpULE(amount, last), shifted,
                         llvm::Constant::getNullValue(value->getType()));
}

Value* Emitter::funnel(const Inst& inst, Value* high, Value* low, Value* amount) {
  const bool left = inst.op == Op::kFunnelL;
  const auto id = left ? llvm::Intrinsic::fshl : llvm::Intrinsic::fshr;
  if (inst.imm != 0) return b_.CreateIntrinsic(id, {high->getType()}, {high, low, amount});
  Value* beyond = b_.CreateICmpUGE(amount, same(amount, Type::kI32, 32));
  return b_.CreateSelect(beyond, left ? low : high,
                         b_.CreateIntrinsic(id, {high->getType()}, {high, low, amount}));
}

Value* Emitter::multiply_high(Value* a, Value* b, bool is_signed) {
  const unsigned width = a->getType()->getScalarSizeInBits();
  if (width < 64 || !is_vector(a)) {
    llvm::Type* wide = llvm::Type::getIntNTy(context_, width * 2);
    if (is_vector(a)) wide = llvm::FixedVectorType::get(wide, kWarpSize);
    const auto extend = [&](Value* v) { return is_signed ? b_.CreateSExt(v, wide) : b_.CreateZExt(v, wide); };
    Value* product = b_.CreateMul(extend(a), extend(b));
    return b_.CreateTrunc(b_.CreateLShr(product, llvm::ConstantInt::get(wide, width)), a->getType());
  }
  // 64 bits by halves: vectors of i128 would fall apart into scalars.
  Value* low_mask = same(a, Type::kI64, 0xFFFF'FFFF);
  Value* half = same(a, Type::kI64, 32);
  Value* al = b_.CreateAnd(a, low_mask);
  Value* ah = b_.CreateLShr(a, half);
  Value* bl = b_.CreateAnd(b, low_mask);
  Value* bh = b_.CreateLShr(b, half);
  Value* cross = b_.CreateAdd(b_.CreateMul(ah, bl), b_.CreateLShr(b_.CreateMul(al, bl), half));
  Value* middle = b_.CreateAdd(b_.CreateMul(al, bh), b_.CreateAnd(cross, low_mask));
  Value* high = b_.CreateAdd(b_.CreateMul(ah, bh),
                             b_.CreateAdd(b_.CreateLShr(cross, half), b_.CreateLShr(middle, half)));
  if (!is_signed) return high;
  Value* sign = same(a, Type::kI64, 63);
  Value* fix = b_.CreateAdd(b_.CreateAnd(b_.CreateAShr(a, sign), b), b_.CreateAnd(b_.CreateAShr(b, sign), a));
  return b_.CreateSub(high, fix);
}

// Quotients of 32-bit integers are exact in f64: the distance of a quotient from the next integer is never so
// small that rounding to 53 bits could reach it.
Value* Emitter::divide32(Value* a, Value* b, bool is_signed, bool remainder) {
  Value* zero = llvm::Constant::getNullValue(a->getType());
  Value* ua = a;
  Value* ub = b;
  if (is_signed) {
    ua = b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, a, b_.getFalse());
    ub = b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, b, b_.getFalse());
  }
  llvm::Type* f64 = same_type(a, Type::kF64);
  Value* ratio = b_.CreateFDiv(b_.CreateUIToFP(ua, f64), b_.CreateUIToFP(ub, f64));
  Value* quotient = b_.CreateIntrinsic(llvm::Intrinsic::fptoui_sat, {a->getType(), f64}, {ratio});
  if (is_signed) {
    Value* negative = b_.CreateICmpSLT(b_.CreateXor(a, b), zero);
    quotient = b_.CreateSelect(negative, b_.CreateNeg(quotient), quotient);
  }
  return remainder ? b_.CreateSub(a, b_.CreateMul(quotient, b)) : quotient;
}

Value* Emitter::divide(const Inst& inst, Value* a, Value* b) {
  const bool is_signed = inst.op == Op::kDivS || inst.op == Op::kRemS;
  const bool remainder = inst.op == Op::kRemS || inst.op == Op::kRemU;
  const unsigned width = a->getType()->getScalarSizeInBits();
  const bool constant_divisor = llvm::isa<llvm::Constant>(b);
  const auto plain = [&](Value* x, Value* y) {
    // No undefined case may reach the instruction: 0 becomes 1, and the least integer by -1 is done by 1,
    // negated.
    Value* one = llvm::ConstantInt::get(y->getType(), 1);
    Value* frozen = constant_divisor ? y : b_.CreateFreeze(y);
    Value* bad = b_.CreateICmpEQ(frozen, llvm::Constant::getNullValue(y->getType()));
    Value* minus = nullptr;
    if (is_signed) {
      minus = b_.CreateICmpEQ(frozen, llvm::Constant::getAllOnesValue(y->getType()));
      bad = b_.CreateOr(bad, minus);
    }
    Value* safe = b_.CreateSelect(bad, one, frozen);
    Value* result = remainder ? (is_signed ? b_.CreateSRem(x, safe) : b_.CreateURem(x, safe))
                              : (is_signed ? b_.CreateSDiv(x, safe) : b_.CreateUDiv(x, safe));
    if (is_signed && !remainder) result = b_.CreateSelect(minus, b_.CreateNeg(result), result);
    return result;
  };
  if (!is_vector(a)) return plain(a, b);
  if (constant_divisor && width < 64) return plain(a, b);
  if (width == 16) {
    llvm::Type* wide = same_type(a, Type::kI32);
    const auto extend = [&](Value* v) { return is_signed ? b_.CreateSExt(v, wide) : b_.CreateZExt(v, wide); };
    return b_.CreateTrunc(divide32(extend(a), extend(b), is_signed, remainder), a->getType());
  }
  if (width == 32) return divide32(a, b, is_signed, remainder);
  llvm::Type* element_type = a->getType()->getScalarType();
  Value* left = spill(a, 0);
  Value* right = spill(b, 1);
  Value* out = scratch(element_type, 2);
  for_each_lane(mask(), [&](Value* lane) {
    Value* result = plain(element(left, element_type, lane), element(right, element_type, lane));
    b_.CreateStore(result, b_.CreateGEP(element_type, out, lane));
  });
  return reload(out, element_type);
}

Value* Emitter::field_extract(Value* value, Value* position, Value* length, bool is_signed) {
  const unsigned width = value->getType()->getScalarSizeInBits();
  Value* byte = same(position, Type::kI32, 0xFF);
  Value* bits = same(position, Type::kI32, width);
  Value* zero = same(position, Type::kI32, 0);
  position = b_.CreateAnd(position, byte);
  length = b_.CreateAnd(length, byte);
  if (!is_signed) {
    // (value >> position) & ((1 << length) - 1), each shift clamped.
    Value* one = llvm::ConstantInt::get(value->getType(), 1);
    Value* low = b_.CreateSub(shift(Op::kShl, one, length), one);
    return b_.CreateAnd(shift(Op::kLShr, value, position), low);
  }
  // Move the field to the top and back: the sign fills. A field that sticks out takes the value's sign.
  Value* end = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, b_.CreateAdd(position, length), bits);
  Value* start = b_.CreateBinaryIntrinsic(
      llvm::Intrinsic::umin, position,
      b_.CreateBinaryIntrinsic(llvm::Intrinsic::usub_sat, end, same(position, Type::kI32, 1)));
  Value* up = b_.CreateSub(bits, end);
  Value* moved = shift(Op::kShl, value, up);
  Value* field = shift(Op::kAShr, moved, b_.CreateAdd(up, start));
  return b_.CreateSelect(b_.CreateICmpEQ(length, zero), llvm::Constant::getNullValue(value->getType()),
                         field);
}

Value* Emitter::field_insert(Value* inserted, Value* base, Value* position, Value* length) {
  Value* byte = same(position, Type::kI32, 0xFF);
  position = b_.CreateAnd(position, byte);
  length = b_.CreateAnd(length, byte);
  Value* one = llvm::ConstantInt::get(base->getType(), 1);
  Value* field = shift(Op::kShl, b_.CreateSub(shift(Op::kShl, one, length), one), position);
  return b_.CreateOr(b_.CreateAnd(base, b_.CreateNot(field)),
                     b_.CreateAnd(shift(Op::kShl, inserted, position), field));
}

Value* Emitter::find_first(Value* value, bool is_signed, bool as_shift) {
  const unsigned width = value->getType()->getScalarSizeInBits();
  if (is_signed) {
    Value* sign = b_.CreateAShr(value, llvm::ConstantInt::get(value->getType(), width - 1));
    value = b_.CreateXor(value, sign);
  }
  Value* zeros = b_.CreateZExtOrTrunc(b_.CreateBinaryIntrinsic(llvm::Intrinsic::ctlz, value, b_.getFalse()),
                                      same_type(value, Type::kI32));
  Value* found = as_shift ? zeros : b_.CreateSub(same(zeros, Type::kI32, width - 1), zeros);
  Value* none = b_.CreateICmpEQ(value, llvm::Constant::getNullValue(value->getType()));
  return b_.CreateSelect(none, same(zeros, Type::kI32, ~0u), found);
}

// fns: the offset-th set bit from `base` up (offset > 0) or down (< 0); offset 0: base itself if set.
Value* Emitter::find_nth_set(Value* value, Value* base, Value* offset) {
  const auto k = [&](std::uint64_t bits) { return same(value, Type::kI32, bits); };
  Value* none = k(~0u);
  Value* found = none;
  Value* up = b_.CreateICmpSGE(offset, k(0));
  Value* wanted = b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, offset, b_.getFalse());
  wanted = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, wanted, k(1));
  Value* seen = k(0);
  Value* only_base = b_.CreateICmpEQ(offset, k(0));
  for (unsigned step = 0; step < 32; ++step) {
    Value* at = b_.CreateSelect(up, b_.CreateAdd(base, k(step)), b_.CreateSub(base, k(step)));
    Value* inside = b_.CreateICmpULT(at, k(32));
    Value* set = b_.CreateICmpNE(b_.CreateAnd(shift(Op::kLShr, value, at), k(1)), k(0));
    Value* hit = b_.CreateAnd(inside, set);
    if (step > 0) hit = b_.CreateAnd(hit, b_.CreateNot(only_base));
    seen = b_.CreateAdd(seen, b_.CreateZExt(hit, value->getType()));
    Value* is_it = b_.CreateAnd(hit, b_.CreateICmpEQ(seen, wanted));
    found = b_.CreateSelect(is_it, at, found);
  }
  return found;
}

Value* Emitter::permute_bytes(const Inst& inst, Value* a, Value* b, Value* selector) {
  const auto mode = static_cast<ptx::PrmtMode>(inst.imm);
  const auto k = [&](std::uint64_t bits) { return same(a, Type::kI32, bits); };
  const ir::Shape& s = shape(inst.operands[2]);
  if (mode == ptx::PrmtMode::kNone && s.known && s.is_uniform()) {
    // Constant selector: each byte moved by shifts that LLVM turns into byte shuffles.
    Value* result = k(0);
    for (unsigned i = 0; i < 4; ++i) {
      const auto pick = static_cast<unsigned>(static_cast<std::uint64_t>(s.base) >> (4 * i)) & 15;
      Value* source = (pick & 4) != 0 ? b : a;
      const unsigned from = (pick & 3) * 8;
      Value* byte;
      if ((pick & 8) != 0) {
        byte = b_.CreateAShr(b_.CreateShl(source, k(24 - from)), k(31));
      } else {
        byte = from == 0 ? source : b_.CreateLShr(source, k(from));
      }
      byte = b_.CreateAnd(byte, k(0xFF));
      result = b_.CreateOr(result, i == 0 ? byte : b_.CreateShl(byte, k(8 * i)));
    }
    return result;
  }
  llvm::Type* wide = same_type(a, Type::kI64);
  Value* both =
      b_.CreateOr(b_.CreateZExt(a, wide), b_.CreateShl(b_.CreateZExt(b, wide), same(a, Type::kI64, 32)));
  Value* result = k(0);
  for (unsigned i = 0; i < 4; ++i) {
    Value* control;
    bool sign = false;
    Value* low = b_.CreateAnd(selector, k(3));
    switch (mode) {
      case ptx::PrmtMode::kF4e:
        control = b_.CreateAdd(low, k(i));
        break;
      case ptx::PrmtMode::kB4e:
        control = b_.CreateAnd(b_.CreateSub(low, k(i)), k(7));
        break;
      case ptx::PrmtMode::kRc8:
        control = low;
        break;
      case ptx::PrmtMode::kEcl:
        control = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, low, k(i));
        break;
      case ptx::PrmtMode::kEcr:
        control = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, low, k(i));
        break;
      case ptx::PrmtMode::kRc16:
        control = b_.CreateAdd(b_.CreateShl(b_.CreateAnd(selector, k(1)), k(1)), k(i & 1));
        break;
      default:
        control = b_.CreateLShr(selector, k(4 * i));
        sign = true;
        break;
    }
    Value* at = b_.CreateZExt(b_.CreateShl(b_.CreateAnd(control, k(7)), k(3)), wide);
    Value* byte = b_.CreateTrunc(b_.CreateLShr(both, at), a->getType());
    if (sign) {
      Value* filled = b_.CreateAShr(b_.CreateShl(byte, k(24)), k(31));
      byte = b_.CreateSelect(b_.CreateICmpNE(b_.CreateAnd(control, k(8)), k(0)), filled, byte);
    }
    byte = b_.CreateAnd(byte, k(0xFF));
    result = b_.CreateOr(result, i == 0 ? byte : b_.CreateShl(byte, k(8 * i)));
  }
  return result;
}

// By cases of a: the table's upper half where a's bit is 1, the lower half where it is 0.
Value* Emitter::logic3(Value* a, Value* b, Value* c, std::uint32_t table) {
  const auto two = [&](std::uint32_t bits) -> Value* {
    const auto one = [&](std::uint32_t pair) -> Value* {
      switch (pair & 3) {
        case 0:
          return llvm::Constant::getNullValue(c->getType());
        case 1:
          return b_.CreateNot(c);
        case 2:
          return c;
        default:
          return llvm::Constant::getAllOnesValue(c->getType());
      }
    };
    Value* set = one(bits >> 2);
    Value* clear = one(bits);
    if (set == clear) return set;
    return b_.CreateOr(b_.CreateAnd(b, set), b_.CreateAnd(b_.CreateNot(b), clear));
  };
  if ((table >> 4) == (table & 15)) return two(table & 15);
  return b_.CreateOr(b_.CreateAnd(a, two(table >> 4)), b_.CreateAnd(b_.CreateNot(a), two(table & 15)));
}

// No byte has its top bit set: quantised weights after masking.
bool Emitter::bytes_non_negative(ValueId id, int depth) const {
  const ir::Instruction* def = function_.definition(id);
  if (def == nullptr) return function_.is_constant(id) && (function_.values[id].bits & 0x8080'8080) == 0;
  if (depth > 4) return false;
  switch (def->op) {
    case Op::kAnd:
      return bytes_non_negative(def->operands[0], depth + 1) ||
             bytes_non_negative(def->operands[1], depth + 1);
    case Op::kOr:
    case Op::kXor:
      return bytes_non_negative(def->operands[0], depth + 1) &&
             bytes_non_negative(def->operands[1], depth + 1);
    default:
      return false;
  }
}

Value* Emitter::dot4(const Inst& inst, Value* a, Value* b, Value* c) {
  const bool a_signed = (inst.imm & 1) != 0 && !bytes_non_negative(inst.operands[0]);
  const bool b_signed = (inst.imm & 2) != 0 && !bytes_non_negative(inst.operands[1]);
  if (is_vector(a) && target_.vnni) {
    // The instruction takes unsigned bytes times signed bytes. x signed = (x ^ 0x80) unsigned - 128.
    const auto halves = [&](Value* acc, Value* u, Value* s) {
      Value* parts[2];
      for (int h = 0; h < 2; ++h) {
        std::vector<int> index(16);
        for (int i = 0; i < 16; ++i) index[static_cast<std::size_t>(i)] = h * 16 + i;
        parts[h] = b_.CreateIntrinsic(llvm::Intrinsic::x86_avx512_vpdpbusd_512, {},
                                      {b_.CreateShuffleVector(acc, index), b_.CreateShuffleVector(u, index),
                                       b_.CreateShuffleVector(s, index)});
      }
      std::vector<int> all(32);
      for (int i = 0; i < 32; ++i) all[static_cast<std::size_t>(i)] = i;
      return b_.CreateShuffleVector(parts[0], parts[1], all);
    };
    Value* flip = constant(Type::kI32, 0x8080'8080, true);
    Value* zero = constant(Type::kI32, 0, true);
    const bool b_fits = (inst.imm & 2) != 0 || bytes_non_negative(inst.operands[1]);
    const bool a_fits = (inst.imm & 1) != 0 || bytes_non_negative(inst.operands[0]);
    if (!a_signed && b_fits) return halves(c, a, b);
    if (!b_signed && a_fits) return halves(c, b, a);
    if (a_signed && b_signed) {
      // Along a chain of sums what is too much is summed by itself, and taken off where the chain ends.
      const auto before = signed_dots_.find(c);
      const auto [sum, excess] = before != signed_dots_.end() ? before->second : std::pair(c, zero);
      const std::pair<Value*, Value*> now(halves(sum, b_.CreateXor(a, flip), b), halves(excess, flip, b));
      Value* result = b_.CreateSub(now.first, now.second);
      signed_dots_.emplace(result, now);
      return result;
    }
    // Both unsigned: b = (b ^ 0x80) as signed + 128, and 128 is twice 64.
    Value* rest = halves(zero, a, constant(Type::kI32, 0x4040'4040, true));
    return b_.CreateAdd(halves(c, a, b_.CreateXor(b, flip)),
                        b_.CreateShl(rest, constant(Type::kI32, 1, true)));
  }
  Value* sum = c;
  for (unsigned i = 0; i < 4; ++i) {
    const auto byte = [&](Value* v, bool is_signed) {
      if (is_signed)
        return b_.CreateAShr(b_.CreateShl(v, same(v, Type::kI32, 24 - 8 * i)), same(v, Type::kI32, 24));
      return b_.CreateAnd(b_.CreateLShr(v, same(v, Type::kI32, 8 * i)), same(v, Type::kI32, 0xFF));
    };
    sum = b_.CreateAdd(sum, b_.CreateMul(byte(a, a_signed), byte(b, b_signed)));
  }
  return sum;
}

Value* Emitter::dot2(const Inst& inst, Value* a, Value* b, Value* c) {
  const bool a_signed = (inst.imm & 1) != 0;
  const bool b_signed = (inst.imm & 2) != 0;
  const unsigned first = (inst.imm & 4) != 0 ? 2 : 0;
  Value* sum = c;
  for (unsigned i = 0; i < 2; ++i) {
    const auto part = [&](Value* v, unsigned width, unsigned at, bool is_signed) {
      Value* top = b_.CreateShl(v, same(v, Type::kI32, 32 - width * (at + 1)));
      Value* down = same(v, Type::kI32, 32 - width);
      return is_signed ? b_.CreateAShr(top, down) : b_.CreateLShr(top, down);
    };
    sum = b_.CreateAdd(sum, b_.CreateMul(part(a, 16, i, a_signed), part(b, 8, first + i, b_signed)));
  }
  return sum;
}

}  // namespace vgpu::software::jit
