// Boxes in boxes: sizes from the inside out, then places from the outside in.
#include "tools/vgpu-probe/topology_svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using pci::MachinePart;

constexpr double kGap = 8;
constexpr double kLine = 18;
constexpr double kLetter = 7.2;
constexpr double kLegend = 70;

struct Box {
  std::string label;
  std::string fill;
  double x = 0, y = 0, width = 0, height = 0;
  std::vector<Box> inner;
};

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : printable(text)) {
    switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

bool has(const std::vector<uint32_t>& cpus, int64_t number) {
  return std::ranges::find(cpus, static_cast<uint32_t>(number)) != cpus.end();
}

// What a box says, and its colour; an empty label: the part gets no box, its parts stand in its parent's.
Box describe(const MachinePart& part, const Pinning* pinning) {
  Box box;
  switch (part.kind) {
    case MachinePart::Kind::kMachine:
      box.label = "machine";
      box.fill = "#f7f7f5";
      break;
    case MachinePart::Kind::kPackage:
      box.label = fmt::format("package {} {}", part.number, cut(printable(part.model), 40));
      box.fill = "#ecebe6";
      break;
    case MachinePart::Kind::kNumaNode:
      box.label = fmt::format("NUMA node {}: {}", part.number, bytes_text(part.bytes));
      box.fill = pinning != nullptr && has(pinning->numa_nodes, part.number) ? "#bfe3c4" : "#dfe8f3";
      break;
    case MachinePart::Kind::kCache:
      box.label = fmt::format("{} {}", part.name, bytes_text(part.bytes));
      box.fill = "#ffffff";
      break;
    case MachinePart::Kind::kCore:
      box.label = fmt::format("core {}", part.number);
      box.fill = "#f4f0e1";
      break;
    case MachinePart::Kind::kProcessor:
      box.label = std::to_string(part.number);
      box.fill = "#ffffff";
      if (pinning != nullptr && has(pinning->near_cpus, part.number)) box.fill = "#e3f2e5";
      if (pinning != nullptr && has(pinning->device_cpus, part.number)) box.fill = "#bfe3c4";
      if (pinning != nullptr && !pinning->device_cpus.empty() && has(pinning->program_cpus, part.number)) {
        box.fill = "#f6d79b";
      }
      break;
    case MachinePart::Kind::kPciDevice:
      box.label = "vGPU " + part.name;
      box.fill = "#d9c7ee";
      break;
    case MachinePart::Kind::kOther:
      box.label = part.name;
      box.fill = "#ffffff";
      break;
  }
  return box;
}

// Rows of about equal width, so that the whole is about twice as wide as high.
void arrange(Box& box) {
  double area = 0;
  double widest = 0;
  for (const Box& inner : box.inner) {
    area += (inner.width + kGap) * (inner.height + kGap);
    widest = std::max(widest, inner.width);
  }
  // A core's processors stand beside each other, and so do four cores.
  const double limit = std::max(4 * (widest + kGap) + kGap, std::sqrt(area * 2.2));
  double x = kGap;
  double y = kLine + kGap;
  double row = 0;
  double right = 0;
  for (Box& inner : box.inner) {
    if (x > kGap && x + inner.width > limit) {
      x = kGap;
      y += row + kGap;
      row = 0;
    }
    inner.x = x;
    inner.y = y;
    x += inner.width + kGap;
    row = std::max(row, inner.height);
    right = std::max(right, x);
  }
  // Boxes with numbers are all of one width.
  const auto letters = static_cast<double>(std::max<std::size_t>(columns(box.label), 3));
  box.width = std::max(right, letters * kLetter + 2 * kGap);
  box.height = box.inner.empty() ? kLine + kGap : y + row + kGap;
}

Box build(const MachinePart& part, const Pinning* pinning) {
  Box box = describe(part, pinning);
  // A cache of one core says little: its core stands alone.
  const MachinePart* from = &part;
  if (part.kind == MachinePart::Kind::kCache || part.kind == MachinePart::Kind::kOther) {
    while (from->parts.size() == 1 && from->parts.front().kind == MachinePart::Kind::kCache) {
      from = &from->parts.front();
    }
    if (from->parts.size() == 1 && from->parts.front().kind == MachinePart::Kind::kCore) {
      return build(from->parts.front(), pinning);
    }
    box = describe(*from, pinning);
  }
  for (const auto& inner : from->parts) box.inner.push_back(build(inner, pinning));
  arrange(box);
  return box;
}

void draw(const Box& box, double x, double y, std::string& svg) {
  svg += fmt::format(
      "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\" rx=\"4\" fill=\"{}\" "
      "stroke=\"#777\"/>\n<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n",
      x, y, box.width, box.height, box.fill, x + kGap, y + kLine - 2, escaped(box.label));
  for (const Box& inner : box.inner) draw(inner, x + inner.x, y + inner.y, svg);
}

void draw_legend(double x, double y, std::string& svg, const Pinning& pinning) {
  const auto entry = [&](const char* fill, const char* text) {
    svg += fmt::format(
        "<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"14\" height=\"14\" rx=\"3\" fill=\"{}\" "
        "stroke=\"#777\"/>\n<text x=\"{:.0f}\" y=\"{:.0f}\">{}</text>\n",
        x, y, fill, x + 20, y + 12, text);
    y += kLine;
  };
  if (pinning.device_cpus.empty()) {
    entry("#e3f2e5", "processors near the vGPU");
  } else {
    entry("#bfe3c4", "for vgpu-device");
    entry("#f6d79b", "for the program's submitting thread");
  }
}

}  // namespace

std::string topology_svg(const MachinePart& machine, const Pinning* pinning) {
  const Box box = build(machine, pinning);
  const double width = std::max(box.width + 2 * kGap, 320.0);
  const double height = box.height + 2 * kGap + (pinning != nullptr ? kLegend : 0);
  std::string svg = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
      "width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"monospace\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
      width, height);
  draw(box, kGap, kGap, svg);
  if (pinning != nullptr) draw_legend(kGap, box.height + 2 * kGap, svg, *pinning);
  svg += "</svg>\n";
  return svg;
}

}  // namespace vgpu::tools
