// The table behind cuGetProcAddress.
#pragma once

#include <span>

namespace vgpu::shim {

struct ProcEntry {
  const char* name;
  int version;
  void (*symbol)();
  void (*per_thread_symbol)();  // null: the same function for both meanings of a null stream
};
std::span<const ProcEntry> proc_table() noexcept;  // sorted by name, then version

}  // namespace vgpu::shim
