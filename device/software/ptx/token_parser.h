// What the module parser and the function parser share: the token stream, the first error, constants, and the
// common part of every declaration. Methods that return bool say false after they have recorded an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "device/software/ptx/ast.h"
#include "device/software/ptx/lexer.h"

namespace vgpu::software::ptx {

// Bounds on what one module may make the parser allocate.
inline constexpr std::size_t kMaxTextBytes = std::size_t{1} << 28;
inline constexpr std::size_t kMaxRegisters = std::size_t{1} << 20;
inline constexpr std::size_t kMaxInstructions = std::size_t{1} << 20;
inline constexpr std::size_t kMaxVariables = std::size_t{1} << 16;
inline constexpr std::size_t kMaxFunctions = std::size_t{1} << 16;
inline constexpr std::size_t kMaxParameters = 4096;
inline constexpr std::size_t kMaxCallOperands = 4096;
inline constexpr std::uint32_t kMaxScopeDepth = 64;
inline constexpr std::uint32_t kMaxExpressionDepth = 32;
inline constexpr std::uint64_t kMaxVariableBytes = std::uint64_t{1} << 36;
inline constexpr std::uint64_t kMaxFrameBytes = std::uint64_t{1} << 30;
inline constexpr std::uint64_t kMaxParameterBytes = 32764;

// A word of the source as errors show it.
inline std::string quoted(std::string_view text) {
  return "`" + std::string(text.substr(0, 64)) + "`";
}

// A literal or constant expression.
struct Constant {
  enum class Kind : std::uint8_t { kInteger, kF32, kF64 } kind = Kind::kInteger;
  std::uint64_t bits = 0;  // kInteger: the value; kF32, kF64: IEEE bits
};

// `.align 4 .b8 name[3][4]`, without the state space before it and the initialiser behind it.
struct Declarator {
  std::string_view name;
  Type type = Type::kNone;
  std::uint32_t align = 1;
  std::uint64_t size = 0;
  bool is_array = false;
  bool is_unsized = false;
  std::vector<std::uint64_t> dimensions;
  Token at;
};

class TokenParser {
 public:
  TokenParser(const std::string& file, std::string_view text, std::size_t begin, std::size_t end,
              std::uint32_t line)
      : lexer_(text, begin, end, line), file_(file) {}

  [[nodiscard]] const Error& error() const { return error_; }
  [[nodiscard]] bool failed() const { return failed_; }

 protected:
  // Where the error does not name `where` (quoted) already: "..., in `where`".
  void place_error(const std::string& where) {
    if (failed_ && error_.message.find(where) == std::string::npos) error_.message += ", in " + where;
  }
  [[nodiscard]] const Token& peek() const { return lexer_.peek(); }
  Token next() { return lexer_.next(); }

  bool fail(const Token& at, ErrorKind kind, std::string message);
  bool fail(const Token& at, std::string message) { return fail(at, ErrorKind::kSyntax, std::move(message)); }
  // "expected X, found `token`"
  bool unexpected(const Token& at, std::string_view expected);
  bool expect(char punctuation);
  bool accept(char punctuation);
  bool accept_word(std::string_view dot_word);
  bool parse_identifier(Token& out);
  bool parse_u32(std::uint32_t& out, std::string_view what);
  bool parse_u64(std::uint64_t& out, std::string_view what);

  // Integer literals, 0f… and 0d… literals, decimals.
  bool parse_literal(const Token& token, Constant& out);
  // With unary - ~ ! +, the usual binary operators on integers, and parentheses.
  bool parse_constant(Constant& out);
  // The constant as bits of `type`: integers as they are, floats converted.
  bool constant_bits(const Token& at, const Constant& constant, Type type, std::uint64_t& out);

  // Everything of a declaration from .align to the last ']'. `.ptr .global .align n` of parameters is
  // accepted.
  bool parse_declarator(Declarator& out);
  // Type, vector width and alignment, up to but without the name.
  bool parse_declarator_head(Declarator& out);
  // Name and dimensions.
  bool parse_declarator_name(Declarator& out);
  // `( .param … , … )` of a .func, an .entry or a .callprototype; the '(' is the current token.
  bool parse_parameters(std::vector<Parameter>& out, std::uint32_t& bytes, bool is_entry);

  Lexer lexer_;

 private:
  bool parse_unary(Constant& out, std::uint32_t depth);
  bool parse_binary(Constant& out, int min_precedence, std::uint32_t depth);

  const std::string& file_;
  Error error_;
  bool failed_ = false;
};

}  // namespace vgpu::software::ptx
