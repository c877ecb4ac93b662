// A hash map from addresses (of host functions or variables) to what is registered for them. Look-ups take no
// lock and may run while another thread inserts: a launch pays for one multiplication and, nearly always, one
// probe.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace vgpu::shim::cudart {

template <typename Value>
class AddressMap {
 public:
  // Null if the key is not there, or was erased.
  Value* find(const void* key) const noexcept {
    const Table* table = table_.load(std::memory_order_acquire);  // pairs with grow's release
    if (table == nullptr || key == nullptr) return nullptr;
    for (std::size_t i = hash(key) & table->mask;; i = (i + 1) & table->mask) {
      const Slot& slot = table->slots[i];
      const void* found = slot.key.load(std::memory_order_acquire);  // pairs with put's release
      if (found == key) return slot.value.load(std::memory_order_acquire);
      if (found == nullptr) return nullptr;
    }
  }

  void insert(const void* key, Value* value) {
    const std::scoped_lock lock(mutex_);
    if (tables_.empty() || (used_ + 1) * 2 > tables_.back()->slots.size()) grow();
    used_ += put(*tables_.back(), key, value);
  }

  // Only if `value` is what stands there.
  void erase(const void* key, const Value* value) noexcept {
    const std::scoped_lock lock(mutex_);
    if (tables_.empty()) return;
    Table& table = *tables_.back();
    for (std::size_t i = hash(key) & table.mask;; i = (i + 1) & table.mask) {
      const void* found = table.slots[i].key.load(std::memory_order_relaxed);
      if (found == nullptr) return;
      if (found != key) continue;
      if (table.slots[i].value.load(std::memory_order_relaxed) == value) {
        table.slots[i].value.store(nullptr, std::memory_order_release);
      }
      return;
    }
  }

 private:
  struct Slot {
    std::atomic<const void*> key{nullptr};
    std::atomic<Value*> value{nullptr};
  };
  struct Table {
    explicit Table(std::size_t size) : mask(size - 1), slots(size) {}
    std::size_t mask;
    std::vector<Slot> slots;
  };

  static std::size_t hash(const void* key) noexcept {
    const auto bits = static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(key));
    return static_cast<std::size_t>((bits * 0x9e3779b97f4a7c15u) >> 32);
  }

  static std::size_t put(Table& table, const void* key, Value* value) noexcept {
    for (std::size_t i = hash(key) & table.mask;; i = (i + 1) & table.mask) {
      Slot& slot = table.slots[i];
      const void* found = slot.key.load(std::memory_order_relaxed);
      if (found != nullptr && found != key) continue;
      slot.value.store(value, std::memory_order_release);
      slot.key.store(key, std::memory_order_release);  // after the value: a reader that sees the key sees it
      return found == nullptr ? 1 : 0;
    }
  }

  void grow() {
    auto larger = std::make_unique<Table>(tables_.empty() ? 512 : tables_.back()->slots.size() * 2);
    std::size_t used = 0;
    if (!tables_.empty()) {
      for (const Slot& slot : tables_.back()->slots) {
        Value* value = slot.value.load(std::memory_order_relaxed);
        if (value != nullptr) used += put(*larger, slot.key.load(std::memory_order_relaxed), value);
      }
    }
    tables_.push_back(std::move(larger));
    used_ = used;
    table_.store(tables_.back().get(), std::memory_order_release);
  }

  std::atomic<const Table*> table_{nullptr};
  std::mutex mutex_;
  std::size_t used_ = 0;
  std::vector<std::unique_ptr<Table>> tables_;  // the last is in use; readers may still be in an older one
};

}  // namespace vgpu::shim::cudart
