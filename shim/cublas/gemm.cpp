#include "shim/cublas/gemm.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "protocol/commands.h"

namespace vgpu::shim::cublas {
namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 31;
constexpr int64_t kMaxBatch = 0xffff'ffff;

// The type that a compute type's sums and scalars have; the pedantic and fast forms only allow differences.
enum class Arithmetic { kHalf, kFloat, kDouble, kNone };

Arithmetic arithmetic(cublasComputeType_t compute) noexcept {
  switch (compute) {
    case CUBLAS_COMPUTE_16F:
    case CUBLAS_COMPUTE_16F_PEDANTIC:
      return Arithmetic::kHalf;
    case CUBLAS_COMPUTE_32F:
    case CUBLAS_COMPUTE_32F_PEDANTIC:
    case CUBLAS_COMPUTE_32F_FAST_16F:
    case CUBLAS_COMPUTE_32F_FAST_16BF:
    case CUBLAS_COMPUTE_32F_FAST_TF32:
    case CUBLAS_COMPUTE_32F_EMULATED_16BFX9:
      return Arithmetic::kFloat;
    case CUBLAS_COMPUTE_64F:
    case CUBLAS_COMPUTE_64F_PEDANTIC:
      return Arithmetic::kDouble;
    case CUBLAS_COMPUTE_32I:
    case CUBLAS_COMPUTE_32I_PEDANTIC:
      break;
  }
  return Arithmetic::kNone;
}

// cuBLAS's table of supported combinations, as far as real types of 16 bits and more go.
bool types_fit(Arithmetic kind, cudaDataType_t a, cudaDataType_t b, cudaDataType_t c) noexcept {
  if (a != b) return false;
  switch (kind) {
    case Arithmetic::kHalf:
      return a == CUDA_R_16F && c == CUDA_R_16F;
    case Arithmetic::kFloat:
      return (a == CUDA_R_32F || a == CUDA_R_16F || a == CUDA_R_16BF) && (c == a || c == CUDA_R_32F);
    case Arithmetic::kDouble:
      return a == CUDA_R_64F && c == CUDA_R_64F;
    case Arithmetic::kNone:
      break;
  }
  return false;
}

double half_to_double(uint16_t bits) noexcept {
  const int exponent = (bits >> 10) & 0x1f;
  const int fraction = bits & 0x3ff;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 0) return sign * fraction * 0x1p-24;
  if (exponent == 0x1f) {
    return fraction == 0 ? sign * __builtin_inf() : __builtin_nan("");
  }
  const double significand = 1.0 + fraction * 0x1p-10;
  return sign * (exponent >= 15 ? significand * static_cast<double>(1u << (exponent - 15))
                                : significand / static_cast<double>(1u << (15 - exponent)));
}

// A scalar as the request carries it: its value, or where the device finds it.
uint64_t scalar(const void* pointer, Arithmetic kind, bool on_device) noexcept {
  if (on_device) return reinterpret_cast<uintptr_t>(pointer);
  double value = 0;
  if (kind == Arithmetic::kHalf) {
    uint16_t bits = 0;
    std::memcpy(&bits, pointer, sizeof bits);
    value = half_to_double(bits);
  } else if (kind == Arithmetic::kFloat) {
    float single = 0;
    std::memcpy(&single, pointer, sizeof single);
    value = static_cast<double>(single);
  } else {
    std::memcpy(&value, pointer, sizeof value);
  }
  return std::bit_cast<uint64_t>(value);
}

bool valid(cublasOperation_t operation) noexcept {
  return operation >= CUBLAS_OP_N && operation <= CUBLAS_OP_C;
}
bool valid_dimension(int64_t value) noexcept {
  return value >= 0 && value <= kMaxDimension;
}
bool valid_leading(int64_t leading, int64_t rows) noexcept {
  return leading >= std::max<int64_t>(1, rows) && leading <= kMaxDimension;
}

uint16_t plain_compute(Arithmetic kind) noexcept {
  switch (kind) {
    case Arithmetic::kHalf:
      return CUBLAS_COMPUTE_16F;
    case Arithmetic::kDouble:
      return CUBLAS_COMPUTE_64F;
    case Arithmetic::kFloat:
    case Arithmetic::kNone:
      break;
  }
  return CUBLAS_COMPUTE_32F;
}

}  // namespace

