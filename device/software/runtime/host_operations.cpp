// See host_operations.h.
#include "device/software/runtime/host_operations.h"

#include <algorithm>
#include <cstring>

#include "device/software/runtime/guarded_copy.h"
#include "pci/bulk_copy.h"

namespace vgpu::software {
namespace {

// Between two looks at the stop flag.
constexpr uint64_t kStepBytes = uint64_t{64} << 20;
// So much at once comes of a large copy, a full staging slot or pinned memory: device memory then is written
// around the caches.
constexpr uint64_t kPastCachesBytes = uint64_t{256} << 10;

std::byte* at(uint64_t address) {
  return reinterpret_cast<std::byte*>(address);
}

// What carries the bytes of a row, by where the bulk memory is.
using Move = void (*)(std::byte* to, const std::byte* from, std::size_t bytes);

void move_from_bulk(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes >= kPastCachesBytes) {
    pci::copy_past_caches(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

void move_on_device(std::byte* to, const std::byte* from, std::size_t bytes) {
  std::memmove(to, from, bytes);
}

Move move_for(RowsView destination, RowsView source, std::span<const std::byte> bulk) {
  const auto start = reinterpret_cast<uint64_t>(bulk.data());
  if (!bulk.empty() && destination.address == start) {
    return pci::bulk_copy_for(pci::MappingKind::kWriteBack)
        .store;  // the host's mapping, whatever the guest's is
  }
  return !bulk.empty() && source.address == start ? move_from_bulk : move_on_device;
}

bool stopped(const std::atomic<uint32_t>& stop) {
  return stop.load(std::memory_order_relaxed) != 0;
}

std::unexpected<Error> cancelled() {
  return std::unexpected(Error{Status::kDeviceUnavailable, "cancelled"});
}

template <typename T>
void fill(uint64_t address, uint64_t count, T value) {
  auto* to = reinterpret_cast<T*>(at(address));
  std::fill(to, to + count, value);
}

void fill_elements(uint64_t address, uint64_t count, uint32_t value, uint32_t element_bytes) {
  switch (element_bytes) {
    case 1:
      std::memset(at(address), static_cast<int>(value & 0xff), count);
      return;
    case 2:
      return fill(address, count, static_cast<uint16_t>(value));
    default:
      return fill(address, count, value);
  }
}

}  // namespace

device::Result<void> copy_rows(RowsView destination, RowsView source, device::Rows rows,
                               std::span<const std::byte> bulk, const std::atomic<uint32_t>& stop) {
  if (rows.width == 0 || rows.height == 0) return {};
  bool complete = true;
  const Move move = move_for(destination, source, bulk);
  const bool readable = touch_guest_memory(bulk, [&] {
    if (rows.height == 1 && rows.width <= kStepBytes) {
      move(at(destination.address), at(source.address), rows.width);
      return;
    }
    // A long row that overlaps itself is moved from its far end where the destination lies behind the source.
    const bool backwards =
        destination.address > source.address && destination.address - source.address < rows.width;
    uint64_t since_look = 0;
    for (uint64_t row = 0; row < rows.height; ++row) {
      const uint64_t to = destination.address + row * destination.pitch;
      const uint64_t from = source.address + row * source.pitch;
      for (uint64_t done = 0; done < rows.width;) {
        const uint64_t step = std::min(rows.width - done, kStepBytes);
        const uint64_t offset = backwards ? rows.width - done - step : done;
        move(at(to + offset), at(from + offset), step);
        done += step;
        since_look += step;
        if (since_look >= kStepBytes) {
          since_look = 0;
          if (stopped(stop)) {
            complete = false;
            return;
          }
        }
      }
    }
  });
  if (!readable) {
    return std::unexpected(Error{Status::kInvalidValue, "copy: the guest's memory is not there any more"});
  }
  if (!complete) return cancelled();
  return {};
}

device::Result<void> fill_rows(RowsView destination, uint64_t width, uint64_t height, uint32_t value,
                               uint32_t element_bytes, const std::atomic<uint32_t>& stop) {
  bool complete = true;
  const bool writable = touch_guest_memory({}, [&] {
    const uint64_t step_elements = kStepBytes / element_bytes;
    uint64_t since_look = 0;
    for (uint64_t row = 0; row < height; ++row) {
      uint64_t address = destination.address + row * destination.pitch;
      for (uint64_t left = width; left > 0;) {
        const uint64_t step = std::min(left, step_elements);
        fill_elements(address, step, value, element_bytes);
        address += step * element_bytes;
        left -= step;
        since_look += step;
        if (since_look >= step_elements) {
          since_look = 0;
          if (stopped(stop)) {
            complete = false;
            return;
          }
        }
      }
    }
  });
  if (!writable) {
    return std::unexpected(Error{Status::kInvalidValue, "memset: the guest's memory is not there any more"});
  }
  if (!complete) return cancelled();
  return {};
}

}  // namespace vgpu::software
