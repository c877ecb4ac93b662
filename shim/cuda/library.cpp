// Libraries and kernels: modules that belong to no context. This process has one device, so a library is one
// module, loaded at once, or at its first use where the program promises to keep the image.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/module.h"

using namespace vgpu::shim;

namespace vgpu::shim {

CUresult module_of(Session& session, Library& library, Module*& module) {
  const std::lock_guard guard(library.mutex);
  if (library.module == 0) {
    if (const CUresult result = load_image(session, image_bytes(library.preserved), 0, module);
        result != CUDA_SUCCESS) {
      return result;
    }
    module->library = library.handle;
    library.module = module->handle;
  }
  module = Driver::get().modules.find(library.module);
  return module != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult resolve_kernel(Session& session, Kernel& kernel, Function*& function) {
  Driver& driver = Driver::get();
  function = driver.functions.find(kernel.function.load(std::memory_order_acquire));
  if (function != nullptr) {
    return CUDA_SUCCESS;
  }
  Library* library = driver.libraries.find(kernel.library);
  if (library == nullptr) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  Module* module = nullptr;
  if (const CUresult result = module_of(session, *library, module); result != CUDA_SUCCESS) {
    return result;
  }
  const CUresult result = find_function(session, *module, kernel.name, function);
  if (result == CUDA_SUCCESS) {
    kernel.function.store(function->handle, std::memory_order_release);
  }
  return result;
}

}  // namespace vgpu::shim

namespace {

CUresult open_session(Session*& session) {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return Driver::get().open(session);
}

CUresult make_library(Session& session, std::span<const std::byte> image, const void* preserved,
                      CUlibrary* result) {
  Driver& driver = Driver::get();
  Library* library = driver.libraries.create();
  if (library == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  library->preserved = preserved;
  if (preserved == nullptr) {
    Module* module = nullptr;
    if (const CUresult loaded = load_image(session, image, 0, module); loaded != CUDA_SUCCESS) {
      driver.libraries.destroy(library->handle);
      return loaded;
    }
    module->library = library->handle;
    library->module = module->handle;
  }
  *result = as_handle<CUlibrary>(library->handle);
  return CUDA_SUCCESS;
}

CUresult enter_library(CUlibrary handle, Session*& session, Library*& library) {
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  library = Driver::get().libraries.find(handle);
  return library != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult enter_library_module(CUlibrary handle, Session*& session, Library*& library, Module*& module) {
  const CUresult result = enter_library(handle, session, library);
  return result != CUDA_SUCCESS ? result : module_of(*session, *library, module);
}

CUresult enter_kernel(CUkernel handle, Session*& session, Kernel*& kernel) {
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  kernel = Driver::get().kernels.find(handle);
  return kernel != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult enter_kernel_function(CUkernel handle, Session*& session, Function*& function) {
  Kernel* kernel = nullptr;
  const CUresult result = enter_kernel(handle, session, kernel);
  return result != CUDA_SUCCESS ? result : resolve_kernel(*session, *kernel, function);
}

// The kernel of that name, which the library is known to hold.
CUresult kernel_of(Library& library, const Function& function, Kernel*& kernel) {
  Driver& driver = Driver::get();
  const std::lock_guard guard(library.mutex);
  if (const auto known = library.kernels.find(function.name); known != library.kernels.end()) {
    kernel = driver.kernels.find(known->second);
    return kernel != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  }
  kernel = driver.kernels.create();
  if (kernel == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  kernel->library = library.handle;
  kernel->name = function.name;
  kernel->function = function.handle;
  library.kernels.emplace(kernel->name, kernel->handle);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuLibraryLoadData(CUlibrary* library, const void* code, CUjit_option*, void**, unsigned int,
                           CUlibraryOption* options, void** values, unsigned int option_count) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (library == nullptr || code == nullptr || (option_count != 0 && options == nullptr)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  bool preserved = false;
  for (unsigned i = 0; i < option_count; ++i) {
    preserved = preserved || (options[i] == CU_LIBRARY_BINARY_IS_PRESERVED &&
                              (values == nullptr || reinterpret_cast<uintptr_t>(values[i]) != 0));
  }
  return make_library(*session, preserved ? std::span<const std::byte>{} : image_bytes(code),
                      preserved ? code : nullptr, library);
}
VGPU_ABI_EDGE

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option*, void**, unsigned int,
                               CUlibraryOption*, void**, unsigned int) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (library == nullptr || path == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::vector<std::byte> image;
  if (const CUresult read = read_image_file(path, image); read != CUDA_SUCCESS) {
    return read;
  }
  return make_library(*session, image, nullptr, library);
}
VGPU_ABI_EDGE

CUresult cuLibraryUnload(CUlibrary handle) try {
  Session* session = nullptr;
  Library* library = nullptr;
  if (const CUresult result = enter_library(handle, session, library); result != CUDA_SUCCESS) {
    return result;
  }
  Driver& driver = Driver::get();
  CUresult result = CUDA_SUCCESS;
  {
    const std::lock_guard guard(library->mutex);
    for (const auto& [name, kernel] : library->kernels) {
      driver.kernels.destroy(kernel);
    }
    if (Module* module = driver.modules.find(library->module)) {
      result = unload_module(*session, *module);
    }
  }
  driver.libraries.destroy(library->handle);
  return result;
}
VGPU_ABI_EDGE

CUresult cuLibraryGetKernel(CUkernel* result, CUlibrary handle, const char* name) try {
  Session* session = nullptr;
  Library* library = nullptr;
  Module* module = nullptr;
  if (const CUresult found = enter_library_module(handle, session, library, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (result == nullptr || name == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Function* function = nullptr;
  Kernel* kernel = nullptr;
  if (const CUresult found = find_function(*session, *module, name, function); found != CUDA_SUCCESS) {
    return found;
  }
  const CUresult made = kernel_of(*library, *function, kernel);
  if (made == CUDA_SUCCESS) {
    *result = as_handle<CUkernel>(kernel->handle);
  }
  return made;
}
VGPU_ABI_EDGE

CUresult cuLibraryGetKernelCount(unsigned int* count, CUlibrary handle) try {
  Session* session = nullptr;
  Library* library = nullptr;
  Module* module = nullptr;
  if (const CUresult found = enter_library_module(handle, session, library, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (count == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *count = module->function_count;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuLibraryEnumerateKernels(CUkernel* kernels, unsigned int count, CUlibrary handle) try {
  Session* session = nullptr;
  Library* library = nullptr;
  Module* module = nullptr;
  if (const CUresult found = enter_library_module(handle, session, library, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (kernels == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < count && i < module->function_count; ++i) {
    std::string name;
    Function* function = nullptr;
    Kernel* kernel = nullptr;
    CUresult result = function_name(*session, *module, i, name);
    result = result != CUDA_SUCCESS ? result : find_function(*session, *module, name, function);
    result = result != CUDA_SUCCESS ? result : kernel_of(*library, *function, kernel);
    if (result != CUDA_SUCCESS) {
      return result;
    }
    kernels[i] = as_handle<CUkernel>(kernel->handle);
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuLibraryGetModule(CUmodule* result, CUlibrary handle) try {
  Session* session = nullptr;
  Library* library = nullptr;
  Module* module = nullptr;
  if (const CUresult found = enter_library_module(handle, session, library, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *result = as_handle<CUmodule>(module->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuLibraryGetGlobal(CUdeviceptr* pointer, size_t* bytes, CUlibrary handle, const char* name) try {
  Session* session = nullptr;
  Library* library = nullptr;
  Module* module = nullptr;
  if (const CUresult found = enter_library_module(handle, session, library, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (name == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Module::Global global;
  if (const CUresult found = find_global(*session, *module, name, global); found != CUDA_SUCCESS) {
    return found;
  }
  if (pointer != nullptr) {
    *pointer = global.address;
  }
  if (bytes != nullptr) {
    *bytes = global.bytes;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuKernelGetFunction(CUfunction* result, CUkernel handle) try {
  Session* session = nullptr;
  Function* function = nullptr;
  if (const CUresult found = enter_kernel_function(handle, session, function); found != CUDA_SUCCESS) {
    return found;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *result = as_handle<CUfunction>(function->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuKernelGetLibrary(CUlibrary* result, CUkernel handle) try {
  Session* session = nullptr;
  Kernel* kernel = nullptr;
  if (const CUresult found = enter_kernel(handle, session, kernel); found != CUDA_SUCCESS) {
    return found;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *result = as_handle<CUlibrary>(kernel->library);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel handle,
                              CUdevice device) try {
  Session* session = nullptr;
  Function* function = nullptr;
  if (const CUresult found = enter_kernel_function(handle, session, function); found != CUDA_SUCCESS) {
    return found;
  }
  return device != 0 ? CUDA_ERROR_INVALID_DEVICE : get_function_attribute(*function, attribute, value);
}
VGPU_ABI_EDGE

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle,
                              CUdevice device) try {
  Session* session = nullptr;
  Function* function = nullptr;
  if (const CUresult found = enter_kernel_function(handle, session, function); found != CUDA_SUCCESS) {
    return found;
  }
  return device != 0 ? CUDA_ERROR_INVALID_DEVICE
                     : set_function_attribute(*session, *function, attribute, value);
}
VGPU_ABI_EDGE

CUresult cuKernelSetCacheConfig(CUkernel handle, CUfunc_cache config, CUdevice device) try {
  Session* session = nullptr;
  Function* function = nullptr;
  if (const CUresult found = enter_kernel_function(handle, session, function); found != CUDA_SUCCESS) {
    return found;
  }
  if (device != 0) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (config < CU_FUNC_CACHE_PREFER_NONE || config > CU_FUNC_CACHE_PREFER_EQUAL) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  function->cache_config = config;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuKernelGetName(const char** name, CUkernel handle) try {
  Session* session = nullptr;
  Kernel* kernel = nullptr;
  if (const CUresult found = enter_kernel(handle, session, kernel); found != CUDA_SUCCESS) {
    return found;
  }
  if (name == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *name = kernel->name.c_str();
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuKernelGetParamInfo(CUkernel handle, size_t index, size_t* offset, size_t* bytes) try {
  Session* session = nullptr;
  Function* function = nullptr;
  if (const CUresult found = enter_kernel_function(handle, session, function); found != CUDA_SUCCESS) {
    return found;
  }
  return cuFuncGetParamInfo(as_handle<CUfunction>(function->handle), index, offset, bytes);
}
VGPU_ABI_EDGE
