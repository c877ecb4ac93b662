// A weak definition for every name of NVIDIA's library: a call that is implemented elsewhere in shim/cudart
// replaces it at link time, what is left answers cudaErrorNotSupported. The parameters are not looked at: the
// x86-64 and AArch64 calling conventions let the callee ignore them.
#include "shim/cuda/private_api.h"
#include "shim/cudart/runtime.h"

namespace vgpu::shim::cudart {

cudaError_t unsupported(const char* name) noexcept {
  const auto get = reinterpret_cast<VgpuGetPrivateTableFn>(driver_symbol(kVgpuPrivateTableSymbol));
  const VgpuPrivateTable* table = get == nullptr ? nullptr : get(kVgpuPrivateVersion);
  if (table != nullptr) table->note_unimplemented(name);
  return keep(cudaErrorNotSupported);
}

}  // namespace vgpu::shim::cudart

#define WEAK_EXPORT(name)                                                              \
  extern "C" __attribute__((visibility("default"), weak)) cudaError_t name() noexcept; \
  cudaError_t name() noexcept {                                                        \
    return vgpu::shim::cudart::unsupported(#name);                                     \
  }
#define EXPORT_BOTH(name) WEAK_EXPORT(name)
#if VGPU_CUDART_GENERATION < 13
#define EXPORT_12(name) WEAK_EXPORT(name)
#define EXPORT_13(name)
#else
#define EXPORT_12(name)
#define EXPORT_13(name) WEAK_EXPORT(name)
#endif
#include "shim/cudart/exports.def"
