// One launch, checked and ready to run: what every thread that runs its blocks needs to know.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "device/software/kernel_abi.h"
#include "device/software/runtime/kernel_codes.h"

namespace vgpu::software {

using PrintSink = std::function<void(std::string_view)>;

// What a context's stop flag says; compiled loops look at it (BlockState::cancel).
enum StopReason : uint32_t { kRunning = 0, kCancelledByOwner = 1, kLaunchFailedElsewhere = 2 };

struct LaunchPlan {
  KernelCodes* codes = nullptr;
  LaunchKind* kind = nullptr;  // of `codes`
  uint32_t mxcsr = 0x1F80;
  uint32_t threads = 0;  // per block
  uint32_t local_stride = 0;
  uint32_t shared_bytes = 0;
  BlockState prototype{};  // ctaid, shared_base, local_base, local_stride, runtime and hooks are the runner's
  uint64_t blocks = 0;
  uint64_t context_id = 0;
  std::string_view kernel;  // name, for errors
  const PrintSink* print = nullptr;
  std::atomic<uint32_t>* stop = nullptr;

  [[nodiscard]] uint32_t warps() const { return (threads + kWarpSize - 1) / kWarpSize; }
};

}  // namespace vgpu::software
