// Names and texts of cublasStatus_t, for libcublas and libcublasLt.
#pragma once

#include "shim/cublas/cublas_abi.h"

namespace vgpu::shim::cublas {

inline const char* status_name(cublasStatus_t status) noexcept {
  switch (status) {
#define STATUS(name) \
  case name:         \
    return #name
    STATUS(CUBLAS_STATUS_SUCCESS);
    STATUS(CUBLAS_STATUS_NOT_INITIALIZED);
    STATUS(CUBLAS_STATUS_ALLOC_FAILED);
    STATUS(CUBLAS_STATUS_INVALID_VALUE);
    STATUS(CUBLAS_STATUS_ARCH_MISMATCH);
    STATUS(CUBLAS_STATUS_MAPPING_ERROR);
    STATUS(CUBLAS_STATUS_EXECUTION_FAILED);
    STATUS(CUBLAS_STATUS_INTERNAL_ERROR);
    STATUS(CUBLAS_STATUS_NOT_SUPPORTED);
    STATUS(CUBLAS_STATUS_LICENSE_ERROR);
#undef STATUS
  }
  return "CUBLAS_STATUS_UNKNOWN";
}

inline const char* status_text(cublasStatus_t status) noexcept {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "the function requires an architectural feature absent from the device";
    case CUBLAS_STATUS_MAPPING_ERROR:
      return "an access to GPU memory space failed";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "an internal operation failed";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the requested functionality is not supported";
    case CUBLAS_STATUS_LICENSE_ERROR:
      return "the functionality requested requires some license";
  }
  return "unknown status";
}

}  // namespace vgpu::shim::cublas
