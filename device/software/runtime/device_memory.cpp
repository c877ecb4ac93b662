// See device_memory.h.
#include "device/software/runtime/device_memory.h"

#include <fmt/format.h>

#include <iterator>

namespace vgpu::software {

DeviceMemory::DeviceMemory(DeviceWindow& window, ContextBudget& budget, RangeTable& ranges,
                           uint32_t max_allocations)
    : window_(window), budget_(budget), ranges_(ranges), max_allocations_(max_allocations) {}

DeviceMemory::~DeviceMemory() {
  for (const auto& [address, block] : blocks_) {
    if (block.small) continue;
    window_.release_range(address, block.mapped);
    budget_.release(block.mapped);
  }
  for (const uint64_t address : chunks_) {
    window_.release_range(address, kChunkBytes);
    budget_.release(kChunkBytes);
  }
}

Result<uint64_t> DeviceMemory::allocate(uint64_t bytes, RangeKind kind) {
  if (bytes == 0) return std::unexpected(Error{Status::kInvalidValue, "allocate 0 bytes"});
  if (blocks_.size() >= max_allocations_) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("a context may hold {} allocations", max_allocations_)});
  }
  auto address = bytes <= kSmallAllocationLimit ? allocate_small(bytes) : allocate_large(bytes);
  if (!address) return address;
  ranges_.add({.address = *address, .bytes = bytes, .kind = kind, .access = PageAccess::kReadWrite});
  return address;
}

Result<uint64_t> DeviceMemory::allocate_large(uint64_t bytes) {
  if (bytes > kDeviceWindowBytes) {
    return std::unexpected(Error{Status::kOutOfMemory, fmt::format("allocate {} bytes", bytes)});
  }
  const uint64_t mapped = round_up(bytes, kPageBytes);
  if (!budget_.charge(mapped)) {
    return std::unexpected(Error{
        Status::kOutOfMemory,
        fmt::format("allocate {} bytes: {} of {} are free", bytes, budget_.available(), budget_.total())});
  }
  auto range = WindowRange::take(window_, mapped);
  Result<void> committed;
  if (range) committed = window_.commit(range->address(), mapped);
  if (!range || !committed) {
    budget_.release(mapped);
    return std::unexpected(range ? committed.error() : range.error());
  }
  const uint64_t address = range->release();
  blocks_.emplace(address, Block{.mapped = mapped, .small = false});
  return address;
}

Result<uint64_t> DeviceMemory::allocate_small(uint64_t bytes) {
  const uint64_t size = round_up(bytes, kAllocationAlignment);
  auto best = free_by_size_.lower_bound({size, 0});
  if (best == free_by_size_.end()) {
    if (const auto added = add_chunk(); !added) return std::unexpected(added.error());
    best = free_by_size_.lower_bound({size, 0});
  }
  const auto [free_bytes, address] = *best;
  remove_free(address, free_bytes);
  if (free_bytes > size) add_free(address + size, free_bytes - size);
  blocks_.emplace(address, Block{.mapped = size, .small = true});
  return address;
}

Result<void> DeviceMemory::add_chunk() {
  if (!budget_.charge(kChunkBytes)) {
    return std::unexpected(
        Error{Status::kOutOfMemory, fmt::format("allocate a chunk of {} bytes: {} of {} are free",
                                                kChunkBytes, budget_.available(), budget_.total())});
  }
  auto range = WindowRange::take(window_, kChunkBytes);
  Result<void> committed;
  if (range) committed = window_.commit(range->address(), kChunkBytes);
  if (!range || !committed) {
    budget_.release(kChunkBytes);
    return std::unexpected(range ? committed.error() : range.error());
  }
  const uint64_t address = range->release();
  chunks_.insert(address);
  add_free(address, kChunkBytes);
  return {};
}

Result<void> DeviceMemory::free(uint64_t address, RangeKind kind) {
  if (!ranges_.remove(address, kind)) {
    return std::unexpected(
        Error{Status::kInvalidValue, fmt::format("free {:#x}: no allocation starts there", address)});
  }
  const auto found = blocks_.find(address);
  const Block block = found->second;
  blocks_.erase(found);
  if (block.small) {
    free_small(address, block.mapped);
  } else {
    window_.release_range(address, block.mapped);
    budget_.release(block.mapped);
  }
  return {};
}

void DeviceMemory::free_small(uint64_t address, uint64_t bytes) {
  const uint64_t chunk = chunk_of(address);
  auto next = free_by_address_.lower_bound(address);
  if (next != free_by_address_.end() && next->first == address + bytes && chunk_of(next->first) == chunk) {
    const auto [next_address, next_bytes] = *next;
    remove_free(next_address, next_bytes);
    bytes += next_bytes;
    next = free_by_address_.lower_bound(address);
  }
  const uint64_t end = address + bytes;
  if (next != free_by_address_.begin()) {
    const auto [previous_address, previous_bytes] = *std::prev(next);
    if (previous_address + previous_bytes == address && chunk_of(previous_address) == chunk) {
      remove_free(previous_address, previous_bytes);
      address = previous_address;
    }
  }
  add_free(address, end - address);

  // A chunk that nothing uses any more goes back, so that memory_info() tells the truth.
  if (end - address == kChunkBytes) {
    remove_free(address, kChunkBytes);
    chunks_.erase(chunk);
    window_.release_range(chunk, kChunkBytes);
    budget_.release(kChunkBytes);
  }
}

void DeviceMemory::add_free(uint64_t address, uint64_t bytes) {
  free_by_address_.emplace(address, bytes);
  free_by_size_.emplace(bytes, address);
}

void DeviceMemory::remove_free(uint64_t address, uint64_t bytes) {
  free_by_address_.erase(address);
  free_by_size_.erase({bytes, address});
}

}  // namespace vgpu::software
