// Half precision, packed bytes, 64-bit addressing.
#include "cuda_min.h"

KERNEL half_to_float(const __fp16* in, float* out, unsigned n) {
  const unsigned i = global_index();
  if (i < n) out[i] = static_cast<float>(in[i]) * 0.5f;
}

KERNEL float_to_half(const float* in, __fp16* out, unsigned n) {
  const unsigned i = global_index();
  if (i < n) out[i] = static_cast<__fp16>(in[i]);
}

KERNEL half2_arithmetic(const unsigned* a, const unsigned* b, unsigned* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  unsigned sum, product, fused;
  asm("add.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a[i]), "r"(b[i]));
  asm("mul.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a[i]), "r"(b[i]));
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(fused) : "r"(a[i]), "r"(b[i]), "r"(sum));
  out[i * 3] = sum;
  out[i * 3 + 1] = product;
  out[i * 3 + 2] = fused;
}

KERNEL byte_dot_products(const int* a, const int* b, int* out, unsigned words) {
  const unsigned row = global_index();
  int sum = 0;
  unsigned usum = 0;
  for (unsigned k = 0; k < words; ++k) {
    sum = dp4a(a[row * words + k], b[k], sum);
    usum = dp4a_unsigned(static_cast<unsigned>(a[row * words + k]), static_cast<unsigned>(b[k]), usum);
  }
  out[row * 2] = sum;
  out[row * 2 + 1] = static_cast<int>(usum);
}

// Blocks of 4-bit weights with a half scale each, as quantised models keep them.
struct Block4 {
  __fp16 scale;
  uint8_t nibbles[16];
};

KERNEL dequantise(const Block4* in, float* out, unsigned blocks) {
  const unsigned i = global_index();
  const unsigned block = i / 16;
  if (block >= blocks) return;
  const float scale = static_cast<float>(in[block].scale);
  const unsigned byte = in[block].nibbles[i % 16];
  out[block * 32 + i % 16] = (static_cast<float>(byte & 15) - 8.0f) * scale;
  out[block * 32 + 16 + i % 16] = (static_cast<float>(byte >> 4) - 8.0f) * scale;
}

// Rows far apart, reached by 64-bit strides, negative ones too.
KERNEL strided_rows(const int* in, int* out, int64_t row_stride, int64_t column_stride, int64_t first) {
  const int64_t at = first + static_cast<int64_t>(blockIdx.x) * row_stride +
                     static_cast<int64_t>(threadIdx.x) * column_stride;
  out[blockIdx.x * blockDim.x + threadIdx.x] = in[at];
}

// One pointer reached from another by a 64-bit distance, of either sign.
KERNEL far_apart(const char* base, int64_t distance, int* out) {
  const int* const far = reinterpret_cast<const int*>(base + distance);
  out[threadIdx.x] = far[threadIdx.x] + reinterpret_cast<const int*>(base)[threadIdx.x];
}

KERNEL load_absolute(const int* address, int* out) {
  out[threadIdx.x] = address[threadIdx.x];
}
