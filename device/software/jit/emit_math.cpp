// The approximate functions of PTX as polynomials over whole vectors, well within the errors PTX allows.
#include <cmath>
#include <numbers>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using ir::Type;
using llvm::Value;

// 2^x = 2^n * 2^f with n = rint(x): |f| <= 1/2, Taylor to the 7th power (error below 2^-26). The scaling is
// done in two steps so that subnormal results come out right (and are flushed by the processor where it
// does).
Value* Emitter::exp2(Value* x) {
  Value* low = float_constant(x, -160.0);
  Value* high = float_constant(x, 160.0);
  Value* clamped = b_.CreateSelect(b_.CreateFCmpOLT(x, low), low, x);
  clamped = b_.CreateSelect(b_.CreateFCmpOGT(clamped, high), high, clamped);
  Value* n = b_.CreateUnaryIntrinsic(llvm::Intrinsic::roundeven, clamped);
  Value* f = b_.CreateFSub(clamped, n);
  double coefficients[8];
  double term = 1.0;
  for (int i = 0; i < 8; ++i) {
    coefficients[i] = term;
    term *= std::numbers::ln2 / (i + 1);
  }
  Value* p = float_constant(x, coefficients[7]);
  for (int i = 6; i >= 0; --i) p = fma(p, f, float_constant(x, coefficients[i]));
  // |n| is small: adding 1.5 * 2^23 leaves it in the low bits. (Of NaN this makes nonsense, which NaN
  // absorbs.)
  Value* shifted = int_bits(b_.CreateFAdd(n, float_constant(x, 12582912.0)));
  Value* exponent = b_.CreateShl(shifted, same(shifted, Type::kI32, 16));
  exponent = b_.CreateAShr(exponent, same(shifted, Type::kI32, 16));
  Value* half = b_.CreateAShr(exponent, same(exponent, Type::kI32, 1));
  Value* rest = b_.CreateSub(exponent, half);
  const auto power = [&](Value* e) {
    return float_bits(b_.CreateShl(b_.CreateAdd(e, same(e, Type::kI32, 127)), same(e, Type::kI32, 23)));
  };
  return b_.CreateFMul(b_.CreateFMul(p, power(half)), power(rest));  // NaN went through all of it
}

