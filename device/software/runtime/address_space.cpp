// See address_space.h.
#include "device/software/runtime/address_space.h"

#include <iterator>

namespace vgpu::software {

AddressSpace::AddressSpace(uint64_t base, uint64_t bytes) : free_bytes_(bytes) {
  if (bytes > 0) free_.emplace(base, bytes);
}

std::optional<uint64_t> AddressSpace::take(uint64_t bytes, uint64_t alignment) {
  if (bytes == 0 || bytes > free_bytes_) return std::nullopt;
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const uint64_t start = (range->first + alignment - 1) & ~(alignment - 1);
    if (start < range->first) continue;  // wrapped: the alignment is larger than all addresses
    const uint64_t skipped = start - range->first;
    if (skipped > range->second || bytes > range->second - skipped) continue;
    carve(range, start, bytes);
    return start;
  }
  return std::nullopt;
}

bool AddressSpace::take_at(uint64_t address, uint64_t bytes) {
  auto range = free_.upper_bound(address);
  if (bytes == 0 || range == free_.begin()) return false;
  --range;
  const uint64_t skipped = address - range->first;
  if (skipped > range->second || bytes > range->second - skipped) return false;
  carve(range, address, bytes);
  return true;
}

void AddressSpace::carve(Ranges::iterator range, uint64_t address, uint64_t bytes) {
  const auto [start, size] = *range;
  free_.erase(range);
  if (address > start) free_.emplace(start, address - start);
  if (address + bytes < start + size) free_.emplace(address + bytes, start + size - address - bytes);
  free_bytes_ -= bytes;
}

void AddressSpace::give_back(uint64_t address, uint64_t bytes) {
  if (bytes == 0) return;
  free_bytes_ += bytes;
  auto next = free_.lower_bound(address);
  if (next != free_.end() && next->first == address + bytes) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == address) {
      previous->second += bytes;
      return;
    }
  }
  free_.emplace(address, bytes);
}

}  // namespace vgpu::software
