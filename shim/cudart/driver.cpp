#include "shim/cudart/driver.h"

#include <dlfcn.h>

#include <mutex>

namespace vgpu::shim::cudart {
namespace {

struct Loaded {
  void* library = nullptr;
  Driver table;
};

// Constant-initialised and never destroyed: late destructors of the program may still call in.
constinit Loaded g_loaded;
constinit std::once_flag g_load_once;
constinit std::once_flag g_init_once;
constinit cudaError_t g_init_error = cudaErrorInitializationError;
constinit std::atomic<bool> g_ready{false};

template <typename Function>
void resolve(void* library, const char* symbol, Function*& slot) noexcept {
  slot = reinterpret_cast<Function*>(dlsym(library, symbol));
}

void load() noexcept {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
#define DRIVER(member, symbol, ...) resolve(library, symbol, g_loaded.table.member);
#include "shim/cudart/driver.def"
#undef DRIVER
  g_loaded.library = library;
}

cudaError_t initialise() noexcept {
  const Driver* table = loaded_driver();
  if (table == nullptr || table->init == nullptr || table->driver_get_version == nullptr) {
    return cudaErrorInsufficientDriver;
  }
  int version = 0;
  if (table->driver_get_version(&version) != CUDA_SUCCESS || version < VGPU_CUDART_GENERATION * 1000) {
    return cudaErrorInsufficientDriver;
  }
  return to_runtime(table->init(0));
}

}  // namespace

const Driver* loaded_driver() noexcept {
  std::call_once(g_load_once, load);
  return g_loaded.library == nullptr ? nullptr : &g_loaded.table;
}

const Driver* driver(cudaError_t* error) noexcept {
  if (g_ready.load(std::memory_order_acquire)) return &g_loaded.table;
  std::call_once(g_init_once, [] {
    g_init_error = initialise();
    if (g_init_error == cudaSuccess) g_ready.store(true, std::memory_order_release);
  });
  if (g_init_error == cudaSuccess) return &g_loaded.table;
  *error = g_init_error;
  return nullptr;
}

void* driver_symbol(const char* name) noexcept {
  return loaded_driver() == nullptr ? nullptr : dlsym(g_loaded.library, name);
}

}  // namespace vgpu::shim::cudart
