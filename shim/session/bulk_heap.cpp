// Staging slots and the first-fit allocator of pinned memory.
#include "shim/session/bulk_heap.h"

#include <algorithm>
#include <cerrno>

namespace vgpu::shim {
namespace {

// From 128 KiB to 1 MiB, and with 4 to 16 slots, large copies are equally fast (docs/performance.md).
constexpr uint64_t kLargestSlot = 256 << 10;
constexpr uint64_t kSmallestSlot = 4096;

constexpr uint64_t round_up(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

}  // namespace

BulkHeap::BulkHeap(std::span<std::byte> bulk, uint64_t region_offset, const pci::Bar* bar,
                   pci::MappingKind mapping)
    : bulk_(bulk), region_offset_(region_offset), bar_(bar), copy_(pci::bulk_copy_for(mapping)) {
  // At most a quarter of a small slice goes to staging.
  slot_bytes_ =
      std::clamp(bulk.size() / 4 / kSlots / kSmallestSlot * kSmallestSlot, kSmallestSlot, kLargestSlot);
  pinned_start_ = slot_bytes_ * kSlots;
  ::sem_init(&free_slots_, 0, kSlots);
  if (bulk.size() > pinned_start_) {
    free_.emplace(pinned_start_, bulk.size() - pinned_start_);
  }
}

BulkHeap::~BulkHeap() {
  ::sem_destroy(&free_slots_);
}

bool BulkHeap::back(uint64_t offset, uint64_t bytes) const {
  return bar_ == nullptr || bar_->ensure_backed(region_offset_ + offset, bytes).has_value();
}

std::optional<uint32_t> BulkHeap::pick_slot() {
  const std::lock_guard guard(slot_mutex_);
  uint32_t best = kSlots;
  for (uint32_t i = 0; i < kSlots; ++i) {
    if (!slots_[i].taken && (best == kSlots || slots_[i].last_use < slots_[best].last_use)) {
      best = i;
    }
  }
  if (!slots_[best].backed && !back(offset(best), slot_bytes_)) {
    ::sem_post(&free_slots_);
    return std::nullopt;
  }
  slots_[best].backed = true;
  slots_[best].taken = true;
  return best;
}

std::optional<uint32_t> BulkHeap::take_slot() {
  while (::sem_wait(&free_slots_) != 0 && errno == EINTR) {
  }
  return pick_slot();
}

std::optional<uint32_t> BulkHeap::try_take_slot() {
  if (::sem_trywait(&free_slots_) != 0) {
    return std::nullopt;
  }
  return pick_slot();
}

void BulkHeap::give_back(uint32_t slot, uint64_t position) {
  {
    const std::lock_guard guard(slot_mutex_);
    slots_[slot].position = std::max(slots_[slot].position, position);
    slots_[slot].last_use = ++uses_;
    slots_[slot].taken = false;
  }
  ::sem_post(&free_slots_);
}

std::byte* BulkHeap::allocate(uint64_t bytes) {
  if (bytes == 0 || bytes > bulk_.size()) {
    return nullptr;
  }
  const uint64_t size = round_up(bytes, kPinnedAlignment);
  const std::lock_guard guard(pinned_mutex_);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const auto [start, available] = *it;
    if (available < size) {
      continue;
    }
    if (!back(start, size)) {
      return nullptr;
    }
    free_.erase(it);
    if (available > size) {
      free_.emplace(start + size, available - size);
    }
    allocated_.emplace(start, size);
    return bulk_.data() + start;
  }
  return nullptr;
}

bool BulkHeap::free(const void* address) {
  if (!contains(address)) {
    return false;
  }
  const std::lock_guard guard(pinned_mutex_);
  const auto found = allocated_.find(offset_of(address));
  if (found == allocated_.end()) {
    return false;
  }
  auto [start, size] = *found;
  allocated_.erase(found);
  auto next = free_.lower_bound(start);
  if (next != free_.end() && next->first == start + size) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto previous = std::prev(next);
    if (previous->first + previous->second == start) {
      previous->second += size;
      return true;
    }
  }
  free_.emplace(start, size);
  return true;
}

std::optional<BulkHeap::Range> BulkHeap::find(const void* address) const {
  if (!contains(address)) {
    return std::nullopt;
  }
  const uint64_t wanted = offset_of(address);
  const std::lock_guard guard(pinned_mutex_);
  auto it = allocated_.upper_bound(wanted);
  if (it == allocated_.begin()) {
    return std::nullopt;
  }
  --it;
  if (wanted >= it->first + it->second) {
    return std::nullopt;
  }
  return Range{bulk_.data() + it->first, it->second};
}

}  // namespace vgpu::shim
