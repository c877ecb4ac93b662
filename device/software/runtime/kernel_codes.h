// The code of one kernel and block shape: for one warp of one block at a time, and where the kernel allows it
// and runs long enough for several (jit::LaunchShape::at_a_time). Which is the fastest shows as blocks run:
// parts of a launch are run by each in turn, until all have been measured. One kernel's launches need not
// agree on it: rows of a short matrix may be fastest four at a time, those of a long one two at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/software/jit/jit.h"

namespace vgpu::software {

// What tells a kernel's launches apart by how much their blocks do: all parameters but device addresses, as a
// hash. Where two hashes are the same by accident, or a parameter is taken for an address, code is chosen for
// both kinds together, which costs time and nothing else.
[[nodiscard]] uint64_t launch_key(std::span<const std::byte> parameters);

// What is known of a kernel's launches of one kind: those whose blocks are taken to do as much. Any thread.
class LaunchKind {
 public:
  static constexpr uint32_t kMostCodes = 3;
  // Parts of a launch from which a code's speed is told.
  static constexpr uint32_t kPartsMeasured = 12;

  // Which code to use; kMostCodes: not known yet.
  [[nodiscard]] uint32_t chosen() const { return chosen_.load(std::memory_order_relaxed); }
  // A part of a launch took this long by this one of `codes` codes.
  void measured(uint32_t codes, uint32_t index, uint64_t blocks, uint64_t nanoseconds);

  // Running mean of what a block takes, by all threads together; 0: not known yet.
  std::atomic<uint64_t> nanoseconds_per_block{0};

 private:
  friend class KernelCodes;
  struct Speed {
    std::atomic<uint64_t> least_picoseconds{UINT64_MAX};  // for a block
    std::atomic<uint32_t> parts{0};
  };
  uint64_t key_ = 0;
  std::array<Speed, kMostCodes> speeds_;
  std::atomic<uint32_t> chosen_{0};
};

class KernelCodes {
 public:
  using Code = std::shared_ptr<const jit::CompiledKernel>;
  static constexpr uint32_t kMost = LaunchKind::kMostCodes;
  // Kinds of launches that are told apart; whatever others there are make up one together.
  static constexpr uint32_t kMostKinds = 8;

  explicit KernelCodes(Code one) { add(std::move(one)); }

  // For one warp of one block at a time.
  [[nodiscard]] const jit::CompiledKernel& one() const { return *codes_[0]; }
  // Not while blocks run. At most kMost in all.
  void add(Code code);
  // Without measuring: the last one added. Not while blocks run.
  void choose_last() { choose(count_ - 1); }
  // The launches with this launch_key(). Not while blocks run.
  [[nodiscard]] LaunchKind& kind(uint64_t key);

  [[nodiscard]] uint32_t count() const { return count_; }
  [[nodiscard]] const jit::CompiledKernel& code(uint32_t index) const { return *codes_[index]; }

  // Enough for each of the codes.
  [[nodiscard]] uint32_t frame_bytes() const;
  // Of all codes: warps that ran by the copy without guards, and that went on in the masked form. Any thread.
  [[nodiscard]] uint64_t generic_warps() const;
  [[nodiscard]] uint64_t masked_warps() const { return masked_warps_.load(std::memory_order_relaxed); }
  void add_masked_warps(uint64_t count) { masked_warps_.fetch_add(count, std::memory_order_relaxed); }

 private:
  // For launches of every kind; kMost: as they are measured.
  void choose(uint32_t index);

  std::array<Code, kMost> codes_;
  uint32_t count_ = 0;
  std::array<LaunchKind, kMostKinds> kinds_;
  uint32_t kinds_seen_ = 0;
  std::atomic<uint64_t> masked_warps_{0};
};

// What compiling a kernel for several blocks or warps at a time came to.
struct CoarserCodes {
  std::vector<KernelCodes::Code> codes;  // as many as the kernel allows
  std::string fault;                     // of the compiler; empty: none
};

}  // namespace vgpu::software
