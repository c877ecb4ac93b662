// Token handling, constants and declarations: see token_parser.h.
#include "device/software/ptx/token_parser.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>

#include "device/software/ptx/opcode_table.h"

namespace vgpu::software::ptx {

std::string Error::describe() const {
  std::string text = file;
  if (line != 0) text += ":" + std::to_string(line) + ":" + std::to_string(column);
  return text + ": " + message;
}

bool TokenParser::fail(const Token& at, ErrorKind kind, std::string message) {
  if (!failed_) {
    failed_ = true;
    error_ = Error{kind, file_, at.line, at.column, std::move(message)};
  }
  return false;
}

bool TokenParser::unexpected(const Token& at, std::string_view expected) {
  std::string message = "expected " + std::string(expected) + ", found ";
  if (at.kind == TokenKind::kEnd) {
    message += "the end of the text";
  } else if (at.kind == TokenKind::kBad && !at.text.empty() && at.text[0] == '"') {
    message += "a string without an end";
  } else if (at.kind == TokenKind::kBad && at.text.size() > 1) {
    message += "a comment without an end";
  } else {
    // Text comes from the guest: bounded, and nothing unprintable into logs.
    message += '`';
    for (const char c : at.text.substr(0, 64)) message += c >= ' ' && c <= '~' ? c : '?';
    message += '`';
  }
  return fail(at, std::move(message));
}

bool TokenParser::expect(char punctuation) {
  if (!peek().is(punctuation)) return unexpected(peek(), std::string("`") + punctuation + "`");
  next();
  return true;
}

bool TokenParser::accept(char punctuation) {
  if (!peek().is(punctuation)) return false;
  next();
  return true;
}

bool TokenParser::accept_word(std::string_view dot_word) {
  if (!peek().is_word(dot_word)) return false;
  next();
  return true;
}

bool TokenParser::parse_identifier(Token& out) {
  if (peek().kind != TokenKind::kIdentifier) return unexpected(peek(), "a name");
  out = next();
  return true;
}

bool TokenParser::parse_u64(std::uint64_t& out, std::string_view what) {
  const Token at = peek();
  Constant constant;
  if (!parse_constant(constant)) return false;
  if (constant.kind != Constant::Kind::kInteger) return fail(at, std::string(what) + " must be an integer");
  out = constant.bits;
  return true;
}

bool TokenParser::parse_u32(std::uint32_t& out, std::string_view what) {
  const Token at = peek();
  std::uint64_t value = 0;
  if (!parse_u64(value, what)) return false;
  if (value > std::numeric_limits<std::uint32_t>::max()) return fail(at, std::string(what) + " is too large");
  out = static_cast<std::uint32_t>(value);
  return true;
}

bool TokenParser::parse_literal(const Token& token, Constant& out) {
  std::string_view text = token.text;
  const auto bad = [&] { return fail(token, "malformed number `" + std::string(text.substr(0, 64)) + "`"); };
  const auto digits = [&](std::string_view part, unsigned base) {
    if (part.empty()) return bad();
    std::uint64_t value = 0;
    for (const char c : part) {
      unsigned digit = 99;
      if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
      if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a' + 10);
      if (c >= 'A' && c <= 'F') digit = static_cast<unsigned>(c - 'A' + 10);
      if (digit >= base) return bad();
      if (value > (std::numeric_limits<std::uint64_t>::max() - digit) / base) {
        return fail(token, "number `" + std::string(text.substr(0, 64)) + "` does not fit in 64 bits");
      }
      value = value * base + digit;
    }
    out = {Constant::Kind::kInteger, value};
    return true;
  };
  if (text.size() > 1 && text[0] == '0') {
    const char prefix = text[1];
    const std::string_view rest = text.substr(2);
    if (prefix == 'f' || prefix == 'F') {
      if (rest.size() != 8 || !digits(rest, 16)) return bad();
      out.kind = Constant::Kind::kF32;
      return true;
    }
    if (prefix == 'd' || prefix == 'D') {
      if (rest.size() != 16 || !digits(rest, 16)) return bad();
      out.kind = Constant::Kind::kF64;
      return true;
    }
  }
  std::string_view integer = text;
  if (integer.ends_with('U') || integer.ends_with('u')) integer.remove_suffix(1);
  if (integer.starts_with("0x") || integer.starts_with("0X")) return digits(integer.substr(2), 16);
  if (integer.starts_with("0b") || integer.starts_with("0B")) return digits(integer.substr(2), 2);
  if (integer.find_first_of(".eE") != std::string_view::npos) {
    if (text.size() > 64) return bad();
    const std::string copy(text);
    char* end = nullptr;
    const double value = std::strtod(copy.c_str(), &end);
    if (end != copy.c_str() + copy.size()) return bad();
    out = {Constant::Kind::kF64, std::bit_cast<std::uint64_t>(value)};
    return true;
  }
  if (integer.size() > 1 && integer[0] == '0') return digits(integer.substr(1), 8);
  return digits(integer, 10);
}

bool TokenParser::parse_unary(Constant& out, std::uint32_t depth) {
  if (depth > kMaxExpressionDepth)
    return fail(peek(), ErrorKind::kLimit, "constant expression nested too deeply");
  const Token at = peek();
  if (accept('+')) return parse_unary(out, depth + 1);
  if (accept('-')) {
    if (!parse_unary(out, depth + 1)) return false;
    switch (out.kind) {
      case Constant::Kind::kInteger:
        out.bits = 0 - out.bits;
        break;
      case Constant::Kind::kF32:
        out.bits ^= 0x8000'0000U;
        break;
      case Constant::Kind::kF64:
        out.bits ^= std::uint64_t{1} << 63;
        break;
    }
    return true;
  }
  if (at.is('~') || at.is('!')) {
    next();
    if (!parse_unary(out, depth + 1)) return false;
    if (out.kind != Constant::Kind::kInteger) return fail(at, "this operator needs an integer");
    out.bits = at.is('~') ? ~out.bits : static_cast<std::uint64_t>(out.bits == 0);
    return true;
  }
  if (accept('(')) {
    // (.u64), (.s64): casts of the integer that follows, which change nothing in 64 bits.
    if (peek().is_word(".u64") || peek().is_word(".s64")) {
      next();
      return expect(')') && parse_unary(out, depth + 1);
    }
    return parse_binary(out, 0, depth + 1) && expect(')');
  }
  if (at.kind == TokenKind::kIdentifier && at.text == "WARP_SZ") {
    next();
    out = {Constant::Kind::kInteger, 32};
    return true;
  }
  if (at.kind != TokenKind::kNumber) return unexpected(at, "a number");
  return parse_literal(next(), out);
}

namespace {

// 0: no binary operator.
int precedence_of(const Token& token) {
  if (token.kind != TokenKind::kPunctuation) return 0;
  switch (token.text[0]) {
    case '|':
      return 1;
    case '^':
      return 2;
    case '&':
      return 3;
    case '+':
    case '-':
      return 4;
    case '*':
    case '/':
    case '%':
      return 5;
    default:
      return 0;
  }
}

}  // namespace

bool TokenParser::parse_binary(Constant& out, int min_precedence, std::uint32_t depth) {
  if (depth > kMaxExpressionDepth)
    return fail(peek(), ErrorKind::kLimit, "constant expression nested too deeply");
  if (!parse_unary(out, depth + 1)) return false;
  while (true) {
    const Token op = peek();
    const int precedence = precedence_of(op);
    if (precedence == 0 || precedence <= min_precedence) return true;
    next();
    Constant right;
    if (!parse_binary(right, precedence, depth + 1)) return false;
    if (out.kind != Constant::Kind::kInteger || right.kind != Constant::Kind::kInteger) {
      return fail(op, "this operator needs integers");
    }
    const auto signed_left = static_cast<std::int64_t>(out.bits);
    const auto signed_right = static_cast<std::int64_t>(right.bits);
    switch (op.text[0]) {
      case '|':
        out.bits |= right.bits;
        break;
      case '^':
        out.bits ^= right.bits;
        break;
      case '&':
        out.bits &= right.bits;
        break;
      case '+':
        out.bits += right.bits;
        break;
      case '-':
        out.bits -= right.bits;
        break;
      case '*':
        out.bits *= right.bits;
        break;
      default:
        if (signed_right == 0 ||
            (signed_right == -1 && signed_left == std::numeric_limits<std::int64_t>::min())) {
          return fail(op, "division overflows in a constant expression");
        }
        out.bits =
            static_cast<std::uint64_t>(op.is('/') ? signed_left / signed_right : signed_left % signed_right);
    }
  }
}

bool TokenParser::parse_constant(Constant& out) {
  return parse_binary(out, 0, 0);
}

bool TokenParser::constant_bits(const Token& at, const Constant& constant, Type type, std::uint64_t& out) {
  out = constant.bits;
  if (type == Type::kF32) {
    switch (constant.kind) {
      case Constant::Kind::kF32:
        break;
      case Constant::Kind::kF64:
        out = std::bit_cast<std::uint32_t>(static_cast<float>(std::bit_cast<double>(constant.bits)));
        break;
      case Constant::Kind::kInteger:
        return fail(at, "an integer where a floating-point constant is needed");
    }
  } else if (type == Type::kF64) {
    switch (constant.kind) {
      case Constant::Kind::kF64:
        break;
      case Constant::Kind::kF32:
        out = std::bit_cast<std::uint64_t>(
            static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(constant.bits))));
        break;
      case Constant::Kind::kInteger:
        return fail(at, "an integer where a floating-point constant is needed");
    }
  } else if (constant.kind != Constant::Kind::kInteger) {
    // mov.b32 %r, 0f… takes the bits; anything narrower or a signed or unsigned type does not take a float.
    const std::uint32_t bits = constant.kind == Constant::Kind::kF32 ? 32 : 64;
    if (bits_of(type) != bits) return fail(at, "a floating-point constant where an integer is needed");
  }
  return true;
}

