// The structure of a function body: scopes, declarations, labels. Instructions: instruction_parser.cpp.
#include "device/software/ptx/function_parser.h"

#include <algorithm>
#include <utility>

namespace vgpu::software::ptx {
namespace {

std::uint64_t align_up(std::uint64_t value, std::uint64_t align) {
  return (value + align - 1) / align * align;
}

// Splits `%r12` into `%r` and 12. False if there is no number, or one with a leading zero.
bool split_number(std::string_view name, std::string_view& prefix, std::uint32_t& number) {
  std::size_t digits = 0;
  while (digits < name.size() && name[name.size() - 1 - digits] >= '0' &&
         name[name.size() - 1 - digits] <= '9') {
    ++digits;
  }
  if (digits == 0 || digits > 9 || digits == name.size()) return false;
  const std::string_view part = name.substr(name.size() - digits);
  if (part.size() > 1 && part[0] == '0') return false;
  number = 0;
  for (const char c : part) number = number * 10 + static_cast<std::uint32_t>(c - '0');
  prefix = name.substr(0, name.size() - digits);
  return true;
}

}  // namespace

std::string Function::register_name(RegisterId id) const {
  for (const RegisterRange& range : register_ranges) {
    if (id < range.first || id - range.first >= range.count) continue;
    std::string name = range.name;
    // Names may be declared again in inner scopes: those carry the scope's number.
    if (range.scope != 0) name += "$" + std::to_string(range.scope) + (range.numbered ? "_" : "");
    if (range.numbered) name += std::to_string(id - range.first);
    return name;
  }
  return "%?" + std::to_string(id);
}

FunctionParser::FunctionParser(const Module& module, std::uint32_t index)
    : TokenParser(module.file(), module.text(), module.functions()[index].body_begin,
                  module.functions()[index].body_end, module.functions()[index].body_line),
      module_(module),
      decl_(module.functions()[index]) {
  function_.index = index;
}

bool FunctionParser::parse() {
  scopes_.emplace_back();
  if (!declare_signature() || !expect('{')) return false;
  std::uint32_t depth = 1;
  while (depth > 0) {
    if (peek().kind == TokenKind::kEnd) return unexpected(peek(), "`}`");
    if (accept('{')) {
      if (++depth > kMaxScopeDepth) return fail(peek(), ErrorKind::kLimit, "scopes nested too deeply");
      NameScope& scope = scopes_.emplace_back();
      scope.first_fixup = fixups_.size();
      scope.number = ++scope_count_;
    } else if (accept('}')) {
      if (!close_scope()) return false;
      --depth;
    } else if (!parse_statement()) {
      return false;
    }
  }
  return finish();
}

bool FunctionParser::declare_signature() {
  const Token at = peek();
  const auto declare_all = [&](const std::vector<Parameter>& list, Variable::Role role,
                               std::vector<RegisterId>& registers) {
    for (const Parameter& parameter : list) {
      // The names live in the module's declaration, which outlives this parser.
      if (parameter.is_register) {
        registers.push_back(static_cast<RegisterId>(function_.registers.size()));
        if (!add_registers(parameter.name, parameter.type, 1, false, at)) return false;
        continue;
      }
      registers.push_back(kNoRegister);
      Variable variable;
      variable.space = StateSpace::kParam;
      variable.type = parameter.type;
      variable.align = parameter.align;
      variable.size = parameter.size;
      variable.offset = parameter.offset;
      variable.role = role;
      variable.line = decl_.line;
      if (!add_variable(std::move(variable), parameter.name, at)) return false;
    }
    return true;
  };
  return declare_all(decl_.parameters, Variable::Role::kParameter, function_.parameter_registers) &&
         declare_all(decl_.returns, Variable::Role::kReturn, function_.return_registers);
}

bool FunctionParser::declare(std::string_view name, Name value, const Token& at) {
  const auto [entry, is_new] = scopes_.back().names.emplace(name, value);
  if (!is_new) return fail(at, "`" + std::string(name) + "` is declared twice in one scope");
  return true;
}

const FunctionParser::Name* FunctionParser::find_name(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->names.find(name);
    if (found != scope->names.end()) return &found->second;
  }
  return nullptr;
}

std::optional<RegisterId> FunctionParser::find_register(std::string_view name) const {
  std::string_view prefix;
  std::uint32_t number = 0;
  const bool has_number = split_number(name, prefix, number);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (has_number) {
      const auto range = scope->numbered.find(prefix);
      if (range != scope->numbered.end() && number < range->second.count) return range->second.first + number;
    }
    const auto found = scope->names.find(name);
    if (found != scope->names.end()) {
      if (found->second.kind != Name::Kind::kRegister) return std::nullopt;
      return found->second.index;
    }
  }
  return std::nullopt;
}

