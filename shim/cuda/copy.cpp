// The copy engine: pageable memory is cut into chunks through the staging slots, so that the guest fills one
// slot while the device empties another; pinned memory in the bulk heap is named by its offset; small copies
// ride inside the record.
#include "shim/cuda/copy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "pci/bulk_copy.h"
#include "ring/wait.h"

namespace vgpu::shim {

using protocol::Status;

namespace {

// A copy inside the record costs a line of the ring, and later a miss of the device's, for each 64 bytes.
constexpr uint64_t kInlineBytes = 1024;
// A copy to the host of so much is not in a cache when it is done, so it goes around the caches.
constexpr uint64_t kPastCachesBytes = 4 << 20;
// The device takes tens of microseconds for a chunk, longer than a wait usually spins. To sleep for that
// would cost a wake-up a chunk.
constexpr uint64_t kChunkSpinNs = 200'000;

std::byte* host(uint64_t address) noexcept {
  return reinterpret_cast<std::byte*>(static_cast<uintptr_t>(address));
}

// Rows without a gap on either side are one long row.
Rows joined(Rows rows) noexcept {
  if (rows.height > 1 && rows.destination_pitch == rows.width && rows.source_pitch == rows.width) {
    rows.width *= rows.height;
    rows.height = 1;
  }
  if (rows.height == 1) {
    rows.destination_pitch = rows.source_pitch = rows.width;
  }
  return rows;
}

// Cuts rows into pieces that fit a slot: some whole rows, or a part of one long row. Calls piece(first row,
// offset in the row, bytes of a row, rows) until it returns an error.
template <typename Piece>
CUresult for_each_piece(const Rows& rows, uint64_t slot_bytes, Piece&& piece) {
  if (rows.width > slot_bytes) {
    for (uint64_t row = 0; row < rows.height; ++row) {
      for (uint64_t offset = 0; offset < rows.width; offset += slot_bytes) {
        if (const CUresult result =
                piece(row, offset, std::min(slot_bytes, rows.width - offset), uint64_t{1});
            result != CUDA_SUCCESS) {
          return result;
        }
      }
    }
    return CUDA_SUCCESS;
  }
  const uint64_t rows_per_slot = slot_bytes / rows.width;
  for (uint64_t row = 0; row < rows.height; row += rows_per_slot) {
    if (const CUresult result =
            piece(row, uint64_t{0}, rows.width, std::min(rows_per_slot, rows.height - row));
        result != CUDA_SUCCESS) {
      return result;
    }
  }
  return CUDA_SUCCESS;
}

// Rows, one by one, with the loop for the memory they lie in.
template <typename Copy>
void copy_each_row(Copy&& copy, std::byte* to, uint64_t to_pitch, const std::byte* from, uint64_t from_pitch,
                   uint64_t width, uint64_t height) {
  for (uint64_t row = 0; row < height; ++row) {
    copy(to + row * to_pitch, from + row * from_pitch, width);
  }
}

Status wait_for_chunk(Session& session, uint64_t position) {
  ring::spin_until([&] { return session.completed() >= position; }, kChunkSpinNs);
  return session.wait_completed(position);
}

CUresult record(Stream& stream, const Submitted& submitted) {
  stream.advance(submitted.end);
  return to_result(submitted.status);
}

}  // namespace

bool device_rows_allocated(uint64_t address, uint64_t pitch, uint64_t width, uint64_t height) {
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(pitch, height - 1, &bytes) || __builtin_add_overflow(bytes, width, &bytes)) {
    return false;
  }
  return Driver::get().allocations.covers(address, bytes);
}

CUresult refuse_copy(const Entry& entry, const Rows& rows) {
  return to_result(entry.session->refuse(
      Status::kInvalidValue, protocol::Opcode::kCopyDevice,
      "copy of %llu rows of %llu bytes to 0x%llx from 0x%llx: not memory of the device, or past its end",
      static_cast<unsigned long long>(rows.height), static_cast<unsigned long long>(rows.width),
      static_cast<unsigned long long>(rows.destination), static_cast<unsigned long long>(rows.source)));
}

