// cublasSetVector, cublasGetMatrix and their like: strided copies between host and device.
#include "shim/cublas/handle.h"

using namespace vgpu::shim::cublas;

namespace {

enum class Direction { kToDevice, kFromDevice };

struct Side {
  const void* memory;
  int64_t leading;  // elements between the starts of two columns
};

cublasStatus_t transfer(Direction direction, int64_t rows, int64_t columns, int64_t element_bytes,
                        Side source, Side destination, const CUstream* stream) noexcept {
  if (rows < 0 || columns < 0 || element_bytes <= 0 || source.leading < rows || destination.leading < rows ||
      source.leading <= 0 || destination.leading <= 0) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (rows == 0 || columns == 0) return CUBLAS_STATUS_SUCCESS;
  const Cuda* driver = cuda();
  if (driver == nullptr || driver->memcpy_2d == nullptr || driver->memcpy_2d_async == nullptr) {
    return CUBLAS_STATUS_NOT_INITIALIZED;
  }
  CUDA_MEMCPY2D copy{};
  if (direction == Direction::kToDevice) {
    copy.srcMemoryType = CU_MEMORYTYPE_HOST;
    copy.srcHost = source.memory;
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = reinterpret_cast<uintptr_t>(destination.memory);
  } else {
    copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = reinterpret_cast<uintptr_t>(source.memory);
    copy.dstMemoryType = CU_MEMORYTYPE_HOST;
    copy.dstHost = const_cast<void*>(destination.memory);
  }
  copy.srcPitch = static_cast<std::size_t>(source.leading * element_bytes);
  copy.dstPitch = static_cast<std::size_t>(destination.leading * element_bytes);
  copy.WidthInBytes = static_cast<std::size_t>(rows * element_bytes);
  copy.Height = static_cast<std::size_t>(columns);
  const CUresult result =
      stream == nullptr ? driver->memcpy_2d(&copy) : driver->memcpy_2d_async(&copy, *stream);
  return result == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_MAPPING_ERROR;
}

}  // namespace

#define MATRIX(name, direction, Int)                                                                     \
  VGPU_CUBLAS_API cublasStatus_t name(Int rows, Int columns, Int bytes, const void* a, Int lda, void* b, \
                                      Int ldb) noexcept {                                                \
    return transfer(Direction::direction, rows, columns, bytes, {a, lda}, {b, ldb}, nullptr);            \
  }
#define MATRIX_ASYNC(name, direction, Int)                                                               \
  VGPU_CUBLAS_API cublasStatus_t name(Int rows, Int columns, Int bytes, const void* a, Int lda, void* b, \
                                      Int ldb, CUstream stream) noexcept {                               \
    return transfer(Direction::direction, rows, columns, bytes, {a, lda}, {b, ldb}, &stream);            \
  }
// A vector with an increment is a one-row matrix with that leading dimension.
#define VECTOR(name, direction, Int)                                                      \
  VGPU_CUBLAS_API cublasStatus_t name(Int n, Int bytes, const void* x, Int incx, void* y, \
                                      Int incy) noexcept {                                \
    return transfer(Direction::direction, 1, n, bytes, {x, incx}, {y, incy}, nullptr);    \
  }
#define VECTOR_ASYNC(name, direction, Int)                                                          \
  VGPU_CUBLAS_API cublasStatus_t name(Int n, Int bytes, const void* x, Int incx, void* y, Int incy, \
                                      CUstream stream) noexcept {                                   \
    return transfer(Direction::direction, 1, n, bytes, {x, incx}, {y, incy}, &stream);              \
  }

MATRIX(cublasSetMatrix, kToDevice, int)
MATRIX(cublasSetMatrix_64, kToDevice, int64_t)
MATRIX(cublasGetMatrix, kFromDevice, int)
MATRIX(cublasGetMatrix_64, kFromDevice, int64_t)
MATRIX_ASYNC(cublasSetMatrixAsync, kToDevice, int)
MATRIX_ASYNC(cublasSetMatrixAsync_64, kToDevice, int64_t)
MATRIX_ASYNC(cublasGetMatrixAsync, kFromDevice, int)
MATRIX_ASYNC(cublasGetMatrixAsync_64, kFromDevice, int64_t)
VECTOR(cublasSetVector, kToDevice, int)
VECTOR(cublasSetVector_64, kToDevice, int64_t)
VECTOR(cublasGetVector, kFromDevice, int)
VECTOR(cublasGetVector_64, kFromDevice, int64_t)
VECTOR_ASYNC(cublasSetVectorAsync, kToDevice, int)
VECTOR_ASYNC(cublasSetVectorAsync_64, kToDevice, int64_t)
VECTOR_ASYNC(cublasGetVectorAsync, kFromDevice, int)
VECTOR_ASYNC(cublasGetVectorAsync_64, kFromDevice, int64_t)
