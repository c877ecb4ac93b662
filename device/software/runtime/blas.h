// cuBLAS calls on device memory through OpenBLAS: what is single or double precision is used where it lies,
// 16-bit matrices pass through panels of floats. Every matrix is checked against the context's ranges before
// any is touched. Used by the context's thread; several contexts at the same time.
#pragma once

#include <atomic>
#include <cstdint>

#include "device/error.h"
#include "device/software/runtime/range_table.h"
#include "protocol/commands.h"

namespace vgpu::software {

// How many threads OpenBLAS uses, for the whole process.
void set_blas_threads(uint32_t threads);

Result<void> blas_gemm(const RangeTable& ranges, const protocol::GemmRequest& request,
                       const std::atomic<uint32_t>& stop);
Result<void> blas_trsm_batched(const RangeTable& ranges, const protocol::TrsmBatchedRequest& request,
                               const std::atomic<uint32_t>& stop);

}  // namespace vgpu::software
