// Launches of the kernels whose parameters depend on each other too much to be guessed: written down by
// family, each as llama.cpp launches it, with shapes, strides and contents from the dice.
#pragma once

#include <optional>

#include "tests/device/software/checked/real_launch.h"
#include "tests/device/software/fuzz/dice.h"
#include "tests/device/software/jit/real_kernels.h"

namespace vgpu::testing {

// Nothing: the kernel is of no family that is described.
[[nodiscard]] std::optional<RealLaunch> describe_launch(const RealKernel& kernel, fuzz::Dice& dice);

// Of describe_launch: the families by the file they stand in.
namespace described {
// described_products.cpp: quantized matrix products, and what adds up their parts.
[[nodiscard]] RealLaunch mul_mat_q(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch mul_mat_q_fixup(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch convolution(const RealKernel& kernel, fuzz::Dice& dice);
// described_vectors.cpp
[[nodiscard]] RealLaunch mul_mat_vec_q(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch mul_mat_vec_q_moe(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch mul_mat_vec_f(const RealKernel& kernel, fuzz::Dice& dice);
// described_attention.cpp
[[nodiscard]] RealLaunch attention_tile(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch attention_vector(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch lightning_indexer(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch soft_max(const RealKernel& kernel, fuzz::Dice& dice);
// described_attention_parts.cpp
[[nodiscard]] RealLaunch attention_fixup(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch attention_fixup_uniform(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch attention_combine(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch attention_last_keys(const RealKernel& kernel, fuzz::Dice& dice);
// described_rows.cpp
[[nodiscard]] RealLaunch get_rows(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch ssm_scan(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch ssm_scan_group(const RealKernel& kernel, fuzz::Dice& dice);
// described_elements.cpp
[[nodiscard]] RealLaunch unary(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch unary_with_bounds(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch contiguous_copy(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch gated(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch broadcast(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch norm(const RealKernel& kernel, fuzz::Dice& dice);
// described_cub.cpp: of NVIDIA's CUB library.
[[nodiscard]] RealLaunch radix_upsweep(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch radix_onesweep(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch segmented_sort(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch reduce_tile(const RealKernel& kernel, fuzz::Dice& dice);
[[nodiscard]] RealLaunch nothing(const RealKernel& kernel, fuzz::Dice& dice);
}  // namespace described

}  // namespace vgpu::testing
