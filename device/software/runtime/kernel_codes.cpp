// See kernel_codes.h.
#include "device/software/runtime/kernel_codes.h"

#include <algorithm>
#include <utility>

namespace vgpu::software {

void KernelCodes::add(Code code) {
  codes_[count_++] = std::move(code);
  chosen_.store(count_ == 1 ? 0 : kMost, std::memory_order_relaxed);
}

void KernelCodes::measured(uint32_t index, uint64_t blocks, uint64_t nanoseconds) {
  Speed& speed = speeds_[index];
  const uint64_t mine = nanoseconds * 1000 / blocks;
  uint64_t least = speed.least_picoseconds.load(std::memory_order_relaxed);
  while (mine < least && !speed.least_picoseconds.compare_exchange_weak(least, mine)) {
  }
  speed.parts.fetch_add(1, std::memory_order_relaxed);
  const auto begin = speeds_.begin();
  const auto end = begin + count_;
  if (std::any_of(begin, end, [](const Speed& s) { return s.parts.load() < kPartsMeasured; })) return;
  const auto fastest = std::min_element(begin, end, [](const Speed& a, const Speed& b) {
    return a.least_picoseconds.load() < b.least_picoseconds.load();
  });
  chosen_.store(static_cast<uint32_t>(fastest - begin), std::memory_order_relaxed);
}

uint32_t KernelCodes::frame_bytes() const {
  uint32_t most = 0;
  for (uint32_t i = 0; i < count_; ++i) most = std::max(most, codes_[i]->frame_bytes);
  return most;
}

uint64_t KernelCodes::generic_warps() const {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < count_; ++i) sum += codes_[i]->generic_warps();
  return sum;
}

}  // namespace vgpu::software
