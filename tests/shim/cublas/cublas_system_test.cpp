// cuBLAS down to the device: products and solves against plain loops. Each case is run in a process of its
// own through `vgpu-device run`.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <vector>

#include "shim/cublas/cublas_abi.h"
#include "tests/shim/cudart/cudart_api.h"

extern "C" {
cublasStatus_t cublasCreate_v2(cublasHandle_t*);
cublasStatus_t cublasDestroy_v2(cublasHandle_t);
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t, cublasPointerMode_t);
cublasStatus_t cublasSgemm_v2(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                              const float*, const float*, int, const float*, int, const float*, float*, int);
cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                         const float*, const float*, int, long long, const float*, int,
                                         long long, const float*, float*, int, long long, int);
cublasStatus_t cublasSgemmBatched(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                  const float*, const float* const*, int, const float* const*, int,
                                  const float*, float* const*, int, int);
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                            const void*, cudaDataType_t, int, const void*, cudaDataType_t, int, const void*,
                            void*, cudaDataType_t, int, cublasComputeType_t, int);
cublasStatus_t cublasStrsmBatched(cublasHandle_t, cublasSideMode_t, cublasFillMode_t, cublasOperation_t,
                                  cublasDiagType_t, int, int, const float*, const float* const*, int,
                                  float* const*, int, int);
cublasStatus_t cublasSgemv_v2(cublasHandle_t, cublasOperation_t, int, int, const float*, const float*, int,
                              const float*, int, const float*, float*, int);
}

namespace {

constexpr int kM = 5;
constexpr int kN = 4;
constexpr int kK = 3;

class CublasSystem : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(cublasCreate_v2(&handle_), CUBLAS_STATUS_SUCCESS); }
  void TearDown() override { EXPECT_EQ(cublasDestroy_v2(handle_), CUBLAS_STATUS_SUCCESS); }

  template <typename T>
  T* upload(const std::vector<T>& values) {
    void* pointer = nullptr;
    EXPECT_EQ(cudaMalloc(&pointer, values.size() * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
    return static_cast<T*>(pointer);
  }
  template <typename T>
  std::vector<T> download(const T* pointer, std::size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpy(values.data(), pointer, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }
  cublasHandle_t handle_ = nullptr;
};

// Small whole numbers: every product and sum is exact.
std::vector<float> matrix(int rows, int columns, int seed) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((static_cast<int>(i) * 7 + seed) % 9 - 4);
  return values;
}

float at(const std::vector<float>& values, int leading, int row, int column, std::size_t start = 0) {
  return values[start + static_cast<std::size_t>(column * leading + row)];
}

// alpha * A' * B + beta * C for A of k x m and B of k x n.
float expected(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c, int row,
               int column, std::size_t a0 = 0, std::size_t b0 = 0, std::size_t c0 = 0) {
  float sum = 0;
  for (int i = 0; i < kK; ++i) sum += at(a, kK, i, row, a0) * at(b, kK, i, column, b0);
  return 2.0f * sum + 0.5f * at(c, kM, row, column, c0);
}

const float kTwo = 2.0f;
const float kHalf = 0.5f;

TEST_F(CublasSystem, AProductIsRight) {
  const auto a = matrix(kK, kM, 1);
  const auto b = matrix(kK, kN, 2);
  const auto c = matrix(kM, kN, 3);
  float* dc = upload(c);
  ASSERT_EQ(cublasSgemm_v2(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kM, kN, kK, &kTwo, upload(a), kK, upload(b), kK,
                           &kHalf, dc, kM),
            CUBLAS_STATUS_SUCCESS);
  const auto result = download(dc, c.size());
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) ASSERT_EQ(at(result, kM, i, j), expected(a, b, c, i, j)) << i << "," << j;
  }
}

TEST_F(CublasSystem, ScalarsMayLieOnTheDevice) {
  const auto a = matrix(kK, kM, 1);
  const auto b = matrix(kK, kN, 2);
  const auto c = matrix(kM, kN, 3);
  float* dc = upload(c);
  float* scalars = upload(std::vector<float>{2.0f, 0.5f});
  ASSERT_EQ(cublasSetPointerMode_v2(handle_, CUBLAS_POINTER_MODE_DEVICE), CUBLAS_STATUS_SUCCESS);
  ASSERT_EQ(cublasSgemm_v2(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kM, kN, kK, scalars, upload(a), kK, upload(b),
                           kK, scalars + 1, dc, kM),
            CUBLAS_STATUS_SUCCESS);
  const auto result = download(dc, c.size());
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) ASSERT_EQ(at(result, kM, i, j), expected(a, b, c, i, j)) << i << "," << j;
  }
}