CUresult copy_to_device(const Entry& entry, Stream& stream, const Rows& given) {
  const Rows rows = joined(given);
  Session& session = *entry.session;
  if (rows.height == 1 && rows.width <= kInlineBytes) {
    return record(stream, session.submit(protocol::CopyInlineRequest{.destination = rows.destination},
                                         stream.device_id, {host(rows.source), rows.width}));
  }
  BulkHeap& bulk = session.bulk();
  return for_each_piece(
      rows, bulk.slot_bytes(), [&](uint64_t row, uint64_t offset, uint64_t width, uint64_t height) {
        const auto slot = bulk.take_slot();
        if (!slot) {
          return CUDA_ERROR_OUT_OF_MEMORY;
        }
        // What the slot was last used for must be done before it is written again.
        if (const Status waited = wait_for_chunk(session, bulk.position(*slot)); waited != Status::kSuccess) {
          bulk.give_back(*slot, 0);
          return to_result(waited);
        }
        copy_each_row(bulk.copy().store, bulk.data(*slot), width,
                      host(rows.source) + row * rows.source_pitch + offset, rows.source_pitch, width, height);
        const Submitted submitted =
            session.submit(protocol::CopyFromBulkRequest{.destination = rows.destination +
                                                                        row * rows.destination_pitch + offset,
                                                         .bulk_offset = bulk.offset(*slot),
                                                         .width = width,
                                                         .height = height,
                                                         .destination_pitch = rows.destination_pitch,
                                                         .bulk_pitch = width},
                           stream.device_id);
        bulk.give_back(*slot, submitted.end);
        return record(stream, submitted);
      });
}

CUresult copy_to_host(const Entry& entry, Stream& stream, const Rows& given) {
  const Rows rows = joined(given);
  Session& session = *entry.session;
  BulkHeap& bulk = session.bulk();
  const bool large = entry.session->attachment().mapping() == pci::MappingKind::kWriteBack &&
                     rows.height == 1 && rows.width >= kPastCachesBytes;
  const auto load = large ? pci::copy_past_caches : bulk.copy().load;
  struct Chunk {
    uint32_t slot = 0;
    uint64_t end = 0;
    std::byte* to = nullptr;
    uint64_t width = 0, height = 0;
  };
  // Chunks that the device fills, oldest first. A thread that holds some never waits for another slot:
  // threads that copy at the same time then cannot block each other.
  std::array<Chunk, BulkHeap::kSlots> chunks;
  std::size_t first = 0;
  std::size_t count = 0;
  CUresult failed = CUDA_SUCCESS;
  const auto drain_one = [&] {
    const Chunk chunk = chunks[first];
    first = (first + 1) % chunks.size();
    --count;
    const Status waited = wait_for_chunk(session, chunk.end);
    if (waited == Status::kSuccess) {
      copy_each_row(load, chunk.to, rows.destination_pitch, bulk.data(chunk.slot), chunk.width, chunk.width,
                    chunk.height);
    } else if (failed == CUDA_SUCCESS) {
      failed = to_result(waited);
    }
    bulk.give_back(chunk.slot, chunk.end);
  };
  const CUresult result = for_each_piece(
      rows, bulk.slot_bytes(), [&](uint64_t row, uint64_t offset, uint64_t width, uint64_t height) {
        // Half of the slots are enough to keep both sides busy; the rest is for others.
        while (count >= BulkHeap::kSlots / 2) {
          drain_one();
        }
        auto slot = bulk.try_take_slot();
        while (!slot && count != 0) {
          drain_one();
          slot = bulk.try_take_slot();
        }
        if (!slot) {
          slot = bulk.take_slot();
        }
        if (!slot) {
          return CUDA_ERROR_OUT_OF_MEMORY;
        }
        // Nothing to wait for before the device writes: records that use the slot execute in order.
        const Submitted submitted = session.submit(
            protocol::CopyToBulkRequest{.source = rows.source + row * rows.source_pitch + offset,
                                        .bulk_offset = bulk.offset(*slot),
                                        .width = width,
                                        .height = height,
                                        .source_pitch = rows.source_pitch,
                                        .bulk_pitch = width},
            stream.device_id);
        if (submitted.status != Status::kSuccess) {
          bulk.give_back(*slot, 0);
          return to_result(submitted.status);
        }
        stream.advance(submitted.end);
        chunks[(first + count) % chunks.size()] = {
            *slot, submitted.end, host(rows.destination) + row * rows.destination_pitch + offset, width,
            height};
        ++count;
        return failed;
      });
  while (count != 0) {
    drain_one();
  }
  if (failed != CUDA_SUCCESS || result != CUDA_SUCCESS) {
    return failed != CUDA_SUCCESS ? failed : result;
  }
  return to_result(session.take_error());
}

