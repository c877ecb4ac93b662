// Cuts PTX text into tokens. Knows nothing of the grammar; never allocates; any bytes are accepted, a byte
// that begins no token gives a kBad token. Tokens are views of the text, which must outlive them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vgpu::software::ptx {

enum class TokenKind : std::uint8_t {
  kEnd,
  kIdentifier,   // foo, $L__1, %r5, _
  kDotWord,      // .global, .v2, .L2::128B: text includes the dot
  kNumber,       // 12, 0x1F, 0f3F800000, 8.4, 1.5e-3
  kString,       // text without the quotes
  kPunctuation,  // one character: text[0]
  kBad,          // no token begins with this byte, or a string or comment does not end
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  std::uint32_t line = 0;
  std::uint32_t column = 0;
  std::size_t offset = 0;  // in the text
  std::string_view text;

  [[nodiscard]] bool is(char punctuation) const {
    return kind == TokenKind::kPunctuation && text[0] == punctuation;
  }
  [[nodiscard]] bool is_word(std::string_view dot_word) const {
    return kind == TokenKind::kDotWord && text == dot_word;
  }
};

class Lexer {
 public:
  // Starts at `offset`, which is on line `line`; reads up to `end`.
  Lexer(std::string_view text, std::size_t offset, std::size_t end, std::uint32_t line);

  [[nodiscard]] const Token& peek() const { return token_; }
  Token next();
  // Skips the rest of the current token's line, that token included (.loc and .file have no terminator).
  void skip_line();
  // With a '{' as the current token: skips to behind its '}'. Returns the offset behind it, or npos when the
  // text ends first. Only braces, comments and strings are looked at.
  std::size_t skip_braces();

 private:
  void advance();
  bool skip_blank();
  Token make(TokenKind kind, std::size_t begin, std::size_t end) const;

  std::string_view text_;
  std::size_t position_;
  std::size_t end_;
  std::size_t line_start_;
  std::uint32_t line_;
  Token token_;
};

}  // namespace vgpu::software::ptx
