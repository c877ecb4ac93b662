// See kernel_statistics.h.
#include "device/software/runtime/kernel_statistics.h"

#include <fmt/format.h>

#include <algorithm>

namespace vgpu::software {

std::shared_ptr<KernelRecord> KernelStatistics::record(std::string_view name, const jit::LaunchShape& shape,
                                                       const jit::CompiledKernel& code) {
  const std::lock_guard lock(mutex_);
  for (const auto& record : records_) {
    if (record->name == name && record->shape == shape) return record;
  }
  if (records_.size() >= kMaxRecords) {
    if (!others_) others_ = std::make_shared<KernelRecord>();
    return others_;
  }
  auto record = std::make_shared<KernelRecord>();
  record->name = name;
  record->shape = shape;
  record->accesses = code.accesses;
  record->from_cache = code.from_cache;
  record->compile_seconds = code.compile_seconds;
  records_.push_back(record);
  return record;
}

std::string KernelStatistics::table() const {
  std::vector<std::shared_ptr<KernelRecord>> records;
  {
    const std::lock_guard lock(mutex_);
    records = records_;
    if (others_) records.push_back(others_);
  }
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
        record->compile_seconds * 1e3, record->from_cache ? "c" : " ", a.loads_uniform, a.loads_contiguous,
        a.loads_windowed, a.loads_gathered, a.stores_contiguous, a.stores_scattered, a.branches,
        a.branches_parting, record->name.empty() ? "(others)" : record->name);
  }
  return text;
}

}  // namespace vgpu::software
