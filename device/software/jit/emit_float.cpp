// Floating point: arithmetic, conversions, directed rounding. No fast-math: every operation rounds as PTX
// says.
#include <llvm/IR/IntrinsicsX86.h>

#include <cmath>
#include <numeric>

#include "device/software/jit/emitter.h"
#include "device/software/jit/runtime_helpers.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

using ir::Op;
using ir::Rounding;
using ir::Type;
using llvm::Value;

Value* Emitter::float_constant(Value* like, double value) {
  return llvm::ConstantFP::get(like->getType(), value);
}

Value* Emitter::int_bits(Value* value) {
  const bool wide = value->getType()->getScalarSizeInBits() == 64;
  return b_.CreateBitCast(value, same_type(value, wide ? Type::kI64 : Type::kI32));
}

Value* Emitter::float_bits(Value* value) {
  const bool wide = value->getType()->getScalarSizeInBits() == 64;
  return b_.CreateBitCast(value, same_type(value, wide ? Type::kF64 : Type::kF32));
}

Value* Emitter::fma(Value* a, Value* b, Value* c) {
  return b_.CreateIntrinsic(llvm::Intrinsic::fma, {a->getType()}, {a, b, c});
}

Value* Emitter::emit_float(const Inst& inst, bool as_vector) {
  const auto in = [&](std::size_t i) { return get(inst.operands[i], as_vector); };
  const auto rounding = static_cast<Rounding>(inst.imm);
  llvm::Type* out = type(inst.type, as_vector);
  switch (inst.op) {
    case Op::kFAdd:
    case Op::kFSub:
    case Op::kFMul:
    case Op::kFFma:
    case Op::kFDiv:
    case Op::kFSqrt:
      if (rounding != Rounding::kNearest) {
        std::vector<Value*> args;
        for (std::size_t i = 0; i < inst.operands.size(); ++i) args.push_back(in(i));
        return directed(inst, std::move(args));
      }
      break;
    default:
      break;
  }
  switch (inst.op) {
    case Op::kFAdd:
      return b_.CreateFAdd(in(0), in(1));
    case Op::kFSub:
      return b_.CreateFSub(in(0), in(1));
    case Op::kFMul:
      return b_.CreateFMul(in(0), in(1));
    case Op::kFFma:
      return fma(in(0), in(1), in(2));
    case Op::kFDiv:
      return b_.CreateFDiv(in(0), in(1));
    case Op::kFSqrt:
      return b_.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, in(0));
    case Op::kFNeg:
      return b_.CreateFNeg(in(0));
    case Op::kFAbs:
      return b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, in(0));
    case Op::kFMin:
    case Op::kFMax:
      return min_max(inst, in(0), in(1));
    case Op::kFlush:
      return flush(in(0));
    case Op::kSaturate:
      return saturate(in(0));
    case Op::kEx2:
      return exp2(in(0));
    case Op::kLg2:
      return log2(in(0));
    case Op::kSin:
    case Op::kCos:
      return sin_cos(in(0), inst.op == Op::kCos);
    case Op::kTanh:
      return tanh(in(0));
    case Op::kRsqrt: {
      Value* x = in(0);
      return b_.CreateFDiv(float_constant(x, 1.0), b_.CreateUnaryIntrinsic(llvm::Intrinsic::sqrt, x));
    }
    case Op::kTestP:
      return test(inst, in(0));
    case Op::kFToS:
    case Op::kFToU:
      return to_integer(inst, in(0));
    case Op::kSToF:
    case Op::kUToF:
      return from_integer(inst, in(0));
    case Op::kFExt:
      return b_.CreateFPExt(in(0), out);
    case Op::kFTrunc:
      return narrow(in(0), rounding);
    case Op::kFRound:
      return round_integral(in(0), rounding);
    case Op::kHalfToF32:
      return half_to_float(in(0));
    case Op::kF32ToHalf:
      return rounding == Rounding::kNearest ? float_to_half(in(0))
                                            : rounded_by_helper(inst, {in(0)}, Type::kI16);
    case Op::kF64ToHalf:
      return rounding == Rounding::kNearest ? float_to_half(narrow_to_odd(in(0)))
                                            : rounded_by_helper(inst, {in(0)}, Type::kI16);
    default:
      llvm::report_fatal_error("an operation without code");
  }
}

// ------------------------------------------------------------------ rounding other than to nearest