void copy_on_host(const Rows& rows) {
  for (uint64_t row = 0; row < rows.height; ++row) {
    std::memmove(host(rows.destination + row * rows.destination_pitch),
                 host(rows.source + row * rows.source_pitch), rows.width);
  }
}

CUresult copy_rows(const Entry& entry, Stream& stream, const Rows& given, CopyMode mode) {
  if (given.width == 0 || given.height == 0) {
    return CUDA_SUCCESS;
  }
  const Rows rows = joined(given);
  const MemoryKind to = kind_of_memory(entry, rows.destination);
  const MemoryKind from = kind_of_memory(entry, rows.source);
  if ((to == MemoryKind::kDevice &&
       !device_rows_allocated(rows.destination, rows.destination_pitch, rows.width, rows.height)) ||
      (from == MemoryKind::kDevice &&
       !device_rows_allocated(rows.source, rows.source_pitch, rows.width, rows.height)) ||
      rows.destination == 0 || rows.source == 0) {
    return refuse_copy(entry, rows);
  }
  Session& session = *entry.session;
  BulkHeap& bulk = session.bulk();
  const bool capturing = stream.capturing.load(std::memory_order_acquire);
  CUresult result = CUDA_SUCCESS;
  if (to == MemoryKind::kDevice && from == MemoryKind::kDevice) {
    return enqueue(entry, stream,
                   protocol::CopyDeviceRequest{.destination = rows.destination,
                                               .source = rows.source,
                                               .width = rows.width,
                                               .height = rows.height,
                                               .destination_pitch = rows.destination_pitch,
                                               .source_pitch = rows.source_pitch},
                   CU_GRAPH_NODE_TYPE_MEMCPY);
  }
  if (to == MemoryKind::kDevice && from == MemoryKind::kBulk) {
    result = enqueue(entry, stream,
                     protocol::CopyFromBulkRequest{.destination = rows.destination,
                                                   .bulk_offset = bulk.offset_of(host(rows.source)),
                                                   .width = rows.width,
                                                   .height = rows.height,
                                                   .destination_pitch = rows.destination_pitch,
                                                   .bulk_pitch = rows.source_pitch},
                     CU_GRAPH_NODE_TYPE_MEMCPY);
  } else if (to == MemoryKind::kBulk && from == MemoryKind::kDevice) {
    result = enqueue(entry, stream,
                     protocol::CopyToBulkRequest{.source = rows.source,
                                                 .bulk_offset = bulk.offset_of(host(rows.destination)),
                                                 .width = rows.width,
                                                 .height = rows.height,
                                                 .source_pitch = rows.source_pitch,
                                                 .bulk_pitch = rows.destination_pitch},
                     CU_GRAPH_NODE_TYPE_MEMCPY);
  } else if (capturing) {
    GraphStep step;
    step.type = to == MemoryKind::kDevice     ? GraphStep::Type::kHostToDevice
                : from == MemoryKind::kDevice ? GraphStep::Type::kDeviceToHost
                                              : GraphStep::Type::kHostToHost;
    step.node_type = CU_GRAPH_NODE_TYPE_MEMCPY;
    step.destination = rows.destination;
    step.destination_pitch = rows.destination_pitch;
    step.source = rows.source;
    step.source_pitch = rows.source_pitch;
    step.width = rows.width;
    step.height = rows.height;
    return capture_step(stream, std::move(step));
  } else if (to == MemoryKind::kDevice) {
    return copy_to_device(entry, stream, rows);
  } else if (from == MemoryKind::kDevice) {
    return copy_to_host(entry, stream, rows);
  } else {
    // Both in host memory: what is on the stream may still read or write either.
    if (result = synchronize(session, stream.last.load(std::memory_order_acquire)); result == CUDA_SUCCESS) {
      copy_on_host(rows);
    }
    return result;
  }
  if (result != CUDA_SUCCESS || mode == CopyMode::kAsynchronous || capturing) {
    return result;
  }
  return synchronize(session, stream.last.load(std::memory_order_acquire));
}

}  // namespace vgpu::shim
