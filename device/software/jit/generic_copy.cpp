// See generic_copy.h.
#include "device/software/jit/generic_copy.h"

#include <xmmintrin.h>

#include <system_error>
#include <thread>
#include <utility>

#include "device/software/jit/code_generator.h"

namespace vgpu::software::jit {

GenericCopy::GenericCopy(Make make) : make_(std::move(make)) {}
GenericCopy::~GenericCopy() = default;

WarpFunction GenericCopy::entry() noexcept {
  // Acquire: pairs with the store below, of the thread that had the code made.
  if (const WarpFunction made = entry_.load(std::memory_order_acquire)) return made;
  const std::lock_guard lock(mutex_);
  if (std::exchange(tried_, true)) return entry_.load(std::memory_order_relaxed);
  try {
    // The caller's stack may be nearly full, and its arithmetic may flush to zero: the compiler bears
    // neither. A thread starts with the modes of the one that started it.
    std::thread maker([this] {
      _mm_setcsr(0x1F80);
      try {
        made_ = make_();
      } catch (const std::exception&) {
        made_.code = nullptr;
      }
      make_ = nullptr;  // with all that it was made from
    });
    maker.join();
  } catch (const std::system_error&) {
    return nullptr;
  }
  if (made_.code)
    entry_.store(reinterpret_cast<WarpFunction>(made_.code->address()), std::memory_order_release);
  return entry_.load(std::memory_order_relaxed);
}

std::uint32_t GenericCopy::run(BlockState* state, std::uint32_t warp, WarpFrame* frame) noexcept {
  warps_.fetch_add(1, std::memory_order_relaxed);
  const WarpFunction code = entry();
  if (code == nullptr) {
    state->hooks->trap(state, warp, TrapReason::kNoCode, 0);
    return kWarpEnded;
  }
  if (made_.frame_bytes != 0) {
    frame = state->hooks->grow_frames(state, warp, made_.frame_bytes);
    frame->code = code;
  }
  return code(state, warp, frame);
}

extern "C" std::uint32_t vgpu_run_generic(BlockState* state, std::uint32_t warp, WarpFrame* frame,
                                          GenericCopy* copy) {
  return copy->run(state, warp, frame);
}

}  // namespace vgpu::software::jit
