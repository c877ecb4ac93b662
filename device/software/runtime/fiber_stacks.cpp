// See fiber_stacks.h.
#include "device/software/runtime/fiber_stacks.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace vgpu::software {

FiberStacks::~FiberStacks() {
  if (memory_ != nullptr) ::munmap(memory_, kStride * count_);
}

device::Result<void> FiberStacks::reserve(uint32_t count) {
  if (count <= count_) return {};
  void* memory =
      ::mmap(nullptr, kStride * count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  bool ready = memory != MAP_FAILED;
  for (uint32_t i = 0; ready && i < count; ++i) {
    ready = ::mprotect(static_cast<std::byte*>(memory) + i * kStride + kGuardBytes, kStackBytes,
                       PROT_READ | PROT_WRITE) == 0;
  }
  if (!ready) {
    const int number = errno;
    if (memory != MAP_FAILED) ::munmap(memory, kStride * count);
    return std::unexpected(
        device::Error{protocol::Status::kLaunchOutOfResources,
                      fmt::format("map {} warp stacks: {}", count, std::strerror(number))});
  }
  if (memory_ != nullptr) ::munmap(memory_, kStride * count_);
  memory_ = static_cast<std::byte*>(memory);
  count_ = count;
  return {};
}

}  // namespace vgpu::software
