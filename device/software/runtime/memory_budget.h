// How much device memory there is and how much of it is handed out: one budget per device, shared by all its
// contexts, and one per context for its quota. Counts what is mapped (pages and chunks), not what was asked
// for.
#pragma once

#include <atomic>
#include <cstdint>

namespace vgpu::software {

class MemoryBudget {
 public:
  explicit MemoryBudget(uint64_t total) : total_(total) {}

  [[nodiscard]] bool charge(uint64_t bytes) {
    uint64_t used = used_.load(std::memory_order_relaxed);
    do {
      if (bytes > total_ || used > total_ - bytes) return false;
    } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
  }
  void release(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

  [[nodiscard]] uint64_t total() const { return total_; }
  [[nodiscard]] uint64_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  const uint64_t total_;
  std::atomic<uint64_t> used_{0};
};

// The device's budget and a context's share of it, charged together.
class ContextBudget {
 public:
  ContextBudget(MemoryBudget& device, uint64_t quota)
      : device_(device), own_(quota == 0 || quota > device.total() ? device.total() : quota) {}

  [[nodiscard]] bool charge(uint64_t bytes) {
    if (!own_.charge(bytes)) return false;
    if (device_.charge(bytes)) return true;
    own_.release(bytes);
    return false;
  }
  void release(uint64_t bytes) {
    own_.release(bytes);
    device_.release(bytes);
  }
  [[nodiscard]] uint64_t used() const { return own_.used(); }
  [[nodiscard]] uint64_t total() const { return own_.total(); }
  // What this context can still get.
  [[nodiscard]] uint64_t available() const {
    const uint64_t device_used = device_.used();
    const uint64_t device_free = device_used < device_.total() ? device_.total() - device_used : 0;
    const uint64_t own_free = own_.used() < own_.total() ? own_.total() - own_.used() : 0;
    return device_free < own_free ? device_free : own_free;
  }

 private:
  MemoryBudget& device_;
  MemoryBudget own_;
};

}  // namespace vgpu::software
