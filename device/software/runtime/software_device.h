// What the contexts of one software backend share. Everything here is thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>

#include "device/backend.h"
#include "device/software/runtime/device_window.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/kernel_statistics.h"
#include "device/software/runtime/launch_plan.h"
#include "device/software/runtime/launcher.h"
#include "device/software/runtime/memory_budget.h"
#include "device/software/runtime/physical_store.h"

namespace vgpu::software {

struct SoftwareDevice {
  explicit SoftwareDevice(uint64_t memory_bytes) : memory(memory_bytes) {}

  // Members end in the reverse order: the launcher's threads are gone before the window is.
  std::unique_ptr<DeviceWindow> window;
  std::unique_ptr<PhysicalStore> store;
  MemoryBudget memory;
  std::unique_ptr<KernelCompiler> compiler;
  std::atomic<bool> coarsening{false};  // a kernel is being compiled for several at a time
  std::jthread coarsener;               // by this thread, which is of the context that set the flag
  std::unique_ptr<Launcher> launcher;
  device::DeviceProperties properties;
  PrintSink print;  // serialised

  bool always_coarsen = false;  // BackendOptions
  KernelStatistics kernels;
  std::mutex print_mutex;
  std::atomic<uint64_t> next_context{1};
  std::atomic<uint64_t> launches{0};
  std::atomic<uint64_t> blocks{0};
  std::atomic<uint64_t> gemms{0};
  std::atomic<uint64_t> kernels_used{0};  // kernels times launch shapes, over all contexts
};

}  // namespace vgpu::software