cublasStatus_t gemm(const Handle* handle, const Gemm& call) noexcept {
  if (!cublas::valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!valid(call.transpose_a) || !valid(call.transpose_b) || !valid_dimension(call.m) ||
      !valid_dimension(call.n) || !valid_dimension(call.k) || call.batch < 0 || call.batch > kMaxBatch ||
      !valid_leading(call.lda, call.transpose_a == CUBLAS_OP_N ? call.m : call.k) ||
      !valid_leading(call.ldb, call.transpose_b == CUBLAS_OP_N ? call.k : call.n) ||
      !valid_leading(call.ldc, call.m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const Arithmetic kind = arithmetic(call.compute);
  if (!types_fit(kind, call.type_a, call.type_b, call.type_c)) {
    return unsupported("cublasGemm*Ex: this combination of types");
  }
  if (call.m == 0 || call.n == 0 || call.batch == 0) return CUBLAS_STATUS_SUCCESS;
  if (call.alpha == nullptr || call.beta == nullptr || call.c == nullptr ||
      (call.k > 0 && (call.a == nullptr || call.b == nullptr))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool on_device = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
  protocol::GemmRequest request;
  request.a = reinterpret_cast<uintptr_t>(call.a);
  request.b = reinterpret_cast<uintptr_t>(call.b);
  request.c = reinterpret_cast<uintptr_t>(call.c);
  request.stride_a = call.stride_a;
  request.stride_b = call.stride_b;
  request.stride_c = call.stride_c;
  request.alpha = scalar(call.alpha, kind, on_device);
  request.beta = scalar(call.beta, kind, on_device);
  request.m = call.m;
  request.n = call.n;
  request.k = call.k;
  request.lda = call.lda;
  request.ldb = call.ldb;
  request.ldc = call.ldc;
  request.batch_count = static_cast<uint32_t>(call.batch);
  request.transpose_a = static_cast<uint8_t>(call.transpose_a);
  request.transpose_b = static_cast<uint8_t>(call.transpose_b);
  request.flags = static_cast<uint8_t>((call.pointer_arrays ? protocol::kGemmPointerArrays : 0) |
                                       (on_device ? protocol::kGemmScalarsOnDevice : 0));
  request.type_a = static_cast<uint16_t>(call.type_a);
  request.type_b = static_cast<uint16_t>(call.type_b);
  request.type_c = static_cast<uint16_t>(call.type_c);
  request.compute_type = plain_compute(kind);
  return submit(*handle, static_cast<uint16_t>(protocol::Opcode::kGemm), &request, sizeof request);
}

cublasStatus_t trsm_batched(const Handle* handle, const TrsmBatched& call) noexcept {
  if (!cublas::valid(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
  const bool left = call.side == CUBLAS_SIDE_LEFT;
  if ((!left && call.side != CUBLAS_SIDE_RIGHT) ||
      (call.fill != CUBLAS_FILL_MODE_LOWER && call.fill != CUBLAS_FILL_MODE_UPPER) ||
      !valid(call.transpose) ||
      (call.diagonal != CUBLAS_DIAG_NON_UNIT && call.diagonal != CUBLAS_DIAG_UNIT) ||
      !valid_dimension(call.m) || !valid_dimension(call.n) || call.batch < 0 || call.batch > kMaxBatch ||
      !valid_leading(call.lda, left ? call.m : call.n) || !valid_leading(call.ldb, call.m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (call.m == 0 || call.n == 0 || call.batch == 0) return CUBLAS_STATUS_SUCCESS;
  if (call.alpha == nullptr || call.a == nullptr || call.b == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const bool on_device = handle->pointer_mode == CUBLAS_POINTER_MODE_DEVICE;
  protocol::TrsmBatchedRequest request;
  request.a = reinterpret_cast<uintptr_t>(call.a);
  request.b = reinterpret_cast<uintptr_t>(call.b);
  request.alpha = scalar(call.alpha, Arithmetic::kFloat, on_device);
  request.m = call.m;
  request.n = call.n;
  request.lda = call.lda;
  request.ldb = call.ldb;
  request.batch_count = static_cast<uint32_t>(call.batch);
  request.right_side = left ? 0 : 1;
  request.upper = call.fill == CUBLAS_FILL_MODE_UPPER ? 1 : 0;
  request.transpose = static_cast<uint8_t>(call.transpose);
  request.unit_diagonal = call.diagonal == CUBLAS_DIAG_UNIT ? 1 : 0;
  request.flags = on_device ? protocol::kGemmScalarsOnDevice : 0;
  return submit(*handle, static_cast<uint16_t>(protocol::Opcode::kTrsmBatched), &request, sizeof request);
}

}  // namespace vgpu::shim::cublas
