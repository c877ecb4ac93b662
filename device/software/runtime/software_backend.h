// The backend that needs no GPU: PTX compiled to the host's instructions, device memory in one window of this
// process. One per process at a time, since the window's address is fixed.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "device/backend.h"

namespace vgpu::software {

class KernelCompiler;

struct BackendOptions {
  std::string name = "vGPU software device";
  uint32_t device_index = 0;                           // of several devices of one host
  std::optional<std::array<std::byte, 16>> uuid = {};  // absent: derived from the machine's id and the index
  uint64_t memory_bytes = 0;                   // 0: three quarters of what is available now, at most 64 GiB
  uint32_t threads = 0;                        // that run blocks; 0: as many as the machine runs at a time
  std::filesystem::path cache_directory = {};  // compiled code; empty: none is kept
  uint64_t cache_bytes = uint64_t{1} << 30;    // that compiled code may take on disk; 0: none is kept
  int opt_level = 2;                           // of the compiler
  // Kernels that can run several blocks or warps at a time always do, instead of when that is measured to be
  // faster; a fault of the compiler in that then fails the launch.
  bool always_coarsen = false;
  uint32_t pci_domain = 0, pci_bus = 0, pci_device = 0;  // as device attributes tell them
  // What kernels print, a call's text at a time; called by one thread at a time.
  std::function<void(std::string_view)> print = {};
};

// Contexts must not outlive the backend. Loads nothing of a guest; may be called before privileges are
// dropped, and starts the worker threads.
device::Result<std::unique_ptr<device::Backend>> make_backend(BackendOptions options);

// The same with another compiler, for tests.
device::Result<std::unique_ptr<device::Backend>> make_backend(BackendOptions options,
                                                              std::unique_ptr<KernelCompiler> compiler);

}  // namespace vgpu::software
