// See described_launches.h.
#include "tests/device/software/checked/described_launches.h"

#include <string_view>

namespace vgpu::testing {

std::optional<RealLaunch> describe_launch(const RealKernel& kernel, fuzz::Dice& dice) {
  struct Family {
    std::string_view name;  // in a mangled name
    RealLaunch (*describe)(const RealKernel& kernel, fuzz::Dice& dice);
  };
  static constexpr Family kFamilies[] = {
      {"9mul_mat_qI", described::mul_mat_q},
      {"24mul_mat_q_stream_k_fixupI", described::mul_mat_q_fixup},
      {"24conv2d_implicit_gemm_f16I", described::convolution},
      {"13mul_mat_vec_qI", described::mul_mat_vec_q},
      {"17mul_mat_vec_q_moeI", described::mul_mat_vec_q_moe},
      {"13mul_mat_vec_fI", described::mul_mat_vec_f},
      {"15flash_attn_tileI", described::attention_tile},
      {"18flash_attn_ext_vecI", described::attention_vector},
      {"33flash_attn_stream_k_fixup_generalI", described::attention_fixup},
      {"33flash_attn_stream_k_fixup_uniformI", described::attention_fixup_uniform},
      {"26flash_attn_combine_resultsI", described::attention_combine},
      {"25flash_attn_mask_to_KV_maxI", described::attention_last_keys},
      {"28lightning_indexer_kernel_vecI", described::lightning_indexer},
      {"12soft_max_f32I", described::soft_max},
      {"13k_get_rows_kqI", described::get_rows},
      {"16k_get_rows_floatI", described::get_rows},
      {"12ssm_scan_f32I", described::ssm_scan},
      {"18ssm_scan_f32_groupI", described::ssm_scan_group},
      {"15unary_op_kernelI", described::unary},
      {"16silu_back_kernelI", described::unary},
      {"15op_clamp_kernelI", described::unary_with_bounds},
      {"11softcap_f32PKf", described::unary_with_bounds},
      {"21cpy_scalar_contiguousI", described::contiguous_copy},
      {"23convert_unary_cont_vec4I", described::contiguous_copy},
      {"21unary_gated_op_kernelI", described::gated},
      {"11k_bin_bcastI", described::broadcast},
      {"19k_bin_bcast_unravelI", described::broadcast},
      {"12rms_norm_f32I", described::norm},
      {"11l2_norm_f32I", described::norm},
      {"10k_get_rowsI", described::get_rows},
      {"28DeviceRadixSortUpsweepKernelI", described::radix_upsweep},
      {"29DeviceRadixSortOnesweepKernelI", described::radix_onesweep},
      {"33DeviceSegmentedSortFallbackKernelI", described::segmented_sort},
      {"28DeviceReduceSingleTileKernelI", described::reduce_tile},
      {"11EmptyKernelI", described::nothing},
  };
  for (const Family& family : kFamilies) {
    if (kernel.name.find(family.name) != std::string::npos) return family.describe(kernel, dice);
  }
  return std::nullopt;
}

}  // namespace vgpu::testing
