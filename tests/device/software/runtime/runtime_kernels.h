// Kernels that only the software runtime's own tests launch; hand_kernels.cpp has their code.
#pragma once

namespace vgpu::software::testing {

inline constexpr const char* kRuntimeKernels = R"(
.version 6.4
.target sm_50
.address_size 64
.visible .entry empty() { ret; }
.visible .entry reductions(.param .u64 out) { ret; }
.visible .entry named_barriers(.param .u64 out) { .shared .align 4 .b8 value[16]; ret; }
.visible .entry use_local(.param .u64 out) { ret; }
.visible .entry use_shared(.param .u64 out) { ret; }
.visible .entry print(.param .u64 format, .param .u64 arguments, .param .u64 out) { ret; }
.visible .entry fault_between_barriers() { ret; }
.visible .entry overflow() { ret; }
.visible .entry write_mxcsr(.param .u64 out) { ret; }
.visible .entry barriers_1000() { ret; }
.visible .entry spin(.param .u64 flag) { ret; }
.visible .entry store_at(.param .u64 address, .param .u32 value) { ret; }
.visible .entry not_compilable() { ret; }
)";

}  // namespace vgpu::software::testing
