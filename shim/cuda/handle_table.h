// Handles that may be checked. A CUDA handle is an opaque pointer; ours encode kind, generation and index, so
// that a null, foreign, stale or wrongly cast handle is found out in a few instructions and nothing is ever
// dereferenced that the program made up. Index + 1 is also the name the device knows the object by. Any
// thread; using an object while another thread destroys it is the program's error, as in CUDA, but touches
// only memory that stays mapped.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace vgpu::shim {

enum class Kind : uint8_t {
  kContext = 1,
  kStream,
  kEvent,
  kModule,
  kFunction,
  kLibrary,
  kKernel,
  kGraph,
  kGraphNode,
  kGraphExec,
  kPhysical,
};

// What every object knows of itself.
struct Object {
  uint64_t handle = 0;
  uint32_t id = 0;  // 1 .. kMaxHandles
};

inline constexpr uint32_t kMaxHandles = 1u << 20;

// Bits: 4..23 index, 24..39 generation, 40..43 kind, 44..46 a mark that keeps it apart from small numbers.
constexpr uint64_t make_handle(Kind kind, uint32_t index, uint16_t generation) noexcept {
  return (uint64_t{5} << 44) | (uint64_t{static_cast<uint8_t>(kind)} << 40) | (uint64_t{generation} << 24) |
         (uint64_t{index} << 4);
}
constexpr Kind kind_of(uint64_t handle) noexcept {
  return static_cast<Kind>((handle >> 40) & 15);
}

template <typename T, Kind kKind>
class HandleTable {
 public:
  HandleTable() = default;
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  // nullptr when all handles are in use.
  template <typename... Arguments>
  T* create(Arguments&&... arguments) {
    const std::lock_guard guard(mutex_);
    uint32_t index = 0;
    // Reused as late as possible: a stale handle is then most often found out by its generation.
    if (free_.size() - free_head_ > kReuseAfter || (used_ == kMaxHandles && free_head_ < free_.size())) {
      index = free_[free_head_++];
      if (free_head_ > 4096) {
        free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(free_head_));
        free_head_ = 0;
      }
    } else if (used_ < kMaxHandles) {
      index = used_++;
    } else {
      return nullptr;
    }
    auto& chunk = chunks_[index / kChunk];
    if (chunk.load(std::memory_order_relaxed) == nullptr) {
      chunk.store(std::make_unique<Slot[]>(kChunk).release(), std::memory_order_release);
    }
    Slot& slot = chunk.load(std::memory_order_relaxed)[index % kChunk];
    T* object = ::new (static_cast<void*>(slot.storage)) T(std::forward<Arguments>(arguments)...);
    object->id = index + 1;
    object->handle = make_handle(kKind, index, ++slot.generation);
    slot.handle.store(object->handle, std::memory_order_release);
    return object;
  }

  T* find(uint64_t handle) const noexcept {
    const auto index = static_cast<uint32_t>((handle >> 4) & (kMaxHandles - 1));
    Slot* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
    if (chunk == nullptr) {
      return nullptr;
    }
    Slot& slot = chunk[index % kChunk];
    if (handle == 0 || slot.handle.load(std::memory_order_acquire) != handle) {
      return nullptr;
    }
    return std::launder(reinterpret_cast<T*>(slot.storage));
  }
  template <typename Pointer>
    requires std::is_pointer_v<Pointer>
  T* find(Pointer handle) const noexcept {
    return find(static_cast<uint64_t>(reinterpret_cast<uintptr_t>(handle)));
  }

  // False when the handle is none (any more): of two threads that destroy one object, one wins.
  bool destroy(uint64_t handle) {
    const auto index = static_cast<uint32_t>((handle >> 4) & (kMaxHandles - 1));
    Slot* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
    if (chunk == nullptr || handle == 0) {
      return false;
    }
    Slot& slot = chunk[index % kChunk];
    if (!slot.handle.compare_exchange_strong(handle, 0)) {
      return false;
    }
    std::launder(reinterpret_cast<T*>(slot.storage))->~T();
    const std::lock_guard guard(mutex_);
    free_.push_back(index);
    return true;
  }

  // Every object there is, in order of index. `visit` may destroy the object it is given.
  template <typename Visit>
  void for_each(Visit&& visit) {
    uint32_t used = 0;
    {
      const std::lock_guard guard(mutex_);
      used = used_;
    }
    for (uint32_t index = 0; index < used; ++index) {
      Slot& slot = chunks_[index / kChunk].load(std::memory_order_acquire)[index % kChunk];
      if (slot.handle.load(std::memory_order_acquire) != 0) {
        visit(*std::launder(reinterpret_cast<T*>(slot.storage)));
      }
    }
  }

 private:
  static constexpr uint32_t kChunk = 256;
  static constexpr std::size_t kReuseAfter = 64;

  struct Slot {
    std::atomic<uint64_t> handle{0};
    uint16_t generation = 0;
    alignas(T) std::byte storage[sizeof(T)];
  };

  std::mutex mutex_;
  std::array<std::atomic<Slot*>, kMaxHandles / kChunk> chunks_{};
  std::vector<uint32_t> free_;
  std::size_t free_head_ = 0;
  uint32_t used_ = 0;
};

}  // namespace vgpu::shim
