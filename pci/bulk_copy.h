// Copying bulk data into and out of a region, as the processor maps it there. Ordinary copies suit write-back
// memory alone: a write-combining or uncached mapping wants whole aligned lines, each touched once, and no
// unaligned access. Plain and non-temporal moves, never a locked instruction. Any thread.
#pragma once

#include <cstddef>
#include <span>

#include "pci/bar.h"

namespace vgpu::pci {

// The two loops for one kind of mapping. `region` lies in the mapping, the other side is ordinary memory;
// they do not overlap. Any alignment, any size.
struct BulkCopy {
  // Ordered before every later store of this thread, non-temporal stores too: publish a record, and who reads
  // it finds the bytes.
  void (*store)(std::byte* region, const std::byte* from, std::size_t bytes);
  // Where the mapping is not write-back it reads whole lines, and drops what was not asked for.
  void (*load)(std::byte* to, const std::byte* region, std::size_t bytes);
};
const BulkCopy& bulk_copy_for(MappingKind kind) noexcept;

// Ordinary memory to ordinary memory, around the caches: a third to a half faster than memcpy where both
// sides are far larger than a cache, since the destination's lines are not read before they are overwritten.
// Ordered like BulkCopy::store.
void copy_past_caches(std::byte* to, const std::byte* from, std::size_t bytes);

// What the loops are made of: whole 64-byte lines, the region's side aligned to them. One for each width of
// moves; those that this processor has, the widest first. The loops use the first; tests all.
struct LineCopy {
  void (*store)(std::byte* region, const std::byte* from, std::size_t lines);
  void (*load)(std::byte* to, const std::byte* region, std::size_t lines);
};
std::span<const LineCopy> line_copies() noexcept;

}  // namespace vgpu::pci
