// See range_table.h.
#include "device/software/runtime/range_table.h"

#include <fmt/format.h>

#include <iterator>

namespace vgpu::software {

std::optional<Range> RangeTable::remove(uint64_t address, RangeKind kind) {
  const auto found = ranges_.find(address);
  if (found == ranges_.end() || found->second.kind != kind) return std::nullopt;
  const Range range = found->second;
  ranges_.erase(found);
  return range;
}

const Range* RangeTable::starting_at(uint64_t address) const {
  const auto found = ranges_.find(address);
  return found == ranges_.end() ? nullptr : &found->second;
}

const Range* RangeTable::containing(uint64_t address) const {
  auto found = ranges_.upper_bound(address);
  if (found == ranges_.begin()) return nullptr;
  --found;
  return address - found->first < found->second.bytes ? &found->second : nullptr;
}

void RangeTable::set_access(uint64_t address, PageAccess access) {
  const auto found = ranges_.find(address);
  if (found != ranges_.end()) found->second.access = access;
}

Result<void> RangeTable::check(uint64_t address, uint64_t bytes, PageAccess access, const char* what) const {
  if (bytes == 0) return {};
  auto refuse = [&](const char* why) {
    return std::unexpected(Error{Status::kInvalidValue, fmt::format("{}: [{:#x}, {:#x} + {}) {}", what,
                                                                    address, address, bytes, why)});
  };
  auto found = ranges_.upper_bound(address);
  if (found == ranges_.begin()) return refuse("is not allocated in this context");
  --found;
  uint64_t at = address;
  uint64_t left = bytes;
  while (true) {
    const Range& range = found->second;
    const uint64_t skipped = at - range.address;
    if (skipped >= range.bytes) return refuse("is not allocated in this context");
    if (range.access < access) {
      return refuse(range.access == PageAccess::kNone ? "has no access set" : "is read-only");
    }
    const uint64_t here = range.bytes - skipped;
    if (left <= here) return {};
    if (range.kind != RangeKind::kMapped) return refuse("reaches beyond its allocation");
    at += here;
    left -= here;
    ++found;
    if (found == ranges_.end() || found->first != at || found->second.kind != RangeKind::kMapped) {
      return refuse("reaches beyond what is mapped");
    }
  }
}

Result<void> RangeTable::check_rows(uint64_t address, uint64_t pitch, uint64_t width, uint64_t height,
                                    PageAccess access, const char* what) const {
  if (width == 0 || height == 0) return {};
  if (height == 1) return check(address, width, access, what);
  if (pitch < width || (height - 1) > (kDeviceWindowBytes - width) / pitch || width > kDeviceWindowBytes) {
    return std::unexpected(
        Error{Status::kInvalidValue,
              fmt::format("{}: {} rows of {} bytes at a pitch of {}", what, height, width, pitch)});
  }
  return check(address, (height - 1) * pitch + width, access, what);
}

}  // namespace vgpu::software
