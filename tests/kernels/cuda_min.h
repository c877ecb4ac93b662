// What CUDA C++ needs of a toolkit's headers, for kernels compiled by Debian's clang alone (no CUDA toolkit):
// attributes, built-in variables, and thin names over clang's NVPTX builtins.
#pragma once

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define KERNEL extern "C" __global__ void

using size_t = decltype(sizeof 0);
using int8_t = signed char;
using uint8_t = unsigned char;
using int16_t = short;
using uint16_t = unsigned short;
using int32_t = int;
using uint32_t = unsigned;
using int64_t = long long;
using uint64_t = unsigned long long;

// threadIdx.x and so on: properties that read the special registers.
#define VGPU_COORDINATE(name, component)                                            \
  __declspec(property(get = get_##component)) unsigned component;                   \
  static inline __attribute__((device, always_inline)) unsigned get_##component() { \
    return __nvvm_read_ptx_sreg_##name##_##component();                             \
  }
#define VGPU_COORDINATES(type, name) \
  struct type {                      \
    VGPU_COORDINATE(name, x)         \
    VGPU_COORDINATE(name, y)         \
    VGPU_COORDINATE(name, z)         \
  };
VGPU_COORDINATES(ThreadIndex, tid)
VGPU_COORDINATES(BlockSize, ntid)
VGPU_COORDINATES(BlockIndex, ctaid)
VGPU_COORDINATES(GridSize, nctaid)
extern const __device__ ThreadIndex threadIdx;
extern const __device__ BlockSize blockDim;
extern const __device__ BlockIndex blockIdx;
extern const __device__ GridSize gridDim;

constexpr unsigned kFull = 0xFFFFFFFFu;
constexpr unsigned kWarp = 32;

inline __device__ unsigned global_index() {
  return blockIdx.x * blockDim.x + threadIdx.x;
}
inline __device__ unsigned lane_id() {
  return __nvvm_read_ptx_sreg_laneid();
}

inline __device__ int shfl_xor(int v, int lanes) {
  return __nvvm_shfl_sync_bfly_i32(kFull, v, lanes, 0x1F);
}
inline __device__ int shfl_down(int v, int by) {
  return __nvvm_shfl_sync_down_i32(kFull, v, by, 0x1F);
}
inline __device__ int shfl_up(int v, int by) {
  return __nvvm_shfl_sync_up_i32(kFull, v, by, 0);
}
inline __device__ int shfl(int v, int lane) {
  return __nvvm_shfl_sync_idx_i32(kFull, v, lane, 0x1F);
}
inline __device__ float shfl_xor(float v, int lanes) {
  return __nvvm_shfl_sync_bfly_f32(kFull, v, lanes, 0x1F);
}
inline __device__ float shfl_down(float v, int by) {
  return __nvvm_shfl_sync_down_f32(kFull, v, by, 0x1F);
}

inline __device__ unsigned ballot(bool p) {
  return __nvvm_vote_ballot_sync(kFull, p);
}
inline __device__ bool all(bool p) {
  return __nvvm_vote_all_sync(kFull, p);
}
inline __device__ bool any(bool p) {
  return __nvvm_vote_any_sync(kFull, p);
}
inline __device__ void sync_warp() {
  __nvvm_bar_warp_sync(kFull);
}

inline __device__ int atomic_add(int* p, int v) {
  return __nvvm_atom_add_gen_i(p, v);
}
inline __device__ unsigned atomic_add(unsigned* p, unsigned v) {
  return static_cast<unsigned>(__nvvm_atom_add_gen_i(reinterpret_cast<int*>(p), static_cast<int>(v)));
}
inline __device__ unsigned long long atomic_add(unsigned long long* p, unsigned long long v) {
  return static_cast<unsigned long long>(
      __nvvm_atom_add_gen_ll(reinterpret_cast<long long*>(p), static_cast<long long>(v)));
}
inline __device__ float atomic_add(float* p, float v) {
  return __nvvm_atom_add_gen_f(p, v);
}
inline __device__ double atomic_add(double* p, double v) {
  return __nvvm_atom_add_gen_d(p, v);
}
inline __device__ unsigned atomic_inc(unsigned* p, unsigned limit) {
  return __nvvm_atom_inc_gen_ui(p, limit);
}
inline __device__ unsigned atomic_dec(unsigned* p, unsigned limit) {
  return __nvvm_atom_dec_gen_ui(p, limit);
}
inline __device__ int atomic_min(int* p, int v) {
  return __nvvm_atom_min_gen_i(p, v);
}
inline __device__ int atomic_max(int* p, int v) {
  return __nvvm_atom_max_gen_i(p, v);
}
inline __device__ unsigned atomic_umin(unsigned* p, unsigned v) {
  return __nvvm_atom_min_gen_ui(p, v);
}
inline __device__ unsigned atomic_umax(unsigned* p, unsigned v) {
  return __nvvm_atom_max_gen_ui(p, v);
}
inline __device__ int atomic_and(int* p, int v) {
  return __nvvm_atom_and_gen_i(p, v);
}
inline __device__ int atomic_or(int* p, int v) {
  return __nvvm_atom_or_gen_i(p, v);
}
inline __device__ int atomic_xor(int* p, int v) {
  return __nvvm_atom_xor_gen_i(p, v);
}
inline __device__ int atomic_exch(int* p, int v) {
  return __nvvm_atom_xchg_gen_i(p, v);
}
inline __device__ int atomic_cas(int* p, int expected, int v) {
  return __nvvm_atom_cas_gen_i(p, expected, v);
}
inline __device__ long long atomic_cas(long long* p, long long expected, long long v) {
  return __nvvm_atom_cas_gen_ll(p, expected, v);
}
inline __device__ void fence_grid() {
  __nvvm_membar_gl();
}
inline __device__ void fence_block() {
  __nvvm_membar_cta();
}

inline __device__ int dp4a(int a, int b, int c) {
  int d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
inline __device__ unsigned dp4a_unsigned(unsigned a, unsigned b, unsigned c) {
  unsigned d;
  asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

inline __device__ float exp2_approx(float x) {
  return __nvvm_ex2_approx_ftz_f(x);
}
inline __device__ float log2_approx(float x) {
  return __nvvm_lg2_approx_ftz_f(x);
}
inline __device__ float sin_approx(float x) {
  return __nvvm_sin_approx_ftz_f(x);
}
inline __device__ float cos_approx(float x) {
  return __nvvm_cos_approx_ftz_f(x);
}
inline __device__ float rsqrt_approx(float x) {
  return __nvvm_rsqrt_approx_ftz_f(x);
}
inline __device__ float sqrt_approx(float x) {
  return __nvvm_sqrt_approx_ftz_f(x);
}
inline __device__ float rcp_approx(float x) {
  return __nvvm_rcp_approx_ftz_f(x);
}
inline __device__ float div_approx(float a, float b) {
  return __nvvm_div_approx_ftz_f(a, b);
}

struct alignas(8) Float2 {
  float x, y;
};
struct alignas(16) Float4 {
  float x, y, z, w;
};
struct alignas(4) UChar4 {
  uint8_t x, y, z, w;
};
struct alignas(8) Int2 {
  int x, y;
};
struct alignas(16) ULong2 {
  uint64_t x, y;
};
