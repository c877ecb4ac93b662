// The stacks on which the warps of a block with barriers run: one mapping, each stack above an unmapped
// guard.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/error.h"

namespace vgpu::software {

class FiberStacks {
 public:
  // A warp has 1 MiB; above it is room for warps that wait beneath it on the same stack. Lazily committed:
  // what a kernel touches is what it costs.
  static constexpr std::size_t kRoomBeneath = std::size_t{256} << 10;
  static constexpr std::size_t kStackBytes = (std::size_t{1} << 20) + kRoomBeneath;
  static constexpr std::size_t kGuardBytes = std::size_t{256} << 10;

  FiberStacks() = default;
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  // Makes room for `count` stacks.
  device::Result<void> reserve(uint32_t count);
  // One past the highest byte. Stacks start at different offsets of a page, so that the hot ends of many
  // stacks do not compete for the same sets of the first-level cache.
  [[nodiscard]] std::byte* top(uint32_t index) const {
    return memory_ + (index + 1) * kStride - (index % 8) * 512;
  }
  // Lowest usable byte.
  [[nodiscard]] std::byte* bottom(uint32_t index) const { return memory_ + index * kStride + kGuardBytes; }

 private:
  static constexpr std::size_t kStride = kStackBytes + kGuardBytes;

  std::byte* memory_ = nullptr;
  uint32_t count_ = 0;
};

}  // namespace vgpu::software
