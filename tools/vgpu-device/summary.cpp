// Counters for people and for programs.
#include "tools/vgpu-device/summary.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"

namespace vgpu::tools {
namespace {

std::string bytes_text(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace

std::string summary_line(const device::DeviceSummary& summary) {
  const auto& block = summary.totals.block;
  std::string line = fmt::format(
      "vgpu: {} launches, {} to device, {} from device, {} round trips, {} kernels compiled, {} from cache, "
      "peak memory {}",
      block.launches, bytes_text(block.bytes_to_device), bytes_text(block.bytes_from_device), block.replies,
      block.kernels_compiled, summary.kernels_from_cache, bytes_text(block.memory_peak_bytes));
  if (block.errors > 0) line += fmt::format(", {} errors", block.errors);
  if (summary.worker_deaths > 0) line += fmt::format(", {} worker deaths", summary.worker_deaths);
  return line;
}

std::string write_summary_json(const device::DeviceSummary& summary, const std::string& path) {
  const auto& block = summary.totals.block;
  nlohmann::ordered_json json = {{"launches", block.launches},
                                 {"bytes_in", block.bytes_to_device},
                                 {"bytes_out", block.bytes_from_device},
                                 {"bytes_on_device", block.bytes_on_device},
                                 {"round_trips", block.replies},
                                 {"commands", block.commands},
                                 {"batches", block.batches},
                                 {"blas_calls", block.blas_calls},
                                 {"errors", block.errors},
                                 {"not_supported", block.not_supported},
                                 {"memory_peak_bytes", block.memory_peak_bytes},
                                 {"busy_ns", block.busy_ns},
                                 {"kernel_ns", block.kernel_ns},
                                 {"kernels_compiled", block.kernels_compiled},
                                 {"kernels_from_cache", summary.kernels_from_cache},
                                 {"compile_ns", block.compile_ns},
                                 {"worker_deaths", summary.worker_deaths},
                                 {"backend", summary.statistics}};
  auto& commands = json["by_command"] = nlohmann::ordered_json::object();
  for (uint32_t i = 0; i < protocol::kCommandCount; ++i) {
    if (summary.totals.by_command[i] > 0)
      commands[protocol::kCommands[i].name] = summary.totals.by_command[i];
  }
  std::ofstream file(path, std::ios::trunc);
  // The backend's line may hold anything: bytes that are no text must not stop the figures.
  file << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  file.flush();
  if (!file) return fmt::format("cannot write the counters to {}: {}", path, std::strerror(errno));
  return {};
}

}  // namespace vgpu::tools
