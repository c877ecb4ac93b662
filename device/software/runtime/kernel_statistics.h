// What ran, how often and for how long: one record per kernel and block shape, kept for the device's life.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "device/backend.h"
#include "device/software/jit/jit.h"
#include "device/software/runtime/kernel_codes.h"

namespace vgpu::software {

// Counts of one kernel at one block shape, added to by any thread.
struct KernelRecord {
  std::string name;
  jit::LaunchShape shape;
  jit::AccessCounts accesses;  // as first compiled
  std::atomic<uint32_t> compiled{0};
  std::atomic<uint32_t> from_cache{0};
  std::atomic<uint64_t> compile_nanoseconds{0};  // of both, parsing included
  std::atomic<uint64_t> launches{0};
  std::atomic<uint64_t> blocks{0};
  std::atomic<uint64_t> nanoseconds{0};  // from the start of a launch to its end
  std::atomic<uint64_t> longest_nanoseconds{0};
  std::atomic<uint64_t> least_picoseconds{UINT64_MAX};  // of a launch, for each of its blocks
  std::atomic<uint64_t> generic_warps{0};               // that ran by the copy without guards
  std::atomic<uint64_t> masked_warps{0};                // that went on in the masked form: lanes parted
  std::atomic<uint32_t> blocks_at_a_time{1};            // of the code that was last chosen
  std::atomic<uint32_t> warps_at_a_time{1};

  void add_launch(uint64_t took_nanoseconds, uint64_t ran_blocks);
};

// Adds one launch to its kernel's record when it ends, however it ends.
class TimedLaunch {
 public:
  // `codes`: what runs, of one context alone, in a launch of this kind of theirs; null if it is no kernel.
  TimedLaunch(KernelRecord& record, uint64_t blocks, const KernelCodes* codes = nullptr,
              const LaunchKind* kind = nullptr)
      : record_(record),
        blocks_(blocks),
        codes_(codes),
        kind_(kind),
        generic_warps_(codes == nullptr ? 0 : codes->generic_warps()),
        masked_warps_(codes == nullptr ? 0 : codes->masked_warps()),
        start_(std::chrono::steady_clock::now()) {}
  ~TimedLaunch() {
    const auto taken = std::chrono::steady_clock::now() - start_;
    record_.add_launch(
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()), blocks_);
    if (codes_ == nullptr) return;
    record_.generic_warps.fetch_add(codes_->generic_warps() - generic_warps_, std::memory_order_relaxed);
    record_.masked_warps.fetch_add(codes_->masked_warps() - masked_warps_, std::memory_order_relaxed);
    if (const uint32_t chosen = kind_->chosen(); chosen < codes_->count()) {
      const jit::CompiledKernel& code = codes_->code(chosen);
      record_.blocks_at_a_time.store(code.blocks_at_a_time, std::memory_order_relaxed);
      record_.warps_at_a_time.store(code.warps_at_a_time, std::memory_order_relaxed);
    }
  }
  TimedLaunch(const TimedLaunch&) = delete;
  TimedLaunch& operator=(const TimedLaunch&) = delete;

 private:
  KernelRecord& record_;
  uint64_t blocks_;
  const KernelCodes* codes_;
  const LaunchKind* kind_;
  uint64_t generic_warps_, masked_warps_;  // before
  std::chrono::steady_clock::time_point start_;
};

// Thread-safe.
class KernelStatistics {
 public:
  // The record of a kernel and shape, the same one for every context; adds what making `code` took, so ask
  // once for each code. Never null: when there are more than kMaxRecords, the rest share one without a name.
  std::shared_ptr<KernelRecord> record(std::string_view name, const jit::LaunchShape& shape,
                                       const jit::CompiledKernel& code);
  // The record of something else that takes its time, by its name.
  std::shared_ptr<KernelRecord> record(std::string_view name);

  // Records keep their index, in the order of their first use.
  [[nodiscard]] device::KernelReport report(uint32_t index) const;
  // One line per kernel, those that took longest first; empty if nothing ran.
  [[nodiscard]] std::string table() const;

  static constexpr std::size_t kMaxRecords = 4096;

 private:
  std::shared_ptr<KernelRecord> find_or_add(std::string_view name, const jit::LaunchShape& shape);

  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<KernelRecord>> records_;
};

}  // namespace vgpu::software