bool FunctionParser::add_registers(std::string_view name, Type type, std::uint32_t count, bool numbered,
                                   const Token& at) {
  if (count > kMaxRegisters - function_.registers.size()) {
    return fail(at, ErrorKind::kLimit, "more than " + std::to_string(kMaxRegisters) + " registers");
  }
  const auto first = static_cast<RegisterId>(function_.registers.size());
  function_.registers.resize(function_.registers.size() + count, type);
  function_.register_ranges.push_back({std::string(name), first, count, numbered, scopes_.back().number});
  if (!numbered) return declare(name, {Name::Kind::kRegister, first, 0}, at);
  if (!scopes_.back().numbered.emplace(name, NumberedRegisters{first, count}).second) {
    return fail(at, "registers `" + std::string(name) + "<…>` are declared twice in one scope");
  }
  return true;
}

bool FunctionParser::add_variable(Variable variable, std::string_view name, const Token& at) {
  if (function_.variables.size() >= kMaxVariables) return fail(at, ErrorKind::kLimit, "too many variables");
  variable.name = name;
  const auto index = static_cast<std::uint32_t>(function_.variables.size());
  function_.variables.push_back(std::move(variable));
  return declare(name, {Name::Kind::kVariable, index, 0}, at);
}

bool FunctionParser::parse_statement() {
  const Token at = peek();
  if (at.kind == TokenKind::kDotWord) {
    if (at.text == ".loc" || at.text == ".file") {
      lexer_.skip_line();
      return true;
    }
    if (at.text == ".pragma") {
      next();
      if (peek().kind != TokenKind::kString) return unexpected(peek(), "a string");
      next();
      return expect(';');
    }
    if (accept_word(".reg")) return parse_registers();
    if (accept_word(".local")) return parse_variables(StateSpace::kLocal);
    if (accept_word(".shared")) return parse_variables(StateSpace::kShared);
    if (accept_word(".param")) return parse_variables(StateSpace::kParam);
    return fail(at, ErrorKind::kUnsupported,
                "unsupported directive `" + std::string(at.text.substr(0, 64)) + "`");
  }
  if (accept(';')) return true;
  return parse_instruction();
}

bool FunctionParser::parse_registers() {
  const Token at = peek();
  if (at.kind != TokenKind::kDotWord) return unexpected(at, "a register type");
  const Type type = find_type(at.text);
  if (type == Type::kNone) {
    return fail(at, ErrorKind::kUnsupported,
                "unsupported register type `" + std::string(at.text.substr(0, 64)) + "`");
  }
  next();
  do {
    Token name;
    if (!parse_identifier(name)) return false;
    if (accept('<')) {
      std::uint32_t count = 0;
      if (!parse_u32(count, "a register count") || !expect('>')) return false;
      if (!add_registers(name.text, type, count, true, name)) return false;
    } else if (!add_registers(name.text, type, 1, false, name)) {
      return false;
    }
  } while (accept(','));
  return expect(';');
}

bool FunctionParser::parse_variables(StateSpace space) {
  Declarator head;
  if (!parse_declarator_head(head)) return false;
  if (head.type == Type::kPred) return fail(head.at, "a predicate cannot live in memory");
  do {
    Declarator declarator = head;
    if (!parse_declarator_name(declarator)) return false;
    if (declarator.is_unsized) {
      return fail(declarator.at, "variable `" + std::string(declarator.name) + "` has no size");
    }
    if (peek().is('=')) {
      return fail(peek(), ErrorKind::kUnsupported, "unsupported: an initial value inside a function");
    }
    Variable variable;
    variable.space = space;
    variable.type = declarator.type;
    variable.align = declarator.align;
    variable.size = declarator.size;
    variable.line = declarator.at.line;
    std::uint64_t* frame = &function_.local_bytes;
    if (space == StateSpace::kShared) {
      frame = &function_.shared_bytes;
      function_.shared_align = std::max(function_.shared_align, variable.align);
    } else if (space == StateSpace::kParam) {
      frame = &function_.call_param_bytes;
      variable.role = Variable::Role::kCallParameter;
    } else {
      function_.local_align = std::max(function_.local_align, variable.align);
    }
    variable.offset = align_up(*frame, variable.align);
    if (variable.size > kMaxFrameBytes || variable.offset + variable.size > kMaxFrameBytes) {
      return fail(declarator.at, ErrorKind::kLimit, "the function's variables take more than 1 GiB");
    }
    *frame = variable.offset + variable.size;
    if (!add_variable(std::move(variable), declarator.name, declarator.at)) return false;
  } while (accept(','));
  return expect(';');
}

