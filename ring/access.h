// Loads, stores and fences for memory that both sides map. Everything that touches a control word of the
// region goes through these functions: aligned plain moves of 4 or 8 bytes, never a locked instruction,
// because a BAR may be mapped uncached or write-combining, where locked operations fault, are split, or are
// not atomic between guest and host (docs/memory-ordering.md).
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vgpu::ring {

template <typename T>
concept ControlWord = std::same_as<T, uint32_t> || std::same_as<T, uint64_t> || std::same_as<T, int32_t>;

// The compiler's builtins, not std::atomic_ref: without optimisation libstdc++ passes the order as a
// variable, and gcc then stores with xchg, which is locked.
template <ControlWord T>
inline T load_relaxed(const T& word) noexcept {
  return __atomic_load_n(&word, __ATOMIC_RELAXED);
}

template <ControlWord T>
inline T load_acquire(const T& word) noexcept {
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

template <ControlWord T>
inline void store_relaxed(T& word, T value) noexcept {
  __atomic_store_n(&word, value, __ATOMIC_RELAXED);
}

template <ControlWord T>
inline void store_release(T& word, T value) noexcept {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}

// Orders earlier stores before later ones also where the mapping is write-combining or the stores were
// non-temporal. Release stores alone order write-back memory.
inline void store_fence() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#else
  std::atomic_thread_fence(std::memory_order_release);
#endif
}

// Orders earlier loads before later ones; no instruction on x86.
inline void acquire_fence() noexcept {
  __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

// Orders an earlier store before a later load: the one thing that sleeping and waking needs beyond release
// and acquire. A fence instruction, never an exchange on the region.
inline void full_fence() noexcept {
#if defined(__x86_64__)
  _mm_mfence();
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// A hint to fetch the line at `address`: never faults, ignored where nothing is cached.
inline void prefetch_to_read(const void* address) noexcept {
  __builtin_prefetch(address);
}

// A hint to fetch the line at `address` for writing, so that the store to come finds it owned. The
// instruction is a no-operation on processors that lack it.
inline void prefetch_to_write(const void* address) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(address)));
#else
  __builtin_prefetch(address, 1);
#endif
}

// Writes the line at `address` back and drops it from every cache. Ordered with nothing; a no-operation
// unless can_flush_lines().
inline void flush_line(const void* address) noexcept {
#if defined(__x86_64__)
  // clflushopt, spelled as the prefix and clflush that it is encoded as: no compiler flag is needed.
  asm volatile(".byte 0x66\n\tclflush %0" : : "m"(*static_cast<const char*>(address)) : "memory");
#else
  static_cast<void>(address);
#endif
}
bool can_flush_lines() noexcept;

// Keeps the compiler from moving memory accesses across; no instruction.
inline void compiler_fence() noexcept {
  asm volatile("" : : : "memory");
}

// Between two looks at a line that the other side will change: keeps the processor from starting many looks
// ahead, all of which it must throw away when the line is taken.
inline void finish_loads() noexcept {
#if defined(__x86_64__)
  _mm_lfence();
#endif
}

inline void cpu_relax() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace vgpu::ring
