// A weak definition for every name of NVIDIA's library: a call that is implemented elsewhere in shim/cublas
// replaces it at link time, what is left answers CUBLAS_STATUS_NOT_SUPPORTED.
#include "shim/cublas/handle.h"
#include "shim/cublas/status.h"

#define EXPORT(name)                                                                      \
  extern "C" __attribute__((visibility("default"), weak)) cublasStatus_t name() noexcept; \
  cublasStatus_t name() noexcept {                                                        \
    return vgpu::shim::cublas::unsupported(#name);                                        \
  }
#include "shim/cublas/exports.def"
