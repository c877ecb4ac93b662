// The tokens of PTX: see lexer.h.
#include "device/software/ptx/lexer.h"

#include <algorithm>
#include <array>

namespace vgpu::software::ptx {
namespace {

enum CharClass : std::uint8_t { kWordStart = 1, kWordPart = 2, kDigit = 4, kSpace = 8 };

constexpr std::array<std::uint8_t, 256> make_classes() {
  std::array<std::uint8_t, 256> table{};
  const auto index = [](char c) { return static_cast<std::size_t>(static_cast<unsigned char>(c)); };
  for (char c = 'a'; c <= 'z'; ++c) table[index(c)] = kWordStart | kWordPart;
  for (char c = 'A'; c <= 'Z'; ++c) table[index(c)] = kWordStart | kWordPart;
  for (char c = '0'; c <= '9'; ++c) table[index(c)] = kDigit | kWordPart;
  for (char c : {'_', '$', '%'}) table[index(c)] = kWordStart | kWordPart;
  for (char c : {' ', '\t', '\r', '\n', '\f', '\v'}) table[index(c)] = kSpace;
  return table;
}

constexpr auto kClasses = make_classes();

bool is_class(char c, std::uint8_t mask) {
  return (kClasses[static_cast<unsigned char>(c)] & mask) != 0;
}

}  // namespace

Lexer::Lexer(std::string_view text, std::size_t offset, std::size_t end, std::uint32_t line)
    : text_(text), position_(offset), end_(std::min(end, text.size())), line_start_(offset), line_(line) {
  // Columns count from the start of the line, which lies before `offset` when a function body begins
  // mid-line.
  while (line_start_ > 0 && text_[line_start_ - 1] != '\n') --line_start_;
  advance();
}

Token Lexer::make(TokenKind kind, std::size_t begin, std::size_t end) const {
  return {kind, line_, static_cast<std::uint32_t>(begin - line_start_ + 1), begin,
          text_.substr(begin, end - begin)};
}

// Skips blanks and comments; false when a comment does not end.
bool Lexer::skip_blank() {
  while (position_ < end_) {
    const char c = text_[position_];
    if (c == '\n') {
      ++line_;
      line_start_ = ++position_;
    } else if (is_class(c, kSpace)) {
      ++position_;
    } else if (c == '/' && position_ + 1 < end_ && text_[position_ + 1] == '/') {
      position_ = std::min(text_.find('\n', position_), end_);
    } else if (c == '/' && position_ + 1 < end_ && text_[position_ + 1] == '*') {
      std::size_t p = position_ + 2;
      while (p + 1 < end_ && !(text_[p] == '*' && text_[p + 1] == '/')) {
        if (text_[p] == '\n') {
          ++line_;
          line_start_ = p + 1;
        }
        ++p;
      }
      if (p + 1 >= end_) return false;
      position_ = p + 2;
    } else {
      break;
    }
  }
  return true;
}

void Lexer::advance() {
  if (!skip_blank()) {
    token_ = make(TokenKind::kBad, std::max(position_, line_start_), end_);
    position_ = end_;
    return;
  }
  if (position_ >= end_) {
    token_ = make(TokenKind::kEnd, end_, end_);
    return;
  }
  const std::size_t begin = position_;
  const char c = text_[begin];
  std::size_t p = begin + 1;
  TokenKind kind = TokenKind::kPunctuation;
  if (is_class(c, kWordStart)) {
    kind = TokenKind::kIdentifier;
    while (p < end_ && is_class(text_[p], kWordPart)) ++p;
  } else if (c == '.' && p < end_ && is_class(text_[p], kWordStart)) {
    kind = TokenKind::kDotWord;
    while (p < end_ &&
           (is_class(text_[p], kWordPart) ||
            (text_[p] == ':' && p + 2 < end_ && text_[p + 1] == ':' && is_class(text_[p + 2], kWordPart)))) {
      p += text_[p] == ':' ? 2 : 1;
    }
  } else if (is_class(c, kDigit)) {
    kind = TokenKind::kNumber;
    const bool prefixed =
        c == '0' && p < end_ && std::string_view("xXfFdDbB").find(text_[p]) != std::string_view::npos;
    while (p < end_) {
      const char d = text_[p];
      const bool exponent_sign =
          (d == '+' || d == '-') && !prefixed && (text_[p - 1] == 'e' || text_[p - 1] == 'E');
      if (!is_class(d, kWordPart) && d != '.' && !exponent_sign) break;
      ++p;
    }
  } else if (c == '"') {
    while (p < end_ && text_[p] != '"' && text_[p] != '\n') ++p;
    if (p >= end_ || text_[p] != '"') {
      token_ = make(TokenKind::kBad, begin, p);
      position_ = p;
      return;
    }
    token_ = make(TokenKind::kString, begin, p);
    token_.text = text_.substr(begin + 1, p - begin - 1);
    position_ = p + 1;
    return;
  } else if (c < '!' || c > '~') {
    kind = TokenKind::kBad;
  }
  position_ = p;
  token_ = make(kind, begin, p);
}

Token Lexer::next() {
  const Token current = token_;
  advance();
  return current;
}

void Lexer::skip_line() {
  // token_ may already stand on a later line; only its own line is skipped.
  position_ = std::min(text_.find('\n', token_.offset), end_);
  advance();
}

std::size_t Lexer::skip_braces() {
  std::size_t depth = 1;
  while (true) {
    if (!skip_blank() || position_ >= end_) {
      token_ = make(TokenKind::kEnd, end_, end_);
      position_ = end_;
      return std::string_view::npos;
    }
    const char c = text_[position_++];
    if (c == '{') {
      ++depth;
    } else if (c == '}') {
      if (--depth == 0) break;
    } else if (c == '"') {
      while (position_ < end_ && text_[position_] != '"' && text_[position_] != '\n') ++position_;
      if (position_ < end_ && text_[position_] == '"') ++position_;
    } else if (c != '/') {
      // Everything else cannot open or close anything: run to the next byte that can.
      while (position_ < end_) {
        const char d = text_[position_];
        if (d == '{' || d == '}' || d == '"' || d == '/' || d == '\n') break;
        ++position_;
      }
    }
  }
  const std::size_t behind = position_;
  advance();
  return behind;
}

}  // namespace vgpu::software::ptx