bool TokenParser::parse_declarator_head(Declarator& out) {
  std::uint32_t vector = 1;
  std::uint64_t align = 0;
  out.at = peek();
  while (peek().kind == TokenKind::kDotWord) {
    const Token word = next();
    if (word.text == ".align") {
      if (!parse_u64(align, ".align")) return false;
      if (align == 0 || align > 4096 || !std::has_single_bit(align)) {
        return fail(word, ".align must be a power of two up to 4096");
      }
    } else if (word.text == ".v2" || word.text == ".v4") {
      vector = word.text == ".v2" ? 2 : 4;
    } else if (word.text == ".attribute") {
      return fail(word, ErrorKind::kUnsupported, "unsupported: .attribute");
    } else {
      const Type found = find_type(word.text);
      if (found == Type::kNone) {
        return fail(word, ErrorKind::kUnsupported, "unsupported in a declaration: " + std::string(word.text));
      }
      if (out.type != Type::kNone) return fail(word, "two types in one declaration");
      out.type = found;
      // `.u64 .ptr .global .align 8 name`: what a pointer parameter points to, which changes nothing here.
      if (accept_word(".ptr")) {
        for (std::string_view space : {".global", ".const", ".shared", ".local"}) {
          if (accept_word(space)) break;
        }
        std::uint64_t pointee_align = 0;
        if (accept_word(".align") && !parse_u64(pointee_align, ".align")) return false;
      }
    }
  }
  if (out.type == Type::kNone) return unexpected(peek(), "a type");
  const std::uint32_t natural = std::max(1U, bytes_of(out.type)) * vector;
  out.align = align == 0 ? natural : static_cast<std::uint32_t>(align);
  out.size = std::uint64_t{bytes_of(out.type)} * vector;
  return true;
}

