// What ran, how often and for how long: one record per kernel and block shape, kept for the device's life.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "device/software/jit/jit.h"

namespace vgpu::software {

// Counts of one kernel at one block shape, added to by any thread.
struct KernelRecord {
  std::string name;
  jit::LaunchShape shape;
  jit::AccessCounts accesses;  // as first compiled
  bool from_cache = false;
  double compile_seconds = 0;
  std::atomic<uint64_t> launches{0};
  std::atomic<uint64_t> blocks{0};
  std::atomic<uint64_t> nanoseconds{0};                 // from the start of a launch to its end
  std::atomic<uint64_t> least_picoseconds{UINT64_MAX};  // of a launch, for each of its blocks
};

// Thread-safe.
class KernelStatistics {
 public:
  // The record of a kernel and shape, the same one for every context. Never null: when there are more than
  // kMaxRecords, the rest share one without a name.
  std::shared_ptr<KernelRecord> record(std::string_view name, const jit::LaunchShape& shape,
                                       const jit::CompiledKernel& code);
  // One line per kernel, those that took longest first; empty if nothing ran.
  [[nodiscard]] std::string table() const;

  static constexpr std::size_t kMaxRecords = 4096;

 private:
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<KernelRecord>> records_;
  std::shared_ptr<KernelRecord> others_;
};

}  // namespace vgpu::software
