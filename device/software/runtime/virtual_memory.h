// Virtual memory management of one context: reserved address ranges, physical segments, and the mappings of
// one onto the other, with the rules of cuMemAddressReserve, cuMemCreate, cuMemMap, cuMemSetAccess,
// cuMemUnmap. Used by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>

#include "device/software/runtime/device_window.h"
#include "device/software/runtime/memory_budget.h"
#include "device/software/runtime/physical_store.h"
#include "device/software/runtime/range_table.h"

namespace vgpu::software {

class VirtualMemory {
 public:
  VirtualMemory(DeviceWindow& window, PhysicalStore& store, ContextBudget& budget, RangeTable& ranges,
                uint32_t max_objects);
  ~VirtualMemory();
  VirtualMemory(const VirtualMemory&) = delete;
  VirtualMemory& operator=(const VirtualMemory&) = delete;

  Result<uint64_t> reserve(uint64_t bytes, uint64_t alignment, uint64_t wanted);
  Result<void> free(uint64_t address, uint64_t bytes);
  Result<void> create(uint32_t physical, uint64_t bytes);
  Result<void> release(uint32_t physical);
  Result<void> map(uint64_t address, uint64_t bytes, uint64_t offset, uint32_t physical);
  Result<void> unmap(uint64_t address, uint64_t bytes);
  Result<void> set_access(uint64_t address, uint64_t bytes, PageAccess access);

 private:
  // Lives until it is released and its last mapping is gone, as CUDA has it.
  class Segment {
   public:
    Segment(PhysicalStore& store, ContextBudget& budget, uint64_t offset, uint64_t bytes)
        : store_(store), budget_(budget), offset_(offset), bytes_(bytes) {}
    ~Segment() {
      store_.give_back(offset_, bytes_);
      budget_.release(bytes_);
    }
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;
    [[nodiscard]] uint64_t offset() const { return offset_; }
    [[nodiscard]] uint64_t bytes() const { return bytes_; }

   private:
    PhysicalStore& store_;
    ContextBudget& budget_;
    const uint64_t offset_;
    const uint64_t bytes_;
  };
  struct Mapping {
    uint64_t bytes = 0;
    std::shared_ptr<Segment> segment;
  };
  using Mappings = std::map<uint64_t, Mapping>;

  // The mappings that exactly fill [address, address + bytes): first and one past the last; both end() if
  // none do.
  std::pair<Mappings::iterator, Mappings::iterator> filling(uint64_t address, uint64_t bytes);

  DeviceWindow& window_;
  PhysicalStore& store_;
  ContextBudget& budget_;
  RangeTable& ranges_;
  const uint32_t max_objects_;
  std::map<uint64_t, uint64_t> reservations_;  // start -> bytes
  std::unordered_map<uint32_t, std::shared_ptr<Segment>> segments_;
  Mappings mappings_;
};

}  // namespace vgpu::software
