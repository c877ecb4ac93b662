// Contexts: the primary one, those that programs make, and each thread's stack of them. All of a process's
// contexts share its channel.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

constexpr unsigned kContextFlags = CU_CTX_SCHED_MASK | CU_CTX_MAP_HOST | CU_CTX_LMEM_RESIZE_TO_MAX;
constexpr unsigned kSchedulingChoices[] = {CU_CTX_SCHED_AUTO, CU_CTX_SCHED_SPIN, CU_CTX_SCHED_YIELD,
                                           CU_CTX_SCHED_BLOCKING_SYNC};

bool valid_flags(unsigned flags) {
  bool known = false;
  for (const unsigned choice : kSchedulingChoices) {
    known = known || (flags & CU_CTX_SCHED_MASK) == choice;
  }
  return known && (flags & ~kContextFlags) == 0;
}

CUresult check_device(CUdevice device) {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult push(uint64_t context) {
  ThreadState& thread = this_thread();
  if (thread.depth == ThreadState::kDepth) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  thread.stack[thread.depth++] = context;
  return CUDA_SUCCESS;
}

CUresult create(CUcontext* result, unsigned flags, CUdevice device) {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  if (result == nullptr || !valid_flags(flags)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Context* context = nullptr;
  if (const CUresult made = Driver::get().make_context(false, flags, context); made != CUDA_SUCCESS) {
    return made;
  }
  *result = as_handle<CUcontext>(context->handle);
  return push(context->handle);
}

// The context a call is about: the one given, or the current one.
Context* named_or_current(CUcontext handle) {
  return handle == nullptr ? current_context() : Driver::get().contexts.find(handle);
}

CUresult synchronize_context(Context* context) {
  Entry entry = enter();
  if (context == nullptr) {
    return entry ? CUDA_ERROR_INVALID_CONTEXT : entry.result;
  }
  Session* session = Driver::get().session_if_open();
  if (session == nullptr) {
    return CUDA_ERROR_NOT_INITIALIZED;
  }
  if (!context->active.load(std::memory_order_acquire)) {
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  }
  if (const CUresult allowed = check_capture_allows_unsafe_call(); allowed != CUDA_SUCCESS) {
    return allowed;
  }
  return synchronize(*session, session->submitted());
}

}  // namespace

// ---- primary context ----

CUresult cuDevicePrimaryCtxRetain(CUcontext* result, CUdevice device) try {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.context_mutex);
  Context* context = driver.contexts.find(driver.primary.load());
  if (context == nullptr) {
    if (const CUresult made = driver.make_context(true, driver.primary_flags, context);
        made != CUDA_SUCCESS) {
      return made;
    }
    driver.primary = context->handle;
  }
  ++context->retain_count;
  context->active = true;
  *result = as_handle<CUcontext>(context->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) try {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.context_mutex);
  Context* context = driver.contexts.find(driver.primary.load());
  if (context == nullptr || context->retain_count == 0) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (--context->retain_count == 0) {
    driver.clear_context(*context);
    context->active = false;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuDevicePrimaryCtxRelease(CUdevice device) try { return cuDevicePrimaryCtxRelease_v2(device); }
VGPU_ABI_EDGE

// Frees everything, whoever else has retained it; the handle stays, and is usable again after the next
// retain.
CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) try {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.context_mutex);
  if (Context* context = driver.contexts.find(driver.primary.load())) {
    driver.clear_context(*context);
    context->active = context->retain_count != 0;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuDevicePrimaryCtxReset(CUdevice device) try { return cuDevicePrimaryCtxReset_v2(device); }
VGPU_ABI_EDGE

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) try {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  if (!valid_flags(flags)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Driver& driver = Driver::get();
  driver.primary_flags = flags;
  if (Context* context = driver.contexts.find(driver.primary.load())) {
    context->flags = flags;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) try {
  return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}
VGPU_ABI_EDGE

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) try {
  if (const CUresult checked = check_device(device); checked != CUDA_SUCCESS) {
    return checked;
  }
  if (flags == nullptr || active == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.context_mutex);
  const Context* context = driver.contexts.find(driver.primary.load());
  *flags = driver.primary_flags;
  *active = context != nullptr && context->retain_count != 0 ? 1 : 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

// ---- contexts that programs make ----

CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) try {
  return create(context, flags, device);
}
VGPU_ABI_EDGE

CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned int flags,
                        CUdevice device) try {
  if (affinity != nullptr || count != 0) {
    return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
  }
  return create(context, flags, device);
}
VGPU_ABI_EDGE

CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* parameters, unsigned int flags,
                        CUdevice device) try {
  if (parameters != nullptr) {
    if (parameters->execAffinityParams != nullptr || parameters->numExecAffinityParams != 0) {
      return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    }
    if (parameters->cigParams != nullptr) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
  }
  return create(context, flags, device);
}
VGPU_ABI_EDGE

