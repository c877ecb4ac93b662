// Workers and NUMA nodes.
#include "tools/vgpu-device/worker_places.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>

#include "device/server/log.h"
#include "device/software/runtime/numa_placement.h"
#include "tools/vgpu-device/backends.h"

namespace vgpu::tools {
namespace {

std::optional<uint32_t> number(const std::string& text) {
  uint32_t value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc{} || parsed.ptr != end) return std::nullopt;
  return value;
}

}  // namespace

std::string numa_problem(const std::string& text) {
  if (text == "auto" || text == "off" || number(text)) return {};
  return fmt::format("--numa takes auto, off or the number of a node, and not {}", text);
}

device::Result<WorkerPlaces> WorkerPlaces::create(const DeviceOptions& options) {
  WorkerPlaces places;
  if (options.numa == "off") return places;
  const auto node = number(options.numa);
  auto placer = software::NumaPlacer::create(node);
  if (placer) {
    places.placer_ = std::make_shared<software::NumaPlacer>(std::move(*placer));
  } else if (node) {
    return std::unexpected(std::move(placer.error()));
  } else {
    device::log_warning("workers are not bound to NUMA nodes: {}", placer.error().reason);
  }
  return places;
}

device::Result<device::BackendFactory> WorkerPlaces::place(DeviceOptions options,
                                                           bool print_to_standard_output) {
  std::optional<software::NumaPlacement> place;
  if (placer_) {
    auto placed = placer_->place(options.threads);
    if (!placed) {
      placed.error().reason = fmt::format("--numa {}: {}", options.numa, placed.error().reason);
      return std::unexpected(std::move(placed.error()));
    }
    place = std::move(*placed);
  }
  if (place && options.threads == 0) options.threads = static_cast<uint32_t>(place->cpus.size());
  auto factory = backend_factory(options, print_to_standard_output);
  if (!factory || !place) return factory;
  // The worker is forked off, so it has the placer's view of the machine.
  return device::BackendFactory([placer = placer_, place = std::move(*place), chosen = options.numa != "auto",
                                 make_backend = std::move(*factory)] {
    const auto bound = placer->bind(place);
    device::log_debug("kept on NUMA node {}, on the processors {}", fmt::join(place.nodes, ", "),
                      fmt::join(place.cpus, ", "));
    // Containers as a rule refuse a memory policy. Threads that stay on a node get its memory without one,
    // so what nobody asked for is no warning.
    if (!bound) {
      device::log(chosen ? device::LogLevel::kWarning : device::LogLevel::kDebug,
                  "not wholly kept on NUMA node {}: {}", fmt::join(place.nodes, ", "), bound.error().reason);
    }
    return make_backend();
  });
}

}  // namespace vgpu::tools