bool TokenParser::parse_declarator_name(Declarator& out) {
  Token name;
  if (!parse_identifier(name)) return false;
  out.name = name.text;
  out.at = name;
  while (accept('[')) {
    out.is_array = true;
    if (out.dimensions.size() >= 8)
      return fail(name, ErrorKind::kLimit, "an array of more than 8 dimensions");
    if (accept(']')) {
      if (!out.dimensions.empty()) return fail(name, "only the first dimension may be left open");
      out.is_unsized = true;
      out.dimensions.push_back(0);
      continue;
    }
    std::uint64_t count = 0;
    if (!parse_u64(count, "an array's size") || !expect(']')) return false;
    out.dimensions.push_back(count);
    if (count != 0 && out.size > kMaxVariableBytes / count) {
      return fail(name, ErrorKind::kLimit, "variable `" + std::string(name.text) + "` is too large");
    }
    out.size *= count;
  }
  if (out.is_unsized) out.size = 0;
  return true;
}

bool TokenParser::parse_declarator(Declarator& out) {
  return parse_declarator_head(out) && parse_declarator_name(out);
}

bool TokenParser::parse_parameters(std::vector<Parameter>& out, std::uint32_t& bytes, bool is_entry) {
  if (!expect('(')) return false;
  if (accept(')')) return true;
  std::uint64_t offset = 0;
  do {
    Parameter parameter;
    if (accept_word(".reg")) {
      parameter.is_register = true;
      if (is_entry) return fail(peek(), "an .entry takes .param parameters only");
    } else if (!accept_word(".param")) {
      return unexpected(peek(), "`.param`");
    }
    Declarator declarator;
    if (!parse_declarator(declarator)) return false;
    if (declarator.type == Type::kPred && !parameter.is_register) {
      return fail(declarator.at, "a parameter in memory cannot be a predicate");
    }
    if (declarator.is_unsized)
      return fail(declarator.at, ErrorKind::kUnsupported, "unsupported: unsized parameter");
    if (parameter.is_register && declarator.is_array)
      return fail(declarator.at, "a register cannot be an array");
    parameter.name = declarator.name;
    parameter.type = declarator.type;
    parameter.align = declarator.align;
    offset = (offset + declarator.align - 1) / declarator.align * declarator.align;
    if (declarator.size > kMaxParameterBytes || offset + declarator.size > kMaxParameterBytes ||
        out.size() >= kMaxParameters) {
      return fail(declarator.at, ErrorKind::kLimit,
                  "parameters take more than " + std::to_string(kMaxParameterBytes) + " bytes");
    }
    parameter.offset = static_cast<std::uint32_t>(offset);
    parameter.size = static_cast<std::uint32_t>(declarator.size);
    offset += declarator.size;
    out.push_back(std::move(parameter));
  } while (accept(','));
  bytes = static_cast<std::uint32_t>(offset);
  return expect(')');
}

}  // namespace vgpu::software::ptx
