// The copy loops, and the choice of the widest moves that the processor has: where nothing is cached every
// move is a transaction of its own.
#include "pci/bulk_copy.h"

#include <cpuid.h>
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace vgpu::pci {
namespace {

constexpr std::size_t kLine = 64;
// In write-back memory: what lies in this core's cache costs the core that reads it one transfer a line, at a
// third of memory's bandwidth where the two share no cache. From here on bytes go to memory instead.
constexpr std::size_t kStreamFrom = 2048;

// ---- whole lines; the region's side is aligned, the other need not be ----

void store_lines_sse2(std::byte* region, const std::byte* from, std::size_t lines) {
  for (; lines != 0; --lines, region += kLine, from += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(from);
    auto* target = reinterpret_cast<__m128i*>(region);
    const __m128i a = _mm_loadu_si128(source);
    const __m128i b = _mm_loadu_si128(source + 1);
    const __m128i c = _mm_loadu_si128(source + 2);
    const __m128i d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
}

void load_lines_sse2(std::byte* to, const std::byte* region, std::size_t lines) {
  for (; lines != 0; --lines, to += kLine, region += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(region);
    auto* target = reinterpret_cast<__m128i*>(to);
    const __m128i a = _mm_load_si128(source);
    const __m128i b = _mm_load_si128(source + 1);
    const __m128i c = _mm_load_si128(source + 2);
    const __m128i d = _mm_load_si128(source + 3);
    _mm_storeu_si128(target, a);
    _mm_storeu_si128(target + 1, b);
    _mm_storeu_si128(target + 2, c);
    _mm_storeu_si128(target + 3, d);
  }
}

[[gnu::target("avx2")]] void store_lines_avx2(std::byte* region, const std::byte* from, std::size_t lines) {
  for (; lines != 0; --lines, region += kLine, from += kLine) {
    const auto* source = reinterpret_cast<const __m256i*>(from);
    auto* target = reinterpret_cast<__m256i*>(region);
    const __m256i a = _mm256_loadu_si256(source);
    const __m256i b = _mm256_loadu_si256(source + 1);
    _mm256_stream_si256(target, a);
    _mm256_stream_si256(target + 1, b);
  }
}

// Streaming loads fetch a line of write-combining memory once; elsewhere they are ordinary aligned loads.
[[gnu::target("avx2")]] void load_lines_avx2(std::byte* to, const std::byte* region, std::size_t lines) {
  for (; lines != 0; --lines, to += kLine, region += kLine) {
    const auto* source = reinterpret_cast<const __m256i*>(region);
    auto* target = reinterpret_cast<__m256i*>(to);
    const __m256i a = _mm256_stream_load_si256(source);
    const __m256i b = _mm256_stream_load_si256(source + 1);
    _mm256_storeu_si256(target, a);
    _mm256_storeu_si256(target + 1, b);
  }
}

[[gnu::target("avx512f")]] void store_lines_avx512(std::byte* region, const std::byte* from,
                                                   std::size_t lines) {
  for (; lines != 0; --lines, region += kLine, from += kLine) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(region), _mm512_loadu_si512(from));
  }
}

[[gnu::target("avx512f")]] void load_lines_avx512(std::byte* to, const std::byte* region, std::size_t lines) {
  for (; lines != 0; --lines, to += kLine, region += kLine) {
    // The intrinsic takes no pointer to const before gcc 13.
    auto* source = const_cast<std::byte*>(region);
    _mm512_storeu_si512(to, _mm512_stream_load_si512(source));
  }
}

constexpr LineCopy kLineCopies[] = {{store_lines_avx512, load_lines_avx512},
                                    {store_lines_avx2, load_lines_avx2},
                                    {store_lines_sse2, load_lines_sse2}};

// Index in kLineCopies of the widest that processor and kernel support. cpuid by hand: the compiler's own
// check runs a constructor at load.
std::size_t widest() noexcept {
  constexpr std::size_t kAvx512 = 0, kAvx2 = 1, kSse2 = 2;
  constexpr unsigned kOsxsave = 1u << 27, kHasAvx2 = 1u << 5, kHasAvx512f = 1u << 16;
  constexpr unsigned kYmm = 0x06, kZmm = 0xe6;  // registers that the kernel saves, in XCR0
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) {
    return kSse2;
  }
  unsigned saved = 0, high = 0;
  __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) {
    return kSse2;
  }
  if ((b & kHasAvx512f) != 0 && (saved & kZmm) == kZmm) {
    return kAvx512;
  }
  return (b & kHasAvx2) != 0 && (saved & kYmm) == kYmm ? kAvx2 : kSse2;
}

