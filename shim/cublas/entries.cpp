// The exported products and solves: each entry once for int and once, with _64, for int64_t dimensions.
#include "shim/cublas/gemm.h"

using namespace vgpu::shim::cublas;

// cublas<T>gemm, cublas<T>gemmStridedBatched and cublas<T>gemmBatched of one element type.
#define TYPED_GEMM(name, strided, batched, Int, scalar, type, compute)                                      \
  VGPU_CUBLAS_API cublasStatus_t name(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,    \
                                      Int m, Int n, Int k, const scalar* alpha, const scalar* a, Int lda,   \
                                      const scalar* b, Int ldb, const scalar* beta, scalar* c,              \
                                      Int ldc) noexcept {                                                   \
    return gemm(handle, {ta,   tb,  m, n,    k, alpha, a,   type, lda, 0,     b,                            \
                         type, ldb, 0, beta, c, type,  ldc, 0,    1,   false, compute});                    \
  }                                                                                                         \
  VGPU_CUBLAS_API cublasStatus_t strided(                                                                   \
      cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, Int m, Int n, Int k,               \
      const scalar* alpha, const scalar* a, Int lda, long long stride_a, const scalar* b, Int ldb,          \
      long long stride_b, const scalar* beta, scalar* c, Int ldc, long long stride_c, Int batch) noexcept { \
    return gemm(handle, {ta,   tb,  m,        n,    k, alpha, a,   type,     lda,   stride_a, b,            \
                         type, ldb, stride_b, beta, c, type,  ldc, stride_c, batch, false,    compute});    \
  }                                                                                                         \
  VGPU_CUBLAS_API cublasStatus_t batched(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, \
                                         Int m, Int n, Int k, const scalar* alpha, const scalar* const* a,  \
                                         Int lda, const scalar* const* b, Int ldb, const scalar* beta,      \
                                         scalar* const* c, Int ldc, Int batch) noexcept {                   \
    return gemm(handle, {ta,   tb,  m, n,    k, alpha, a,   type, lda,   0,    b,                           \
                         type, ldb, 0, beta, c, type,  ldc, 0,    batch, true, compute});                   \
  }

using Half = uint16_t;  // __half, by its bits

TYPED_GEMM(cublasSgemm_v2, cublasSgemmStridedBatched, cublasSgemmBatched, int, float, CUDA_R_32F,
           CUBLAS_COMPUTE_32F)
TYPED_GEMM(cublasSgemm_v2_64, cublasSgemmStridedBatched_64, cublasSgemmBatched_64, int64_t, float, CUDA_R_32F,
           CUBLAS_COMPUTE_32F)
TYPED_GEMM(cublasDgemm_v2, cublasDgemmStridedBatched, cublasDgemmBatched, int, double, CUDA_R_64F,
           CUBLAS_COMPUTE_64F)
TYPED_GEMM(cublasDgemm_v2_64, cublasDgemmStridedBatched_64, cublasDgemmBatched_64, int64_t, double,
           CUDA_R_64F, CUBLAS_COMPUTE_64F)
TYPED_GEMM(cublasHgemm, cublasHgemmStridedBatched, cublasHgemmBatched, int, Half, CUDA_R_16F,
           CUBLAS_COMPUTE_16F)
TYPED_GEMM(cublasHgemm_64, cublasHgemmStridedBatched_64, cublasHgemmBatched_64, int64_t, Half, CUDA_R_16F,
           CUBLAS_COMPUTE_16F)

