// The copy of a kernel that takes no claim for granted which its code checks as it runs. Hardly ever does a
// check fail, so the copy is made when one does, while the warp that needs it waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "device/software/kernel_abi.h"

namespace vgpu::software::jit {

class LoadedCode;

class GenericCopy {
 public:
  struct Code {
    std::unique_ptr<LoadedCode> code;  // null: it cannot be made
    std::uint32_t frame_bytes = 0;
  };
  using Make = std::function<Code()>;
  // `make` is called at most once, on a thread of its own.
  explicit GenericCopy(Make make);
  ~GenericCopy();
  GenericCopy(const GenericCopy&) = delete;
  GenericCopy& operator=(const GenericCopy&) = delete;

  // Runs the warp from its start, as a WarpFunction does; behind a barrier the warp's frame goes on with the
  // copy by itself. Any thread, also with the kernel's floating point modes.
  std::uint32_t run(BlockState* state, std::uint32_t warp, WarpFrame* frame) noexcept;
  // How many warps it ran.
  [[nodiscard]] std::uint64_t warps() const noexcept { return warps_.load(std::memory_order_relaxed); }

 private:
  // The code, made if nobody has yet; null: it cannot be.
  WarpFunction entry() noexcept;

  std::atomic<WarpFunction> entry_{nullptr};
  std::atomic<std::uint64_t> warps_{0};
  std::mutex mutex_;
  bool tried_ = false;
  Make make_;
  Code made_;  // before entry_ is set
};

// What compiled code calls with its copy, and how it calls the copy.
inline constexpr const char* kRunGenericSymbol = "vgpu_run_generic";
inline constexpr const char* kGenericCopySymbol = "vgpu_generic_copy";
extern "C" std::uint32_t vgpu_run_generic(BlockState* state, std::uint32_t warp, WarpFrame* frame,
                                          GenericCopy* copy);

}  // namespace vgpu::software::jit
