// Memory for tests: shared between processes, zeroed, with an unmapped page right behind it so that reading
// over the end is a crash and not luck.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

namespace vgpu::ring::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#else
inline constexpr bool kThreadSanitizer = false;
#endif

class GuardedMemory {
 public:
  explicit GuardedMemory(std::size_t bytes) : bytes_(bytes) {
    void* all = ::mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || ::mprotect(static_cast<std::byte*>(all) + bytes, kPage, PROT_NONE) != 0) {
      ADD_FAILURE() << "no memory for the test";
      std::abort();
    }
    data_ = static_cast<std::byte*>(all);
  }
  ~GuardedMemory() { ::munmap(data_, bytes_ + kPage); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  std::span<std::byte> bytes() const { return {data_, bytes_}; }

 private:
  static constexpr std::size_t kPage = 4096;
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

// The test's own payload: bytes that follow from the record's number.
inline void fill_payload(std::span<std::byte> payload, uint64_t number) {
  uint64_t state = number * 0x9e37'79b9'7f4a'7c15ULL + 1;
  for (std::byte& byte : payload) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<std::byte>(state >> 56);
  }
}

inline bool payload_is(std::span<const std::byte> payload, uint64_t number) {
  uint64_t state = number * 0x9e37'79b9'7f4a'7c15ULL + 1;
  for (const std::byte byte : payload) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    if (byte != static_cast<std::byte>(state >> 56)) {
      return false;
    }
  }
  return true;
}

}  // namespace vgpu::ring::test
