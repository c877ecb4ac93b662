// Opcodes whose operands follow a grammar of their own: mov, cvt, ld, st, bar, vote, brx, call.
#include "device/software/ptx/function_parser.h"

namespace vgpu::software::ptx {

bool FunctionParser::parse_mov() {
  const Type type = current_.type;
  const auto element_type = [](std::uint32_t bits) {
    return bits == 8 ? Type::kB8 : bits == 16 ? Type::kB16 : Type::kB32;
  };
  // `{a, b}` on either side splits or joins the bits; the number of elements decides their width, so it is
  // looked up before they are read.
  const auto count_elements = [&] {
    Lexer ahead = lexer_;
    std::uint32_t count = 1;
    while (ahead.peek().kind != TokenKind::kEnd && !ahead.peek().is('}') && !ahead.peek().is(';')) {
      if (ahead.next().is(',')) ++count;
    }
    return count;
  };
  const auto parse_parts = [&](bool destination) {
    const Token at = peek();
    const std::uint32_t count = count_elements();
    if (!is_untyped(type) || (count != 2 && count != 4) || bits_of(type) / count < 8) {
      return fail(at, "mov splits or joins .b16, .b32 and .b64 in 2 or 4 elements");
    }
    return parse_vector(element_type(bits_of(type) / count), destination, false, count);
  };
  if (peek().is('{')) return parse_parts(true) && expect(',') && parse_source(type);
  if (!parse_destination(type) || !expect(',')) return false;
  if (peek().is('{')) return parse_parts(false);
  return parse_source(type);
}

bool FunctionParser::parse_cvt() {
  return parse_destination(current_.type, !is_float(current_.type)) && expect(',') &&
         parse_source(current_.source_type, !is_float(current_.source_type));
}

bool FunctionParser::parse_load() {
  const bool wider = !is_float(current_.type);
  const bool value = current_.vector > 1 ? parse_vector(current_.type, true, wider, current_.vector)
                                         : parse_destination(current_.type, wider);
  return value && expect(',') && parse_memory();
}

bool FunctionParser::parse_store() {
  const bool wider = !is_float(current_.type);
  if (!parse_memory() || !expect(',')) return false;
  return current_.vector > 1 ? parse_vector(current_.type, false, wider, current_.vector)
                             : parse_source(current_.type, wider);
}

bool FunctionParser::parse_barrier() {
  const bool reduces = current_.barrier >= BarrierOp::kRedAnd;
  if (reduces) {
    if (!parse_destination(current_.barrier == BarrierOp::kRedPopc ? Type::kU32 : Type::kPred) ||
        !expect(',')) {
      return false;
    }
  }
  if (!parse_source(Type::kU32)) return false;
  // `id [, threads] [, predicate]`: the predicate is told from the thread count by its register.
  const auto at_predicate = [&] {
    if (peek().is('!')) return true;
    const auto id = peek().kind == TokenKind::kIdentifier ? find_register(peek().text) : std::nullopt;
    return id && function_.registers[*id] == Type::kPred;
  };
  bool has_count = false;
  while (accept(',')) {
    if (reduces && at_predicate()) return parse_predicate_source();
    if (has_count) return unexpected(peek(), "no further operand");
    has_count = true;
    if (!parse_source(Type::kU32)) return false;
  }
  if (reduces) return unexpected(peek(), "a predicate");
  if (current_.barrier == BarrierOp::kArrive && !has_count) return unexpected(peek(), "a thread count");
  return true;
}

bool FunctionParser::parse_vote() {
  const bool ballot = current_.vote == VoteMode::kBallot;
  if (!parse_destination(ballot ? Type::kB32 : Type::kPred) || !expect(',') || !parse_predicate_source())
    return false;
  return !current_.has(kFlagSync) || (expect(',') && parse_source(Type::kU32));
}

bool FunctionParser::parse_brx() {
  if (!parse_source(Type::kU32) || !expect(',')) return false;
  Token name;
  if (!parse_identifier(name)) return false;
  const Name* list = find_name(name.text);
  if (list == nullptr || list->kind != Name::Kind::kLabelList) {
    return fail(name, "`" + std::string(name.text) + "` is not a list of .branchtargets");
  }
  Operand operand;
  operand.kind = OperandKind::kLabelList;
  operand.index = list->index;
  operand.count = list->count;
  return push(operand);
}

// `( a, b )`, possibly empty.
bool FunctionParser::parse_call_arguments(bool returns) {
  if (!expect('(')) return false;
  if (accept(')')) return true;
  do {
    const Token at = peek();
    Operand operand;
    const Name* name = at.kind == TokenKind::kIdentifier ? find_name(at.text) : nullptr;
    const auto id = at.kind == TokenKind::kIdentifier ? find_register(at.text) : std::nullopt;
    if (name != nullptr && name->kind == Name::Kind::kVariable) {
      next();
      operand.kind = OperandKind::kSymbol;
      operand.index = name->index;
      if (function_.variables[name->index].space != StateSpace::kParam) {
        return fail(at, "`" + std::string(at.text) + "` is not in .param");
      }
    } else if (id) {
      next();
      operand.kind = OperandKind::kRegister;
      operand.index = *id;
    } else if (!returns) {
      if (!read_source(Type::kB64, true, operand)) return false;
    } else {
      return unexpected(at, "a .param variable or a register");
    }
    if (returns && ++current_.destination_count == 255)
      return fail(at, ErrorKind::kLimit, "too many results");
    if (!push(operand)) return false;
  } while (accept(','));
  return expect(')');
}

bool FunctionParser::parse_call() {
  if (peek().is('(') && (!parse_call_arguments(true) || !expect(','))) return false;
  const std::size_t returns = pending_.size();
  Token target;
  if (!parse_identifier(target)) return false;
  Operand operand;
  const bool indirect = find_register(target.text).has_value();
  if (indirect) {
    if (!parse_register_operand(target, Type::kB64, false, operand)) return false;
  } else if (!resolve_symbol(target, operand) || operand.kind != OperandKind::kFunction) {
    return fail(target, "`" + std::string(target.text) + "` is not a function");
  }
  if (!push(operand)) return false;
  const std::size_t first_argument = pending_.size();
  bool has_comma = accept(',');
  if (has_comma && peek().is('(')) {
    if (!parse_call_arguments(false)) return false;
    has_comma = accept(',');
  }
  if (!indirect) {
    if (has_comma) return unexpected(peek(), "`;`");
    const FunctionDecl& callee = module_.functions()[operand.index];
    if (callee.is_entry) return fail(target, "`" + callee.name + "` is an .entry and cannot be called");
    return check_call(target, callee, returns, first_argument);
  }
  if (!has_comma) return fail(target, "an indirect call needs a prototype");
  Token name;
  if (!parse_identifier(name)) return false;
  const Name* prototype = find_name(name.text);
  if (prototype == nullptr || prototype->kind != Name::Kind::kPrototype) {
    return fail(name, "`" + std::string(name.text) + "` is not a .callprototype");
  }
  if (!check_call(target, function_.prototypes[prototype->index], returns, first_argument)) return false;
  Operand last;
  last.kind = OperandKind::kPrototype;
  last.index = prototype->index;
  return push(last);
}

bool FunctionParser::check_call(const Token& at, const FunctionDecl& callee, std::size_t returns,
                                std::size_t first_argument) {
  const std::size_t arguments = pending_.size() - first_argument;
  if (returns != callee.returns.size() || arguments != callee.parameters.size()) {
    return fail(at, "`" + callee.name + "` takes " + std::to_string(callee.parameters.size()) +
                        " arguments and gives " + std::to_string(callee.returns.size()) +
                        " results; the call has " + std::to_string(arguments) + " and " +
                        std::to_string(returns));
  }
  const auto fits = [&](const Operand& operand, const Parameter& parameter) {
    if (operand.kind == OperandKind::kSymbol) {
      return !parameter.is_register && function_.variables[operand.index].size == parameter.size;
    }
    if (operand.kind == OperandKind::kRegister) {
      return function_.registers[operand.index] == parameter.type ||
             (bits_of(function_.registers[operand.index]) == bits_of(parameter.type) &&
              parameter.type != Type::kPred);
    }
    return operand.kind == OperandKind::kImmediate && bits_of(parameter.type) <= 64;
  };
  for (std::size_t i = 0; i < returns; ++i) {
    if (!fits(pending_[i], callee.returns[i]))
      return fail(at, "result " + std::to_string(i) + " has another type");
  }
  for (std::size_t i = 0; i < arguments; ++i) {
    if (!fits(pending_[first_argument + i], callee.parameters[i])) {
      return fail(at, "argument " + std::to_string(i) + " has another type");
    }
  }
  return true;
}

}  // namespace vgpu::software::ptx
