// See kernel_codes.h.
#include "device/software/runtime/kernel_codes.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "device/software/runtime/device_window.h"

namespace vgpu::software {

uint64_t launch_key(std::span<const std::byte> parameters) {
  uint64_t hash = 0;
  for (std::size_t at = 0; at < parameters.size(); at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, &parameters[at], std::min(sizeof word, parameters.size() - at));
    if (DeviceWindow::contains(word)) word = kDeviceWindowBase;
    hash = (std::rotl(hash, 5) ^ word) * 0x9E37'79B9'7F4A'7C15;
  }
  return hash;
}

void LaunchKind::measured(uint32_t codes, uint32_t index, uint64_t blocks, uint64_t nanoseconds) {
  Speed& speed = speeds_[index];
  const uint64_t mine = nanoseconds * 1000 / blocks;
  uint64_t least = speed.least_picoseconds.load(std::memory_order_relaxed);
  while (mine < least && !speed.least_picoseconds.compare_exchange_weak(least, mine)) {
  }
  speed.parts.fetch_add(1, std::memory_order_relaxed);
  const auto begin = speeds_.begin();
  const auto end = begin + codes;
  if (std::any_of(begin, end, [](const Speed& s) { return s.parts.load() < kPartsMeasured; })) return;
  const auto fastest = std::min_element(begin, end, [](const Speed& a, const Speed& b) {
    return a.least_picoseconds.load() < b.least_picoseconds.load();
  });
  chosen_.store(static_cast<uint32_t>(fastest - begin), std::memory_order_relaxed);
}

void KernelCodes::add(Code code) {
  codes_[count_++] = std::move(code);
  choose(count_ == 1 ? 0 : kMost);
}

void KernelCodes::choose(uint32_t index) {
  for (LaunchKind& kind : kinds_) kind.chosen_.store(index, std::memory_order_relaxed);
}

LaunchKind& KernelCodes::kind(uint64_t key) {
  const auto begin = kinds_.begin();
  const auto end = begin + kinds_seen_;
  const auto found = std::find_if(begin, end, [key](const LaunchKind& kind) { return kind.key_ == key; });
  if (found != end) return *found;
  if (kinds_seen_ == kMostKinds) return kinds_.back();
  LaunchKind& made = kinds_[kinds_seen_++];
  made.key_ = key;
  return made;
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
