// See fiber_stacks.h.
#include "device/software/runtime/fiber_stacks.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

namespace vgpu::software {
namespace {
constexpr std::size_t kStride = FiberStacks::kStackBytes + FiberStacks::kGuardBytes;
}

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

std::byte* FiberStacks::bottom(uint32_t index) const {
  return memory_ + index * kStride + kGuardBytes;
}

// Stacks start at different offsets of a page, so that the hot ends of many warps' stacks do not compete for
// the same sets of the first-level cache.
std::byte* FiberStacks::top(uint32_t index) const {
  return memory_ + (index + 1) * kStride - (index % 8) * 512;
}

}  // namespace vgpu::software
