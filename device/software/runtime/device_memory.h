// Device memory of one context: allocations of any size, each in one range of the window. Small ones share
// chunks of 2 MiB that belong to this context alone; large ones have mappings of their own, which end in
// unmapped pages. Everything goes back with the object. Used by one thread; in_use() by any.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "device/software/runtime/device_window.h"
#include "device/software/runtime/memory_budget.h"
#include "device/software/runtime/range_table.h"

namespace vgpu::software {

inline constexpr uint64_t kAllocationAlignment = 256;
inline constexpr uint64_t kSmallAllocationLimit = uint64_t{1} << 20;
inline constexpr uint64_t kChunkBytes = kWindowGranule;

class DeviceMemory {
 public:
  DeviceMemory(DeviceWindow& window, ContextBudget& budget, RangeTable& ranges, uint32_t max_allocations);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Aligned to kAllocationAlignment. Contents are zero or what this context left there.
  Result<uint64_t> allocate(uint64_t bytes, RangeKind kind = RangeKind::kAllocation);
  Result<void> free(uint64_t address, RangeKind kind = RangeKind::kAllocation);

 private:
  struct Block {
    uint64_t mapped = 0;  // bytes taken of a chunk (small), or of the window (large)
    bool small = false;
  };
  Result<uint64_t> allocate_small(uint64_t bytes);
  Result<uint64_t> allocate_large(uint64_t bytes);
  Result<void> add_chunk();
  void free_small(uint64_t address, uint64_t bytes);
  void add_free(uint64_t address, uint64_t bytes);
  void remove_free(uint64_t address, uint64_t bytes);
  static constexpr uint64_t chunk_of(uint64_t address) { return address / kChunkBytes * kChunkBytes; }

  DeviceWindow& window_;
  ContextBudget& budget_;
  RangeTable& ranges_;
  const uint32_t max_allocations_;
  std::map<uint64_t, Block> blocks_;                      // by address
  std::set<uint64_t> chunks_;                             // by address
  std::map<uint64_t, uint64_t> free_by_address_;          // free parts of chunks; none crosses a chunk's end
  std::set<std::pair<uint64_t, uint64_t>> free_by_size_;  // the same: (bytes, address)
};

}  // namespace vgpu::software
