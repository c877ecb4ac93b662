// See warp_frames.h.
#include "device/software/runtime/warp_frames.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace vgpu::software {

device::Result<void> WarpFrames::reserve(uint32_t bytes) {
  const uint32_t lines = (bytes + static_cast<uint32_t>(sizeof(Line)) - 1) / sizeof(Line) | 1;
  if (lines <= lines_ || bytes == 0) return {};
  std::unique_ptr<Line[]> memory;
  if (bytes <= kMostBytes) memory.reset(new (std::nothrow) Line[std::size_t{lines} * kMost]);
  if (memory == nullptr) {
    return std::unexpected(device::Error{
        protocol::Status::kLaunchOutOfResources,
        fmt::format("a warp keeps {} bytes while it waits at a barrier; at most {}, and memory for {} warps",
                    bytes, kMostBytes, kMost)});
  }
  for (uint32_t warp = 0; warp < kMost && lines_ != 0; ++warp) {
    std::copy_n(&memory_[warp * std::size_t{lines_}], lines_, &memory[warp * std::size_t{lines}]);
  }
  lines_ = lines;
  memory_ = std::move(memory);
  return {};
}

}  // namespace vgpu::software
