// Lines about a device.
#include "tools/vgpu-probe/report_text.h"

#include <fmt/format.h>

#include <algorithm>

namespace vgpu::tools {
namespace {

constexpr std::size_t kIndent = 4;
constexpr std::size_t kFieldColumn = 24;

Tone tone_of(const DeviceReport& report) {
  if (report.usable()) return Tone::kGood;
  return report.health == "starting" || report.health == "stopping" ? Tone::kWarning : Tone::kBad;
}

std::string load_text(uint64_t picoseconds) {
  return picoseconds < 100'000 ? fmt::format("{:.1f} ns", static_cast<double>(picoseconds) / 1000)
                               : duration_text(picoseconds / 1000);
}

void print_function(const pci::DiscoveredDevice& function) {
  print_line(fmt::format("PCI {:04x}:{:04x}, subsystem {:04x}:{:04x}, revision {:02x}", function.vendor,
                         function.device, function.subsystem_vendor, function.subsystem_device,
                         function.revision));
  print_line(fmt::format("{}, driver {}{}{}", function.has_doorbell() ? "ivshmem-doorbell" : "ivshmem-plain",
                         function.driver.empty() ? "none" : printable(function.driver),
                         function.numa_node < 0 ? "" : fmt::format(", NUMA node {}", function.numa_node),
                         function.acpi_index < 0 ? "" : fmt::format(", acpi-index {}", function.acpi_index)));
  if (!function.memory_enabled) {
    print_line("the function does not answer to its BARs: memory space is disabled in its command register");
  }
  for (const auto& bar : function.bars) {
    print_line(fmt::format("BAR{} {} at {:#x}, {}{}{}", bar.index, bytes_text(bar.bytes), bar.bus_address,
                           bar.memory ? "memory" : "I/O ports", bar.is_64bit ? ", 64-bit" : "",
                           bar.prefetchable ? ", prefetchable" : ""));
  }
}

}  // namespace

void print_title(const DeviceReport& report) {
  const std::size_t width = terminal_width();
  const std::string name = cut(printable(report.place.name()), width - columns(report.health) - 2);
  fmt::print("{}: {}\n", tinted(name, Tone::kBold), tinted(report.health, tone_of(report)));
}

void print_line(const std::string& text) {
  fmt::print("{}", paragraph(kIndent, "", kIndent, text));
}

void print_place(const DeviceReport& report) {
  if (report.place.function) print_function(*report.place.function);
  for (const auto& mapping : report.mappings) {
    const std::string file = mapping.file.substr(mapping.file.rfind('/') + 1);
    const bool used = mapping.file == report.mapped_file;
    if (!mapping.problem.empty()) {
      print_line(fmt::format("{}: {}", file, printable(mapping.problem)));
    } else {
      print_line(fmt::format("{}: {}, a load takes {}{}", file, mapping.kind,
                             load_text(mapping.load_picoseconds), used ? "; programs map this one" : ""));
    }
  }
  if (!report.place.function) {
    const char* const what = !report.place.guest.empty() ? "region of a virtual machine's guest"
                             : report.owners_in_a_guest  ? "region of a virtual machine's guest"
                             : report.region && report.region->header.magic == ring::kRegionMagic
                                 ? "region file"
                                 : "file";
    std::string line = what;
    if (!report.place.guest.empty()) line += fmt::format(" ({})", printable(report.place.guest));
    if (report.region) line += fmt::format(", {}", bytes_text(report.region->file_bytes));
    if (report.place.location.found_by == pci::FoundBy::kEnvironment) line += ", named by VGPU_DEVICE";
    print_line(line);
  }
}

void print_problem(const DeviceReport& report) {
  if (report.problem.empty()) return;
  fmt::print("{}", paragraph(kIndent, "wrong:", kIndent + 7, report.problem, Tone::kBad));
  if (!report.advice.empty()) {
    fmt::print("{}", paragraph(kIndent, "do:", kIndent + 7, report.advice, Tone::kBold));
  }
}

void print_heading(std::string_view heading, Tone tone) {
  fmt::print("{}\n", tinted(cut(heading, terminal_width()), tone));
}

void print_field(std::string_view name, std::string_view value) {
  fmt::print("{}", paragraph(2, name, kFieldColumn, value));
}

}  // namespace vgpu::tools