// f32 sums and products are computed in f64 with the inexact bit kept (round to odd), then narrowed as asked.
// The rest goes through a helper that sets the processor's rounding mode.
Value* Emitter::directed(const Inst& inst, std::vector<Value*> args) {
  const auto rounding = static_cast<Rounding>(inst.imm);
  if (inst.type == Type::kF64 || inst.op == Op::kFDiv || inst.op == Op::kFSqrt) {
    return rounded_by_helper(inst, args, inst.type);
  }
  if (target_.avx512 && is_vector(args[0]) && (inst.op == Op::kFAdd || inst.op == Op::kFSub))
    return directed_sum(inst, args[0], args[1]);
  for (Value*& arg : args) arg = b_.CreateFPExt(arg, same_type(arg, Type::kF64));
  if (inst.op == Op::kFMul) return narrow(b_.CreateFMul(args[0], args[1]), rounding);
  Value* a = args[0];
  Value* b = args[1];
  if (inst.op == Op::kFSub) b = b_.CreateFNeg(b);
  if (inst.op == Op::kFFma) {
    a = b_.CreateFMul(args[0], args[1]);
    b = args[2];
  }
  // Knuth's two-sum: a + b = sum + error exactly.
  Value* sum = b_.CreateFAdd(a, b);
  Value* bb = b_.CreateFSub(sum, a);
  Value* error = b_.CreateFAdd(b_.CreateFSub(a, b_.CreateFSub(sum, bb)), b_.CreateFSub(b, bb));
  Value* result = narrow(round_to_odd(sum, error), rounding);
  if (rounding != Rounding::kDown) return result;
  // x - x is -0 when rounding down.
  Value* zero = b_.CreateFCmpOEQ(sum, float_constant(sum, 0.0));
  Value* both_positive_zero = b_.CreateICmpEQ(b_.CreateOr(int_bits(a), int_bits(b)),
                                              llvm::Constant::getNullValue(int_bits(a)->getType()));
  return b_.CreateSelect(b_.CreateAnd(zero, b_.CreateNot(both_positive_zero)), float_constant(result, -0.0),
                         result);
}

// By the processor. Products are not left to it: where it flushes to zero, it may do so with what would be
// rounded up to the smallest normal number. Sums so small are exact.
Value* Emitter::directed_sum(const Inst& inst, Value* a, Value* b) {
  const auto id =
      inst.op == Op::kFAdd ? llvm::Intrinsic::x86_avx512_add_ps_512 : llvm::Intrinsic::x86_avx512_sub_ps_512;
  constexpr std::uint64_t kQuietly = 8;  // and then MXCSR's numbers
  const auto rounding = static_cast<Rounding>(inst.imm);
  const std::uint64_t number = rounding == Rounding::kDown ? 1 : rounding == Rounding::kUp ? 2 : 3;
  std::vector<Value*> halves;
  for (std::size_t first = 0; first < kWarpSize; first += kHalfWarp) {
    std::vector<int> lanes(kHalfWarp);
    std::iota(lanes.begin(), lanes.end(), static_cast<int>(first));
    halves.push_back(b_.CreateIntrinsic(
        id, {},
        {b_.CreateShuffleVector(a, lanes), b_.CreateShuffleVector(b, lanes), i32(kQuietly | number)}));
  }
  return concatenate(halves);
}

Value* Emitter::round_to_odd(Value* sum, Value* error) {
  Value* bits = int_bits(sum);
  Value* zero = float_constant(error, 0.0);
  Value* one = same(bits, Type::kI64, 1);
  Value* inexact = b_.CreateFCmpONE(error, zero);
  Value* error_negative = b_.CreateICmpSLT(int_bits(error), same(bits, Type::kI64, 0));
  Value* sum_negative = b_.CreateICmpSLT(bits, same(bits, Type::kI64, 0));
  // Rounded away from zero: step back before setting the last bit.
  Value* away = b_.CreateXor(error_negative, sum_negative);
  Value* truncated = b_.CreateSelect(away, b_.CreateSub(bits, one), bits);
  return float_bits(b_.CreateSelect(inexact, b_.CreateOr(truncated, one), bits));
}

