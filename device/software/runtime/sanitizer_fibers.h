// Tells AddressSanitizer about stack switches; nothing without it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define VGPU_ASAN_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VGPU_ASAN_FIBERS 1
#endif
#endif

#if defined(VGPU_ASAN_FIBERS)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace vgpu::software {

#if defined(VGPU_ASAN_FIBERS)
inline constexpr bool kSanitizerFollowsStacks = true;
#else
inline constexpr bool kSanitizerFollowsStacks = false;
#endif

struct StackBounds {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
};

// Around a switch: the side that leaves calls leaving(), the side that goes on calls arrived().
inline void leaving_stack([[maybe_unused]] void** saved, [[maybe_unused]] const StackBounds& target) {
#if defined(VGPU_ASAN_FIBERS)
  __sanitizer_start_switch_fiber(saved, target.bottom, target.bytes);
#endif
}
inline void arrived_on_stack([[maybe_unused]] void* saved, [[maybe_unused]] StackBounds* from) {
#if defined(VGPU_ASAN_FIBERS)
  __sanitizer_finish_switch_fiber(saved, from != nullptr ? &from->bottom : nullptr,
                                  from != nullptr ? &from->bytes : nullptr);
#endif
}
// A stack that was left by a jump may hold marks of frames that are gone.
inline void forget_stack([[maybe_unused]] const void* bottom, [[maybe_unused]] std::size_t bytes) {
#if defined(VGPU_ASAN_FIBERS)
  __asan_unpoison_memory_region(bottom, bytes);
#endif
}

}  // namespace vgpu::software
