// Matrix products and triangular solves as one request to the device, whatever the entry's types were.
#pragma once

#include "shim/cublas/handle.h"

namespace vgpu::shim::cublas {

// C = alpha * op(A) * op(B) + beta * C for `batch` products, as cublasGemmStridedBatchedEx documents it.
struct Gemm {
  cublasOperation_t transpose_a;
  cublasOperation_t transpose_b;
  int64_t m, n, k;
  const void* alpha;
  const void* a;
  cudaDataType_t type_a;
  int64_t lda;
  int64_t stride_a;
  const void* b;
  cudaDataType_t type_b;
  int64_t ldb;
  int64_t stride_b;
  const void* beta;
  const void* c;
  cudaDataType_t type_c;
  int64_t ldc;
  int64_t stride_c;
  int64_t batch;
  bool pointer_arrays;  // a, b and c are device arrays of `batch` device pointers
  cublasComputeType_t compute;
};
// NOT_INITIALIZED: no handle. INVALID_VALUE: a dimension, leading dimension or pointer is wrong.
// NOT_SUPPORTED: the types do not go together. Errors of the product itself surface at a synchronising call.
cublasStatus_t gemm(const Handle* handle, const Gemm& call) noexcept;

// op(A[i]) * X = alpha * B[i], or X * op(A[i]) = alpha * B[i], in float; X overwrites B.
struct TrsmBatched {
  cublasSideMode_t side;
  cublasFillMode_t fill;
  cublasOperation_t transpose;
  cublasDiagType_t diagonal;
  int64_t m, n;
  const float* alpha;
  const void* a;
  int64_t lda;
  const void* b;
  int64_t ldb;
  int64_t batch;
};
cublasStatus_t trsm_batched(const Handle* handle, const TrsmBatched& call) noexcept;

}  // namespace vgpu::shim::cublas
