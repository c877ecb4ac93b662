// The calls that turn a status into text.
#include "shim/cublas/status.h"

VGPU_CUBLAS_API const char* cublasGetStatusName(cublasStatus_t status) noexcept {
  return vgpu::shim::cublas::status_name(status);
}
VGPU_CUBLAS_API const char* cublasGetStatusString(cublasStatus_t status) noexcept {
  return vgpu::shim::cublas::status_text(status);
}