// What stands behind `name:`.
bool FunctionParser::parse_labelled(const Token& label) {
  if (peek().is_word(".callprototype")) return parse_call_prototype(label);
  if (peek().is_word(".branchtargets")) return parse_branch_targets(label);
  if (peek().is_word(".calltargets")) {
    // A hint about where an indirect call may go; the prototype form carries the signature.
    return fail(peek(), ErrorKind::kUnsupported, "unsupported directive `.calltargets`");
  }
  any_label_ = true;
  const auto at = static_cast<std::uint32_t>(function_.instructions.size());
  label_at_end_ = at;
  return declare(label.text, {Name::Kind::kLabel, at, 0}, label);
}

bool FunctionParser::parse_call_prototype(const Token& label) {
  next();
  FunctionDecl prototype;
  prototype.name = label.text;
  prototype.line = label.line;
  if (peek().is('(') && !parse_parameters(prototype.returns, prototype.return_bytes, false)) return false;
  Token name;
  if (!parse_identifier(name)) return false;
  if (peek().is('(') && !parse_parameters(prototype.parameters, prototype.parameter_bytes, false))
    return false;
  prototype.no_return = accept_word(".noreturn");
  if (!expect(';')) return false;
  if (function_.prototypes.size() >= kMaxFunctions)
    return fail(label, ErrorKind::kLimit, "too many prototypes");
  const auto index = static_cast<std::uint32_t>(function_.prototypes.size());
  function_.prototypes.push_back(std::move(prototype));
  return declare(label.text, {Name::Kind::kPrototype, index, 0}, label);
}

bool FunctionParser::parse_branch_targets(const Token& label) {
  next();
  const auto first = static_cast<std::uint32_t>(function_.operands.size());
  do {
    Token target;
    if (!parse_identifier(target)) return false;
    if (function_.operands.size() >= 8 * kMaxInstructions)
      return fail(target, ErrorKind::kLimit, "too many operands");
    fixups_.push_back({target, static_cast<std::uint32_t>(function_.operands.size())});
    Operand operand;
    operand.kind = OperandKind::kLabel;
    function_.operands.push_back(operand);
  } while (accept(','));
  const auto count = static_cast<std::uint32_t>(function_.operands.size()) - first;
  return expect(';') && declare(label.text, {Name::Kind::kLabelList, first, count}, label);
}

// Resolves the labels named in the scope that it declares; the others are left to the scope around it.
bool FunctionParser::close_scope() {
  NameScope& scope = scopes_.back();
  std::size_t kept = scope.first_fixup;
  for (std::size_t i = scope.first_fixup; i < fixups_.size(); ++i) {
    const Fixup fixup = fixups_[i];
    const auto found = scope.names.find(fixup.label.text);
    if (found == scope.names.end()) {
      if (scopes_.size() == 1) return fail(fixup.label, "no label `" + std::string(fixup.label.text) + "`");
      fixups_[kept++] = fixup;
    } else if (found->second.kind != Name::Kind::kLabel) {
      return fail(fixup.label, "`" + std::string(fixup.label.text) + "` is not a label");
    } else {
      function_.operands[fixup.operand].index = found->second.index;
    }
  }
  fixups_.resize(kept);
  scopes_.pop_back();
  return true;
}

// A body that can run off its end ends with a `ret`, so that every label stands on an instruction.
bool FunctionParser::finish() {
  bool open_end =
      function_.instructions.empty() || (any_label_ && label_at_end_ == function_.instructions.size());
  if (!open_end) {
    const Instruction& last = function_.instructions.back();
    const bool leaves = last.opcode == Opcode::kRet || last.opcode == Opcode::kExit ||
                        last.opcode == Opcode::kTrap || last.opcode == Opcode::kBra ||
                        last.opcode == Opcode::kBrxIdx;
    open_end = !leaves || last.guard.predicate != kNoRegister;
  }
  if (open_end) {
    Instruction ret;
    ret.opcode = Opcode::kRet;
    ret.line = peek().line;
    function_.instructions.push_back(ret);
  }
  const auto sort_unique = [](std::vector<std::uint32_t>& list) {
    std::ranges::sort(list);
    const auto repeated = std::ranges::unique(list);
    list.erase(repeated.begin(), repeated.end());
  };
  sort_unique(function_.module_variables);
  sort_unique(function_.called_functions);
  return true;
}

void FunctionParser::note_module_variable(std::uint32_t index) {
  if (function_.module_variables.empty() || function_.module_variables.back() != index) {
    function_.module_variables.push_back(index);
  }
}

void FunctionParser::note_function(std::uint32_t index) {
  if (function_.called_functions.empty() || function_.called_functions.back() != index) {
    function_.called_functions.push_back(index);
  }
}

}  // namespace vgpu::software::ptx
