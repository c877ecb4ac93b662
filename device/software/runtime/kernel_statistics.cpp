// See kernel_statistics.h.
#include "device/software/runtime/kernel_statistics.h"

#include <fmt/format.h>

#include <algorithm>

namespace vgpu::software {
namespace {

void raise_to(std::atomic<uint64_t>& word, uint64_t value) {
  uint64_t now = word.load(std::memory_order_relaxed);
  while (value > now && !word.compare_exchange_weak(now, value, std::memory_order_relaxed)) {
  }
}

void lower_to(std::atomic<uint64_t>& word, uint64_t value) {
  uint64_t now = word.load(std::memory_order_relaxed);
  while (value < now && !word.compare_exchange_weak(now, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

void KernelRecord::add_launch(uint64_t took_nanoseconds, uint64_t ran_blocks) {
  launches.fetch_add(1, std::memory_order_relaxed);
  blocks.fetch_add(ran_blocks, std::memory_order_relaxed);
  nanoseconds.fetch_add(took_nanoseconds, std::memory_order_relaxed);
  raise_to(longest_nanoseconds, took_nanoseconds);
  if (ran_blocks != 0) lower_to(least_picoseconds, took_nanoseconds * 1000 / ran_blocks);
}

std::shared_ptr<KernelRecord> KernelStatistics::find_or_add(std::string_view name,
                                                            const jit::LaunchShape& shape) {
  for (const auto& record : records_) {
    if (record->name == name && record->shape == shape) return record;
  }
  const bool full = records_.size() >= kMaxRecords;
  if (full && records_.back()->name.empty()) return records_.back();
  auto record = std::make_shared<KernelRecord>();
  if (!full) {
    record->name = name;
    record->shape = shape;
  }
  records_.push_back(record);
  return record;
}

std::shared_ptr<KernelRecord> KernelStatistics::record(std::string_view name, const jit::LaunchShape& shape,
                                                       const jit::CompiledKernel& code) {
  const std::lock_guard lock(mutex_);
  auto record = find_or_add(name, shape);
  (code.from_cache ? record->from_cache : record->compiled).fetch_add(1, std::memory_order_relaxed);
  record->compile_nanoseconds.fetch_add(static_cast<uint64_t>(code.compile_seconds * 1e9),
                                        std::memory_order_relaxed);
  // Of the first code: the same for all of one kernel and shape.
  if (!record->name.empty() && record->compiled + record->from_cache == 1) record->accesses = code.accesses;
  return record;
}

std::shared_ptr<KernelRecord> KernelStatistics::record(std::string_view name) {
  const std::lock_guard lock(mutex_);
  return find_or_add(name, jit::LaunchShape{.ntid = {0, 0, 0}});
}

device::KernelReport KernelStatistics::report(uint32_t index) const {
  const std::lock_guard lock(mutex_);
  device::KernelReport report;
  report.figures.kernels = static_cast<uint32_t>(records_.size());
  if (index >= records_.size()) return report;
  const KernelRecord& record = *records_[index];
  auto& figures = report.figures;
  figures.block_x = record.shape.ntid[0];
  figures.block_y = record.shape.ntid[1];
  figures.block_z = record.shape.ntid[2];
  figures.compiled = record.compiled.load(std::memory_order_relaxed);
  figures.from_cache = record.from_cache.load(std::memory_order_relaxed);
  figures.compile_time = record.compile_nanoseconds.load(std::memory_order_relaxed);
  figures.launches = record.launches.load(std::memory_order_relaxed);
  figures.blocks = record.blocks.load(std::memory_order_relaxed);
  figures.time = record.nanoseconds.load(std::memory_order_relaxed);
  figures.longest = record.longest_nanoseconds.load(std::memory_order_relaxed);
  const uint64_t least = record.least_picoseconds.load(std::memory_order_relaxed);
  figures.least_block = least == UINT64_MAX ? 0 : least;
  figures.generic_warps = record.generic_warps.load(std::memory_order_relaxed);
  report.name = record.name.empty() ? "(others)" : record.name;
  if (figures.compiled + figures.from_cache != 0) {
    for (const auto& [name, member] : jit::kAccessNames) {
      report.counts += fmt::format("{} {}\n", name, record.accesses.*member);
    }
    report.counts += fmt::format("null_words {}\n", record.shape.null_params);
    report.counts += fmt::format("blocks_at_a_time {}\n", record.blocks_at_a_time.load());
    report.counts += fmt::format("warps_at_a_time {}\n", record.warps_at_a_time.load());
    report.counts += fmt::format("masked_warps {}\n", record.masked_warps.load());
  }
  return report;
}

std::string KernelStatistics::table() const {
  const std::lock_guard lock(mutex_);
  auto records = records_;
  std::erase_if(records, [](const auto& record) { return record->launches.load() == 0; });
  if (records.empty()) return {};
  std::ranges::sort(records, std::ranges::greater(),
                    [](const auto& record) { return record->nanoseconds.load(); });
  std::string text =
      "     ms launches   us/launch blocks/launch least ns/block block       compile ms  loads: same row "
      "window gather "
      "stores: row scatter  branches parting  kernel\n";
  for (const auto& record : records) {
    const auto launches = record->launches.load();
    const double ms = static_cast<double>(record->nanoseconds.load()) * 1e-6;
    const auto& a = record->accesses;
    text += fmt::format(
        "{:7.1f} {:8} {:11.1f} {:13.1f} {:14.1f} {:11} {:10.1f}{} {:12} {:3} {:6} {:6} {:11} {:7} {:9} {:7}  "
        "{}\n",
        ms, launches, ms * 1e3 / static_cast<double>(launches),
        static_cast<double>(record->blocks.load()) / static_cast<double>(launches),
        static_cast<double>(record->least_picoseconds.load()) * 1e-3,
        fmt::format("{}x{}x{}", record->shape.ntid[0], record->shape.ntid[1], record->shape.ntid[2]),
        static_cast<double>(record->compile_nanoseconds.load()) * 1e-6,
        record->compiled.load() == 0 ? "c" : " ", a.loads_uniform, a.loads_contiguous, a.loads_windowed,
        a.loads_gathered, a.stores_contiguous, a.stores_scattered, a.branches, a.branches_parting,
        record->name.empty() ? "(others)" : record->name);
  }
  return text;
}

}  // namespace vgpu::software
