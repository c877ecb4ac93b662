// libcublasLt: programs look for the file and name it as a dependency. Its matrix products are not
// implemented: creating a handle says so, before anything is computed.
#include "shim/cublas/handle.h"
#include "shim/cublas/status.h"

#define EXPORT(name)                                                                \
  extern "C" __attribute__((visibility("default"))) cublasStatus_t name() noexcept; \
  cublasStatus_t name() noexcept {                                                  \
    return vgpu::shim::cublas::unsupported(#name);                                  \
  }
#include "shim/cublas/lt_exports.def"

VGPU_CUBLAS_API const char* cublasLtGetStatusName(cublasStatus_t status) noexcept {
  return vgpu::shim::cublas::status_name(status);
}
VGPU_CUBLAS_API const char* cublasLtGetStatusString(cublasStatus_t status) noexcept {
  return vgpu::shim::cublas::status_text(status);
}
VGPU_CUBLAS_API std::size_t cublasLtGetVersion() noexcept {
  return VGPU_CUBLAS_GENERATION < 13 ? 120900 : 130000;
}
VGPU_CUBLAS_API std::size_t cublasLtGetCudartVersion() noexcept {
  return VGPU_CUBLAS_GENERATION < 13 ? 12090 : 13000;
}
