// Lanes that part: early exits, nested loops, switches, calls.
#include "cuda_min.h"

KERNEL early_exit(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const int v = in[i];
  if (v < 0) {
    out[i] = -1;
    return;
  }
  if ((v & 3) == 0) return;
  for (int k = 0;; ++k) {
    if (v * k > 1000) {
      out[i] = k;
      return;
    }
    if (k == 60) break;
  }
  out[i] = -2;
}

KERNEL collatz(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  unsigned long long v = static_cast<unsigned>(in[i]);
  int steps = 0;
  while (v > 1) {
    v = (v & 1) != 0 ? 3 * v + 1 : v / 2;
    ++steps;
  }
  out[i] = steps;
}

KERNEL nested_loops(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  int sum = 0;
  for (int a = 0; a < in[i] % 7; ++a) {
    for (int b = a; b < 10; ++b) {
      if ((a * b + in[i]) % 5 == 0) continue;
      if (b == in[i] % 11) break;
      for (int c = 0; c < b - a; c += 2) sum += c * a - b;
    }
    sum ^= a;
  }
  out[i] = sum;
}

KERNEL switches(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  int v = in[i];
  for (int round = 0; round < 4; ++round) {
    switch (v & 7) {
      case 0:
        v = v * 3 + 1;
        break;
      case 1:
        v ^= 0x55;
        break;
      case 2:
        v -= 17;
        [[fallthrough]];
      case 3:
        v += static_cast<int>(i);
        break;
      case 4:
        v = v / 3;
        break;
      case 5:
        v <<= 1;
        break;
      case 6:
        round += v & 1;
        v += 9;
        break;
      default:
        v = -v;
        break;
    }
  }
  out[i] = v;
}

// Loops with different trip counts around a shuffle that all lanes reach.
KERNEL divergent_then_shuffle(const int* in, int* out) {
  const unsigned i = global_index();
  int v = in[i];
  for (int k = 0; k < (v & 7); ++k) v = v * 5 + k;
  if (v & 1) {
    v += 3;
  } else {
    v -= 3;
  }
  out[i] = shfl_xor(v, 1) - v;
}

KERNEL loop_of_barriers(const int* in, int* out) {
  __shared__ int cell[64];
  const unsigned t = threadIdx.x;
  int v = in[t];
  for (int k = 0; k < 5; ++k) {
    cell[t] = v;
    __syncthreads();
    if (v & 1) {
      v += cell[(t + 1) % blockDim.x];
    } else {
      v = cell[(t + 7) % blockDim.x] >> 1;
    }
    __syncthreads();
  }
  out[t] = v;
}

// Warps that leave before the others meet at barriers.
KERNEL exit_before_barrier(const int* in, int* out) {
  __shared__ int cell[128];
  const unsigned t = threadIdx.x;
  cell[t] = in[t];
  __syncthreads();
  if (t >= 64) {
    out[t] = -cell[t];
    return;
  }
  cell[t] += 1;
  __syncthreads();
  out[t] = cell[63 - t];
}

KERNEL lanes_by_block_shape(int* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int* const o = out + (b * threads + t) * 2;
  o[0] = static_cast<int>(threadIdx.x * 10000 + threadIdx.y * 100 + threadIdx.z);
  o[1] = static_cast<int>(lane_id() + 100 * (blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z));
}

__device__ __noinline__ int clamp_to(int v, int low, int high) {
  return v < low ? low : v > high ? high : v;
}

struct Pair {
  int sum;
  int difference;
  int64_t product;
};

__device__ __noinline__ Pair combine(int a, int b) {
  return {a + b, a - b, static_cast<int64_t>(a) * b};
}

KERNEL calls(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  int v = in[i];
  if (v & 1) v = clamp_to(v, -50, 50);
  const Pair p = combine(v, static_cast<int>(i));
  out[i] = p.sum * 3 - p.difference + static_cast<int>(p.product >> 3);
}

__device__ __noinline__ int ackermann(int m, int n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

KERNEL recursion(int* out) {
  out[threadIdx.x] = ackermann(static_cast<int>(threadIdx.x % 3), static_cast<int>(threadIdx.x % 5));
}

__device__ int twice(int v) {
  return v * 2;
}
__device__ int square(int v) {
  return v * v;
}
__device__ int negate(int v) {
  return -v;
}
__device__ int (*const table[3])(int) = {twice, square, negate};

KERNEL function_pointers(int* out) {
  out[threadIdx.x] = table[threadIdx.x % 3](static_cast<int>(threadIdx.x));
}

KERNEL stop_if_negative(const int* in, int* out) {
  if (in[threadIdx.x] < 0) __builtin_trap();
  out[threadIdx.x] = in[threadIdx.x];
}