Value* Emitter::narrow(Value* wide, Rounding rounding) {
  Value* near = b_.CreateFPTrunc(wide, same_type(wide, Type::kF32));
  if (rounding == Rounding::kNearest) return near;
  Value* back = b_.CreateFPExt(near, wide->getType());
  Value* bits = int_bits(near);
  Value* one = same(bits, Type::kI32, 1);
  Value* sign = same(bits, Type::kI32, 0x8000'0000);
  Value* negative = b_.CreateICmpSLT(bits, same(bits, Type::kI32, 0));
  Value* smaller = b_.CreateSub(bits, one);
  Value* larger = b_.CreateAdd(bits, one);
  Value* too_high = b_.CreateFCmpOGT(back, wide);
  Value* too_low = b_.CreateFCmpOLT(back, wide);
  Value* is_zero = b_.CreateICmpEQ(b_.CreateAnd(bits, b_.CreateNot(sign)), same(bits, Type::kI32, 0));
  // The neighbours; beyond zero lies the smallest number of the other sign.
  Value* down = b_.CreateSelect(is_zero, b_.CreateOr(sign, one), b_.CreateSelect(negative, larger, smaller));
  Value* up = b_.CreateSelect(is_zero, one, b_.CreateSelect(negative, smaller, larger));
  switch (rounding) {
    case Rounding::kDown:
      bits = b_.CreateSelect(too_high, down, bits);
      break;
    case Rounding::kUp:
      bits = b_.CreateSelect(too_low, up, bits);
      break;
    default: {
      Value* away = b_.CreateSelect(negative, too_low, too_high);
      bits = b_.CreateSelect(away, smaller, bits);
      break;
    }
  }
  Value* result = float_bits(bits);
  return function_.flush == ir::FlushMode::kAlways ? flush(result) : result;
}

// f64 to f32 so that rounding on to f16 gives what rounding once would have.
Value* Emitter::narrow_to_odd(Value* wide) {
  Value* near = b_.CreateFPTrunc(wide, same_type(wide, Type::kF32));
  Value* back = b_.CreateFPExt(near, wide->getType());
  Value* bits = int_bits(near);
  Value* one = same(bits, Type::kI32, 1);
  Value* magnitude = b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, wide);
  Value* away = b_.CreateFCmpOGT(b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, back), magnitude);
  Value* inexact = b_.CreateFCmpONE(back, wide);
  Value* truncated = b_.CreateSelect(away, b_.CreateSub(bits, one), bits);
  return float_bits(b_.CreateSelect(inexact, b_.CreateOr(truncated, one), bits));
}

Value* Emitter::rounded_by_helper(const Inst& inst, const std::vector<Value*>& args, Type result) {
  RoundedOp op = RoundedOp::kAdd;
  const bool f64 = args[0]->getType()->getScalarSizeInBits() == 64;
  switch (inst.op) {
    case Op::kFAdd:
      op = RoundedOp::kAdd;
      break;
    case Op::kFSub:
      op = RoundedOp::kSub;
      break;
    case Op::kFMul:
      op = RoundedOp::kMul;
      break;
    case Op::kFFma:
      op = RoundedOp::kFma;
      break;
    case Op::kFDiv:
      op = RoundedOp::kDiv;
      break;
    case Op::kFSqrt:
      op = RoundedOp::kSqrt;
      break;
    case Op::kSToF:
      op = RoundedOp::kFromSigned;
      break;
    case Op::kUToF:
      op = RoundedOp::kFromUnsigned;
      break;
    default:
      op = RoundedOp::kToHalf;
      break;
  }
  const bool wide =
      op == RoundedOp::kFromSigned || op == RoundedOp::kFromUnsigned ? result == Type::kF64 : f64;
  const std::uint32_t code = rounded_code(op, static_cast<std::uint32_t>(inst.imm), wide);
  auto* i64_type = b_.getInt64Ty();
  auto* signature = llvm::FunctionType::get(i64_type, {b_.getInt32Ty(), i64_type, i64_type, i64_type}, false);
  const auto helper = module_.getOrInsertFunction(kRoundedSymbol, signature);
  const auto call = [&](const std::vector<Value*>& values) {
    std::vector<Value*> words{i32(code)};
    for (std::size_t i = 0; i < 3; ++i) {
      if (i >= values.size()) {
        words.push_back(i64(0));
        continue;
      }
      Value* v = values[i];
      if (v->getType()->isFloatingPointTy()) v = int_bits(v);
      words.push_back(op == RoundedOp::kFromSigned ? b_.CreateSExt(v, i64_type) : b_.CreateZExt(v, i64_type));
    }
    return b_.CreateCall(helper, words);
  };
  const auto finish = [&](Value* word) {
    Value* bits = b_.CreateTrunc(word, llvm::Type::getIntNTy(context_, ir::bits_of(result)));
    return ir::is_float(result) ? float_bits(bits) : bits;
  };
  if (!is_vector(args[0])) return finish(call(args));
  std::vector<Value*> spilled;
  for (unsigned i = 0; i < args.size(); ++i) spilled.push_back(spill(args[i], i));
  Value* out = scratch(type(result), 3);
  for_each_lane(mask(), [&](Value* lane) {
    std::vector<Value*> values;
    for (std::size_t i = 0; i < args.size(); ++i) {
      values.push_back(element(spilled[i], args[i]->getType()->getScalarType(), lane));
    }
    b_.CreateStore(finish(call(values)), b_.CreateGEP(type(result), out, lane));
  });
  return reload(out, type(result));
}

