// The kernels that the conformance suite launches, as PTX for compute capability 5.0 and up.
#pragma once

namespace vgpu::device {

inline constexpr const char* kConformanceKernels = R"(
.version 6.4
.target sm_50
.address_size 64

.visible .global .align 4 .u32 counter = 5;
.visible .global .align 8 .u64 counter_address = counter;
.visible .const .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};

// p[i] += 1 for i < n
.visible .entry add_one(.param .u64 add_one_p, .param .u32 add_one_n)
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<5>;
  .reg .f32 %f<3>;
  ld.param.u64 %rd1, [add_one_p];
  ld.param.u32 %r1, [add_one_n];
  mov.u32 %r2, %ctaid.x;
  mov.u32 %r3, %ntid.x;
  mov.u32 %r4, %tid.x;
  mad.lo.s32 %r5, %r2, %r3, %r4;
  setp.ge.u32 %p1, %r5, %r1;
  @%p1 bra DONE;
  cvta.to.global.u64 %rd2, %rd1;
  mul.wide.u32 %rd3, %r5, 4;
  add.s64 %rd4, %rd2, %rd3;
  ld.global.f32 %f1, [%rd4];
  add.f32 %f2, %f1, 0f3F800000;
  st.global.f32 [%rd4], %f2;
DONE:
  ret;
}

// out[block] = sum of in[block * threads ...], threads a power of two
.visible .entry block_sum(.param .u64 block_sum_in, .param .u64 block_sum_out)
{
  .reg .pred %p<4>;
  .reg .b32 %r<12>;
  .reg .b64 %rd<9>;
  .shared .align 4 .b8 block_sum_values[4096];
  ld.param.u64 %rd1, [block_sum_in];
  ld.param.u64 %rd2, [block_sum_out];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %rd3, %r4, 4;
  add.s64 %rd4, %rd1, %rd3;
  ld.global.u32 %r5, [%rd4];
  shl.b32 %r6, %r3, 2;
  mov.u32 %r7, block_sum_values;
  add.s32 %r8, %r7, %r6;
  st.shared.u32 [%r8], %r5;
  bar.sync 0;
LOOP:
  shr.u32 %r2, %r2, 1;
  setp.eq.u32 %p1, %r2, 0;
  @%p1 bra STORE;
  setp.ge.u32 %p2, %r3, %r2;
  @%p2 bra NEXT;
  shl.b32 %r9, %r2, 2;
  add.s32 %r9, %r8, %r9;
  ld.shared.u32 %r10, [%r9];
  ld.shared.u32 %r11, [%r8];
  add.s32 %r11, %r11, %r10;
  st.shared.u32 [%r8], %r11;
NEXT:
  bar.sync 0;
  bra LOOP;
STORE:
  setp.ne.u32 %p3, %r3, 0;
  @%p3 bra DONE;
  ld.shared.u32 %r11, [block_sum_values];
  mul.wide.u32 %rd5, %r1, 4;
  add.s64 %rd6, %rd2, %rd5;
  st.global.u32 [%rd6], %r11;
DONE:
  ret;
}

// *address = value
.visible .entry store_at(.param .u64 store_at_address, .param .u32 store_at_value)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [store_at_address];
  ld.param.u32 %r1, [store_at_value];
  st.global.u32 [%rd1], %r1;
  ret;
}

// dynamic shared memory: [offset] = 1
.extern .shared .align 16 .b8 dynamic_memory[];
.visible .entry store_shared(.param .u32 store_shared_offset)
{
  .reg .b32 %r<4>;
  ld.param.u32 %r1, [store_shared_offset];
  mov.u32 %r2, dynamic_memory;
  add.s32 %r3, %r2, %r1;
  st.shared.u32 [%r3], 1;
  ret;
}

.visible .entry trap_now()
{
  trap;
  ret;
}

// until *flag is not 0
.visible .entry spin(.param .u64 spin_flag)
{
  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [spin_flag];
AGAIN:
  ld.volatile.global.u32 %r1, [%rd1];
  setp.eq.u32 %p1, %r1, 0;
  @%p1 bra AGAIN;
  ret;
}

// The first warp waits for two, the others leave.
.visible .entry wait_for_nobody()
{
  .reg .pred %p<2>;
  .reg .b32 %r<2>;
  mov.u32 %r1, %tid.x;
  setp.ge.u32 %p1, %r1, 32;
  @%p1 bra DONE;
  bar.sync 1, 64;
DONE:
  ret;
}

// counter += 1 by every thread
.visible .entry bump()
{
  .reg .b32 %r<2>;
  atom.global.add.u32 %r1, [counter], 1;
  ret;
}

// Each block counts itself, then waits until all have.
.visible .entry meet(.param .u64 meet_count, .param .u32 meet_blocks)
{
  .reg .pred %p<2>;
  .reg .b32 %r<4>;
  .reg .b64 %rd<2>;
  ld.param.u64 %rd1, [meet_count];
  ld.param.u32 %r1, [meet_blocks];
  atom.global.add.u32 %r2, [%rd1], 1;
AGAIN:
  ld.volatile.global.u32 %r3, [%rd1];
  setp.lt.u32 %p1, %r3, %r1;
  @%p1 bra AGAIN;
  ret;
}

.visible .entry narrow() .maxntid 64, 1, 1
{
  ret;
}
)";

}  // namespace vgpu::device