const LineCopy& line_copy() noexcept {
  return line_copies().front();
}

// ---- any alignment, any size ----

std::size_t offset_in_line(const std::byte* address) noexcept {
  return reinterpret_cast<uintptr_t>(address) % kLine;
}

// Part of a line: single bytes up to a word's start, whole words, single bytes. As atomic stores, which the
// compiler does not turn into a call of memcpy, that would store unaligned and some bytes twice.
void store_part(std::byte* region, const std::byte* from, std::size_t bytes) noexcept {
  while (bytes != 0) {
    std::size_t step = 1;
    if (bytes >= sizeof(uint64_t) && offset_in_line(region) % sizeof(uint64_t) == 0) {
      step = sizeof(uint64_t);
      uint64_t word = 0;
      std::memcpy(&word, from, sizeof(word));
      __atomic_store_n(reinterpret_cast<uint64_t*>(region), word, __ATOMIC_RELAXED);
    } else {
      __atomic_store_n(reinterpret_cast<uint8_t*>(region), static_cast<uint8_t>(*from), __ATOMIC_RELAXED);
    }
    region += step;
    from += step;
    bytes -= step;
  }
}

// Non-temporal stores of whole lines: a full combining buffer each. On an uncached mapping they are ordinary
// aligned stores, in write-back memory they go past the caches.
void store_streaming(std::byte* region, const std::byte* from, std::size_t bytes) {
  if (const std::size_t used = offset_in_line(region); used != 0) {
    const std::size_t part = bytes < kLine - used ? bytes : kLine - used;
    store_part(region, from, part);
    region += part;
    from += part;
    bytes -= part;
  }
  const std::size_t lines = bytes / kLine;
  line_copy().store(region, from, lines);
  store_part(region + lines * kLine, from + lines * kLine, bytes % kLine);
  _mm_sfence();
}

void load_streaming(std::byte* to, const std::byte* region, std::size_t bytes) {
  const LineCopy& copy = line_copy();
  std::byte line[kLine];
  if (const std::size_t skipped = offset_in_line(region); skipped != 0) {
    const std::size_t part = bytes < kLine - skipped ? bytes : kLine - skipped;
    copy.load(line, region - skipped, 1);
    std::memcpy(to, line + skipped, part);
    to += part;
    region += part;
    bytes -= part;
  }
  const std::size_t lines = bytes / kLine;
  copy.load(to, region, lines);
  if (const std::size_t rest = bytes % kLine; rest != 0) {
    copy.load(line, region + lines * kLine, 1);
    std::memcpy(to + lines * kLine, line, rest);
  }
}

void store_write_back(std::byte* region, const std::byte* from, std::size_t bytes) {
  if (bytes >= kStreamFrom) {
    store_streaming(region, from, bytes);
  } else if (bytes != 0) {
    std::memcpy(region, from, bytes);
  }
}

void load_write_back(std::byte* to, const std::byte* region, std::size_t bytes) {
  if (bytes != 0) {
    std::memcpy(to, region, bytes);
  }
}

}  // namespace

std::span<const LineCopy> line_copies() noexcept {
  static const std::size_t first = widest();
  return std::span(kLineCopies).subspan(first);
}

const BulkCopy& bulk_copy_for(MappingKind kind) noexcept {
  static constexpr BulkCopy kWriteBack{store_write_back, load_write_back};
  // Whole lines, once, in order: right for combining buffers, and the fewest transactions where nothing is
  // cached.
  static constexpr BulkCopy kByLines{store_streaming, load_streaming};
  return kind == MappingKind::kWriteBack ? kWriteBack : kByLines;
}

void copy_past_caches(std::byte* to, const std::byte* from, std::size_t bytes) {
  store_streaming(to, from, bytes);
}

}  // namespace vgpu::pci
