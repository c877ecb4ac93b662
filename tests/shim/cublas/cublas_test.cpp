// cuBLAS over a libcuda that keeps what it is given: what a call becomes on the wire, and which calls are
// refused.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "protocol/commands.h"
#include "shim/cublas/cublas_abi.h"
#include "tests/shim/cublas/fake_cuda.h"

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t*);
cublasStatus_t cublasDestroy_v2(cublasHandle_t);
cublasStatus_t cublasSetStream_v2(cublasHandle_t, CUstream);
cublasStatus_t cublasGetStream_v2(cublasHandle_t, CUstream*);
cublasStatus_t cublasSetMathMode(cublasHandle_t, int);
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, std::size_t);
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t);
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int*);
const char* cublasGetStatusString(cublasStatus_t);
const char* cublasGetStatusName(cublasStatus_t);
cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                              const float*, const float*, int, const float*, int, const float*, float*, int);
cublasStatus_t cublasSgemm_v2_64(cublasHandle_t, cublasOperation_t, cublasOperation_t, int64_t, int64_t,
                                 int64_t, const float*, const float*, int64_t, const float*, int64_t,
                                 const float*, float*, int64_t);
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                            const void*, cudaDataType_t, int, const void*, cudaDataType_t, int, const void*,
                            void*, cudaDataType_t, int, cublasComputeType_t, int);
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                          const void*, const void*, cudaDataType_t, int, long long,
                                          const void*, cudaDataType_t, int, long long, const void*, void*,
                                          cudaDataType_t, int, long long, int, cublasComputeType_t, int);
cublasStatus_t cublasGemmBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                   const void*, const void* const*, cudaDataType_t, int, const void* const*,
                                   cudaDataType_t, int, const void*, void* const*, cudaDataType_t, int, int,
                                   cublasComputeType_t, int);
cublasStatus_t cublasStrsmBatched(cublasHandle_t, cublasSideMode_t, cublasFillMode_t, cublasOperation_t,
                                  cublasDiagType_t, int, int, const float*, const float* const*, int,
                                  float* const*, int, int);
cublasStatus_t cublasSgemv_v2(cublasHandle_t, cublasOperation_t, int, int, const float*, const float*, int,
                              const float*, int, const float*, float*, int);
cublasStatus_t cublasSaxpy_v2(cublasHandle_t, int, const float*, const float*, int, float*, int);
cublasStatus_t cublasSetVector(int, int, const void*, int, void*, int);
}

namespace {

using vgpu::protocol::GemmRequest;
using vgpu::protocol::Opcode;
using vgpu::protocol::TrsmBatchedRequest;

const float* device_matrix(uintptr_t address) {
  return reinterpret_cast<const float*>(address);
}
float* device_result(uintptr_t address) {
  return reinterpret_cast<float*>(address);
}
const float kTwo = 2.0f;
const float kHalf = 0.5f;

class Cublas : public testing::Test {
 protected:
  void SetUp() override {
    fake_cuda()->reset();
    ASSERT_EQ(cublasCreate_v2(&handle_), CUBLAS_STATUS_SUCCESS);
  }
  void TearDown() override { cublasDestroy_v2(handle_); }

