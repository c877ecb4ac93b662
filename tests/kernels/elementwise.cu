// One thread, one element: arithmetic of every width, constants, conversions.
#include "cuda_min.h"

KERNEL saxpy(const float* x, float* y, float a, unsigned n) {
  const unsigned i = global_index();
  if (i < n) y[i] = a * x[i] + y[i];
}

KERNEL daxpy(const double* x, double* y, double a, unsigned n) {
  const unsigned i = global_index();
  if (i < n) y[i] = a / (x[i] * x[i] + 1.0) + y[i];
}

KERNEL grid_stride(const int* in, int* out, unsigned n) {
  for (unsigned i = global_index(); i < n; i += gridDim.x * blockDim.x) out[i] = in[i] * 3 - 7;
}

KERNEL integers(const int* a, const int* b, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const int x = a[i];
  const int y = b[i];
  const unsigned ux = static_cast<unsigned>(x);
  const unsigned uy = static_cast<unsigned>(y);
  int* o = out + i * 16;
  o[0] = x / (y | 1);
  o[1] = x % (y | 1);
  o[2] = static_cast<int>(ux / (uy | 1));
  o[3] = static_cast<int>(ux % (uy | 1));
  o[4] = static_cast<int>((static_cast<int64_t>(x) * y) >> 32);
  o[5] = static_cast<int>((static_cast<uint64_t>(ux) * uy) >> 32);
  o[6] = x >> (uy & 31);
  o[7] = static_cast<int>(ux >> (uy & 31));
  o[8] = static_cast<int>(ux << (uy & 31));
  o[9] = __builtin_clz(ux | 1);
  o[10] = __builtin_popcount(ux);
  o[11] = static_cast<int>(__builtin_bitreverse32(ux));
  o[12] = x < y ? x : y;
  o[13] = static_cast<int>(ux > uy ? ux : uy);
  o[14] = (x ^ y) & ~(x | 0xF0F0);
  o[15] = static_cast<int>((ux << 7) | (ux >> 25));
}

KERNEL wide_integers(const int64_t* a, const int64_t* b, int64_t* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const int64_t x = a[i];
  const int64_t y = b[i];
  int64_t* o = out + i * 6;
  o[0] = x * y;
  o[1] = x / (y | 1);
  o[2] = x % (y | 1);
  o[3] = static_cast<int64_t>(static_cast<uint64_t>(x) / (static_cast<uint64_t>(y) | 1));
  o[4] = x >> (y & 63);
  o[5] = x < y ? x - y : y - x;
}

KERNEL conversions(const float* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const float x = in[i];
  int* o = out + i * 8;
  o[0] = static_cast<int>(x);
  o[1] = static_cast<signed char>(static_cast<int>(x));
  o[2] = static_cast<unsigned short>(static_cast<int>(x));
  o[3] = __builtin_bit_cast(int, static_cast<float>(static_cast<int>(x) * 16777217));
  o[4] = __builtin_bit_cast(int, __builtin_floorf(x));
  o[5] = __builtin_bit_cast(int, __builtin_truncf(x));
  o[6] = __builtin_bit_cast(int, __builtin_rintf(x));
  o[7] = static_cast<int>(static_cast<double>(x) * 1000.0);
}

__constant__ float coefficients[5] = {1.0f, -0.5f, 0.25f, -0.125f, 0.0625f};
__device__ int offsets[4] = {10, 20, 30, 40};
__device__ int* const offset_pointer = offsets + 2;

KERNEL polynomial(const float* in, float* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  float sum = 0;
  for (int k = 4; k >= 0; --k) sum = sum * in[i] + coefficients[k];
  out[i] = sum + static_cast<float>(offset_pointer[i & 1]);
}

KERNEL approximations(const float* in, float* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const float x = in[i];
  float* o = out + i * 8;
  o[0] = exp2_approx(x);
  o[1] = log2_approx(x);
  o[2] = sin_approx(x);
  o[3] = cos_approx(x);
  o[4] = rsqrt_approx(x);
  o[5] = sqrt_approx(x);
  o[6] = rcp_approx(x);
  o[7] = div_approx(1.5f, x);
}

KERNEL vectors(const Float4* in, Float4* out, const UChar4* bytes, UChar4* bytes_out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const Float4 v = in[i];
  out[i] = {v.w, v.z, v.y + v.x, v.x};
  const UChar4 b = bytes[i];
  bytes_out[i] = {b.w, b.x, static_cast<uint8_t>(b.y + 200), static_cast<uint8_t>(b.z * 3)};
}

struct Mixed {
  int8_t a;
  uint16_t b;
  double c;
  int d[3];
};

KERNEL parameters(Mixed m, int8_t s, uint16_t u, bool flag, double d, float* out) {
  const unsigned i = threadIdx.x;
  out[i * 3] = static_cast<float>(m.a + s) + static_cast<float>(m.b) + static_cast<float>(u);
  out[i * 3 + 1] = static_cast<float>(m.c * d);
  out[i * 3 + 2] = static_cast<float>(flag ? m.d[i % 3] : -m.d[i % 3]);
}
