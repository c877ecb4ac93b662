// The frames of a block's warps: where each goes on, and what it keeps while it waits at a barrier.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "device/error.h"
#include "device/software/kernel_abi.h"

namespace vgpu::software {

// Used by one thread.
class WarpFrames {
 public:
  static constexpr uint32_t kMost = 32;
  // Per warp: far more than a real kernel keeps, and a bound to what a hostile one can make us take.
  static constexpr uint32_t kMostBytes = uint32_t{1} << 20;

  // Makes room for frames of `bytes`. Those that are there stay as they are, but move.
  device::Result<void> reserve(uint32_t bytes);
  [[nodiscard]] WarpFrame* operator[](uint32_t warp) const {
    return reinterpret_cast<WarpFrame*>(memory_.get() + warp * std::size_t{lines_});
  }

 private:
  struct alignas(alignof(WarpFrame)) Line {
    std::array<std::byte, alignof(WarpFrame)> bytes;
  };

  // Per frame. Odd, so that frames do not compete for the same sets of the first-level cache.
  uint32_t lines_ = 0;
  std::unique_ptr<Line[]> memory_;
};

}  // namespace vgpu::software
