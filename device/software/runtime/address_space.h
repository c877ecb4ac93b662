// Hands out ranges of a fixed span of addresses (first fit, neighbours merged again when given back).
// Knows nothing about what lies there. Not thread-safe: the owner locks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace vgpu::software {

class AddressSpace {
 public:
  AddressSpace(uint64_t base, uint64_t bytes);

  // A free range of `bytes` whose start is a multiple of `alignment` (a power of two); nothing if none is
  // free.
  std::optional<uint64_t> take(uint64_t bytes, uint64_t alignment);
  // Exactly [address, address + bytes), if all of it is free.
  bool take_at(uint64_t address, uint64_t bytes);
  void give_back(uint64_t address, uint64_t bytes);
  [[nodiscard]] uint64_t free_bytes() const { return free_bytes_; }

 private:
  using Ranges = std::map<uint64_t, uint64_t>;  // start -> bytes
  void carve(Ranges::iterator range, uint64_t address, uint64_t bytes);

  Ranges free_;
  uint64_t free_bytes_;
};

}  // namespace vgpu::software
