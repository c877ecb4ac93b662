// Lanes and warps that work together: shuffles, votes, barriers.
#include "cuda_min.h"

__device__ inline int warp_sum(int v) {
  for (int k = 16; k > 0; k /= 2) v += shfl_xor(v, k);
  return v;
}

KERNEL warp_shuffles(const int* in, int* out) {
  const unsigned i = global_index();
  const int v = in[i];
  int* o = out + i * 5;
  o[0] = warp_sum(v);
  o[1] = shfl_down(v, 3);
  o[2] = shfl(v, 7);
  o[3] = shfl(v, static_cast<int>(lane_id() * 5 % 32));
  int scan = v;
  for (int k = 1; k < 32; k *= 2) {
    const int below = shfl_up(scan, k);
    if (lane_id() >= static_cast<unsigned>(k)) scan += below;
  }
  o[4] = scan;
}

KERNEL warp_votes(const int* in, unsigned* out) {
  const unsigned i = global_index();
  const bool odd = (in[i] & 1) != 0;
  out[i * 3] = ballot(odd);
  out[i * 3 + 1] = all(in[i] > -100) ? 1 : 0;
  out[i * 3 + 2] = any(in[i] > 90) ? 1 : 0;
}

KERNEL float_sum(const float* in, float* out, unsigned n) {
  __shared__ float partial[32];
  float v = 0;
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) v += in[blockIdx.x * n + i];
  for (int k = 16; k > 0; k /= 2) v += shfl_xor(v, k);
  if (lane_id() == 0) partial[threadIdx.x / kWarp] = v;
  __syncthreads();
  if (threadIdx.x < kWarp) {
    v = threadIdx.x < blockDim.x / kWarp ? partial[threadIdx.x] : 0;
    for (int k = 16; k > 0; k /= 2) v += shfl_xor(v, k);
    if (threadIdx.x == 0) out[blockIdx.x] = v;
  }
}

KERNEL barrier_sum(const int* in, int* out) {
  __shared__ int tree[256];
  const unsigned t = threadIdx.x;
  tree[t] = in[blockIdx.x * blockDim.x + t];
  __syncthreads();
  for (unsigned k = blockDim.x / 2; k > 0; k /= 2) {
    if (t < k) tree[t] += tree[t + k];
    __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = tree[0];
}

KERNEL block_scan(const int* in, int* out, int rounds) {
  __shared__ int buffer[2][128];
  const unsigned t = threadIdx.x;
  int carry = 0;
  for (int r = 0; r < rounds; ++r) {
    const unsigned at = static_cast<unsigned>(r) * blockDim.x + t;
    int from = 0;
    buffer[0][t] = in[at];
    __syncthreads();
    for (unsigned k = 1; k < blockDim.x; k *= 2) {
      buffer[1 - from][t] = buffer[from][t] + (t >= k ? buffer[from][t - k] : 0);
      from = 1 - from;
      __syncthreads();
    }
    out[at] = buffer[from][t] + carry;
    carry += buffer[from][blockDim.x - 1];
    __syncthreads();
  }
}

KERNEL barrier_votes(const int* in, int* out) {
  const unsigned i = global_index();
  const int v = in[i];
  const int total = __nvvm_bar0_popc(v > 0);
  const int every = __nvvm_bar0_and(v > -1000);
  const int some = __nvvm_bar0_or(v == 42);
  out[i * 3] = total;
  out[i * 3 + 1] = every != 0 ? 1 : 0;
  out[i * 3 + 2] = some != 0 ? 1 : 0;
}
