// cuGetProcAddress: a name and the CUDA version a client was built for give the function with that version's
// ABI.
#include <algorithm>
#include <cstring>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"
#include "shim/cuda/proc_table.h"

using namespace vgpu::shim;

CUresult cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult* status) try {
  constexpr uint64_t kKnown =
      CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
  if (name == nullptr || function == nullptr || version <= 0 || (flags & ~kKnown) != 0 || flags == kKnown) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *function = nullptr;
  const auto table = proc_table();
  const auto less = [](const ProcEntry& entry, const char* wanted) {
    return std::strcmp(entry.name, wanted) < 0;
  };
  auto it = std::lower_bound(table.begin(), table.end(), name, less);
  const bool known = it != table.end() && std::strcmp(it->name, name) == 0;
  // The newest ABI that is not newer than what was asked for.
  const ProcEntry* found = nullptr;
  for (; it != table.end() && std::strcmp(it->name, name) == 0 && it->version <= version; ++it) {
    found = &*it;
  }
  if (found == nullptr) {
    if (status != nullptr) {
      *status = known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    if (trace_enabled()) {
      log_line("cuGetProcAddress: no %s for version %d", name, version);
    }
    return CUDA_ERROR_NOT_FOUND;
  }
  const bool per_thread =
      (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0 && found->per_thread_symbol != nullptr;
  *function = reinterpret_cast<void*>(per_thread ? found->per_thread_symbol : found->symbol);
  if (status != nullptr) {
    *status = CU_GET_PROC_ADDRESS_SUCCESS;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuGetProcAddress(const char* name, void** function, int version, uint64_t flags) try {
  return cuGetProcAddress_v2(name, function, version, flags, nullptr);
}
VGPU_ABI_EDGE
