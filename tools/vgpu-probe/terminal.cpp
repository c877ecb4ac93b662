// Widths, tones, wrapping.
#include "tools/vgpu-probe/terminal.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <ctime>
#include <utility>

namespace vgpu::tools {
namespace {

constexpr std::size_t kDefaultWidth = 80;
constexpr std::size_t kLeastWidth = 40;

// Bytes of the UTF-8 character that `text` begins with, printable on a terminal; 0: it is none.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return first >= ' ' && first != 0x7f ? 1 : 0;
  const std::size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return 0;
  uint32_t code = first & (0x7fU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::array<uint32_t, 5> kFirstOfLength = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kFirstOfLength[bytes] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return 0;
  // Control characters once more, and marks that turn the direction of writing around.
  if (code < 0xa0 || (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
      (code >= 0x2066 && code <= 0x2069) || code == 0xfeff) {
    return 0;
  }
  return bytes;
}

bool continues_a_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

// Bytes of the first `width` columns.
std::size_t bytes_of_columns(std::string_view text, std::size_t width) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (!continues_a_character(text[at]) && width-- == 0) break;
    ++at;
  }
  return at;
}

}  // namespace

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultWidth;
  return std::max<std::size_t>(size.ws_col, kLeastWidth);
}

bool terminal_has_a_cursor() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && kind != nullptr && *kind != '\0' && std::string_view(kind) != "dumb";
}

bool terminal_has_colours() {
  static const bool colours = [] {
    const char* no = std::getenv("NO_COLOR");
    return terminal_has_a_cursor() && (no == nullptr || *no == '\0');
  }();
  return colours;
}

std::string tinted(std::string_view text, Tone tone) {
  if (tone == Tone::kPlain || !terminal_has_colours()) return std::string(text);
  constexpr std::array<const char*, 6> kCodes = {"0", "1", "2", "32", "33", "1;31"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<std::size_t>(tone)], text);
}

std::string printable(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    clean += bytes == 0 ? std::string_view("?") : text.substr(0, bytes);
    text.remove_prefix(std::max<std::size_t>(bytes, 1));
  }
  return clean;
}

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return !continues_a_character(c); }));
}

std::string cut(std::string_view text, std::size_t width) {
  if (columns(text) <= width) return std::string(text);
  if (width <= 3) return std::string(width, '.');
  return std::string(text.substr(0, bytes_of_columns(text, width - 3))) + "...";
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  width = std::max<std::size_t>(width, 8);
  std::vector<std::string> lines;
  while (true) {
    const std::size_t newline = text.find('\n');
    std::string_view rest = text.substr(0, newline);
    while (columns(rest) > width) {
      std::size_t end = bytes_of_columns(rest, width);
      // The space may stand just behind the last column.
      const std::size_t space = rest.substr(0, end + 1).rfind(' ');
      std::size_t next = end;
      if (space != std::string_view::npos && space > 0) {
        end = space;
        next = space + 1;
      }
      lines.emplace_back(rest.substr(0, end));
      rest.remove_prefix(next);
    }
    lines.emplace_back(rest);
    if (newline == std::string_view::npos) return lines;
    text.remove_prefix(newline + 1);
  }
}

std::string paragraph(std::size_t indent, std::string_view head, std::size_t text_column,
                      std::string_view text, Tone head_tone) {
  const std::size_t width = terminal_width();
  text_column = std::min(text_column, width / 2);
  std::string all(indent, ' ');
  all += tinted(head, head_tone);
  std::size_t column = indent + columns(head);
  if (column >= text_column && column > indent) {
    all += '\n';
    column = 0;
  }
  for (const std::string& line : wrapped(text, width - text_column)) {
    all += std::string(text_column - column, ' ') + line + '\n';
    column = 0;
  }
  return all;
}

std::string bytes_text(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} byte{}", bytes, bytes == 1 ? "" : "s");
  constexpr std::array<const char*, 6> kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto size = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (size >= 1024 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  const bool whole = bytes % (uint64_t{1} << (10 * (unit + 1))) == 0;
  return fmt::format("{:.{}f} {}", size, whole ? 0 : 1, kUnits[unit]);
}

std::string duration_text(uint64_t nanoseconds) {
  const auto ns = static_cast<double>(nanoseconds);
  const auto three_digits = [](double value, const char* unit) {
    return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, unit);
  };
  if (nanoseconds < 1000) return fmt::format("{} ns", nanoseconds);
  if (ns < 999.5e3) return three_digits(ns / 1e3, "us");
  if (ns < 999.5e6) return three_digits(ns / 1e6, "ms");
  if (ns < 119.5e9) return three_digits(ns / 1e9, "s");
  const uint64_t minutes = nanoseconds / 60'000'000'000;
  if (minutes < 120) return fmt::format("{} min", minutes);
  if (minutes < 48 * 60) return fmt::format("{} h {} min", minutes / 60, minutes % 60);
  return fmt::format("{} days", minutes / 60 / 24);
}

std::string number_text(uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, 1, ' ');
  return text;
}

std::string time_text(uint64_t unix_nanoseconds) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(static_cast<std::time_t>(unix_nanoseconds / 1'000'000'000)));
}

std::string bar_text(double share, std::size_t width) {
  const double limited = share > 0 ? std::min(share, 1.0) : 0;
  const auto filled = static_cast<std::size_t>(limited * static_cast<double>(width) + 0.5);
  return std::string(filled, '#') + std::string(width - filled, '.');
}

}  // namespace vgpu::tools