// ------------------------------------------------------------------ conversions

Value* Emitter::round_integral(Value* value, Rounding rounding) {
  constexpr llvm::Intrinsic::ID kIds[] = {llvm::Intrinsic::roundeven, llvm::Intrinsic::trunc,
                                          llvm::Intrinsic::floor, llvm::Intrinsic::ceil};
  return b_.CreateUnaryIntrinsic(kIds[static_cast<std::size_t>(rounding)], value);
}

Value* Emitter::to_integer(const Inst& inst, Value* value) {
  const auto rounding = static_cast<Rounding>(inst.imm);
  if (rounding != Rounding::kZero) value = round_integral(value, rounding);
  const bool is_signed = inst.op == Op::kFToS;
  // NaN gives 0, but the top bit alone where f64 or 64 bits are involved.
  const std::uint32_t width = ir::bits_of(inst.type);
  const bool is_narrow = width < 64 && value->getType()->getScalarSizeInBits() < 64;
  llvm::Type* out = same_type(value, inst.type);
  Value* of_nan = same(value, inst.type, is_narrow ? 0 : std::uint64_t{1} << (width - 1));
  if (!is_vector(value)) {
    const auto id = is_signed ? llvm::Intrinsic::fptosi_sat : llvm::Intrinsic::fptoui_sat;
    Value* converted = b_.CreateIntrinsic(id, {out, value->getType()}, {value});
    return is_narrow ? converted : b_.CreateSelect(b_.CreateFCmpUNO(value, value), of_nan, converted);
  }
  // LLVM takes vectors apart for that. Both bounds are powers of two, or 0.
  const unsigned digits = is_signed ? width - 1 : width;
  Value* low = float_constant(value, is_signed ? -std::ldexp(1.0, static_cast<int>(digits)) : 0.0);
  Value* end = float_constant(value, std::ldexp(1.0, static_cast<int>(digits)));
  Value* is_high = b_.CreateFCmpOGE(value, end);
  Value* is_low = b_.CreateFCmpOLT(value, low);
  Value* fits = b_.CreateAnd(b_.CreateFCmpOGE(value, low), b_.CreateFCmpOLT(value, end));
  Value* safe = b_.CreateSelect(fits, value, float_constant(value, 0.0));
  Value* converted = is_signed ? b_.CreateFPToSI(safe, out) : b_.CreateFPToUI(safe, out);
  const std::uint64_t least = is_signed ? std::uint64_t{1} << (width - 1) : 0;
  Value* beyond = b_.CreateSelect(is_high, same(value, inst.type, least - 1),
                                  b_.CreateSelect(is_low, same(value, inst.type, least), of_nan));
  return b_.CreateSelect(fits, converted, beyond);
}

Value* Emitter::from_integer(const Inst& inst, Value* value) {
  const auto rounding = static_cast<Rounding>(inst.imm);
  const bool is_signed = inst.op == Op::kSToF;
  const unsigned width = value->getType()->getScalarSizeInBits();
  const auto convert = [&](Type t) {
    llvm::Type* out = same_type(value, t);
    return is_signed ? b_.CreateSIToFP(value, out) : b_.CreateUIToFP(value, out);
  };
  const bool exact = inst.type == Type::kF64 && width <= 32;
  if (rounding == Rounding::kNearest || exact) return convert(inst.type);
  if (width <= 32) return narrow(convert(Type::kF64), rounding);
  return rounded_by_helper(inst, {value}, inst.type);
}

Value* Emitter::half_to_float(Value* bits) {
  llvm::Type* half = llvm::Type::getHalfTy(context_);
  if (is_vector(bits)) half = llvm::FixedVectorType::get(half, kWarpSize);
  return b_.CreateFPExt(b_.CreateBitCast(bits, half), same_type(bits, Type::kF32));
}

Value* Emitter::float_to_half(Value* value) {
  llvm::Type* half = llvm::Type::getHalfTy(context_);
  if (is_vector(value)) half = llvm::FixedVectorType::get(half, kWarpSize);
  return b_.CreateBitCast(b_.CreateFPTrunc(value, half), same_type(value, Type::kI16));
}

