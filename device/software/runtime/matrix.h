// A column-major matrix in device memory, of one of the types cuBLAS knows: checked, and seen as floats or
// doubles.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "device/software/runtime/range_table.h"

namespace vgpu::software {

enum class ElementType : uint8_t { kFloat, kDouble, kHalf, kBfloat };

// From cudaDataType_t; nothing for types that are not computed with here.
std::optional<ElementType> element_type(uint32_t cuda_data_type);
uint64_t element_bytes(ElementType type);

struct Matrix {
  uint64_t address = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t leading = 0;  // elements between columns
  ElementType type = ElementType::kFloat;

  [[nodiscard]] bool empty() const { return rows == 0 || columns == 0; }
  // Addresses from the first element to the last; nothing if they do not fit in 64 bits.
  [[nodiscard]] std::optional<uint64_t> extent_bytes() const;
  // All of it lies in the context's memory.
  [[nodiscard]] Result<void> check(const RangeTable& ranges, PageAccess access, const char* what) const;
};

// A matrix as an array of T: the memory itself where its type is T and it cannot vanish, otherwise a copy.
template <typename T>
class Panel {
 public:
  // `load`: the contents are wanted.
  static Result<Panel> view(const RangeTable& ranges, const Matrix& matrix, bool load);
  // Writes a copy back.
  Result<void> store() const;

  [[nodiscard]] T* data() { return copied_ ? copy_.data() : reinterpret_cast<T*>(matrix_.address); }
  [[nodiscard]] int64_t leading() const {
    return copied_ ? (matrix_.rows > 0 ? matrix_.rows : 1) : matrix_.leading;
  }

 private:
  Matrix matrix_;
  bool copied_ = false;
  std::vector<T> copy_;
};

extern template class Panel<float>;
extern template class Panel<double>;

}  // namespace vgpu::software
