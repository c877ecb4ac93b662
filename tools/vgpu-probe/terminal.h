// Text for people: the terminal's width, tones where there are colours, wrapped lines, sizes and durations in
// words. Nothing is told by colour alone, and no line is wider than the terminal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vgpu::tools {

// Columns of standard output's terminal, 40 at least; 80 where it is none.
std::size_t terminal_width();
// Standard output is a terminal that can do more than lines (TERM is set and not "dumb").
bool terminal_has_a_cursor();
// The same, and NO_COLOR is not set.
bool terminal_has_colours();

enum class Tone : uint8_t { kPlain, kBold, kDim, kGood, kWarning, kBad };
// The text between the escapes of its tone; the text itself where there are no colours.
std::string tinted(std::string_view text, Tone tone);

// What somebody else wrote, made safe for a terminal: control characters and what is no UTF-8 become '?'.
std::string printable(std::string_view text);
// Columns that printable text takes: one for each character.
std::size_t columns(std::string_view text);
// Cut to so many columns, the last three being "..." where something is missing.
std::string cut(std::string_view text, std::size_t width);

// The text in lines of at most `width` columns, broken at spaces, and inside words that are longer than a
// line. Newlines in it are kept.
std::vector<std::string> wrapped(std::string_view text, std::size_t width);
// `head` at column `indent`, the text from column `text_column`, its further lines under it.
std::string paragraph(std::size_t indent, std::string_view head, std::size_t text_column,
                      std::string_view text, Tone head_tone = Tone::kPlain);

std::string bytes_text(uint64_t bytes);                 // "256 MiB", "1.5 KiB", "0 bytes"
std::string duration_text(uint64_t nanoseconds);        // "140 ns", "1.9 us", "12.3 s", "2 h 5 min"
std::string number_text(uint64_t number);               // "1 234 567"
std::string time_text(uint64_t unix_nanoseconds);       // "2026-01-31 12:00:00 UTC"
std::string bar_text(double share, std::size_t width);  // "####......" of `width` columns; share 0 to 1

}  // namespace vgpu::tools
