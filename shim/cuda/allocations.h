// Which device addresses and which host addresses are whose. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <vector>

namespace vgpu::shim {

struct Allocation {
  enum class Type : uint8_t {
    kDevice,  // cuMemAlloc
    kGlobal,  // a module's variable: not the program's to free
    kMapped,  // cuMemMap
    kPinned,  // pinned host memory, at the address the device has for it (cuMemHostGetDevicePointer)
  };
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t context = 0;  // handle
  uint64_t owner =
      0;  // handle of the module (kGlobal) or the physical allocation (kMapped); host address (kPinned)
  uint64_t offset = 0;  // kMapped: into the physical allocation
  uint64_t buffer_id = 0;
  Type type = Type::kDevice;
  int access = 0;  // kMapped: CUmemAccess_flags
};

class AllocationTable {
 public:
  void add(const Allocation& allocation);
  // Takes the allocation that begins at `address` out, if it is of that type.
  std::optional<Allocation> remove(uint64_t address, Allocation::Type type);
  // The allocation that holds `address`.
  std::optional<Allocation> find(uint64_t address) const;
  // Whether [address, address + bytes) lies in allocations without a gap. Takes no lock where the calling
  // thread found the same allocation last.
  bool covers(uint64_t address, uint64_t bytes) const;
  // All that satisfy `want`, taken out if `take`.
  template <typename Want>
  std::vector<Allocation> select(Want&& want, bool take) {
    std::vector<Allocation> found;
    const std::unique_lock guard(mutex_);
    changed();
    for (auto it = by_address_.begin(); it != by_address_.end();) {
      if (want(it->second)) {
        found.push_back(it->second);
        it = take ? by_address_.erase(it) : std::next(it);
      } else {
        ++it;
      }
    }
    return found;
  }
  // Changes every allocation that lies in the range.
  template <typename Change>
  void for_range(uint64_t address, uint64_t bytes, Change&& change) {
    const std::unique_lock guard(mutex_);
    changed();
    for (auto it = by_address_.lower_bound(address);
         it != by_address_.end() && it->second.address + it->second.bytes <= address + bytes; ++it) {
      change(it->second);
    }
  }

 private:
  // With mutex_ held. No two tables ever have the same number, so what a thread remembers names the table
  // too.
  void changed() noexcept {
    static std::atomic<uint64_t> last{0};
    version_.store(last.fetch_add(1, std::memory_order_relaxed) + 1, std::memory_order_release);
  }

  mutable std::shared_mutex mutex_;
  std::map<uint64_t, Allocation> by_address_;
  std::atomic<uint64_t> version_{0};  // new with each change; 0: empty since ever
};

// Pinned and registered host memory.
struct HostRange {
  enum class Type : uint8_t {
    kBulk,        // in the channel's bulk heap
    kOrdinary,    // allocated as pinned, but in ordinary memory: the heap was full
    kRegistered,  // the program's own memory
  };
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint64_t context = 0;
  uint64_t buffer_id = 0;
  uint32_t flags = 0;
  Type type = Type::kBulk;
};

class HostTable {
 public:
  // False when the range touches one that is there.
  bool add(const HostRange& range);
  std::optional<HostRange> find(const void* address) const;
  std::optional<HostRange> remove(const void* address, bool registered);
  bool empty() const noexcept;
  template <typename Want>
  std::vector<HostRange> take(Want&& want) {
    std::vector<HostRange> found;
    const std::unique_lock guard(mutex_);
    for (auto it = by_address_.begin(); it != by_address_.end();) {
      if (want(it->second)) {
        found.push_back(it->second);
        it = by_address_.erase(it);
      } else {
        ++it;
      }
    }
    return found;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::map<uint64_t, HostRange> by_address_;
};

}  // namespace vgpu::shim
