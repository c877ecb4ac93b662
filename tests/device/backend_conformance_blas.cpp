// The conformance suite's BLAS part: results against plain loops, and what must be refused.
#include <array>
#include <bit>
#include <limits>
#include <random>

#include "tests/device/backend_conformance.h"

namespace vgpu::device {
namespace {

protocol::GemmRequest gemm_of(uint64_t a, uint64_t b, uint64_t c, int64_t m, int64_t n, int64_t k,
                              double alpha, double beta) {
  protocol::GemmRequest request;
  request.a = a;
  request.b = b;
  request.c = c;
  request.alpha = std::bit_cast<uint64_t>(alpha);
  request.beta = std::bit_cast<uint64_t>(beta);
  request.m = m;
  request.n = n;
  request.k = k;
  request.lda = m;
  request.ldb = k;
  request.ldc = m;
  request.batch_count = 1;
  request.compute_type = 68;  // CUBLAS_COMPUTE_32F
  return request;
}

std::vector<float> random_floats(std::size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> distribution(-1, 1);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(random);
  return values;
}

TEST_P(BackendConformance, GemmAgreesWithThePlainLoopForEveryTransposition) {
  const auto context = make_context();
  const int64_t m = 37, n = 21, k = 53, lda = 60, ldb = 61, ldc = 40;
  const auto a = random_floats(60 * 60, 1);
  const auto b = random_floats(61 * 61, 2);
  const auto c = random_floats(40 * 21, 3);
  const uint64_t da = must_allocate(*context, a.size() * 4);
  const uint64_t db = must_allocate(*context, b.size() * 4);
  const uint64_t dc = must_allocate(*context, c.size() * 4);
  store(*context, da, a);
  store(*context, db, b);
  for (const uint8_t ta : std::array<uint8_t, 3>{0, 1, 2}) {
    for (const uint8_t tb : std::array<uint8_t, 3>{0, 1, 2}) {
      store(*context, dc, c);
      auto request = gemm_of(da, db, dc, m, n, k, 1.5, -0.5);
      request.lda = lda;
      request.ldb = ldb;
      request.ldc = ldc;
      request.transpose_a = ta;
      request.transpose_b = tb;
      ASSERT_DONE(context->gemm(0, request));
      const auto result = load<float>(*context, dc, c.size());
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t i = 0; i < ldc; ++i) {
          const auto at = static_cast<std::size_t>(j * ldc + i);
          if (i >= m) {
            ASSERT_EQ(result[at], c[at]) << "between columns";
            continue;
          }
          double sum = 0;
          for (int64_t l = 0; l < k; ++l) {
            const float x = a[static_cast<std::size_t>(ta == 0 ? l * lda + i : i * lda + l)];
            const float y = b[static_cast<std::size_t>(tb == 0 ? j * ldb + l : l * ldb + j)];
            sum += double{x} * y;
          }
          ASSERT_NEAR(result[at], 1.5 * sum - 0.5 * c[at], 1e-4) << i << ", " << j;
        }
      }
    }
  }
}

