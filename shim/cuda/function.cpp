// Functions: what a kernel needs and may be told.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/module.h"

namespace vgpu::shim {

CUresult resolve_function(Session& session, CUfunction handle, Function*& function) {
  Driver& driver = Driver::get();
  function = driver.functions.find(handle);
  if (function != nullptr) [[likely]] {
    return CUDA_SUCCESS;
  }
  // A CUkernel may be given where a CUfunction is expected.
  Kernel* kernel = driver.kernels.find(handle);
  return kernel == nullptr ? CUDA_ERROR_INVALID_HANDLE : resolve_kernel(session, *kernel, function);
}

CUresult get_function_attribute(const Function& function, CUfunction_attribute attribute, int* value) {
  if (value == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const protocol::FunctionGetReply& info = function.info;
  uint32_t answer = 0;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      answer = info.max_threads_per_block;
      break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      answer = info.static_shared_bytes;
      break;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      answer = info.const_bytes;
      break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      answer = info.local_bytes;
      break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      answer = info.registers;
      break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
      answer = info.ptx_version;
      break;
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      answer = info.binary_version;
      break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      answer = function.max_dynamic_shared;
      break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      *value = function.carveout;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  *value = static_cast<int>(answer);
  return CUDA_SUCCESS;
}

CUresult set_function_attribute(Session& session, Function& function, CUfunction_attribute attribute,
                                int value) {
  if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) {
    if (value < -1 || value > 100) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    function.carveout = value;  // a hint; shared memory is not split from a cache here
    return CUDA_SUCCESS;
  }
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    return attribute == CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED ||
                   attribute == CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE
               ? CUDA_ERROR_NOT_SUPPORTED
               : CUDA_ERROR_INVALID_VALUE;
  }
  const Driver& driver = Driver::get();
  const int limit = std::max(driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
                             driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
  if (value < 0 || value > limit - static_cast<int>(function.info.static_shared_bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto bytes = static_cast<uint32_t>(value);
  if (function.max_dynamic_shared.exchange(bytes) == bytes) {
    return CUDA_SUCCESS;
  }
  return to_result(
      session.submit(protocol::FunctionSetMaxDynamicSharedRequest{.function = function.id, .bytes = bytes}, 0)
          .status);
}

}  // namespace vgpu::shim

using namespace vgpu::shim;

namespace {

template <typename Then>
CUresult with_function(CUfunction handle, Then&& then) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Function* function = nullptr;
  const CUresult result = resolve_function(*entry.session, handle, function);
  return result != CUDA_SUCCESS ? result : then(*entry.session, *function);
}

}  // namespace

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) try {
  return with_function(handle,
                       [&](Session&, Function& f) { return get_function_attribute(f, attribute, value); });
}
VGPU_ABI_EDGE

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) try {
  return with_function(handle, [&](Session& session, Function& f) {
    return set_function_attribute(session, f, attribute, value);
  });
}
VGPU_ABI_EDGE

CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) try {
  return with_function(handle, [&](Session&, Function& function) {
    if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    function.cache_config = config;
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config) try {
  return with_function(handle, [&](Session&, Function&) {
    return config < CU_SHARED_MEM_CONFIG_DEFAULT_BANK_SIZE ||
                   config > CU_SHARED_MEM_CONFIG_EIGHT_BYTE_BANK_SIZE
               ? CUDA_ERROR_INVALID_VALUE
               : CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

CUresult cuFuncGetModule(CUmodule* module, CUfunction handle) try {
  return with_function(handle, [&](Session&, Function& function) {
    if (module == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *module = as_handle<CUmodule>(function.module);
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

CUresult cuFuncGetName(const char** name, CUfunction handle) try {
  return with_function(handle, [&](Session&, Function& function) {
    if (name == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *name = function.name.c_str();
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* bytes) try {
  return with_function(handle, [&](Session&, Function& function) {
    if (offset == nullptr || index >= function.parameters.size()) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *offset = function.parameters[index].offset;
    if (bytes != nullptr) {
      *bytes = function.parameters[index].bytes;
    }
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE

// A function that has been looked up is loaded: the device has parsed it.
CUresult cuFuncIsLoaded(CUfunctionLoadingState* state, CUfunction handle) try {
  return with_function(handle, [&](Session&, Function&) {
    if (state == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
  });
}
VGPU_ABI_EDGE
CUresult cuFuncLoad(CUfunction handle) try {
  return with_function(handle, [](Session&, Function&) { return CUDA_SUCCESS; });
}
VGPU_ABI_EDGE
