// The stacks on which the warps of a block with barriers run: one mapping, each stack above an unmapped
// guard.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/error.h"

namespace vgpu::software {

class FiberStacks {
 public:
  // Lazily committed: what a kernel touches is what it costs.
  static constexpr std::size_t kStackBytes = std::size_t{1} << 20;
  static constexpr std::size_t kGuardBytes = std::size_t{256} << 10;

  FiberStacks() = default;
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  // Makes room for `count` stacks.
  device::Result<void> reserve(uint32_t count);
  [[nodiscard]] std::byte* top(uint32_t index) const;     // one past the highest byte
  [[nodiscard]] std::byte* bottom(uint32_t index) const;  // lowest usable byte

 private:
  std::byte* memory_ = nullptr;
  uint32_t count_ = 0;
};

}  // namespace vgpu::software
