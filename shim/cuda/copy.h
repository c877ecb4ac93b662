// Copies of rows between any two kinds of memory, on a stream.
#pragma once

#include <cstdint>

#include "shim/cuda/driver.h"

namespace vgpu::shim {

enum class MemoryKind : uint8_t {
  kDevice,
  kBulk,      // pinned, in the channel's bulk heap: the device reads and writes it in place
  kOrdinary,  // anything else of the program's: goes through staging
};
// Device addresses lie in the device's window, where no host memory of ours is; the rest is told by address.
inline MemoryKind kind_of_memory(const Entry& entry, uint64_t address) noexcept {
  const ring::DeviceInfo& info = entry.session->info();
  if (address - info.va_base < info.va_bytes) {
    return MemoryKind::kDevice;
  }
  return entry.session->bulk().contains(reinterpret_cast<const void*>(static_cast<uintptr_t>(address)))
             ? MemoryKind::kBulk
             : MemoryKind::kOrdinary;
}

struct Rows {
  uint64_t destination = 0, destination_pitch = 0;
  uint64_t source = 0, source_pitch = 0;
  uint64_t width = 0, height = 1;  // bytes, rows
};

// What the caller of a copy may rely on when it returns.
enum class CopyMode : uint8_t {
  kSynchronous,   // as cuMemcpy: done, except from pageable to device memory (staged) and from device to
                  // device
  kAsynchronous,  // as cuMemcpyAsync
};

// INVALID_VALUE, and the reason in the device's log.
CUresult refuse_copy(const Entry& entry, const Rows& rows);
// `destination` and `source` may be of any kind. INVALID_VALUE for device ranges that are not allocated.
CUresult copy_rows(const Entry& entry, Stream& stream, const Rows& rows, CopyMode mode);
// The same with the kinds known; what a graph replays.
CUresult copy_to_device(const Entry& entry, Stream& stream, const Rows& rows);
CUresult copy_to_host(const Entry& entry, Stream& stream, const Rows& rows);
void copy_on_host(const Rows& rows);

// Whether the device memory that the rows begin at, and reach, is allocated.
bool device_rows_allocated(uint64_t address, uint64_t pitch, uint64_t width, uint64_t height);

}  // namespace vgpu::shim
