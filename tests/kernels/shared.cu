// Shared memory, static and dynamic; local arrays.
#include "cuda_min.h"

KERNEL transpose(const int* in, int* out, unsigned width, unsigned height) {
  __shared__ int tile[32][33];
  const unsigned x = blockIdx.x * 32 + threadIdx.x;
  for (unsigned j = threadIdx.y; j < 32; j += blockDim.y) {
    const unsigned y = blockIdx.y * 32 + j;
    if (x < width && y < height) tile[j][threadIdx.x] = in[y * width + x];
  }
  __syncthreads();
  const unsigned tx = blockIdx.y * 32 + threadIdx.x;
  for (unsigned j = threadIdx.y; j < 32; j += blockDim.y) {
    const unsigned ty = blockIdx.x * 32 + j;
    if (tx < height && ty < width) out[ty * height + tx] = tile[threadIdx.x][j];
  }
}

extern __shared__ int dynamic_ints[];

KERNEL reverse_block(const int* in, int* out, unsigned n) {
  short* const shorts = reinterpret_cast<short*>(dynamic_ints + n);
  const unsigned t = threadIdx.x;
  if (t < n) {
    dynamic_ints[t] = in[t];
    shorts[t] = static_cast<short>(in[t] * 2);
  }
  __syncthreads();
  if (t < n) out[t] = dynamic_ints[n - 1 - t] + shorts[(t + 1) % n];
}

KERNEL static_and_dynamic(const int* in, int* out) {
  __shared__ int fixed[64];
  __shared__ double wide[3];
  const unsigned t = threadIdx.x;
  if (t < 3) wide[t] = t * 0.5;
  fixed[t] = in[t];
  dynamic_ints[t] = -in[t];
  __syncthreads();
  out[t] = fixed[(t + 1) % 64] * 3 + dynamic_ints[(t + 2) % 64] + static_cast<int>(wide[t % 3] * 4);
}

KERNEL local_arrays(const int* in, int* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  int heap[16];
  for (int k = 0; k < 16; ++k) heap[k] = in[(i * 7 + static_cast<unsigned>(k) * 13) % n];
  for (int a = 1; a < 16; ++a) {
    const int v = heap[a];
    int b = a - 1;
    while (b >= 0 && heap[b] > v) {
      heap[b + 1] = heap[b];
      --b;
    }
    heap[b + 1] = v;
  }
  out[i] = heap[in[i] & 15] * 1000 + heap[7];
}

KERNEL local_bytes(const uint8_t* in, uint8_t* out, unsigned n) {
  const unsigned i = global_index();
  if (i >= n) return;
  uint8_t table[40];
  for (unsigned k = 0; k < 40; ++k) table[k] = static_cast<uint8_t>(in[i] + k * 3);
  for (unsigned k = 0; k < 40; ++k) {
    const unsigned j = (k * 11 + in[i]) % 40;
    const uint8_t v = table[k];
    table[k] = table[j];
    table[j] = v;
  }
  out[i] = table[in[i] % 40];
}

__device__ __noinline__ void swap_generic(int* a, int* b) {
  const int v = *a;
  *a = *b;
  *b = v;
}

// The same code on global, shared and local addresses.
KERNEL generic_pointers(int* data) {
  __shared__ int block[32];
  const unsigned t = threadIdx.x;
  int own[2] = {static_cast<int>(t) + 100, 7};
  block[t] = static_cast<int>(t) * 10;
  __syncthreads();
  swap_generic(&data[t], &block[t]);
  swap_generic(&own[t & 1], &block[t]);
  __syncthreads();
  data[32 + t] = block[(t + 1) % 32];
  data[64 + t] = own[0] - own[1];
}
