// FlatMemory, and module variables placed in it.
#include <algorithm>
#include <cstring>

#include "device/software/oracle/oracle.h"

namespace vgpu::software::oracle {

std::uint64_t FlatMemory::allocate(std::size_t bytes) {
  constexpr std::uint64_t kAlign = 256;
  constexpr std::uint64_t kGap = 4096;
  const std::uint64_t address = next_;
  allocations_.emplace(address, std::vector<std::byte>(bytes));
  next_ += (bytes + kGap + kAlign - 1) / kAlign * kAlign;
  return address;
}

std::span<std::byte> FlatMemory::bytes(std::uint64_t address) {
  const auto found = allocations_.find(address);
  return found == allocations_.end() ? std::span<std::byte>{} : std::span(found->second);
}

std::span<std::byte> FlatMemory::find(std::uint64_t address, std::size_t size) {
  auto above = allocations_.upper_bound(address);
  if (above == allocations_.begin()) return {};
  auto& [base, data] = *std::prev(above);
  const std::uint64_t offset = address - base;
  if (offset > data.size() || size > data.size() - offset) return {};
  return std::span(data).subspan(offset, size);
}

bool FlatMemory::read(std::uint64_t address, std::span<std::byte> out) {
  const auto data = find(address, out.size());
  if (data.size() != out.size()) return false;
  std::ranges::copy(data, out.begin());
  return true;
}

bool FlatMemory::write(std::uint64_t address, std::span<const std::byte> bytes) {
  const auto data = find(address, bytes.size());
  if (data.size() != bytes.size()) return false;
  std::ranges::copy(bytes, data.begin());
  return true;
}

std::vector<std::uint64_t> place_globals(const ptx::Module& module, FlatMemory& memory) {
  std::vector<std::uint64_t> addresses;
  for (const ptx::Variable& variable : module.variables()) {
    const bool shared = variable.space == ptx::StateSpace::kShared;
    addresses.push_back(shared ? 0 : memory.allocate(variable.size));
    if (!shared && !variable.initial.empty()) {
      std::memcpy(memory.bytes(addresses.back()).data(), variable.initial.data(), variable.initial.size());
    }
  }
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    for (const ptx::Relocation& relocation : module.variables()[i].relocations) {
      std::uint64_t value =
          relocation.is_function ? kFunctionAddress + relocation.index : addresses[relocation.index];
      value += static_cast<std::uint64_t>(relocation.addend);
      std::memcpy(memory.bytes(addresses[i]).data() + relocation.offset, &value, relocation.size);
    }
  }
  return addresses;
}

}  // namespace vgpu::software::oracle