// log2(x) = e + log2(m), m in [sqrt(1/2), sqrt(2)): with s = (m-1)/(m+1), 2/ln2 * (s + s^3/3 + ...).
Value* Emitter::log2(Value* x) {
  Value* bits = int_bits(x);
  const auto k = [&](std::uint64_t v) { return same(bits, Type::kI32, v); };
  // Subnormals are scaled up first; where they are flushed they are zero anyway.
  Value* tiny = b_.CreateFCmpOLT(x, float_constant(x, 0x1p-126));
  Value* scaled = b_.CreateSelect(tiny, int_bits(b_.CreateFMul(x, float_constant(x, 0x1p24))), bits);
  Value* shifted = b_.CreateSub(scaled, k(0x3F3504F3));  // sqrt(1/2)
  Value* e = b_.CreateAShr(shifted, k(23));
  Value* m = float_bits(b_.CreateSub(scaled, b_.CreateShl(e, k(23))));
  e = b_.CreateSub(e, b_.CreateSelect(tiny, k(24), k(0)));
  Value* one = float_constant(x, 1.0);
  Value* s = b_.CreateFDiv(b_.CreateFSub(m, one), b_.CreateFAdd(m, one));
  Value* s2 = b_.CreateFMul(s, s);
  const double scale = 2.0 / std::numbers::ln2;
  Value* p = float_constant(x, scale / 11);
  for (int i = 9; i >= 3; i -= 2) p = fma(p, s2, float_constant(x, scale / i));
  // The leading coefficient in two parts: 2/ln2 is not a float.
  const auto lead = static_cast<double>(static_cast<float>(scale));
  Value* tail = fma(b_.CreateFMul(p, s2), s, b_.CreateFMul(s, float_constant(x, scale - lead)));
  Value* fraction = fma(s, float_constant(x, lead), tail);
  Value* result = b_.CreateFAdd(fraction, b_.CreateSIToFP(e, x->getType()));
  Value* infinity = float_constant(x, INFINITY);
  Value* nan = float_bits(k(0x7FFF'FFFF));
  result = b_.CreateSelect(b_.CreateFCmpOEQ(x, infinity), infinity, result);
  result = b_.CreateSelect(b_.CreateFCmpOLT(x, float_constant(x, 0.0)), nan, result);
  result = b_.CreateSelect(b_.CreateFCmpUNO(x, x), nan, result);
  return b_.CreateSelect(b_.CreateFCmpOEQ(x, float_constant(x, 0.0)), float_constant(x, -INFINITY), result);
}

// Argument reduction by pi/2 in f64 (good to about 2^30), then the usual polynomials on [-pi/4, pi/4].
Value* Emitter::sin_cos(Value* x, bool cosine) {
  Value* wide = b_.CreateFPExt(x, same_type(x, Type::kF64));
  Value* n = b_.CreateUnaryIntrinsic(llvm::Intrinsic::roundeven,
                                     b_.CreateFMul(wide, float_constant(wide, 2.0 / std::numbers::pi)));
  const double pio2 = std::numbers::pi / 2;
  const double rest = 6.123233995736766e-17;
  Value* r = fma(n, float_constant(n, -pio2), wide);
  r = fma(n, float_constant(n, -rest), r);
  Value* y = b_.CreateFPTrunc(r, x->getType());
  Value* quadrant =
      b_.CreateIntrinsic(llvm::Intrinsic::fptosi_sat, {same_type(x, Type::kI32), n->getType()}, {n});
  const auto k = [&](std::uint64_t v) { return same(quadrant, Type::kI32, v); };
  if (cosine) quadrant = b_.CreateAdd(quadrant, k(1));
  Value* y2 = b_.CreateFMul(y, y);
  Value* s = float_constant(x, 1.0 / 362880);
  s = fma(s, y2, float_constant(x, -1.0 / 5040));
  s = fma(s, y2, float_constant(x, 1.0 / 120));
  s = fma(s, y2, float_constant(x, -1.0 / 6));
  s = fma(b_.CreateFMul(s, y2), y, y);
  Value* c = float_constant(x, 1.0 / 40320);
  c = fma(c, y2, float_constant(x, -1.0 / 720));
  c = fma(c, y2, float_constant(x, 1.0 / 24));
  c = fma(c, y2, float_constant(x, -0.5));
  c = fma(c, y2, float_constant(x, 1.0));
  Value* odd = b_.CreateICmpNE(b_.CreateAnd(quadrant, k(1)), k(0));
  Value* sign = b_.CreateShl(b_.CreateAnd(quadrant, k(2)), k(30));
  Value* result = float_bits(b_.CreateXor(int_bits(b_.CreateSelect(odd, c, s)), sign));
  Value* infinite =
      b_.CreateFCmpOEQ(b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x), float_constant(x, INFINITY));
  return b_.CreateSelect(infinite, float_bits(k(0x7FFF'FFFF)), result);
}

// tanh(x) = 1 - 2 / (1 + e^2x) away from zero; near zero its series, where that would cancel.
Value* Emitter::tanh(Value* x) {
  Value* a = b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, x);
  Value* one = float_constant(x, 1.0);
  Value* e = exp2(b_.CreateFMul(a, float_constant(x, 2.0 / std::numbers::ln2)));
  Value* far = b_.CreateFSub(one, b_.CreateFDiv(float_constant(x, 2.0), b_.CreateFAdd(one, e)));
  Value* x2 = b_.CreateFMul(x, x);
  Value* near = float_constant(x, -17.0 / 315);
  near = fma(near, x2, float_constant(x, 2.0 / 15));
  near = fma(near, x2, float_constant(x, -1.0 / 3));
  near = fma(b_.CreateFMul(near, x2), a, a);
  Value* result = b_.CreateSelect(b_.CreateFCmpOLT(a, float_constant(x, 0.25)), near, far);
  return b_.CreateBinaryIntrinsic(llvm::Intrinsic::copysign, result, x);
}

}  // namespace vgpu::software::jit
