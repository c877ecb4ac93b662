// The channel's slice of bulk memory: a few staging slots that pageable copies go through, and an allocator
// for pinned host memory over the rest. Any thread.
#pragma once

#include <semaphore.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>

#include "pci/bar.h"
#include "pci/bulk_copy.h"

namespace vgpu::shim {

class BulkHeap {
 public:
  static constexpr uint32_t kSlots = 8;
  static constexpr uint64_t kPinnedAlignment = 4096;

  // `bulk`: the slice in this process; `region_offset`: where it begins in the region; `bar` backs it with
  // memory before it is touched (nullptr: it is backed already); `mapping`: how the processor maps the slice.
  BulkHeap(std::span<std::byte> bulk, uint64_t region_offset, const pci::Bar* bar,
           pci::MappingKind mapping = pci::MappingKind::kWriteBack);
  ~BulkHeap();
  BulkHeap(const BulkHeap&) = delete;
  BulkHeap& operator=(const BulkHeap&) = delete;

  // ---- staging ----

  uint64_t slot_bytes() const noexcept { return slot_bytes_; }
  // Takes a slot, the one used longest ago; waits while all are taken. nullopt only when the slice has no
  // memory. Before writing into it the caller waits until the completed position reaches position(slot).
  std::optional<uint32_t> take_slot();
  // The same without waiting: nullopt when all are taken.
  std::optional<uint32_t> try_take_slot();
  // Position behind the record that used the slot last.
  uint64_t position(uint32_t slot) const noexcept { return slots_[slot].position; }
  std::byte* data(uint32_t slot) const noexcept { return bulk_.data() + slot * slot_bytes_; }
  uint64_t offset(uint32_t slot) const noexcept { return slot * slot_bytes_; }  // in the slice
  // How bytes are copied into slots and out of them.
  const pci::BulkCopy& copy() const noexcept { return copy_; }
  // Gives it back; `position` as above.
  void give_back(uint32_t slot, uint64_t position);

  // ---- pinned memory ----

  // nullptr when there is no room: the caller falls back to ordinary memory.
  std::byte* allocate(uint64_t bytes);
  // False when `address` is not the start of an allocation.
  bool free(const void* address);
  struct Range {
    std::byte* start = nullptr;
    uint64_t bytes = 0;
  };
  // The allocation that holds `address`.
  std::optional<Range> find(const void* address) const;
  bool contains(const void* address) const noexcept {
    return address >= bulk_.data() + pinned_start_ && address < bulk_.data() + bulk_.size();
  }
  uint64_t offset_of(const void* address) const noexcept {
    return static_cast<uint64_t>(static_cast<const std::byte*>(address) - bulk_.data());
  }

 private:
  struct Slot {
    uint64_t position = 0;
    uint64_t last_use = 0;
    bool taken = false;
    bool backed = false;
  };
  std::optional<uint32_t> pick_slot();
  bool back(uint64_t offset, uint64_t bytes) const;

  std::span<std::byte> bulk_;
  uint64_t region_offset_;
  const pci::Bar* bar_;
  const pci::BulkCopy& copy_;
  uint64_t slot_bytes_ = 0;
  uint64_t pinned_start_ = 0;

  std::mutex slot_mutex_;
  sem_t free_slots_;
  std::array<Slot, kSlots> slots_;
  uint64_t uses_ = 0;

  mutable std::mutex pinned_mutex_;
  std::map<uint64_t, uint64_t> free_;       // offset -> bytes, no two adjacent
  std::map<uint64_t, uint64_t> allocated_;  // offset -> bytes
};

}  // namespace vgpu::shim
