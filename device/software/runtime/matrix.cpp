// See matrix.h.
#include "device/software/runtime/matrix.h"

#include <fmt/format.h>

#include <cstring>
#include <new>
#include <type_traits>

#include "device/software/runtime/guarded_copy.h"
#include "device/software/runtime/half.h"

namespace vgpu::software {
namespace {

// cudaDataType_t
constexpr uint32_t kCudaR32F = 0;
constexpr uint32_t kCudaR64F = 1;
constexpr uint32_t kCudaR16F = 2;
constexpr uint32_t kCudaR16BF = 14;

template <typename T>
constexpr ElementType kNative = std::is_same_v<T, double> ? ElementType::kDouble : ElementType::kFloat;

// Loads and stores of one element by its bits; nothing here may throw or own memory (it runs under a guard).
template <typename T>
T load_element(const std::byte* from, ElementType type) {
  switch (type) {
    case ElementType::kFloat: {
      float value;
      std::memcpy(&value, from, sizeof value);
      return static_cast<T>(value);
    }
    case ElementType::kDouble: {
      double value;
      std::memcpy(&value, from, sizeof value);
      return static_cast<T>(value);
    }
    case ElementType::kHalf:
    case ElementType::kBfloat: {
      uint16_t bits;
      std::memcpy(&bits, from, sizeof bits);
      return static_cast<T>(type == ElementType::kHalf ? float_from_half(bits) : float_from_bfloat(bits));
    }
  }
  return T{};
}

template <typename T>
void store_element(std::byte* to, T value, ElementType type) {
  switch (type) {
    case ElementType::kFloat: {
      const auto single = static_cast<float>(value);
      std::memcpy(to, &single, sizeof single);
      return;
    }
    case ElementType::kDouble: {
      const auto wide = static_cast<double>(value);
      std::memcpy(to, &wide, sizeof wide);
      return;
    }
    case ElementType::kHalf:
    case ElementType::kBfloat: {
      const auto single = static_cast<float>(value);
      const uint16_t bits = type == ElementType::kHalf ? half_from_float(single) : bfloat_from_float(single);
      std::memcpy(to, &bits, sizeof bits);
      return;
    }
  }
}

std::unexpected<Error> vanished() {
  return std::unexpected(Error{Status::kInvalidValue, "matrix: the guest's memory is not there any more"});
}

}  // namespace

std::optional<ElementType> element_type(uint32_t cuda_data_type) {
  switch (cuda_data_type) {
    case kCudaR32F:
      return ElementType::kFloat;
    case kCudaR64F:
      return ElementType::kDouble;
    case kCudaR16F:
      return ElementType::kHalf;
    case kCudaR16BF:
      return ElementType::kBfloat;
    default:
      return std::nullopt;
  }
}

uint64_t element_bytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat:
      return 4;
    case ElementType::kDouble:
      return 8;
    case ElementType::kHalf:
    case ElementType::kBfloat:
      return 2;
  }
  return 0;
}

std::optional<uint64_t> Matrix::extent_bytes() const {
  if (empty()) return 0;
  const uint64_t size = element_bytes(type);
  const auto between = static_cast<uint64_t>(columns - 1);
  const auto step = static_cast<uint64_t>(leading) * size;  // leading <= 2^31
  if (between > (kDeviceWindowBytes / step)) return std::nullopt;
  return between * step + static_cast<uint64_t>(rows) * size;
}

Result<void> Matrix::check(const RangeTable& ranges, PageAccess access, const char* what) const {
  if (leading < (rows > 1 ? rows : 1)) {
    return std::unexpected(Error{Status::kInvalidValue,
                                 fmt::format("{}: leading dimension {} of {} rows", what, leading, rows)});
  }
  const auto bytes = extent_bytes();
  if (!bytes) {
    return std::unexpected(
        Error{Status::kInvalidValue,
              fmt::format("{}: {} x {} elements, leading dimension {}", what, rows, columns, leading)});
  }
  if (address % element_bytes(type) != 0) {
    return std::unexpected(
        Error{Status::kInvalidValue, fmt::format("{}: {:#x} is not aligned", what, address)});
  }
  return ranges.check(address, *bytes, access, what);
}

template <typename T>
Result<Panel<T>> Panel<T>::view(const RangeTable& ranges, const Matrix& matrix, bool load) {
  Panel panel;
  panel.matrix_ = matrix;
  const Range* range = matrix.empty() ? nullptr : ranges.containing(matrix.address);
  const bool may_vanish = range != nullptr && range->kind == RangeKind::kBulk;
  if (matrix.type == kNative<T> && !may_vanish) return panel;

  panel.copied_ = true;
  try {
    panel.copy_.resize(static_cast<std::size_t>(matrix.rows) * static_cast<std::size_t>(matrix.columns));
  } catch (const std::exception&) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a panel of {} x {} elements", matrix.rows, matrix.columns)});
  }
  if (!load || matrix.empty()) return panel;
  T* const to = panel.copy_.data();
  const uint64_t size = element_bytes(matrix.type);
  const bool readable = touch_guest_memory({}, [&matrix, to, size] {
    for (int64_t column = 0; column < matrix.columns; ++column) {
      const auto* from = reinterpret_cast<const std::byte*>(
          matrix.address + static_cast<uint64_t>(column) * static_cast<uint64_t>(matrix.leading) * size);
      T* const target = to + column * matrix.rows;
      for (int64_t row = 0; row < matrix.rows; ++row) {
        target[row] = load_element<T>(from + static_cast<uint64_t>(row) * size, matrix.type);
      }
    }
  });
  if (!readable) return vanished();
  return panel;
}

template <typename T>
Result<void> Panel<T>::store() const {
  if (!copied_ || matrix_.empty()) return {};
  const uint64_t size = element_bytes(matrix_.type);
  const bool writable = touch_guest_memory({}, [this, size] {
    for (int64_t column = 0; column < matrix_.columns; ++column) {
      auto* to = reinterpret_cast<std::byte*>(
          matrix_.address + static_cast<uint64_t>(column) * static_cast<uint64_t>(matrix_.leading) * size);
      const T* const from = copy_.data() + column * matrix_.rows;
      for (int64_t row = 0; row < matrix_.rows; ++row) {
        store_element(to + static_cast<uint64_t>(row) * size, from[row], matrix_.type);
      }
    }
  });
  if (!writable) return vanished();
  return {};
}

template class Panel<float>;
template class Panel<double>;

}  // namespace vgpu::software
