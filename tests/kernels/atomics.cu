// Atomics on global and shared memory, and tickets across the grid.
#include "cuda_min.h"

KERNEL histogram(const uint8_t* in, unsigned* bins, unsigned n) {
  __shared__ unsigned local[64];
  for (unsigned k = threadIdx.x; k < 64; k += blockDim.x) local[k] = 0;
  __syncthreads();
  for (unsigned i = global_index(); i < n; i += gridDim.x * blockDim.x) atomic_add(&local[in[i] & 63], 1u);
  __syncthreads();
  for (unsigned k = threadIdx.x; k < 64; k += blockDim.x) atomic_add(&bins[k], local[k]);
}

KERNEL every_atomic(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  const int v = in[i];
  atomic_add(&out[0], v);
  atomic_min(&out[1], v);
  atomic_max(&out[2], v);
  atomic_umin(reinterpret_cast<unsigned*>(&out[3]), static_cast<unsigned>(v));
  atomic_umax(reinterpret_cast<unsigned*>(&out[4]), static_cast<unsigned>(v));
  atomic_and(&out[5], v | 0x0F0F);
  atomic_or(&out[6], v & 0xFFF);
  atomic_xor(&out[7], v);
  atomic_inc(reinterpret_cast<unsigned*>(&out[8]), 99);
  atomic_dec(reinterpret_cast<unsigned*>(&out[9]), 49);
}

KERNEL atomic_results(int* slots, int* seen, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  // Each thread takes a distinct ticket; the sums of what it got are known.
  seen[i] = atomic_add(&slots[0], 1);
  const int before = atomic_exch(&slots[1 + (i & 3)], static_cast<int>(i));
  atomic_add(&slots[5], before);
}

KERNEL compare_and_swap(long long* sum, int* maximum, const int* in, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  int seen = *static_cast<volatile int*>(maximum);
  while (in[i] > seen) {
    const int before = atomic_cas(maximum, seen, in[i]);
    if (before == seen) break;
    seen = before;
  }
  long long old = *static_cast<volatile long long*>(sum);
  while (true) {
    const long long before = atomic_cas(sum, old, old + in[i]);
    if (before == old) break;
    old = before;
  }
}

KERNEL float_atomics(float* f, double* d, unsigned long long* u, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  atomic_add(f, static_cast<float>(i & 7) * 0.25f);
  atomic_add(d, static_cast<double>(i) * 0.5);
  atomic_add(u, static_cast<unsigned long long>(i) << 33);
}

__device__ unsigned ticket = 0;

// The block that finishes last adds up what the others left: tickets across the grid.
KERNEL last_block_sums(const int* in, int* partial, int* total) {
  __shared__ int sum;
  __shared__ bool last;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  atomic_add(&sum, in[global_index()]);
  __syncthreads();
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    fence_grid();
    last = atomic_inc(&ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int all_blocks = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) all_blocks += static_cast<volatile int*>(partial)[b];
    *total = all_blocks;
  }
}

__device__ volatile unsigned turn = 0;

// Blocks take work by ticket and wait for the one with the ticket before theirs.
KERNEL ordered_blocks(unsigned* next, unsigned* order) {
  __shared__ unsigned mine;
  if (threadIdx.x == 0) {
    mine = atomic_add(next, 1u);
    while (turn % gridDim.x != mine % gridDim.x) {
    }
    order[mine] = mine * 3 + 1;
    fence_grid();
    turn = turn + 1;
  }
}
