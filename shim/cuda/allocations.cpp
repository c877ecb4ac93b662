// Look-ups in the tables of device and host memory.
#include "shim/cuda/allocations.h"

namespace vgpu::shim {
namespace {

// The entry that holds `address`, or end().
template <typename Map>
auto holder(Map& map, uint64_t address) {
  auto it = map.upper_bound(address);
  if (it == map.begin()) {
    return map.end();
  }
  --it;
  return address - it->second.address < it->second.bytes ? it : map.end();
}

}  // namespace

void AllocationTable::add(const Allocation& allocation) {
  const std::unique_lock guard(mutex_);
  changed();
  by_address_.insert_or_assign(allocation.address, allocation);
}

std::optional<Allocation> AllocationTable::remove(uint64_t address, Allocation::Type type) {
  const std::unique_lock guard(mutex_);
  const auto it = by_address_.find(address);
  if (it == by_address_.end() || it->second.type != type) {
    return std::nullopt;
  }
  changed();
  const Allocation allocation = it->second;
  by_address_.erase(it);
  return allocation;
}

std::optional<Allocation> AllocationTable::find(uint64_t address) const {
  const std::shared_lock guard(mutex_);
  const auto it = holder(by_address_, address);
  return it == by_address_.end() ? std::nullopt : std::optional(it->second);
}

bool AllocationTable::covers(uint64_t address, uint64_t bytes) const {
  // What this thread found last. While nothing has changed it is there: a copy then takes no lock.
  struct Found {
    uint64_t version, address, bytes;
  };
  static thread_local constinit Found last{};
  if (last.version == version_.load(std::memory_order_acquire) && address - last.address < last.bytes &&
      bytes <= last.bytes - (address - last.address)) {
    return true;
  }
  const std::shared_lock guard(mutex_);
  auto it = holder(by_address_, address);
  if (it != by_address_.end()) {
    last = {version_.load(std::memory_order_relaxed), it->second.address, it->second.bytes};
  }
  while (it != by_address_.end()) {
    const uint64_t left = it->second.address + it->second.bytes - address;
    if (bytes <= left) {
      return true;
    }
    bytes -= left;
    address += left;
    ++it;
    if (it != by_address_.end() && it->second.address != address) {
      return false;
    }
  }
  return false;
}

bool HostTable::add(const HostRange& range) {
  const std::unique_lock guard(mutex_);
  const auto next = by_address_.lower_bound(range.address);
  if (next != by_address_.end() && next->second.address < range.address + range.bytes) {
    return false;
  }
  if (holder(by_address_, range.address) != by_address_.end()) {
    return false;
  }
  by_address_.emplace(range.address, range);
  return true;
}

std::optional<HostRange> HostTable::find(const void* address) const {
  const std::shared_lock guard(mutex_);
  const auto it = holder(by_address_, reinterpret_cast<uintptr_t>(address));
  return it == by_address_.end() ? std::nullopt : std::optional(it->second);
}

std::optional<HostRange> HostTable::remove(const void* address, bool registered) {
  const std::unique_lock guard(mutex_);
  const auto it = by_address_.find(reinterpret_cast<uintptr_t>(address));
  if (it == by_address_.end() || (it->second.type == HostRange::Type::kRegistered) != registered) {
    return std::nullopt;
  }
  const HostRange range = it->second;
  by_address_.erase(it);
  return range;
}

bool HostTable::empty() const noexcept {
  const std::shared_lock guard(mutex_);
  return by_address_.empty();
}

}  // namespace vgpu::shim
