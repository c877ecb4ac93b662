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
    // The caller's stack may be a fiber's, and its arithmetic may flush to zero: the compiler bears neither.
    // A thread starts with the modes of the one that started it.
    std::thread maker([this] {
      _mm_setcsr(0x1F80);
      try {
        code_ = make_();
      } catch (const std::exception&) {
        code_ = nullptr;
      }
      make_ = nullptr;  // with all that it was made from
    });
    maker.join();
  } catch (const std::system_error&) {
    return nullptr;
  }
  if (code_) entry_.store(reinterpret_cast<WarpFunction>(code_->address()), std::memory_order_release);
  return entry_.load(std::memory_order_relaxed);
}

void GenericCopy::run(BlockState* state, std::uint32_t warp) noexcept {
  warps_.fetch_add(1, std::memory_order_relaxed);
  const WarpFunction code = entry();
  if (code == nullptr) {
    state->hooks->trap(state, warp, TrapReason::kNoCode, 0);
    return;
  }
  code(state, warp);
}

extern "C" void vgpu_run_generic(BlockState* state, std::uint32_t warp, GenericCopy* copy) {
  copy->run(state, warp);
}

}  // namespace vgpu::software::jit
