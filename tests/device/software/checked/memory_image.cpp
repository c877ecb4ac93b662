// See memory_image.h.
#include "tests/device/software/checked/memory_image.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <tuple>

namespace vgpu::software::checked {

using device::Result;

Result<void> MemoryImage::take(device::Context& context, const Ranges& ranges) {
  std::erase_if(copies_, [&](const auto& copy) {
    const auto found = ranges.find(copy.first);
    return found == ranges.end() || found->second != copy.second.size();
  });
  stores_.clear();
  for (const auto& [address, bytes] : ranges) {
    auto& copy = copies_[address];
    copy.resize(bytes);
    const device::Rows whole{.width = bytes, .height = 1};
    if (auto done = context.copy_from_device(copy, bytes, address, bytes, whole); !done) return done;
  }
  last_ = copies_.end();
  return {};
}

std::span<std::byte> MemoryImage::find(uint64_t address, std::size_t bytes) {
  const auto holds = [&](auto candidate) {
    return candidate != copies_.end() && address >= candidate->first &&
           address - candidate->first <= candidate->second.size() &&
           bytes <= candidate->second.size() - (address - candidate->first);
  };
  if (!holds(last_)) {
    const auto behind = copies_.upper_bound(address);
    if (behind == copies_.begin()) return {};
    last_ = std::prev(behind);
    if (!holds(last_)) return {};
  }
  return std::span(last_->second).subspan(address - last_->first, bytes);
}

bool MemoryImage::read(uint64_t address, std::span<std::byte> out) {
  const auto bytes = find(address, out.size());
  if (bytes.empty()) return false;
  std::memcpy(out.data(), bytes.data(), out.size());
  return true;
}

bool MemoryImage::write(uint64_t address, std::span<const std::byte> bytes) {
  const auto to = find(address, bytes.size());
  if (to.empty()) return false;
  std::memcpy(to.data(), bytes.data(), bytes.size());
  stores_.push_back({.address = address, .bytes = static_cast<uint32_t>(bytes.size())});
  return true;
}

const std::vector<Store>& MemoryImage::stores() {
  const auto key = [](const Store& store) { return std::tuple(store.address, store.bytes); };
  std::ranges::sort(stores_, {}, key);
  const auto repeated = std::ranges::unique(stores_, {}, key);
  stores_.erase(repeated.begin(), repeated.end());
  return stores_;
}

Result<std::vector<uint64_t>> MemoryImage::differences(device::Context& context, std::size_t limit) const {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  std::vector<std::byte> now(kChunk);
  std::vector<uint64_t> found;
  for (const auto& [address, copy] : copies_) {
    for (std::size_t at = 0; at < copy.size(); at += kChunk) {
      const auto bytes = std::min(kChunk, copy.size() - at);
      const device::Rows part{.width = bytes, .height = 1};
      if (auto done = context.copy_from_device(std::span(now).first(bytes), bytes, address + at, bytes, part);
          !done) {
        return std::unexpected(done.error());
      }
      if (std::memcmp(now.data(), copy.data() + at, bytes) == 0) continue;
      for (std::size_t n = 0; n < bytes; ++n) {
        if (now[n] == copy[at + n]) continue;
        if (found.size() == limit) return found;
        found.push_back(address + at + n);
      }
    }
  }
  return found;
}

}  // namespace vgpu::software::checked
