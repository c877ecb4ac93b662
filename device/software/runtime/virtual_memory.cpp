// See virtual_memory.h.
#include "device/software/runtime/virtual_memory.h"

#include <fmt/format.h>

#include <bit>
#include <iterator>

namespace vgpu::software {
namespace {

std::unexpected<Error> invalid(std::string reason) {
  return std::unexpected(Error{Status::kInvalidValue, std::move(reason)});
}

bool granular(uint64_t value) {
  return value % kWindowGranule == 0;
}

}  // namespace

VirtualMemory::VirtualMemory(DeviceWindow& window, PhysicalStore& store, ContextBudget& budget,
                             RangeTable& ranges, uint32_t max_objects)
    : window_(window), store_(store), budget_(budget), ranges_(ranges), max_objects_(max_objects) {}

VirtualMemory::~VirtualMemory() {
  // Addresses first: a segment's pages must not be reachable when it is handed to somebody else.
  for (const auto& [address, bytes] : reservations_) window_.release_range(address, bytes);
  mappings_.clear();
}

Result<uint64_t> VirtualMemory::reserve(uint64_t bytes, uint64_t alignment, uint64_t wanted) {
  if (bytes == 0 || !granular(bytes)) {
    return invalid(fmt::format("reserve {} bytes: not a multiple of {}", bytes, kWindowGranule));
  }
  if (alignment != 0 && !std::has_single_bit(alignment)) {
    return invalid(fmt::format("reserve with an alignment of {}: not a power of two", alignment));
  }
  if (reservations_.size() >= max_objects_) {
    return std::unexpected(Error{Status::kOutOfMemory, "too many address reservations"});
  }
  const uint64_t aligned = alignment < kWindowGranule ? kWindowGranule : alignment;
  // A wanted address is a hint: where it cannot be had, any other will do.
  if (wanted != 0 && wanted % aligned == 0 && window_.take_range_at(wanted, bytes)) {
    reservations_.emplace(wanted, bytes);
    return wanted;
  }
  const auto address = window_.take_range(bytes, aligned);
  if (address) reservations_.emplace(*address, bytes);
  return address;
}

Result<void> VirtualMemory::free(uint64_t address, uint64_t bytes) {
  const auto found = reservations_.find(address);
  if (found == reservations_.end() || found->second != bytes) {
    return invalid(
        fmt::format("free the addresses [{0:#x}, {0:#x} + {1}): not a reservation", address, bytes));
  }
  const auto mapped = mappings_.lower_bound(address);
  if (mapped != mappings_.end() && mapped->first - address < bytes) {
    return invalid(fmt::format("free the addresses at {:#x}: {:#x} is still mapped", address, mapped->first));
  }
  window_.release_range(address, bytes);
  reservations_.erase(found);
  return {};
}

Result<void> VirtualMemory::create(uint32_t physical, uint64_t bytes) {
  if (bytes == 0 || !granular(bytes)) {
    return invalid(
        fmt::format("create {} bytes of physical memory: not a multiple of {}", bytes, kWindowGranule));
  }
  if (segments_.contains(physical)) return invalid(fmt::format("physical memory {} exists", physical));
  if (segments_.size() >= max_objects_) {
    return std::unexpected(Error{Status::kOutOfMemory, "too many physical allocations"});
  }
  if (!budget_.charge(bytes)) {
    return std::unexpected(Error{
        Status::kOutOfMemory,
        fmt::format("create {} bytes: {} of {} are free", bytes, budget_.available(), budget_.total())});
  }
  const auto offset = store_.take(bytes);
  if (!offset) {
    budget_.release(bytes);
    return std::unexpected(offset.error());
  }
  segments_.emplace(physical, std::make_shared<Segment>(store_, budget_, *offset, bytes));
  return {};
}

Result<void> VirtualMemory::release(uint32_t physical) {
  if (segments_.erase(physical) == 0) {
    return invalid(fmt::format("release physical memory {}: no such handle", physical));
  }
  return {};
}

Result<void> VirtualMemory::map(uint64_t address, uint64_t bytes, uint64_t offset, uint32_t physical) {
  const auto found = segments_.find(physical);
  if (found == segments_.end())
    return invalid(fmt::format("map physical memory {}: no such handle", physical));
  const auto& segment = found->second;
  if (bytes == 0 || !granular(address) || !granular(bytes) || !granular(offset) ||
      offset > segment->bytes() || bytes > segment->bytes() - offset) {
    return invalid(
        fmt::format("map {} bytes at offset {} of {} to {:#x}", bytes, offset, segment->bytes(), address));
  }
  auto reservation = reservations_.upper_bound(address);
  if (reservation == reservations_.begin())
    return invalid(fmt::format("map: {:#x} is not reserved", address));
  --reservation;
  const uint64_t skipped = address - reservation->first;
  if (skipped > reservation->second || bytes > reservation->second - skipped) {
    return invalid(fmt::format("map: [{0:#x}, {0:#x} + {1}) is not all reserved", address, bytes));
  }
  if (mappings_.size() >= max_objects_) {
    return std::unexpected(Error{Status::kOutOfMemory, "too many mappings"});
  }
  const auto next = mappings_.lower_bound(address);
  const bool overlaps_next = next != mappings_.end() && next->first - address < bytes;
  const bool overlaps_previous =
      next != mappings_.begin() && address - std::prev(next)->first < std::prev(next)->second.bytes;
  if (overlaps_next || overlaps_previous) {
    return invalid(fmt::format("map: part of [{0:#x}, {0:#x} + {1}) is mapped", address, bytes));
  }
  if (const auto mapped =
          window_.map_file(address, bytes, store_.file(), segment->offset() + offset, PageAccess::kNone);
      !mapped) {
    return mapped;
  }
  mappings_.emplace(address, Mapping{.bytes = bytes, .segment = segment});
  ranges_.add({.address = address, .bytes = bytes, .kind = RangeKind::kMapped, .access = PageAccess::kNone});
  return {};
}

auto VirtualMemory::filling(uint64_t address, uint64_t bytes)
    -> std::pair<Mappings::iterator, Mappings::iterator> {
  const auto first = bytes == 0 ? mappings_.end() : mappings_.find(address);
  auto at = first;
  while (bytes > 0) {
    if (at == mappings_.end() || at->first != address || at->second.bytes > bytes) {
      return {mappings_.end(), mappings_.end()};
    }
    address += at->second.bytes;
    bytes -= at->second.bytes;
    ++at;
  }
  return {first, at};
}

Result<void> VirtualMemory::unmap(uint64_t address, uint64_t bytes) {
  const auto [first, last] = filling(address, bytes);
  if (first == mappings_.end()) {
    return invalid(
        fmt::format("unmap [{0:#x}, {0:#x} + {1}): not a whole number of mappings", address, bytes));
  }
  if (const auto gone = window_.decommit(address, bytes); !gone) return gone;
  for (auto mapping = first; mapping != last; ++mapping) ranges_.remove(mapping->first, RangeKind::kMapped);
  mappings_.erase(first, last);
  return {};
}

Result<void> VirtualMemory::set_access(uint64_t address, uint64_t bytes, PageAccess access) {
  const auto [first, last] = filling(address, bytes);
  if (first == mappings_.end()) {
    return invalid(fmt::format("set the access of [{0:#x}, {0:#x} + {1}): not a whole number of mappings",
                               address, bytes));
  }
  if (const auto set = window_.protect(address, bytes, access); !set) return set;
  for (auto mapping = first; mapping != last; ++mapping) ranges_.set_access(mapping->first, access);
  return {};
}

}  // namespace vgpu::software
