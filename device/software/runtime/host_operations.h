// Copies and fills by the host on ranges that were checked against a RangeTable. `stop` ends a long one
// early.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "device/backend.h"
#include "device/error.h"

namespace vgpu::software {

struct RowsView {
  uint64_t address = 0;  // of this process: a device address, or bulk memory
  uint64_t pitch = 0;
};

// `bulk`: the guest memory that is source or destination, if either is, from its first row on; it may vanish.
// Without it overlap is allowed for one row.
device::Result<void> copy_rows(RowsView destination, RowsView source, device::Rows rows,
                               std::span<const std::byte> bulk, const std::atomic<uint32_t>& stop);

// Rows of `width` elements.
device::Result<void> fill_rows(RowsView destination, uint64_t width, uint64_t height, uint32_t value,
                               uint32_t element_bytes, const std::atomic<uint32_t>& stop);

}  // namespace vgpu::software
