// Which device addresses a context owns and what may be done with them: what host-side operations (copies,
// memsets, BLAS) check an address against before they touch it. Used by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "device/software/runtime/device_window.h"

namespace vgpu::software {

enum class RangeKind : uint8_t {
  kAllocation,  // allocate()
  kModule,      // a module's variables
  kMapped,      // virtual memory management
  kBulk,        // the channel's bulk heap, guest-writable and possibly cut short by the guest
};

struct Range {
  uint64_t address = 0;
  uint64_t bytes = 0;
  RangeKind kind = RangeKind::kAllocation;
  PageAccess access = PageAccess::kReadWrite;
};

class RangeTable {
 public:
  void add(const Range& range) { ranges_.emplace(range.address, range); }
  // Removes the range that starts at `address` if it is of that kind; returns it.
  std::optional<Range> remove(uint64_t address, RangeKind kind);
  [[nodiscard]] const Range* starting_at(uint64_t address) const;
  [[nodiscard]] const Range* containing(uint64_t address) const;
  void set_access(uint64_t address, PageAccess access);
  [[nodiscard]] std::size_t size() const { return ranges_.size(); }

  // Whether all of [address, address + bytes) lies in one range (or in mapped ranges without a gap between
  // them) and allows `access`. No bytes are always allowed. `what` names the operation in the error.
  [[nodiscard]] Result<void> check(uint64_t address, uint64_t bytes, PageAccess access,
                                   const char* what) const;
  // The same for rows; nothing overflows whatever the numbers are.
  [[nodiscard]] Result<void> check_rows(uint64_t address, uint64_t pitch, uint64_t width, uint64_t height,
                                        PageAccess access, const char* what) const;

 private:
  std::map<uint64_t, Range> ranges_;
};

}  // namespace vgpu::software
