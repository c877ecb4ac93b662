// Addresses of the exports, without their types: this file sees no prototypes, since some of these functions
// have none here (stubs.cpp).
#include "shim/cuda/proc_table.h"

#define VGPU_PROC(name, version, symbol) extern "C" [[gnu::visibility("default")]] void symbol();
#define VGPU_PROC_PER_THREAD(name, version, symbol, per_thread) \
  VGPU_PROC(name, version, symbol)                              \
  extern "C" [[gnu::visibility("default")]] void per_thread();
#include "shim/cuda/proc_table.def"
#undef VGPU_PROC
#undef VGPU_PROC_PER_THREAD

namespace vgpu::shim {

std::span<const ProcEntry> proc_table() noexcept {
#define VGPU_PROC(name, version, symbol) {#name, version, &symbol, nullptr},
#define VGPU_PROC_PER_THREAD(name, version, symbol, per_thread) {#name, version, &symbol, &per_thread},
  static constexpr ProcEntry kTable[] = {
#include "shim/cuda/proc_table.def"
  };
#undef VGPU_PROC
#undef VGPU_PROC_PER_THREAD
  return kTable;
}

}  // namespace vgpu::shim