TEST_P(BackendConformance, GemmWithBetaZeroDoesNotReadC) {
  const auto context = make_context();
  const std::vector<float> nan(16, std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> ones(16, 1.0f);
  const uint64_t a = must_allocate(*context, 64);
  const uint64_t c = must_allocate(*context, 64);
  store(*context, a, ones);
  store(*context, c, nan);
  ASSERT_DONE(context->gemm(0, gemm_of(a, a, c, 4, 4, 4, 1, 0)));
  EXPECT_EQ(load<float>(*context, c, 16), std::vector<float>(16, 4.0f));
  // k = 0: C = beta * C.
  ASSERT_DONE(context->gemm(0, gemm_of(a, a, c, 4, 4, 0, 1, 0.5)));
  EXPECT_EQ(load<float>(*context, c, 16), std::vector<float>(16, 2.0f));
  store(*context, c, nan);
  auto request = gemm_of(a, a, c, 4, 4, 0, 1, 0);
  request.ldb = 1;
  ASSERT_DONE(context->gemm(0, request));
  EXPECT_EQ(load<float>(*context, c, 16), std::vector<float>(16, 0.0f));
  // alpha = 0: A and B are not looked at.
  store(*context, a, nan);
  ASSERT_DONE(context->gemm(0, gemm_of(a, a, c, 4, 4, 4, 0, 0)));
  EXPECT_EQ(load<float>(*context, c, 16), std::vector<float>(16, 0.0f));
}

TEST_P(BackendConformance, GemmTakesHalvesDoublesAndBatches) {
  const auto context = make_context();
  // 1.0, 2.0, 0.5, -1.0 as half and as bfloat16.
  const std::vector<uint16_t> halves{0x3c00, 0x4000, 0x3800, 0xbc00};
  const std::vector<uint16_t> bfloats{0x3f80, 0x4000, 0x3f00, 0xbf80};
  const std::vector<float> square{0, 0, 0, 0};
  const uint64_t in = must_allocate(*context, 256);
  const uint64_t out = must_allocate(*context, 256);
  // [1 .5; 2 -1] squared, column-major
  const std::vector<float> expected{2, 0, 0, 2};
  for (const uint16_t type : std::array<uint16_t, 2>{2, 14}) {
    store(*context, in, type == 2 ? halves : bfloats);
    auto request = gemm_of(in, in, out, 2, 2, 2, 1, 0);
    request.type_a = request.type_b = type;
    ASSERT_DONE(context->gemm(0, request));
    EXPECT_EQ(load<float>(*context, out, 4), expected);
    request.type_c = type;
    ASSERT_DONE(context->gemm(0, request));
    EXPECT_EQ(load<uint16_t>(*context, out, 1)[0], 0x4000);
  }
  store(*context, in, std::vector<double>{1, 2, 0.5, -1});
  auto wide = gemm_of(in, in, out, 2, 2, 2, 1, 0);
  wide.type_a = wide.type_b = wide.type_c = 1;
  wide.compute_type = 70;
  ASSERT_DONE(context->gemm(0, wide));
  EXPECT_EQ(load<double>(*context, out, 4), (std::vector<double>{2, 0, 0, 2}));

  // Two matrices by stride, then the same in the other order by an array of addresses.
  store(*context, in, std::vector<float>{1, 0, 0, 1, 3, 0, 0, 3});
  auto batch = gemm_of(in, in, out, 2, 2, 2, 1, 0);
  batch.stride_a = batch.stride_b = batch.stride_c = 4;
  batch.batch_count = 2;
  ASSERT_DONE(context->gemm(0, batch));
  EXPECT_EQ(load<float>(*context, out, 8), (std::vector<float>{1, 0, 0, 1, 9, 0, 0, 9}));
  const uint64_t arrays = must_allocate(*context, 64);
  store(*context, arrays, std::vector<uint64_t>{in + 16, in, out, out + 16});
  batch.a = batch.b = arrays;
  batch.c = arrays + 16;
  batch.flags = protocol::kGemmPointerArrays;
  ASSERT_DONE(context->gemm(0, batch));
  EXPECT_EQ(load<float>(*context, out, 8), (std::vector<float>{9, 0, 0, 9, 1, 0, 0, 1}));

  // Scalars on the device.
  store(*context, arrays, std::vector<float>{2, 0});
  auto scaled = gemm_of(in, in, out, 2, 2, 2, 0, 0);
  scaled.alpha = arrays;
  scaled.beta = arrays + 4;
  scaled.flags = protocol::kGemmScalarsOnDevice;
  ASSERT_DONE(context->gemm(0, scaled));
  EXPECT_EQ(load<float>(*context, out, 4), (std::vector<float>{2, 0, 0, 2}));
}

TEST_P(BackendConformance, GemmRefusesWhatItCannotDoAndForeignMemory) {
  const auto context = make_context();
  const uint64_t memory = must_allocate(*context, 4096);
  auto request = gemm_of(memory, memory, memory + 2048, 4, 4, 4, 1, 0);
  request.type_a = request.type_b = 3;  // CUDA_R_8I
  EXPECT_STATUS(context->gemm(0, request), kNotSupported);
  request = gemm_of(memory, memory, memory + 2048, 4, 4, 4, 1, 0);
  request.compute_type = 9999;
  EXPECT_STATUS(context->gemm(0, request), kNotSupported);
  EXPECT_STATUS(context->gemm(0, gemm_of(memory, memory, memory, 64, 64, 64, 1, 0)), kInvalidValue);
  EXPECT_STATUS(context->gemm(0, gemm_of(0, memory, memory, 4, 4, 4, 1, 0)), kInvalidValue);
  request = gemm_of(memory, memory, memory + 2048, 4, 4, 4, 1, 0);
  request.lda = 3;
  EXPECT_STATUS(context->gemm(0, request), kInvalidValue);
  request = gemm_of(memory, memory, memory + 2048, 4, 4, 4, 1, 0);
  request.batch_count = 2;
  request.stride_a = int64_t{1} << 62;
  EXPECT_STATUS(context->gemm(0, request), kInvalidValue);
  request = gemm_of(memory, memory, memory, 4, 4, 4, 1, 0);
  request.flags = protocol::kGemmPointerArrays;
  ASSERT_DONE(context->memset(
      {.destination = memory, .width = 4096, .height = 1, .pitch = 0, .value = 0, .element_bytes = 1}));
  EXPECT_STATUS(context->gemm(0, request), kInvalidValue);
}

TEST_P(BackendConformance, TrsmSolvesTriangularSystems) {
  const auto context = make_context();
  const int64_t m = 5, n = 3;
  auto a = random_floats(25, 4);
  for (std::size_t i = 0; i < 5; ++i) a[i * 5 + i] = 3.0f + static_cast<float>(i);
  const auto x = random_floats(15, 5);
  for (const uint8_t upper : std::array<uint8_t, 2>{0, 1}) {
    for (const uint8_t transpose : std::array<uint8_t, 2>{0, 1}) {
      std::vector<float> b(15);
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t i = 0; i < m; ++i) {
          double sum = 0;
          for (int64_t l = 0; l < m; ++l) {
            const int64_t row = transpose != 0 ? l : i;
            const int64_t column = transpose != 0 ? i : l;
            const bool inside = upper != 0 ? row <= column : row >= column;
            if (inside)
              sum += double{a[static_cast<std::size_t>(column * m + row)]} *
                     x[static_cast<std::size_t>(j * m + l)];
          }
          b[static_cast<std::size_t>(j * m + i)] = static_cast<float>(sum / 2);
        }
      }
      const uint64_t memory = must_allocate(*context, 4096);
      store(*context, memory, a);
      store(*context, memory + 1024, b);
      store(*context, memory + 2048, std::vector<uint64_t>{memory, memory + 1024});
      protocol::TrsmBatchedRequest request;
      request.a = memory + 2048;
      request.b = memory + 2056;
      request.alpha = std::bit_cast<uint64_t>(2.0);
      request.m = request.lda = request.ldb = m;
      request.n = n;
      request.batch_count = 1;
      request.upper = upper;
      request.transpose = transpose;
      ASSERT_DONE(context->trsm_batched(0, request));
      const auto solved = load<float>(*context, memory + 1024, 15);
      for (std::size_t i = 0; i < 15; ++i) EXPECT_NEAR(solved[i], x[i], 1e-4);
      ASSERT_DONE(context->free(memory));
    }
  }
}

}  // namespace
}  // namespace vgpu::device
