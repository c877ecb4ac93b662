// libFuzzer target: the ring's consumer over whatever a hostile guest may have written.
// Input: first byte chooses the start slot, the rest is repeated over the ring.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>

#include "ring/consumer.h"

namespace {
constexpr std::size_t kRing = 64 * 1024;
struct alignas(64) Ring {
  std::byte bytes[kRing];
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  // On the heap and exactly as large as they must be: the address sanitizer sees a byte read or written too
  // far.
  const auto ring = std::make_unique<Ring>();
  const auto out = std::make_unique<uint64_t[]>(vgpu::ring::kMaxRecordBytes / sizeof(uint64_t));
  const uint64_t start = uint64_t{data[0]} * vgpu::ring::kSlotBytes;
  const std::span input(data + 1, size - 1);
  for (std::size_t at = 0; at < kRing; ++at) {
    ring->bytes[(start + at) % kRing] = static_cast<std::byte>(input[at % input.size()]);
  }
  // Where the input asks for it (lowest bit of the opcode's second byte), the sequence is made right, so that
  // the reader gets past the first record.
  for (std::size_t slot = 0; slot < kRing; slot += vgpu::ring::kSlotBytes) {
    if ((static_cast<uint8_t>(ring->bytes[slot + 9]) & 1) != 0) {
      uint32_t bytes = 0;
      std::memcpy(&bytes, ring->bytes + slot, sizeof(bytes));
      const uint64_t position = slot >= start ? slot : slot + kRing;
      const uint64_t commit = vgpu::ring::make_commit(bytes & 0x7fff, position);
      std::memcpy(ring->bytes + slot, &commit, sizeof(commit));
    }
  }
  vgpu::ring::Consumer consumer(ring->bytes, start);
  uint64_t before = start;
  for (;;) {
    const auto got =
        consumer.try_read(std::as_writable_bytes(std::span(out.get(), vgpu::ring::kMaxRecordBytes / 8)));
    if (!got || *got == 0) {
      break;
    }
    if (*got < sizeof(vgpu::ring::RecordHeader) || *got > vgpu::ring::kMaxRecordBytes ||
        consumer.record_position() % kRing + *got > kRing || consumer.position() <= before ||
        consumer.position() > start + 3 * kRing) {
      std::abort();
    }
    before = consumer.position();
  }
  return 0;
}