  template <typename Request>
  Request only(Opcode opcode) {
    Request request;
    EXPECT_EQ(fake_cuda()->submitted.size(), 1u);
    if (fake_cuda()->submitted.empty()) return request;
    const FakeSubmit& seen = fake_cuda()->submitted.back();
    EXPECT_EQ(seen.opcode, static_cast<uint16_t>(opcode));
    EXPECT_EQ(seen.body.size(), sizeof request);
    std::memcpy(&request, seen.body.data(), sizeof request);
    return request;
  }
  cublasStatus_t sgemm(int m, int n, int k, int lda, int ldb, int ldc) {
    return cublasSgemm_v2(handle_, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &kTwo, device_matrix(0x1000), lda,
                          device_matrix(0x2000), ldb, &kHalf, device_result(0x3000), ldc);
  }
  cublasHandle_t handle_ = nullptr;
};

TEST_F(Cublas, CreatingAHandleMakesAContextWhereThereIsNone) {
  EXPECT_NE(fake_cuda()->current, nullptr);
}

TEST_F(Cublas, AProductBecomesOneRequest) {
  const auto stream = reinterpret_cast<CUstream>(uintptr_t{0x55});
  ASSERT_EQ(cublasSetStream_v2(handle_, stream), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(sgemm(3, 4, 5, 6, 7, 8), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(fake_cuda()->submitted[0].stream, stream);
  const auto r = only<GemmRequest>(Opcode::kGemm);
  EXPECT_EQ(r.a, 0x1000u);
  EXPECT_EQ(r.b, 0x2000u);
  EXPECT_EQ(r.c, 0x3000u);
  EXPECT_EQ(r.m, 3);
  EXPECT_EQ(r.n, 4);
  EXPECT_EQ(r.k, 5);
  EXPECT_EQ(r.lda, 6);
  EXPECT_EQ(r.ldb, 7);
  EXPECT_EQ(r.ldc, 8);
  EXPECT_EQ(r.transpose_a, CUBLAS_OP_T);
  EXPECT_EQ(r.transpose_b, CUBLAS_OP_N);
  EXPECT_EQ(r.batch_count, 1u);
  EXPECT_EQ(r.type_a, CUDA_R_32F);
  EXPECT_EQ(r.compute_type, CUBLAS_COMPUTE_32F);
  EXPECT_EQ(std::bit_cast<double>(r.alpha), 2.0);
  EXPECT_EQ(std::bit_cast<double>(r.beta), 0.5);
  EXPECT_EQ(r.flags, 0);
}

TEST_F(Cublas, LargeDimensionsAreNotCut) {
  const int64_t rows = (int64_t{1} << 31) - 5;
  ASSERT_EQ(cublasSgemm_v2_64(handle_, CUBLAS_OP_N, CUBLAS_OP_N, rows, 1, 1, &kTwo, device_matrix(0x1000),
                              rows, device_matrix(0x2000), 1, &kHalf, device_result(0x3000), rows),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(only<GemmRequest>(Opcode::kGemm).m, rows);
}

TEST_F(Cublas, HalfScalarsKeepTheirValue) {
  // 1.5, the smallest subnormal, and minus infinity.
  const uint16_t alphas[] = {0x3e00, 0x0001, 0xfc00};
  const double values[] = {1.5, 0x1p-24, -std::numeric_limits<double>::infinity()};
  for (int i = 0; i < 3; ++i) {
    fake_cuda()->submitted.clear();
    ASSERT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &alphas[i], device_matrix(0x1000),
                           CUDA_R_16F, 2, device_matrix(0x2000), CUDA_R_16F, 2, &alphas[0],
                           device_result(0x3000), CUDA_R_16F, 2, CUBLAS_COMPUTE_16F, -1),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(std::bit_cast<double>(only<GemmRequest>(Opcode::kGemm).alpha), values[i]);
  }
}

TEST_F(Cublas, ScalarsOnTheDeviceTravelAsAddresses) {
  ASSERT_EQ(cublasSetPointerMode_v2(handle_, CUBLAS_POINTER_MODE_DEVICE), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(
      cublasSgemm_v2(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, device_matrix(0x7000), device_matrix(0x1000),
                     1, device_matrix(0x2000), 1, device_matrix(0x7004), device_result(0x3000), 1),
      CUBLAS_STATUS_SUCCESS);
  const auto r = only<GemmRequest>(Opcode::kGemm);
  EXPECT_EQ(r.alpha, 0x7000u);
  EXPECT_EQ(r.beta, 0x7004u);
  EXPECT_EQ(r.flags, vgpu::protocol::kGemmScalarsOnDevice);
}

TEST_F(Cublas, StridesAndPointerArraysAreToldApart) {
  ASSERT_EQ(
      cublasGemmStridedBatchedEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &kTwo, device_matrix(0x1000),
                                 CUDA_R_16F, 2, 10, device_matrix(0x2000), CUDA_R_16F, 2, 20, &kHalf,
                                 device_result(0x3000), CUDA_R_32F, 2, 30, 9, CUBLAS_COMPUTE_32F, -1),
      CUBLAS_STATUS_SUCCESS);
  auto r = only<GemmRequest>(Opcode::kGemm);
  EXPECT_EQ(r.stride_a, 10);
  EXPECT_EQ(r.stride_b, 20);
  EXPECT_EQ(r.stride_c, 30);
  EXPECT_EQ(r.batch_count, 9u);
  EXPECT_EQ(r.flags, 0);
  fake_cuda()->submitted.clear();
  ASSERT_EQ(cublasGemmBatchedEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &kTwo,
                                reinterpret_cast<const void* const*>(device_matrix(0x1000)), CUDA_R_16F, 2,
                                reinterpret_cast<const void* const*>(device_matrix(0x2000)), CUDA_R_16F, 2,
                                &kHalf, reinterpret_cast<void* const*>(device_result(0x3000)), CUDA_R_16F, 2,
                                9, CUBLAS_COMPUTE_32F, -1),
            CUBLAS_STATUS_SUCCESS);
  r = only<GemmRequest>(Opcode::kGemm);
  EXPECT_EQ(r.flags, vgpu::protocol::kGemmPointerArrays);
  EXPECT_EQ(r.batch_count, 9u);
}

TEST_F(Cublas, ATriangularSolveKeepsItsShape) {
  ASSERT_EQ(
      cublasStrsmBatched(handle_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_UNIT, 3,
                         4, &kTwo, reinterpret_cast<const float* const*>(device_matrix(0x1000)), 5,
                         reinterpret_cast<float* const*>(device_result(0x2000)), 6, 7),
      CUBLAS_STATUS_SUCCESS);
  const auto r = only<TrsmBatchedRequest>(Opcode::kTrsmBatched);
  EXPECT_EQ(r.right_side, 1);
  EXPECT_EQ(r.upper, 1);
  EXPECT_EQ(r.unit_diagonal, 1);
  EXPECT_EQ(r.m, 3);
  EXPECT_EQ(r.n, 4);
  EXPECT_EQ(r.lda, 5);
  EXPECT_EQ(r.ldb, 6);
  EXPECT_EQ(r.batch_count, 7u);
  EXPECT_EQ(std::bit_cast<double>(r.alpha), 2.0);
}

TEST_F(Cublas, AMatrixTimesAVectorIsAProductOfARow) {
  ASSERT_EQ(cublasSgemv_v2(handle_, CUBLAS_OP_N, 3, 5, &kTwo, device_matrix(0x1000), 4, device_matrix(0x2000),
                           2, &kHalf, device_result(0x3000), 6),
            CUBLAS_STATUS_SUCCESS);
  const auto r = only<GemmRequest>(Opcode::kGemm);
  EXPECT_EQ(r.m, 1);
  EXPECT_EQ(r.n, 3);
  EXPECT_EQ(r.k, 5);
  EXPECT_EQ(r.a, 0x2000u);
  EXPECT_EQ(r.lda, 2);
  EXPECT_EQ(r.b, 0x1000u);
  EXPECT_EQ(r.ldb, 4);
  EXPECT_EQ(r.transpose_b, CUBLAS_OP_T);
  EXPECT_EQ(r.ldc, 6);
}

TEST_F(Cublas, AnEmptyProductSendsNothing) {
  EXPECT_EQ(sgemm(0, 4, 5, 5, 5, 1), CUBLAS_STATUS_SUCCESS);
  EXPECT_TRUE(fake_cuda()->submitted.empty());
}

TEST_F(Cublas, AWrongLeadingDimensionIsRefused) {
  EXPECT_EQ(sgemm(3, 4, 5, 4, 7, 8), CUBLAS_STATUS_INVALID_VALUE);  // op(A) is transposed: lda >= k
  EXPECT_EQ(sgemm(3, 4, 5, 6, 4, 8), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(sgemm(3, 4, 5, 6, 7, 2), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(sgemm(-1, 4, 5, 6, 7, 8), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_TRUE(fake_cuda()->submitted.empty());
}

TEST_F(Cublas, NullScalarsAndMatricesAreRefused) {
  EXPECT_EQ(cublasSgemm_v2(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, nullptr, device_matrix(0x1000), 1,
                           device_matrix(0x2000), 1, &kHalf, device_result(0x3000), 1),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasSgemm_v2(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &kTwo, nullptr, 1,
                           device_matrix(0x2000), 1, &kHalf, device_result(0x3000), 1),
            CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(Cublas, TypesThatDoNotGoTogetherAreNotSupported) {
  EXPECT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &kTwo, device_matrix(0x1000), CUDA_R_16F,
                         2, device_matrix(0x2000), CUDA_R_32F, 2, &kHalf, device_result(0x3000), CUDA_R_32F,
                         2, CUBLAS_COMPUTE_32F, -1),
            CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(Cublas, WithoutAHandleNothingIsInitialized) {
  EXPECT_EQ(cublasSetStream_v2(nullptr, nullptr), CUBLAS_STATUS_NOT_INITIALIZED);
  EXPECT_EQ(cublasDestroy_v2(nullptr), CUBLAS_STATUS_NOT_INITIALIZED);
}

TEST_F(Cublas, AThreadWithoutAContextUsesTheHandles) {
  fake_cuda()->current = nullptr;
  EXPECT_EQ(sgemm(3, 4, 5, 6, 7, 8), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(fake_cuda()->submitted.size(), 1u);
}

TEST_F(Cublas, ABrokenContextIsAnExecutionFailure) {
  fake_cuda()->submit_result = CUDA_ERROR_ILLEGAL_ADDRESS;
  EXPECT_EQ(sgemm(3, 4, 5, 6, 7, 8), CUBLAS_STATUS_EXECUTION_FAILED);
}

TEST_F(Cublas, SettingsAreChecked) {
  EXPECT_EQ(cublasSetMathMode(handle_, 1), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasSetMathMode(handle_, 3 | 16), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasSetMathMode(handle_, 9), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasSetWorkspace_v2(handle_, reinterpret_cast<void*>(uintptr_t{0x1100}), 256),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(cublasSetWorkspace_v2(handle_, reinterpret_cast<void*>(uintptr_t{0x1101}), 256),
            CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(Cublas, ACallThatIsNotImplementedIsCounted) {
  EXPECT_EQ(cublasSaxpy_v2(handle_, 1, &kTwo, device_matrix(0x1000), 1, device_result(0x2000), 1),
            CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(fake_cuda()->unimplemented, 1);
}

TEST_F(Cublas, AVectorWithAnIncrementIsACopyOfRows) {
  const float host[8] = {};
  ASSERT_EQ(cublasSetVector(4, sizeof(float), host, 2, device_result(0x2000), 1), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(fake_cuda()->copies.size(), 1u);
  EXPECT_EQ(fake_cuda()->copies[0].srcPitch, 8u);
  EXPECT_EQ(fake_cuda()->copies[0].dstPitch, 4u);
  EXPECT_EQ(fake_cuda()->copies[0].WidthInBytes, 4u);
  EXPECT_EQ(fake_cuda()->copies[0].Height, 4u);
}

TEST_F(Cublas, StatusesHaveTheirNames) {
  EXPECT_STREQ(cublasGetStatusName(CUBLAS_STATUS_INVALID_VALUE), "CUBLAS_STATUS_INVALID_VALUE");
  EXPECT_STREQ(cublasGetStatusString(CUBLAS_STATUS_NOT_INITIALIZED), "the library was not initialized");
}

}  // namespace
