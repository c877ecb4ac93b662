// See blas.h.
#include "device/software/runtime/blas.h"

#include <cblas.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <vector>

#include "device/software/runtime/guarded_copy.h"
#include "device/software/runtime/half.h"
#include "device/software/runtime/matrix.h"

namespace vgpu::software {
namespace {

// cublasComputeType_t
constexpr uint32_t kCompute16F = 64;
constexpr uint32_t kCompute16FPedantic = 65;
constexpr uint32_t kCompute32F = 68;
constexpr uint32_t kCompute32FPedantic = 69;
constexpr uint32_t kCompute64F = 70;
constexpr uint32_t kCompute64FPedantic = 71;
constexpr uint32_t kCompute32FFast16F = 74;
constexpr uint32_t kCompute32FFast16BF = 75;
constexpr uint32_t kCompute32FFastTF32 = 77;

std::unexpected<Error> invalid(std::string reason) {
  return std::unexpected(Error{Status::kInvalidValue, std::move(reason)});
}
std::unexpected<Error> cancelled() {
  return std::unexpected(Error{Status::kDeviceUnavailable, "cancelled"});
}

// Lists of a batch's addresses are kept in memory that no quota counts.
constexpr uint32_t kMaxBatch = 1u << 24;
std::unexpected<Error> too_many(uint32_t count) {
  return std::unexpected(Error{Status::kNotSupported, fmt::format("a batch of {} matrices", count)});
}

// What is computed in; every 16-bit computation is done in float, which no cuBLAS result is more exact than.
enum class Precision : uint8_t { kHalf, kFloat, kDouble };

std::optional<Precision> precision(uint32_t compute_type) {
  switch (compute_type) {
    case kCompute16F:
    case kCompute16FPedantic:
      return Precision::kHalf;
    case kCompute32F:
    case kCompute32FPedantic:
    case kCompute32FFast16F:
    case kCompute32FFast16BF:
    case kCompute32FFastTF32:
      return Precision::kFloat;
    case kCompute64F:
    case kCompute64FPedantic:
      return Precision::kDouble;
    default:
      return std::nullopt;
  }
}

// The combinations of cublasGemmEx's table that are made of these types.
bool supported(Precision compute, ElementType a, ElementType b, ElementType c) {
  if (a != b) return false;
  switch (compute) {
    case Precision::kHalf:
      return a == ElementType::kHalf && c == ElementType::kHalf;
    case Precision::kFloat:
      return a != ElementType::kDouble && (c == a || c == ElementType::kFloat);
    case Precision::kDouble:
      return a == ElementType::kDouble && c == ElementType::kDouble;
  }
  return false;
}

CBLAS_TRANSPOSE transpose(uint32_t operation) {
  return operation == 0 ? CblasNoTrans : CblasTrans;
}

// alpha or beta: the bits of a double, or where on the device one of the compute type lies.
Result<double> scalar(const RangeTable& ranges, uint64_t value, bool on_device, Precision compute) {
  if (!on_device) return std::bit_cast<double>(value);
  std::byte bytes[8] = {};
  const std::size_t size = compute == Precision::kDouble ? 8 : compute == Precision::kFloat ? 4 : 2;
  if (const auto ok = ranges.check(value, size, PageAccess::kRead, "scalar on the device"); !ok) {
    return std::unexpected(ok.error());
  }
  if (!read_device(bytes, value, size)) return invalid("scalar on the device: not readable");
  if (compute == Precision::kDouble) {
    double result;
    std::memcpy(&result, bytes, sizeof result);
    return result;
  }
  if (compute == Precision::kFloat) {
    float result;
    std::memcpy(&result, bytes, sizeof result);
    return double{result};
  }
  uint16_t half;
  std::memcpy(&half, bytes, sizeof half);
  return double{float_from_half(half)};
}

// The addresses of a batch's matrices: from an array on the device, or by a stride.
Result<std::vector<uint64_t>> batch_addresses(const RangeTable& ranges, uint64_t first,
                                              int64_t stride_elements, uint64_t size, uint32_t count,
                                              bool pointer_array) {
  std::vector<uint64_t> addresses;
  try {
    addresses.resize(count);
  } catch (const std::exception&) {
    return std::unexpected(Error{Status::kOutOfMemory, fmt::format("a batch of {} matrices", count)});
  }
  if (pointer_array) {
    const uint64_t bytes = uint64_t{count} * sizeof(uint64_t);
    if (const auto ok = ranges.check(first, bytes, PageAccess::kRead, "array of matrices"); !ok) {
      return std::unexpected(ok.error());
    }
    if (!read_device(addresses.data(), first, bytes)) return invalid("array of matrices: not readable");
    return addresses;
  }
  constexpr int64_t kMaxStride = int64_t{1} << 40;
  if (stride_elements > kMaxStride || stride_elements < -kMaxStride) {
    return invalid(fmt::format("a stride of {} elements", stride_elements));
  }
  const auto stride =
      static_cast<uint64_t>(stride_elements) * size;  // wraps for a negative one, as it should
  for (uint32_t i = 0; i < count; ++i) {
    addresses[i] = first;
    first += stride;
    // Beyond the window nothing is allocated: no later one can be valid, and none may wrap back into it.
    if (i + 1 < count && !DeviceWindow::contains(first))
      return invalid("batch: matrices outside device memory");
  }
  return addresses;
}

template <typename T>
void scale(T* c, int64_t leading, int64_t rows, int64_t columns, T beta) {
  for (int64_t column = 0; column < columns; ++column) {
    T* const values = c + column * leading;
    for (int64_t row = 0; row < rows; ++row) values[row] = beta == T{0} ? T{0} : beta * values[row];
  }
}

void multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, float alpha,
              const float* a, blasint lda, const float* b, blasint ldb, float beta, float* c, blasint ldc) {
  cblas_sgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void multiply(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, blasint m, blasint n, blasint k, double alpha,
              const double* a, blasint lda, const double* b, blasint ldb, double beta, double* c,
              blasint ldc) {
  cblas_dgemm(CblasColMajor, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

struct Product {
  Matrix a;
  Matrix b;
  Matrix c;
  int64_t k = 0;
  uint32_t transpose_a = 0;
  uint32_t transpose_b = 0;
};

template <typename T>
Result<void> run_product(const RangeTable& ranges, const Product& product, T alpha, T beta) {
  auto c = Panel<T>::view(ranges, product.c, beta != T{0});
  if (!c) return std::unexpected(c.error());
  if (product.k == 0 || alpha == T{0}) {
    // A and B are not looked at: what is NaN there does not count.
    if (beta != T{1}) scale(c->data(), c->leading(), product.c.rows, product.c.columns, beta);
    return c->store();
  }
  auto a = Panel<T>::view(ranges, product.a, true);
  if (!a) return std::unexpected(a.error());
  auto b = Panel<T>::view(ranges, product.b, true);
  if (!b) return std::unexpected(b.error());
  multiply(transpose(product.transpose_a), transpose(product.transpose_b),
           static_cast<blasint>(product.c.rows), static_cast<blasint>(product.c.columns),
           static_cast<blasint>(product.k), alpha, a->data(), static_cast<blasint>(a->leading()), b->data(),
           static_cast<blasint>(b->leading()), beta, c->data(), static_cast<blasint>(c->leading()));
  return c->store();
}

bool fits_blas(std::initializer_list<int64_t> values) {
  return std::all_of(values.begin(), values.end(),
                     [](int64_t value) { return value <= std::numeric_limits<blasint>::max(); });
}

}  // namespace

void set_blas_threads(uint32_t threads) {
  openblas_set_num_threads(static_cast<int>(threads));
}

Result<void> blas_gemm(const RangeTable& ranges, const protocol::GemmRequest& request,
                       const std::atomic<uint32_t>& stop) {
  const auto compute = precision(request.compute_type);
  const auto type_a = element_type(request.type_a);
  const auto type_b = element_type(request.type_b);
  const auto type_c = element_type(request.type_c);
  if (!compute || !type_a || !type_b || !type_c || !supported(*compute, *type_a, *type_b, *type_c)) {
    return std::unexpected(
        Error{Status::kNotSupported,
              fmt::format("gemm: types {} x {} -> {} (cudaDataType_t) computed in {} "
                          "(cublasComputeType_t)",
                          request.type_a, request.type_b, request.type_c, request.compute_type)});
  }
  if (!fits_blas({request.m, request.n, request.k, request.lda, request.ldb, request.ldc})) {
    return std::unexpected(
        Error{Status::kNotSupported, fmt::format("gemm: {} x {} x {}", request.m, request.n, request.k)});
  }
  if (request.m == 0 || request.n == 0 || request.batch_count == 0) return {};
  if (request.batch_count > kMaxBatch) return too_many(request.batch_count);

  const bool on_device = (request.flags & protocol::kGemmScalarsOnDevice) != 0;
  const auto alpha = scalar(ranges, request.alpha, on_device, *compute);
  if (!alpha) return std::unexpected(alpha.error());
  const auto beta = scalar(ranges, request.beta, on_device, *compute);
  if (!beta) return std::unexpected(beta.error());

  const bool arrays = (request.flags & protocol::kGemmPointerArrays) != 0;
  const bool reads_inputs = request.k > 0 && *alpha != 0;
  std::vector<uint64_t> a(request.batch_count);
  std::vector<uint64_t> b(request.batch_count);
  if (reads_inputs) {
    auto at = batch_addresses(ranges, request.a, request.stride_a, element_bytes(*type_a),
                              request.batch_count, arrays);
    if (!at) return std::unexpected(at.error());
    a = std::move(*at);
    auto bt = batch_addresses(ranges, request.b, request.stride_b, element_bytes(*type_b),
                              request.batch_count, arrays);
    if (!bt) return std::unexpected(bt.error());
    b = std::move(*bt);
  }
  const auto c = batch_addresses(ranges, request.c, request.stride_c, element_bytes(*type_c),
                                 request.batch_count, arrays);
  if (!c) return std::unexpected(c.error());

  auto product_of = [&](uint32_t i) {
    const bool ta = request.transpose_a != 0;
    const bool tb = request.transpose_b != 0;
    Product product;
    product.a = {a[i], ta ? request.k : request.m, ta ? request.m : request.k, request.lda, *type_a};
    product.b = {b[i], tb ? request.n : request.k, tb ? request.k : request.n, request.ldb, *type_b};
    product.c = {(*c)[i], request.m, request.n, request.ldc, *type_c};
    product.k = request.k;
    product.transpose_a = request.transpose_a;
    product.transpose_b = request.transpose_b;
    return product;
  };
  // All are checked before the first is computed: a refused call has done nothing.
  for (uint32_t i = 0; i < request.batch_count; ++i) {
    const Product product = product_of(i);
    Result<void> ok = product.c.check(ranges, PageAccess::kReadWrite, "gemm: C");
    if (ok && reads_inputs) ok = product.a.check(ranges, PageAccess::kRead, "gemm: A");
    if (ok && reads_inputs) ok = product.b.check(ranges, PageAccess::kRead, "gemm: B");
    if (!ok) return ok;
  }
  for (uint32_t i = 0; i < request.batch_count; ++i) {
    if (stop.load(std::memory_order_relaxed) != 0) return cancelled();
    const Product product = product_of(i);
    const auto ran =
        *compute == Precision::kDouble
            ? run_product<double>(ranges, product, *alpha, *beta)
            : run_product<float>(ranges, product, static_cast<float>(*alpha), static_cast<float>(*beta));
    if (!ran) return ran;
  }
  return {};
}

Result<void> blas_trsm_batched(const RangeTable& ranges, const protocol::TrsmBatchedRequest& request,
                               const std::atomic<uint32_t>& stop) {
  if (!fits_blas({request.m, request.n, request.lda, request.ldb})) {
    return std::unexpected(Error{Status::kNotSupported, fmt::format("trsm: {} x {}", request.m, request.n)});
  }
  if (request.m == 0 || request.n == 0 || request.batch_count == 0) return {};
  if (request.batch_count > kMaxBatch) return too_many(request.batch_count);
  const auto alpha =
      scalar(ranges, request.alpha, (request.flags & protocol::kGemmScalarsOnDevice) != 0, Precision::kFloat);
  if (!alpha) return std::unexpected(alpha.error());
  const auto a = batch_addresses(ranges, request.a, 0, sizeof(float), request.batch_count, true);
  if (!a) return std::unexpected(a.error());
  const auto b = batch_addresses(ranges, request.b, 0, sizeof(float), request.batch_count, true);
  if (!b) return std::unexpected(b.error());

  const int64_t order = request.right_side != 0 ? request.n : request.m;
  auto matrix_a = [&](uint32_t i) { return Matrix{(*a)[i], order, order, request.lda, ElementType::kFloat}; };
  auto matrix_b = [&](uint32_t i) {
    return Matrix{(*b)[i], request.m, request.n, request.ldb, ElementType::kFloat};
  };
  for (uint32_t i = 0; i < request.batch_count; ++i) {
    Result<void> ok = matrix_a(i).check(ranges, PageAccess::kRead, "trsm: A");
    if (ok) ok = matrix_b(i).check(ranges, PageAccess::kReadWrite, "trsm: B");
    if (!ok) return ok;
  }
  for (uint32_t i = 0; i < request.batch_count; ++i) {
    if (stop.load(std::memory_order_relaxed) != 0) return cancelled();
    auto triangle = Panel<float>::view(ranges, matrix_a(i), true);
    if (!triangle) return std::unexpected(triangle.error());
    auto solution = Panel<float>::view(ranges, matrix_b(i), true);
    if (!solution) return std::unexpected(solution.error());
    cblas_strsm(CblasColMajor, request.right_side != 0 ? CblasRight : CblasLeft,
                request.upper != 0 ? CblasUpper : CblasLower, transpose(request.transpose),
                request.unit_diagonal != 0 ? CblasUnit : CblasNonUnit, static_cast<blasint>(request.m),
                static_cast<blasint>(request.n), static_cast<float>(*alpha), triangle->data(),
                static_cast<blasint>(triangle->leading()), solution->data(),
                static_cast<blasint>(solution->leading()));
    if (const auto stored = solution->store(); !stored) return stored;
  }
  return {};
}

}  // namespace vgpu::software
