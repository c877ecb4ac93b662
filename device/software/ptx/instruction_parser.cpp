// Instructions: guard, operands of the regular kind. Opcodes with a grammar of their own: special_parser.cpp;
// modifiers: modifier_parser.cpp.
#include "device/software/ptx/function_parser.h"

namespace vgpu::software::ptx {
namespace {

bool fits(Type reg, Type type, bool wider) {
  if (reg == Type::kPred || type == Type::kPred) return reg == type;
  return bits_of(reg) == bits_of(type) || (wider && bits_of(reg) > bits_of(type));
}

// An immediate as Operand::value promises it.
std::int64_t canonical(std::uint64_t bits, Type type) {
  if (type == Type::kPred) return bits != 0 ? 1 : 0;
  const std::uint32_t width = bits_of(type);
  if (width == 64) return static_cast<std::int64_t>(bits);
  bits &= (std::uint64_t{1} << width) - 1;
  if (is_float(type)) return static_cast<std::int64_t>(bits);
  const std::uint64_t sign = std::uint64_t{1} << (width - 1);
  return static_cast<std::int64_t>((bits ^ sign) - sign);
}

}  // namespace

bool FunctionParser::push(const Operand& operand) {
  if (pending_.size() >= kMaxCallOperands) return fail(opcode_token_, ErrorKind::kLimit, "too many operands");
  pending_.push_back(operand);
  return true;
}

bool FunctionParser::parse_guard(Guard& guard) {
  if (!accept('@')) return true;
  guard.negated = accept('!');
  Token name;
  if (!parse_identifier(name)) return false;
  const auto id = find_register(name.text);
  if (!id || function_.registers[*id] != Type::kPred)
    return fail(name, quoted(name.text) + " is not a predicate");
  guard.predicate = *id;
  return true;
}

bool FunctionParser::parse_instruction() {
  Guard guard;
  if (!parse_guard(guard)) return false;
  if (peek().kind != TokenKind::kIdentifier) return unexpected(peek(), "an instruction");
  opcode_token_ = next();
  if (guard.predicate == kNoRegister && accept(':')) return parse_labelled(opcode_token_);
  info_ = find_opcode(opcode_token_.text);
  if (info_ == nullptr) {
    return fail(opcode_token_, ErrorKind::kUnsupported, "unknown opcode " + quoted(opcode_token_.text));
  }
  current_ = Instruction{};
  current_.opcode = info_->opcode;
  current_.guard = guard;
  current_.line = opcode_token_.line;
  pending_.clear();
  if (parse_modifiers(opcode_token_) && check_modifiers(opcode_token_) && parse_operands() && expect(';') &&
      commit()) {
    return true;
  }
  // Whatever is wrong in an instruction, its opcode is named.
  place_error(quoted(opcode_token_.text));
  return false;
}

bool FunctionParser::parse_operands() {
  switch (current_.opcode) {
    case Opcode::kMov:
      return parse_mov();
    case Opcode::kCvt:
      return parse_cvt();
    case Opcode::kLd:
      return parse_load();
    case Opcode::kSt:
      return parse_store();
    case Opcode::kBarrier:
      return parse_barrier();
    case Opcode::kVote:
      return parse_vote();
    case Opcode::kBrxIdx:
      return parse_brx();
    case Opcode::kCall:
      return parse_call();
    case Opcode::kBarWarpSync:
      return parse_pattern("u");
    default:
      return parse_pattern(info_->operands);
  }
}

bool FunctionParser::parse_pattern(std::string_view pattern) {
  bool optional = false;
  bool first = true;
  for (const char letter : pattern) {
    if (letter == '?') {
      optional = true;
      continue;
    }
    if (!first) {
      if (optional && !peek().is(',')) break;
      if (!expect(',')) return false;
    }
    first = false;
    if (!parse_pattern_operand(letter)) return false;
  }
  const Instruction& i = current_;
  const std::size_t sources = pending_.size() - i.destination_count;
  const auto need = [&](bool third, std::size_t with) {
    if (third == (sources == with)) return true;
    return fail(opcode_token_, "wrong number of operands for `" + std::string(info_->name) + "`");
  };
  switch (i.opcode) {
    case Opcode::kSet:
    case Opcode::kSetp:
      return need(i.bool_op != BoolOp::kNone, 3);
    case Opcode::kAtom:
      return need(i.atomic == AtomicOp::kCas, 3);
    case Opcode::kShfl:
      return need(i.has(kFlagSync), 4);
    default:
      return true;
  }
}

bool FunctionParser::parse_pattern_operand(char letter) {
  const Type type = current_.type;
  const auto doubled = [&] {
    if (current_.mul_part != MulPart::kWide) return type;
    return bits_of(type) == 16 ? Type::kB32 : Type::kB64;
  };
  switch (letter) {
    case 'd':
      return parse_destination(type);
    case 'w':
      return parse_destination(doubled());
    case 'e':
      return parse_destination_pair(current_.opcode == Opcode::kMatch ? Type::kB32 : type);
    case 'P':
      return parse_destination_pair(Type::kPred);
    case 'n':
      return parse_destination(Type::kB32);
    case 'o':
      return parse_destination(Type::kPred);
    case 'a':
      return parse_source(type);
    case 'A':
      return parse_source(Type::kB32, true);
    case 'c':
      return parse_source(doubled());
    case 's':
      return parse_source(current_.source_type);
    case 'u':
      return parse_source(Type::kU32);
    case 'p':
      return parse_predicate_source();
    case 'm':
      return parse_memory();
    case 'l':
      return parse_label_operand();
    case 'x': {
      const Token at = peek();
      if (!parse_source(Type::kU32)) return false;
      const Operand& table = pending_.back();
      if (table.kind != OperandKind::kImmediate || table.value < 0 || table.value > 255) {
        return fail(at, "the table of lop3 must be an immediate from 0 to 255");
      }
      current_.lop3_table = static_cast<std::uint8_t>(table.value);
      return true;
    }
    default:
      return fail(opcode_token_, "the operands of `" + std::string(info_->name) + "` have no grammar");
  }
}

bool FunctionParser::parse_register_operand(const Token& name, Type type, bool wider, Operand& out) {
  const auto id = find_register(name.text);
  if (!id) return fail(name, "no register " + quoted(name.text));
  const Type reg = function_.registers[*id];
  if (!fits(reg, type, wider)) {
    return fail(name, "register " + quoted(name.text) + " of type ." + std::string(name_of(reg)) +
                          " where ." + std::string(name_of(type)) + " is needed");
  }
  out.kind = OperandKind::kRegister;
  out.index = *id;
  return true;
}

bool FunctionParser::read_destination(Type type, bool wider, Operand& out) {
  Token name;
  if (!parse_identifier(name)) return false;
  if (name.text == "_") {
    out.kind = OperandKind::kSink;
    return true;
  }
  return parse_register_operand(name, type, wider, out);
}

bool FunctionParser::parse_destination(Type type, bool wider) {
  Operand operand;
  if (!read_destination(type, wider, operand)) return false;
  ++current_.destination_count;
  return push(operand);
}

bool FunctionParser::parse_destination_pair(Type type) {
  return parse_destination(type) && (!accept('|') || parse_destination(Type::kPred));
}

bool FunctionParser::read_source(Type type, bool wider, Operand& out) {
  const Token at = peek();
  if (at.kind != TokenKind::kIdentifier || at.text == "WARP_SZ") {
    Constant constant;
    std::uint64_t bits = 0;
    if (!parse_constant(constant) || !constant_bits(at, constant, type, bits)) return false;
    out.kind = OperandKind::kImmediate;
    out.value = canonical(bits, type);
    return true;
  }
  next();
  if (find_register(at.text)) return parse_register_operand(at, type, wider, out);
  if (at.text.starts_with('%')) {
    std::string name(at.text);
    if (peek().kind == TokenKind::kDotWord) name += next().text;
    const auto special = find_special(name);
    if (!special) return fail(at, ErrorKind::kUnsupported, "no register " + quoted(name));
    const bool either = *special == SpecialRegister::kGridid && bits_of(type) == 32;
    const bool fitting = bits_of(*special) == bits_of(type) || (wider && bits_of(*special) > bits_of(type));
    if (type == Type::kPred || (!fitting && !either)) {
      return fail(
          at, "special register " + quoted(name) + " where ." + std::string(name_of(type)) + " is needed");
    }
    out.kind = OperandKind::kSpecial;
    out.index = static_cast<std::uint32_t>(*special);
    return true;
  }
  if (!resolve_symbol(at, out)) return false;
  if (is_float(type) || bits_of(type) < 32)
    return fail(at, "an address where ." + std::string(name_of(type)) + " is needed");
  return out.kind == OperandKind::kFunction || read_address_offset(out.value);
}

bool FunctionParser::parse_source(Type type, bool wider) {
  Operand operand;
  return read_source(type, wider, operand) && push(operand);
}

bool FunctionParser::parse_predicate_source() {
  Operand operand;
  const bool negated = accept('!');
  if (!read_source(Type::kPred, false, operand)) return false;
  operand.negated = negated;
  return push(operand);
}

bool FunctionParser::resolve_symbol(const Token& name, Operand& out) {
  if (const Name* found = find_name(name.text)) {
    if (found->kind != Name::Kind::kVariable) return fail(name, quoted(name.text) + " is not a variable");
    out.kind = OperandKind::kSymbol;
    out.index = found->index;
    return true;
  }
  if (const auto variable = module_.variable_index(name.text)) {
    out.kind = OperandKind::kSymbol;
    out.index = *variable;
    out.in_module = true;
    note_module_variable(*variable);
    return true;
  }
  if (const auto function = module_.function_index(name.text)) {
    out.kind = OperandKind::kFunction;
    out.index = *function;
    note_function(*function);
    return true;
  }
  return fail(name, "no register, variable or function " + quoted(name.text));
}

// `+ 8`, `+ -8`, `- 8` or nothing.
bool FunctionParser::read_address_offset(std::int64_t& out) {
  if (!peek().is('+') && !peek().is('-')) return true;
  std::uint64_t offset = 0;
  if (!parse_u64(offset, "an address's offset")) return false;
  out = static_cast<std::int64_t>(offset);
  return true;
}

bool FunctionParser::parse_memory() {
  if (!expect('[')) return false;
  const Token base = peek();
  Operand operand;
  operand.kind = OperandKind::kMemory;
  if (base.kind != TokenKind::kIdentifier) {
    operand.memory_base = MemoryBase::kAbsolute;
    std::uint64_t address = 0;
    if (!parse_u64(address, "an address")) return false;
    operand.value = static_cast<std::int64_t>(address);
    return push(operand) && expect(']');
  }
  next();
  if (const auto id = find_register(base.text)) {
    if (bits_of(function_.registers[*id]) < 32)
      return fail(base, quoted(base.text) + " cannot hold an address");
    operand.memory_base = MemoryBase::kRegister;
    operand.index = *id;
  } else {
    Operand symbol;
    if (!resolve_symbol(base, symbol)) return false;
    if (symbol.kind != OperandKind::kSymbol) return fail(base, quoted(base.text) + " is not a variable");
    const StateSpace space =
        symbol.in_module ? module_.variables()[symbol.index].space : function_.variables[symbol.index].space;
    const bool generic = current_.space == StateSpace::kGeneric &&
                         (space == StateSpace::kGlobal || space == StateSpace::kConst);
    if (space != current_.space && !generic) {
      return fail(base, "variable " + quoted(base.text) + " is in ." + std::string(name_of(space)) +
                            ", the instruction addresses ." + std::string(name_of(current_.space)));
    }
    operand.memory_base = MemoryBase::kSymbol;
    operand.index = symbol.index;
    operand.in_module = symbol.in_module;
  }
  return read_address_offset(operand.value) && push(operand) && expect(']');
}

bool FunctionParser::parse_label_operand() {
  Token label;
  if (!parse_identifier(label)) return false;
  Operand operand;
  operand.kind = OperandKind::kLabel;
  // Placed as this instruction's only operand: commit() puts it at the end of the operands.
  fixups_.push_back({label, static_cast<std::uint32_t>(function_.operands.size())});
  return push(operand);
}

// `{ a, b, … }` with exactly `expected` elements, or 2 or 4 if that is 0.
bool FunctionParser::parse_vector(Type type, bool destination, bool wider, std::uint32_t expected) {
  const Token at = peek();
  if (!expect('{')) return false;
  Operand elements[4];
  std::uint32_t count = 0;
  do {
    if (count == 4) return fail(at, "a vector of more than 4 elements");
    Operand& element = elements[count++];
    if (destination || (peek().kind == TokenKind::kIdentifier && peek().text == "_")) {
      if (!read_destination(type, wider, element)) return false;
    } else if (!read_source(type, wider, element)) {
      return false;
    }
  } while (accept(','));
  if (!expect('}')) return false;
  if (expected != 0 && count != expected) {
    return fail(at, "a vector of " + std::to_string(count) + " elements where " + std::to_string(expected) +
                        " are needed");
  }
  Operand vector;
  vector.kind = OperandKind::kVector;
  vector.index = static_cast<std::uint32_t>(function_.operands.size());
  vector.count = count;
  function_.operands.insert(function_.operands.end(), elements, elements + count);
  if (destination) ++current_.destination_count;
  return push(vector);
}

bool FunctionParser::commit() {
  if (function_.instructions.size() >= kMaxInstructions ||
      function_.operands.size() + pending_.size() > 8 * kMaxInstructions) {
    return fail(opcode_token_, ErrorKind::kLimit,
                "more than " + std::to_string(kMaxInstructions) + " instructions");
  }
  current_.first_operand = static_cast<std::uint32_t>(function_.operands.size());
  current_.operand_count = static_cast<std::uint16_t>(pending_.size());
  function_.operands.insert(function_.operands.end(), pending_.begin(), pending_.end());
  function_.instructions.push_back(current_);
  return true;
}

}  // namespace vgpu::software::ptx
