// A copy of a context's memory that the oracle runs on, and the comparison of it with the memory itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "device/backend.h"
#include "device/software/oracle/oracle.h"

namespace vgpu::software::checked {

struct Store {
  uint64_t address = 0;
  uint32_t bytes = 0;  // of the whole store, a vector's too
};

class MemoryImage final : public oracle::Memory {
 public:
  // Readable ranges of the context: address -> bytes. They do not overlap.
  using Ranges = std::map<uint64_t, uint64_t>;

  // Copies the ranges; buffers of the previous copy are used again.
  device::Result<void> take(device::Context& context, const Ranges& ranges);

  bool read(uint64_t address, std::span<std::byte> out) override;
  bool write(uint64_t address, std::span<const std::byte> bytes) override;

  // What was stored since take(): sorted by address, each address and size once.
  [[nodiscard]] const std::vector<Store>& stores();
  // Addresses whose bytes differ from the context's now, ascending; at most `limit`.
  device::Result<std::vector<uint64_t>> differences(device::Context& context, std::size_t limit) const;

 private:
  std::span<std::byte> find(uint64_t address, std::size_t bytes);

  std::map<uint64_t, std::vector<std::byte>> copies_;
  std::map<uint64_t, std::vector<std::byte>>::iterator last_ = copies_.end();
  std::vector<Store> stores_;
};

}  // namespace vgpu::software::checked