CUresult cuCtxDestroy_v2(CUcontext handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  Driver& driver = Driver::get();
  const std::lock_guard guard(driver.context_mutex);
  Context* context = driver.contexts.find(handle);
  if (context == nullptr || context->primary) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  driver.clear_context(*context);
  ThreadState& thread = this_thread();
  if (thread.depth != 0 && thread.stack[thread.depth - 1] == context->handle) {
    --thread.depth;
  }
  driver.streams.destroy(context->legacy_stream);
  driver.contexts.destroy(context->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuCtxDestroy(CUcontext context) try { return cuCtxDestroy_v2(context); }
VGPU_ABI_EDGE

CUresult cuCtxAttach(CUcontext* result, unsigned int flags) try {
  if (result == nullptr || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  ++entry.context->retain_count;
  *result = as_handle<CUcontext>(entry.context->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuCtxDetach(CUcontext handle) try {
  Context* context = Driver::get().contexts.find(handle);
  if (context == nullptr) {
    return Driver::ready() == CUDA_SUCCESS ? CUDA_ERROR_INVALID_CONTEXT : Driver::ready();
  }
  if (context->retain_count != 0) {
    --context->retain_count;
    return CUDA_SUCCESS;
  }
  return cuCtxDestroy_v2(handle);
}
VGPU_ABI_EDGE

// ---- current contexts ----

CUresult cuCtxPushCurrent_v2(CUcontext handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  const Context* context = Driver::get().contexts.find(handle);
  return context == nullptr ? CUDA_ERROR_INVALID_CONTEXT : push(context->handle);
}
VGPU_ABI_EDGE
CUresult cuCtxPushCurrent(CUcontext context) try { return cuCtxPushCurrent_v2(context); }
VGPU_ABI_EDGE

CUresult cuCtxPopCurrent_v2(CUcontext* handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  ThreadState& thread = this_thread();
  if (thread.depth == 0) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  const uint64_t popped = thread.stack[--thread.depth];
  if (handle != nullptr) {
    *handle = as_handle<CUcontext>(popped);
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuCtxPopCurrent(CUcontext* context) try { return cuCtxPopCurrent_v2(context); }
VGPU_ABI_EDGE

// Null pops; otherwise the top is replaced. A primary context that nobody retains may be made current.
CUresult cuCtxSetCurrent(CUcontext handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  ThreadState& thread = this_thread();
  if (handle == nullptr) {
    if (thread.depth != 0) {
      --thread.depth;
    }
    return CUDA_SUCCESS;
  }
  const Context* context = Driver::get().contexts.find(handle);
  if (context == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (thread.depth == 0) {
    return push(context->handle);
  }
  thread.stack[thread.depth - 1] = context->handle;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuCtxGetCurrent(CUcontext* handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (handle == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const ThreadState& thread = this_thread();
  *handle = thread.depth == 0 ? nullptr : as_handle<CUcontext>(thread.stack[thread.depth - 1]);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

// ---- what a context knows ----

CUresult cuCtxGetDevice(CUdevice* device) try {
  const Entry entry = enter();
  // Which device it is can be told of a context with an error too.
  if (entry.context == nullptr) {
    return entry.result;
  }
  if (device == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *device = 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuCtxGetDevice_v2(CUdevice* device, CUcontext handle) try {
  if (handle == nullptr) {
    return cuCtxGetDevice(device);
  }
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (Driver::get().contexts.find(handle) == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (device == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *device = 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuCtxGetFlags(unsigned int* flags) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (flags == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *flags = entry.context->flags;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuCtxSetFlags(unsigned int flags) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (!valid_flags(flags)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  entry.context->flags = flags;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuCtxGetId(CUcontext handle, unsigned long long* id) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  const Context* context = named_or_current(handle);
  if (context == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (id == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *id = context->unique_id;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuCtxSynchronize() try { return synchronize_context(current_context()); }
VGPU_ABI_EDGE
CUresult cuCtxSynchronize_v2(CUcontext handle) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return synchronize_context(named_or_current(handle));
}
VGPU_ABI_EDGE

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned int* version) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (named_or_current(handle) == nullptr) {
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  if (version == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *version = 3020;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