// ------------------------------------------------------------------ picks and tests

Value* Emitter::flush(Value* value) {
  Value* bits = int_bits(value);
  const bool wide = value->getType()->getScalarSizeInBits() == 64;
  const Type t = wide ? Type::kI64 : Type::kI32;
  Value* sign = same(bits, t, wide ? 0x8000'0000'0000'0000 : 0x8000'0000);
  Value* exponent = same(bits, t, wide ? 0x7FF0'0000'0000'0000 : 0x7F80'0000);
  Value* tiny = b_.CreateICmpEQ(b_.CreateAnd(bits, exponent), llvm::Constant::getNullValue(bits->getType()));
  return float_bits(b_.CreateSelect(tiny, b_.CreateAnd(bits, sign), bits));
}

Value* Emitter::saturate(Value* value) {
  // The comparisons are false for NaN, which thus becomes 0.
  Value* zero = float_constant(value, 0.0);
  Value* one = float_constant(value, 1.0);
  Value* positive = b_.CreateSelect(b_.CreateFCmpOGT(value, zero), value, zero);
  return b_.CreateSelect(b_.CreateFCmpOLT(positive, one), positive, one);
}

// A NaN loses against a number; -0 is less than +0.
Value* Emitter::min_max(const Inst& inst, Value* a, Value* b) {
  const bool is_min = inst.op == Op::kFMin;
  Value* better = is_min ? b_.CreateFCmpOLT(a, b) : b_.CreateFCmpOGT(a, b);
  Value* ab = int_bits(a);
  Value* bb = int_bits(b);
  Value* equal = b_.CreateFCmpOEQ(a, b);
  Value* zeros = float_bits(is_min ? b_.CreateOr(ab, bb) : b_.CreateAnd(ab, bb));
  Value* picked = b_.CreateSelect(better, a, b);
  picked = b_.CreateSelect(b_.CreateFCmpUNO(b, b), a, picked);
  picked = b_.CreateSelect(equal, zeros, picked);
  Value* nan =
      float_bits(same(ab, a->getType()->getScalarSizeInBits() == 64 ? Type::kI64 : Type::kI32,
                      a->getType()->getScalarSizeInBits() == 64 ? 0x7FFF'FFFF'FFFF'FFFF : 0x7FFF'FFFF));
  Value* unordered = b_.CreateFCmpUNO(a, b);
  if (inst.imm != 0) return b_.CreateSelect(unordered, nan, picked);
  Value* both = b_.CreateAnd(b_.CreateFCmpUNO(a, a), b_.CreateFCmpUNO(b, b));
  return b_.CreateSelect(both, nan, picked);
}

Value* Emitter::test(const Inst& inst, Value* value) {
  const bool wide = inst.type == Type::kF64;
  const Type t = wide ? Type::kI64 : Type::kI32;
  Value* bits = int_bits(value);
  Value* exponent_mask = same(bits, t, wide ? 0x7FF0'0000'0000'0000 : 0x7F80'0000);
  Value* fraction_mask = same(bits, t, wide ? 0x000F'FFFF'FFFF'FFFF : 0x007F'FFFF);
  Value* zero = same(bits, t, 0);
  Value* exponent = b_.CreateAnd(bits, exponent_mask);
  Value* fraction_zero = b_.CreateICmpEQ(b_.CreateAnd(bits, fraction_mask), zero);
  Value* exponent_full = b_.CreateICmpEQ(exponent, exponent_mask);
  Value* exponent_zero = b_.CreateICmpEQ(exponent, zero);
  switch (static_cast<ptx::TestpOp>(inst.imm)) {
    case ptx::TestpOp::kFinite:
      return b_.CreateNot(exponent_full);
    case ptx::TestpOp::kInfinite:
      return b_.CreateAnd(exponent_full, fraction_zero);
    case ptx::TestpOp::kNumber:
      return b_.CreateOr(b_.CreateNot(exponent_full), fraction_zero);
    case ptx::TestpOp::kNotANumber:
      return b_.CreateAnd(exponent_full, b_.CreateNot(fraction_zero));
    case ptx::TestpOp::kNormal:
      return b_.CreateNot(b_.CreateOr(exponent_full, exponent_zero));
    default:
      return b_.CreateAnd(exponent_zero, b_.CreateNot(fraction_zero));
  }
}

}  // namespace vgpu::software::jit
