// vgpu-probe topo: the machine, where its vGPUs are, and which processors to use with one.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "pci/topology.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/pinning.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/report_text.h"
#include "tools/vgpu-probe/terminal.h"
#include "tools/vgpu-probe/topology_svg.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;
using pci::MachinePart;

std::string cores_text(const MachinePart& part, std::size_t cores) {
  return fmt::format("{} core{}, processor{} {}", cores, cores == 1 ? "" : "s",
                     part.cpus.size() == 1 ? "" : "s", range_text(part.cpus));
}

std::size_t count_of(const MachinePart& part, MachinePart::Kind kind) {
  std::size_t count = part.kind == kind ? 1 : 0;
  for (const auto& inner : part.parts) count += count_of(inner, kind);
  return count;
}

// Down to the caches that several cores share; cores are told by number.
void print_part(const MachinePart& part, std::size_t depth) {
  const std::size_t cores = count_of(part, MachinePart::Kind::kCore);
  std::string line;
  switch (part.kind) {
    case MachinePart::Kind::kMachine:
      line = fmt::format("machine: {}", cores_text(part, cores));
      break;
    case MachinePart::Kind::kPackage:
      line =
          fmt::format("package {}: {}{}", part.number, printable(part.model), part.model.empty() ? "" : "; ");
      line += cores_text(part, cores);
      break;
    case MachinePart::Kind::kNumaNode:
      line = fmt::format("NUMA node {}: {}", part.number, bytes_text(part.bytes));
      break;
    case MachinePart::Kind::kPciDevice:
      line = fmt::format("vGPU {}", part.name);
      break;
    case MachinePart::Kind::kCache:
      if (cores < 2) return;
      line = fmt::format("{} of {}: {}", part.name, bytes_text(part.bytes), cores_text(part, cores));
      break;
    case MachinePart::Kind::kOther:
      if (cores < 2) return;
      line = fmt::format("{}: {}", part.name, cores_text(part, cores));
      break;
    case MachinePart::Kind::kCore:
    case MachinePart::Kind::kProcessor:
      return;
  }
  fmt::print("{}", paragraph(2 * depth, "", 2 * depth, line));
  for (const auto& inner : part.parts) print_part(inner, depth + 1);
}

int write_svg(const std::string& file, const std::string& svg) {
  std::FILE* to = file == "-" ? stdout : std::fopen(file.c_str(), "we");
  if (to == nullptr)
    return answer_failure(fmt::format("cannot write {}: {}", file, std::strerror(errno)), false);
  const bool written = std::fwrite(svg.data(), 1, svg.size(), to) == svg.size();
  const bool closed = to == stdout ? std::fflush(to) == 0 : std::fclose(to) == 0;
  return written && closed
             ? 0
             : answer_failure(fmt::format("cannot write all of {}: is the disk full?", file), false);
}

}  // namespace

int show_topology(const Request& request, const std::string& svg_file) {
  std::vector<pci::PciAddress> addresses;
  for (const auto& place : all_places(request.guests_directory)) {
    if (place.function) addresses.push_back(place.function->address);
  }
  const auto machine = pci::machine_parts(addresses);
  if (!machine) return answer_failure(machine.error().text, request.json);
  const auto place = choose_place(request.device, request.guests_directory, Use::kLook);
  std::optional<Pinning> pinning;
  if (place) pinning = recommend_pinning(*place, *machine);
  if (!svg_file.empty()) {
    if (const int status = write_svg(svg_file, topology_svg(*machine, pinning ? &*pinning : nullptr));
        status != 0) {
      return status;
    }
  } else if (request.json) {
    ordered_json answer = {{"machine", machine_json(*machine)}};
    if (pinning) {
      answer["device"] = pinning_json(*pinning);
      answer["device"]["path"] = place->location.path;
    } else {
      answer["error"] = printable(place.error());
    }
    answer_json(answer);
  } else {
    print_part(*machine, 0);
    if (pinning) {
      print_heading(fmt::format("pinning for {}", printable(place->name())));
      print_field("memory on", pinning->numa_nodes.empty()
                                   ? std::string("an unknown NUMA node")
                                   : fmt::format("NUMA node {}", range_text(pinning->numa_nodes)));
      print_field("processors near it", range_text(pinning->near_cpus));
      for (const auto& line : pinning->advice) print_line(line);
    }
  }
  if (place) return 0;
  std::fflush(stdout);
  fmt::print(stderr, "{}", paragraph(0, "vgpu-probe:", 12, printable(place.error())));
  return 1;
}

}  // namespace vgpu::tools
