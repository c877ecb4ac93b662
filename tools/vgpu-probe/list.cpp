// vgpu-probe list: what was found, where, and whether it can be used.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/report_text.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

void print_device(const DeviceReport& report) {
  print_title(report);
  // A device that stopped tells nothing of itself.
  if (report.decoded() && !report.region->name.empty()) {
    const auto& region = *report.region;
    const auto& info = region.info;
    print_line(
        fmt::format("{}, compute capability {}.{}", region.name, info.compute_major, info.compute_minor));
    print_line(fmt::format("memory {}, {} in use; {} of {} channels in use",
                           bytes_text(info.total_memory_bytes),
                           bytes_text(region.header.status.memory_in_use_bytes),
                           region.header.status.channels_served, region.found.geometry.channel_count));
  }
  print_place(report);
  print_problem(report);
}

}  // namespace

int list_devices(const Request& request) {
  std::vector<DeviceReport> reports;
  bool usable = false;
  for (const auto& place : all_places(request.guests_directory)) {
    reports.push_back(look_at(place, Detail::kShort));
    usable = usable || reports.back().usable();
  }
  if (request.json) {
    ordered_json answer;
    auto& devices = answer["devices"] = ordered_json::array();
    for (const auto& report : reports) devices.push_back(short_json(report));
    answer_json(answer);
  } else {
    for (const auto& report : reports) print_device(report);
  }
  if (usable) return 0;
  std::fflush(stdout);
  if (!reports.empty()) {
    fmt::print(
        stderr, "{}",
        paragraph(0, "vgpu-probe:", 12,
                  fmt::format("no vGPU found that can be used; {} above cannot be, for the reason given",
                              reports.size() == 1 ? "the one" : "those")));
    return 1;
  }
  const auto chosen = choose_place({}, request.guests_directory, Use::kProgram);
  fmt::print(stderr, "{}", paragraph(0, "vgpu-probe:", 12, chosen ? "no vGPU found" : chosen.error()));
  return 1;
}

}  // namespace vgpu::tools
