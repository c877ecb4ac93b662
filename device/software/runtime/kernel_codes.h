// The code of one kernel and block shape: for one warp of one block at a time, and where the kernel allows it
// and runs long enough for several (jit::LaunchShape::at_a_time). Which is the fastest shows as blocks run:
// parts of a launch are run by each in turn, until all have been measured.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/software/jit/jit.h"

namespace vgpu::software {

class KernelCodes {
 public:
  using Code = std::shared_ptr<const jit::CompiledKernel>;
  static constexpr uint32_t kMost = 3;
  // Parts of a launch from which a code's speed is told.
  static constexpr uint32_t kPartsMeasured = 12;

  explicit KernelCodes(Code one) { add(std::move(one)); }

  // For one warp of one block at a time.
  [[nodiscard]] const jit::CompiledKernel& one() const { return *codes_[0]; }
  // Not while blocks run. At most kMost in all.
  void add(Code code);
  // Without measuring: the last one added. Not while blocks run.
  void choose_last() { chosen_.store(count_ - 1, std::memory_order_relaxed); }

  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] const jit::CompiledKernel& code(uint32_t index) const { return *codes_[index]; }
  // Which code to use; kMost: not known yet. Any thread.
  [[nodiscard]] uint32_t chosen() const { return chosen_.load(std::memory_order_relaxed); }
  // A part of a launch took this long by this code. Any thread.
  void measured(uint32_t index, uint64_t blocks, uint64_t nanoseconds);

  // Enough for each of the codes.
  [[nodiscard]] uint32_t frame_bytes() const;
  // Of all codes: warps that ran by the copy without guards, and that went on in the masked form. Any thread.
  [[nodiscard]] uint64_t generic_warps() const;
  [[nodiscard]] uint64_t masked_warps() const { return masked_warps_.load(std::memory_order_relaxed); }
  void add_masked_warps(uint64_t count) { masked_warps_.fetch_add(count, std::memory_order_relaxed); }

 private:
  struct Speed {
    std::atomic<uint64_t> least_picoseconds{UINT64_MAX};  // for a block
    std::atomic<uint32_t> parts{0};
  };
  std::array<Code, kMost> codes_;
  std::array<Speed, kMost> speeds_;
  uint32_t count_ = 0;
  std::atomic<uint32_t> chosen_{kMost};
  std::atomic<uint64_t> masked_warps_{0};
};

// What compiling a kernel for several blocks or warps at a time came to.
struct CoarserCodes {
  std::vector<KernelCodes::Code> codes;  // as many as the kernel allows
  std::string fault;                     // of the compiler; empty: none
};

}  // namespace vgpu::software