#define GEMM_EX(name, strided, batched, single, Int)                                                         \
  VGPU_CUBLAS_API cublasStatus_t name(cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb,     \
                                      Int m, Int n, Int k, const void* alpha, const void* a,                 \
                                      cudaDataType_t type_a, Int lda, const void* b, cudaDataType_t type_b,  \
                                      Int ldb, const void* beta, void* c, cudaDataType_t type_c, Int ldc,    \
                                      cublasComputeType_t compute, int /*algorithm*/) noexcept {             \
    return gemm(handle, {ta,     tb,  m, n,    k, alpha,  a,   type_a, lda, 0,     b,                        \
                         type_b, ldb, 0, beta, c, type_c, ldc, 0,      1,   false, compute});                \
  }                                                                                                          \
  VGPU_CUBLAS_API cublasStatus_t strided(                                                                    \
      cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, Int m, Int n, Int k,                \
      const void* alpha, const void* a, cudaDataType_t type_a, Int lda, long long stride_a, const void* b,   \
      cudaDataType_t type_b, Int ldb, long long stride_b, const void* beta, void* c, cudaDataType_t type_c,  \
      Int ldc, long long stride_c, Int batch, cublasComputeType_t compute, int /*algorithm*/) noexcept {     \
    return gemm(handle, {ta,     tb,  m,        n,    k, alpha,  a,   type_a,   lda,   stride_a, b,          \
                         type_b, ldb, stride_b, beta, c, type_c, ldc, stride_c, batch, false,    compute});  \
  }                                                                                                          \
  VGPU_CUBLAS_API cublasStatus_t batched(                                                                    \
      cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, Int m, Int n, Int k,                \
      const void* alpha, const void* const* a, cudaDataType_t type_a, Int lda, const void* const* b,         \
      cudaDataType_t type_b, Int ldb, const void* beta, void* const* c, cudaDataType_t type_c, Int ldc,      \
      Int batch, cublasComputeType_t compute, int /*algorithm*/) noexcept {                                  \
    return gemm(handle, {ta,     tb,  m, n,    k, alpha,  a,   type_a, lda,   0,    b,                       \
                         type_b, ldb, 0, beta, c, type_c, ldc, 0,      batch, true, compute});               \
  }                                                                                                          \
  VGPU_CUBLAS_API cublasStatus_t single(                                                                     \
      cublasHandle_t handle, cublasOperation_t ta, cublasOperation_t tb, Int m, Int n, Int k,                \
      const float* alpha, const void* a, cudaDataType_t type_a, Int lda, const void* b,                      \
      cudaDataType_t type_b, Int ldb, const float* beta, void* c, cudaDataType_t type_c, Int ldc) noexcept { \
    return gemm(handle, {ta,     tb,  m, n,    k, alpha,  a,   type_a, lda, 0,     b,                        \
                         type_b, ldb, 0, beta, c, type_c, ldc, 0,      1,   false, CUBLAS_COMPUTE_32F});     \
  }

GEMM_EX(cublasGemmEx, cublasGemmStridedBatchedEx, cublasGemmBatchedEx, cublasSgemmEx, int)
GEMM_EX(cublasGemmEx_64, cublasGemmStridedBatchedEx_64, cublasGemmBatchedEx_64, cublasSgemmEx_64, int64_t)

#define TRSM_BATCHED(name, Int)                                                                             \
  VGPU_CUBLAS_API cublasStatus_t name(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t fill,  \
                                      cublasOperation_t transpose, cublasDiagType_t diagonal, Int m, Int n, \
                                      const float* alpha, const float* const* a, Int lda, float* const* b,  \
                                      Int ldb, Int batch) noexcept {                                        \
    return trsm_batched(handle, {side, fill, transpose, diagonal, m, n, alpha, a, lda, b, ldb, batch});     \
  }
TRSM_BATCHED(cublasStrsmBatched, int)
TRSM_BATCHED(cublasStrsmBatched_64, int64_t)

namespace {

// y = alpha * op(A) * x + beta * y as a product of a one-row matrix: y' = x' * op(A)'. A vector with
// increment i is a one-row matrix with leading dimension i; negative increments have no such form.
cublasStatus_t gemv(const Handle* handle, cublasOperation_t transpose, int64_t m, int64_t n,
                    const void* alpha, const void* a, int64_t lda, const void* x, int64_t incx,
                    const void* beta, void* y, int64_t incy, cudaDataType_t type,
                    cublasComputeType_t compute) noexcept {
  if (!valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || incx == 0 || incy == 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (incx < 0 || incy < 0) return unsupported("cublas<t>gemv: a negative increment");
  const bool plain = transpose == CUBLAS_OP_N;
  const int64_t rows = plain ? m : n;
  const int64_t inner = plain ? n : m;
  return gemm(handle, {CUBLAS_OP_N, plain ? CUBLAS_OP_T : CUBLAS_OP_N,
                       1,           rows,
                       inner,       alpha,
                       x,           type,
                       incx,        0,
                       a,           type,
                       lda,         0,
                       beta,        y,
                       type,        incy,
                       0,           1,
                       false,       compute});
}

}  // namespace

#define GEMV(name, Int, scalar, type, compute)                                                          \
  VGPU_CUBLAS_API cublasStatus_t name(cublasHandle_t handle, cublasOperation_t transpose, Int m, Int n, \
                                      const scalar* alpha, const scalar* a, Int lda, const scalar* x,   \
                                      Int incx, const scalar* beta, scalar* y, Int incy) noexcept {     \
    return gemv(handle, transpose, m, n, alpha, a, lda, x, incx, beta, y, incy, type, compute);         \
  }
GEMV(cublasSgemv_v2, int, float, CUDA_R_32F, CUBLAS_COMPUTE_32F)
GEMV(cublasSgemv_v2_64, int64_t, float, CUDA_R_32F, CUBLAS_COMPUTE_32F)
GEMV(cublasDgemv_v2, int, double, CUDA_R_64F, CUBLAS_COMPUTE_64F)
GEMV(cublasDgemv_v2_64, int64_t, double, CUDA_R_64F, CUBLAS_COMPUTE_64F)