TEST_F(CublasSystem, BatchesKeepTheirStrides) {
  const auto a = matrix(kK, kM * 3, 1);
  const auto b = matrix(kK, kN * 3, 2);
  const auto c = matrix(kM, kN * 3, 3);
  float* dc = upload(c);
  ASSERT_EQ(cublasSgemmStridedBatched(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kM, kN, kK, &kTwo, upload(a), kK,
                                      kK * kM, upload(b), kK, kK * kN, &kHalf, dc, kM, kM * kN, 3),
            CUBLAS_STATUS_SUCCESS);
  const auto result = download(dc, c.size());
  for (std::size_t batch = 0; batch < 3; ++batch) {
    for (int i = 0; i < kM; ++i) {
      for (int j = 0; j < kN; ++j) {
        ASSERT_EQ(at(result, kM, i, j, batch * kM * kN),
                  expected(a, b, c, i, j, batch * kK * kM, batch * kK * kN, batch * kM * kN));
      }
    }
  }
}

TEST_F(CublasSystem, BatchesOfPointersAreFollowed) {
  const auto a = matrix(kK, kM * 2, 1);
  const auto b = matrix(kK, kN * 2, 2);
  const auto c = matrix(kM, kN * 2, 3);
  float* da = upload(a);
  float* db = upload(b);
  float* dc = upload(c);
  // The second product comes first.
  auto** as = upload(std::vector<float*>{da + kK * kM, da});
  auto** bs = upload(std::vector<float*>{db + kK * kN, db});
  auto** cs = upload(std::vector<float*>{dc + kM * kN, dc});
  ASSERT_EQ(cublasSgemmBatched(handle_, CUBLAS_OP_T, CUBLAS_OP_N, kM, kN, kK, &kTwo, as, kK, bs, kK, &kHalf,
                               cs, kM, 2),
            CUBLAS_STATUS_SUCCESS);
  const auto result = download(dc, c.size());
  for (std::size_t batch = 0; batch < 2; ++batch) {
    for (int i = 0; i < kM; ++i) {
      for (int j = 0; j < kN; ++j) {
        ASSERT_EQ(at(result, kM, i, j, batch * kM * kN),
                  expected(a, b, c, i, j, batch * kK * kM, batch * kK * kN, batch * kM * kN));
      }
    }
  }
}

TEST_F(CublasSystem, HalvesAreMultipliedIntoFloats) {
  // 1, 2, 3, 4 and 0.5 as halves: [1 3; 2 4] * [0.5; 1] = [3.5; 5].
  const std::vector<uint16_t> a{0x3c00, 0x4000, 0x4200, 0x4400};
  const std::vector<uint16_t> b{0x3800, 0x3c00};
  float* dc = upload(std::vector<float>{9.0f, 9.0f});
  const float one = 1.0f;
  const float zero = 0.0f;
  ASSERT_EQ(cublasGemmEx(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 1, 2, &one, upload(a), CUDA_R_16F, 2,
                         upload(b), CUDA_R_16F, 2, &zero, dc, CUDA_R_32F, 2, CUBLAS_COMPUTE_32F, -1),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(download(dc, 2), (std::vector<float>{3.5f, 5.0f}));
}

TEST_F(CublasSystem, ATriangularSystemIsSolved) {
  // Lower [2 0; 1 4], twice: X = [1; 2] from [2; 9], and [3; 1] from [6; 7].
  float* a = upload(std::vector<float>{2, 1, 77, 4});  // 77 stands in the part that is not read
  float* b = upload(std::vector<float>{2, 9, 6, 7});
  auto** as = upload(std::vector<float*>{a, a});
  auto** bs = upload(std::vector<float*>{b, b + 2});
  const float one = 1.0f;
  ASSERT_EQ(cublasStrsmBatched(handle_, CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
                               CUBLAS_DIAG_NON_UNIT, 2, 1, &one, as, 2, bs, 2, 2),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(download(b, 4), (std::vector<float>{1, 2, 3, 1}));
}

TEST_F(CublasSystem, AMatrixTimesAStridedVectorIsRight) {
  const auto a = matrix(kM, kN, 5);
  const std::vector<float> x{1, -9, 2, -9, 3, -9, 4, -9};  // every second one counts
  float* dy = upload(std::vector<float>(kM * 2, 1.0f));
  ASSERT_EQ(cublasSgemv_v2(handle_, CUBLAS_OP_N, kM, kN, &kTwo, upload(a), kM, upload(x), 2, &kHalf, dy, 2),
            CUBLAS_STATUS_SUCCESS);
  const auto y = download(dy, kM * 2);
  for (int i = 0; i < kM; ++i) {
    float sum = 0;
    for (int j = 0; j < kN; ++j) sum += at(a, kM, i, j) * x[static_cast<std::size_t>(2 * j)];
    ASSERT_EQ(y[static_cast<std::size_t>(2 * i)], 2.0f * sum + 0.5f);
    ASSERT_EQ(y[static_cast<std::size_t>(2 * i + 1)], 1.0f);
  }
}

TEST_F(CublasSystem, AForeignPointerSurfacesAtTheNextSynchronisation) {
  float local[4] = {};
  float* dc = upload(std::vector<float>(4));
  const cublasStatus_t status =
      cublasSgemm_v2(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &kTwo, local, 2, local, 2, &kHalf, dc, 2);
  EXPECT_TRUE(status != CUBLAS_STATUS_SUCCESS || cudaDeviceSynchronize() != cudaSuccess);
}

}  // namespace
