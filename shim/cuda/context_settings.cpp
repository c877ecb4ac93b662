// What a program sets of the current context and asks of it: limits, preferences, priorities, peers.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

template <typename Call>
CUresult in_context(Call&& call) {
  const Entry entry = enter();
  return entry ? call(*entry.context) : entry.result;
}

CUresult check_limit(CUlimit limit) {
  if (static_cast<unsigned>(limit) > CU_LIMIT_CIG_SHMEM_FALLBACK_ENABLED) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return limit > CU_LIMIT_MAX_L2_FETCH_GRANULARITY ? CUDA_ERROR_UNSUPPORTED_LIMIT : CUDA_SUCCESS;
}

// There is one device: nobody is anybody's peer.
CUresult refuse_peer(CUcontext peer, CUresult reason) {
  return Driver::get().contexts.find(peer) == nullptr ? CUDA_ERROR_INVALID_CONTEXT : reason;
}

}  // namespace

// Limits are kept and told; the software backend sizes its stacks and heaps itself, which the documentation
// allows ("the driver is free to modify the requested value").
CUresult cuCtxSetLimit(CUlimit limit, size_t value) try {
  return in_context([&](Context& context) {
    const CUresult checked = check_limit(limit);
    if (checked == CUDA_SUCCESS) {
      context.limits[static_cast<unsigned>(limit)] = value;
    }
    return checked;
  });
}
VGPU_ABI_EDGE
CUresult cuCtxGetLimit(size_t* value, CUlimit limit) try {
  return in_context([&](const Context& context) {
    if (value == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult checked = check_limit(limit);
    if (checked == CUDA_SUCCESS) {
      *value = context.limits[static_cast<unsigned>(limit)];
    }
    return checked;
  });
}
VGPU_ABI_EDGE

// "On devices where the size of the L1 cache and shared memory are fixed, this does nothing": a preference.
CUresult cuCtxGetCacheConfig(CUfunc_cache* config) try {
  return in_context([&](const Context& context) {
    if (config == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *config = static_cast<CUfunc_cache>(context.cache_config.load());
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE
CUresult cuCtxSetCacheConfig(CUfunc_cache config) try {
  return in_context([&](Context& context) {
    if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    context.cache_config = config;
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE
CUresult cuCtxGetSharedMemConfig(CUsharedconfig* config) try {
  return in_context([&](const Context&) {
    if (config == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *config = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;  // fixed since compute capability 5
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE
CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) try {
  return in_context([&](const Context&) {
    return config < CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE ||
                   config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE
               ? CUDA_ERROR_INVALID_VALUE
               : CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

// The whole range that stream.cpp takes.
CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) try {
  return in_context([&](const Context&) {
    if (least != nullptr) {
      *least = 0;
    }
    if (greatest != nullptr) {
      *greatest = -5;
    }
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

CUresult cuCtxResetPersistingL2Cache() try {
  return in_context([](const Context&) { return CUDA_ERROR_NOT_SUPPORTED; });  // needs compute capability 8
}
VGPU_ABI_EDGE

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) try {
  return in_context([&](const Context&) {
    return flags != 0 ? CUDA_ERROR_INVALID_VALUE : refuse_peer(peer, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  });
}
VGPU_ABI_EDGE
CUresult cuCtxDisablePeerAccess(CUcontext peer) try {
  return in_context([&](const Context&) { return refuse_peer(peer, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED); });
}
VGPU_ABI_EDGE
