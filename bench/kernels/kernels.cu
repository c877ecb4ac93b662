// The loads of kernel_bench, written as a CUDA library would write them.
#include "tests/kernels/cuda_min.h"

KERNEL empty() {}

KERNEL saxpy(float a, const float* x, float* y, unsigned n) {
  const unsigned i = global_index();
  if (i < n) y[i] = a * x[i] + y[i];
}

// The block's sum in every thread of its first warp.
__device__ inline float block_sum(float v, float* partial) {
  for (int k = 16; k > 0; k /= 2) v += shfl_xor(v, k);
  const unsigned t = threadIdx.y * blockDim.x + threadIdx.x;
  const unsigned warps = blockDim.x * blockDim.y / kWarp;
  if (t % kWarp == 0) partial[t / kWarp] = v;
  __syncthreads();
  if (t >= kWarp) return v;
  v = t < warps ? partial[t] : 0;
  for (int k = 16; k > 0; k /= 2) v += shfl_xor(v, k);
  return v;
}

// out[block] = what the block's threads find in a stride through the whole grid. With one block, the sum.
KERNEL reduce(const float* in, float* out, unsigned n) {
  __shared__ float partial[kWarp];
  float v = 0;
  for (unsigned i = global_index(); i < n; i += gridDim.x * blockDim.x) v += in[i];
  v = block_sum(v, partial);
  if (threadIdx.x == 0) out[blockIdx.x] = v;
}

// 32 weights of 4 bits: scale * quant + offset. The low halves of the bytes come first.
struct WeightBlock {
  __fp16 scale, offset;
  uint8_t quants[16];
};
// 32 activations of 8 bits, and the sum of what they stand for.
struct ActivationBlock {
  __fp16 scale, sum;
  int8_t quants[32];
};

// A row of the matrix for each block of 32 * 4 threads; two threads share 32 weights.
KERNEL mul_mat_vec_q4(const WeightBlock* weights, const ActivationBlock* x, float* y,
                      unsigned blocks_per_row) {
  __shared__ float partial[kWarp];
  const unsigned t = threadIdx.y * kWarp + threadIdx.x;
  const unsigned half = t % 2;
  const WeightBlock* row = weights + static_cast<size_t>(blockIdx.x) * blocks_per_row;
  float sum = 0;
  for (unsigned i = t / 2; i < blocks_per_row; i += blockDim.x * blockDim.y / 2) {
    const int* quants = reinterpret_cast<const int*>(row[i].quants) + half * 2;
    const int* activations = reinterpret_cast<const int*>(x[i].quants) + half * 2;
    int dot = 0;
    for (int k = 0; k < 2; ++k) {
      dot = dp4a(quants[k] & 0x0F0F0F0F, activations[k], dot);
      dot = dp4a((quants[k] >> 4) & 0x0F0F0F0F, activations[4 + k], dot);
    }
    sum += static_cast<float>(row[i].scale) * static_cast<float>(x[i].scale) * static_cast<float>(dot) +
           static_cast<float>(row[i].offset) * static_cast<float>(x[i].sum) * 0.5f;
  }
  sum = block_sum(sum, partial);
  if (t == 0) y[blockIdx.x] = sum;
}

constexpr unsigned kHeadSize = 128;
constexpr unsigned kMostPositions = 1024;

__device__ inline float block_reduce(float v, float* partial, bool maximum) {
  const unsigned t = threadIdx.x;
  for (int k = 16; k > 0; k /= 2) {
    const float other = shfl_xor(v, k);
    v = maximum ? (v > other ? v : other) : v + other;
  }
  if (t % kWarp == 0) partial[t / kWarp] = v;
  __syncthreads();
  v = partial[0];
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w)
    v = maximum ? (v > partial[w] ? v : partial[w]) : v + partial[w];
  __syncthreads();
  return v;
}

// One new token's attention: a block of kHeadSize threads for each head. keys and values:
// [head][position][kHeadSize].
KERNEL attention(const float* query, const float* keys, const float* values, float* out, unsigned positions,
                 float scale) {
  __shared__ float weights[kMostPositions];
  __shared__ float partial[kWarp];
  const unsigned head = blockIdx.x;
  const unsigned t = threadIdx.x;
  const unsigned lane = t % kWarp;
  const size_t start = static_cast<size_t>(head) * positions * kHeadSize;
  const Float4 q = reinterpret_cast<const Float4*>(query + head * kHeadSize)[lane];
  for (unsigned p = t / kWarp; p < positions; p += blockDim.x / kWarp) {
    const Float4 k = reinterpret_cast<const Float4*>(keys + start + p * kHeadSize)[lane];
    float dot = q.x * k.x + q.y * k.y + q.z * k.z + q.w * k.w;
    for (int i = 16; i > 0; i /= 2) dot += shfl_xor(dot, i);
    if (lane == 0) weights[p] = dot * scale;
  }
  __syncthreads();
  float most = -1e30f;
  for (unsigned p = t; p < positions; p += blockDim.x) most = weights[p] > most ? weights[p] : most;
  most = block_reduce(most, partial, true);
  float sum = 0;
  for (unsigned p = t; p < positions; p += blockDim.x) {
    weights[p] = exp2_approx((weights[p] - most) * 1.44269504f);
    sum += weights[p];
  }
  sum = block_reduce(sum, partial, false);
  float result = 0;
  for (unsigned p = 0; p < positions; ++p) result += weights[p] * values[start + p * kHeadSize + t];
  out[head * kHeadSize + t] = result / sum;
}
