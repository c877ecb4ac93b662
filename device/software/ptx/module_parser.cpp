// Module::parse: directives, module variables, and the index of functions, whose bodies are skipped over.
#include <algorithm>
#include <cstring>
#include <utility>

#include "device/software/ptx/function_parser.h"
#include "device/software/ptx/token_parser.h"

namespace vgpu::software::ptx {

class ModuleParser : public TokenParser {
 public:
  explicit ModuleParser(Module& module)
      : TokenParser(module.file_, *module.text_, 0, module.text_->size(), 1), module_(module) {}

  bool parse() {
    if (!parse_header()) return false;
    while (peek().kind != TokenKind::kEnd) {
      if (!parse_statement()) return false;
    }
    return resolve_relocations();
  }

 private:
  // An initialiser's address, kept until every name of the module is known.
  struct Pending {
    std::uint32_t variable;
    std::uint32_t relocation;
    Token name;
  };

  bool parse_header();
  bool parse_statement();
  bool parse_function(bool is_entry, Linkage linkage);
  bool parse_bounds(FunctionDecl& decl);
  bool parse_variables(StateSpace space, Linkage linkage);
  bool parse_initializer(Variable& variable, const Declarator& declarator, std::size_t dimension,
                         std::uint64_t& at);
  bool parse_initial_value(Variable& variable, std::uint64_t at, const Token& where);
  bool add_variable(Variable variable, const Token& at);
  bool add_function(FunctionDecl decl, const Token& at);
  bool resolve_relocations();

  Module& module_;
  std::vector<Pending> pending_;
  std::uint64_t initial_bytes_ = 0;
};

bool ModuleParser::parse_header() {
  if (!accept_word(".version")) return unexpected(peek(), "`.version`");
  const Token version = next();
  const std::size_t dot = version.text.find('.');
  const auto number = [](std::string_view digits, std::uint32_t& out) {
    if (digits.empty() || digits.size() > 3) return false;
    out = 0;
    for (const char c : digits) {
      if (c < '0' || c > '9') return false;
      out = out * 10 + static_cast<std::uint32_t>(c - '0');
    }
    return true;
  };
  if (version.kind != TokenKind::kNumber || dot == std::string_view::npos ||
      !number(version.text.substr(0, dot), module_.version_major_) ||
      !number(version.text.substr(dot + 1), module_.version_minor_)) {
    return unexpected(version, "a version such as 8.4");
  }
  if (module_.version_major_ > kNewestMajorVersion) {
    return fail(version, ErrorKind::kUnsupportedVersion,
                "PTX version " + std::string(version.text) + " is newer than " +
                    std::to_string(kNewestMajorVersion) + ".x");
  }
  if (!accept_word(".target")) return unexpected(peek(), "`.target`");
  do {
    const Token target = next();
    if (target.kind != TokenKind::kIdentifier) return unexpected(target, "a target such as sm_61");
    if (!target.text.starts_with("sm_")) continue;  // texmode_…, debug, map_f64_to_f32
    std::string_view digits = target.text.substr(3);
    if (digits.ends_with('a') || digits.ends_with('f')) digits.remove_suffix(1);
    if (!number(digits, module_.target_)) return unexpected(target, "a target such as sm_61");
  } while (accept(','));
  if (module_.target_ == 0) return fail(peek(), "the .target names no sm_ architecture");
  if (accept_word(".address_size")) {
    if (!parse_u32(module_.address_size_, ".address_size")) return false;
    if (module_.address_size_ != 64) {
      return fail(peek(), ErrorKind::kUnsupported, "unsupported: .address_size other than 64");
    }
  }
  return true;
}

bool ModuleParser::parse_statement() {
  const Token at = peek();
  if (at.kind != TokenKind::kDotWord) return unexpected(at, "a directive");
  if (at.text == ".file" || at.text == ".loc") {
    lexer_.skip_line();
    return true;
  }
  if (at.text == ".pragma") {
    next();
    if (peek().kind != TokenKind::kString) return unexpected(peek(), "a string");
    next();
    return expect(';');
  }
  if (at.text == ".section") {
    next();
    while (peek().kind != TokenKind::kEnd && !peek().is('{')) next();
    if (!peek().is('{') || lexer_.skip_braces() == std::string_view::npos)
      return fail(at, "a .section without an end");
    return true;
  }
  Linkage linkage = Linkage::kNone;
  while (true) {
    if (accept_word(".visible")) {
      linkage = Linkage::kVisible;
    } else if (accept_word(".extern")) {
      linkage = Linkage::kExtern;
    } else if (accept_word(".weak")) {
      linkage = Linkage::kWeak;
    } else if (accept_word(".common")) {
      linkage = Linkage::kCommon;
    } else {
      break;
    }
  }
  if (accept_word(".entry")) return parse_function(true, linkage);
  if (accept_word(".func")) return parse_function(false, linkage);
  if (accept_word(".global")) return parse_variables(StateSpace::kGlobal, linkage);
  if (accept_word(".const")) return parse_variables(StateSpace::kConst, linkage);
  if (accept_word(".shared")) return parse_variables(StateSpace::kShared, linkage);
  return fail(peek(), ErrorKind::kUnsupported,
              "unsupported directive `" + std::string(peek().text.substr(0, 64)) + "`");
}

bool ModuleParser::parse_bounds(FunctionDecl& decl) {
  const auto triple = [&](std::uint32_t(&out)[3]) {
    for (std::uint32_t& value : out) value = 1;
    for (std::uint32_t& value : out) {
      if (!parse_u32(value, "a thread count")) return false;
      if (value == 0) return fail(peek(), "a thread count of zero");
      if (!accept(',')) break;
    }
    return true;
  };
  std::uint32_t ignored = 0;
  while (peek().kind == TokenKind::kDotWord) {
    const Token word = next();
    if (word.text == ".maxntid") {
      if (!triple(decl.bounds.max_threads)) return false;
    } else if (word.text == ".reqntid") {
      if (!triple(decl.bounds.required_threads)) return false;
    } else if (word.text == ".minnctapersm") {
      if (!parse_u32(decl.bounds.min_blocks, ".minnctapersm")) return false;
    } else if (word.text == ".maxnctapersm") {
      if (!parse_u32(ignored, ".maxnctapersm")) return false;
    } else if (word.text == ".maxnreg") {
      if (!parse_u32(decl.bounds.max_registers, ".maxnreg")) return false;
    } else if (word.text == ".noreturn") {
      decl.no_return = true;
    } else if (word.text == ".pragma") {
      if (peek().kind != TokenKind::kString) return unexpected(peek(), "a string");
      next();
      if (!expect(';')) return false;
    } else {
      return fail(word, ErrorKind::kUnsupported,
                  "unsupported function directive `" + std::string(word.text) + "`");
    }
  }
  return true;
}

bool ModuleParser::parse_function(bool is_entry, Linkage linkage) {
  FunctionDecl decl;
  decl.is_entry = is_entry;
  decl.linkage = linkage;
  if (!is_entry) {
    if (accept_word(".attribute")) return fail(peek(), ErrorKind::kUnsupported, "unsupported: .attribute");
    if (peek().is('(') && !parse_parameters(decl.returns, decl.return_bytes, false)) return false;
  }
  Token name;
  if (!parse_identifier(name)) return false;
  decl.name = name.text;
  decl.line = name.line;
  if (peek().is('(') && !parse_parameters(decl.parameters, decl.parameter_bytes, is_entry)) return false;
  if (!parse_bounds(decl)) return false;
  if (peek().is('{')) {
    decl.is_defined = true;
    decl.body_begin = peek().offset;
    decl.body_line = peek().line;
    const Token open = peek();
    decl.body_end = lexer_.skip_braces();
    if (decl.body_end == std::string_view::npos) {
      return fail(open, "the body of `" + decl.name + "` does not end");
    }
  } else if (!expect(';')) {
    return false;
  }
  return add_function(std::move(decl), name);
}

bool ModuleParser::add_function(FunctionDecl decl, const Token& at) {
  if (module_.variable_index_.contains(decl.name))
    return fail(at, "`" + decl.name + "` is already a variable");
  const auto found = module_.function_index_.find(decl.name);
  if (found == module_.function_index_.end()) {
    if (module_.functions_.size() >= kMaxFunctions) return fail(at, ErrorKind::kLimit, "too many functions");
    module_.function_index_.emplace(decl.name, static_cast<std::uint32_t>(module_.functions_.size()));
    module_.functions_.push_back(std::move(decl));
    return true;
  }
  FunctionDecl& known = module_.functions_[found->second];
  const auto same = [](const std::vector<Parameter>& a, const std::vector<Parameter>& b) {
    return std::ranges::equal(a, b, [](const Parameter& x, const Parameter& y) { return x.size == y.size; });
  };
  if (known.is_entry != decl.is_entry || !same(known.parameters, decl.parameters) ||
      !same(known.returns, decl.returns)) {
    return fail(at, "`" + decl.name + "` was declared otherwise on line " + std::to_string(known.line));
  }
  if (known.is_defined && decl.is_defined) {
    return fail(at, "`" + decl.name + "` was already defined on line " + std::to_string(known.line));
  }
  if (decl.is_defined) known = std::move(decl);
  return true;
}

bool ModuleParser::add_variable(Variable variable, const Token& at) {
  if (module_.function_index_.contains(variable.name))
    return fail(at, "`" + variable.name + "` is already a function");
  const auto found = module_.variable_index_.find(variable.name);
  if (found != module_.variable_index_.end()) {
    Variable& known = module_.variables_[found->second];
    // A declaration and its definition, in either order.
    if (known.linkage != Linkage::kExtern && variable.linkage != Linkage::kExtern) {
      return fail(
          at, "variable `" + variable.name + "` was already defined on line " + std::to_string(known.line));
    }
    const auto number = static_cast<std::uint32_t>(module_.variables_.size());
    if (known.linkage == Linkage::kExtern) {
      std::erase_if(pending_, [&](const Pending& pending) { return pending.variable == found->second; });
      for (Pending& pending : pending_) {
        if (pending.variable == number) pending.variable = found->second;
      }
      known = std::move(variable);
    } else {
      std::erase_if(pending_, [&](const Pending& pending) { return pending.variable == number; });
    }
    return true;
  }
  if (module_.variables_.size() >= kMaxVariables) return fail(at, ErrorKind::kLimit, "too many variables");
  module_.variable_index_.emplace(variable.name, static_cast<std::uint32_t>(module_.variables_.size()));
  module_.variables_.push_back(std::move(variable));
  return true;
}

bool ModuleParser::parse_variables(StateSpace space, Linkage linkage) {
  Declarator head;
  if (!parse_declarator_head(head)) return false;
  if (head.type == Type::kPred) return fail(head.at, "a predicate cannot live in memory");
  do {
    Declarator declarator = head;
    if (!parse_declarator_name(declarator)) return false;
    Variable variable;
    variable.name = declarator.name;
    variable.space = space;
    variable.type = declarator.type;
    variable.linkage = linkage;
    variable.align = declarator.align;
    variable.size = declarator.size;
    variable.line = declarator.at.line;
    if (accept('=')) {
      if (space == StateSpace::kShared)
        return fail(declarator.at, "a .shared variable cannot be initialised");
      std::uint64_t at = 0;
      if (declarator.is_unsized) {
        // `x[] = {…}`: the initialiser gives the size; bounded by the text it is written in.
        declarator.dimensions[0] = kMaxVariableBytes / std::max<std::uint64_t>(1, bytes_of(declarator.type));
        declarator.size = kMaxVariableBytes;
        if (declarator.dimensions.size() > 1) {
          return fail(declarator.at, ErrorKind::kUnsupported,
                      "unsupported: open array of several dimensions");
        }
      }
      if (!parse_initializer(variable, declarator, 0, at)) return false;
      if (declarator.is_unsized) variable.size = at;
    } else if (declarator.is_unsized && linkage != Linkage::kExtern) {
      return fail(declarator.at, "variable `" + variable.name + "` has no size");
    }
    if (!add_variable(std::move(variable), declarator.at)) return false;
  } while (accept(','));
  return expect(';');
}

// Fills from byte `at`; on return `at` is behind the last value given.
bool ModuleParser::parse_initializer(Variable& variable, const Declarator& declarator, std::size_t dimension,
                                     std::uint64_t& at) {
  const Token where = peek();
  const std::uint32_t element = bytes_of(declarator.type);
  if (!accept('{')) {
    if (at + element > declarator.size) {
      return fail(where, "more initial values than `" + variable.name + "` holds");
    }
    if (!parse_initial_value(variable, at, where)) return false;
    at += element;
    return true;
  }
  // A vector variable takes one brace level more than it has dimensions.
  if (dimension > declarator.dimensions.size()) return fail(where, "initialiser nested too deeply");
  std::uint64_t stride = element;
  for (std::size_t d = dimension + 1; d < declarator.dimensions.size(); ++d)
    stride *= declarator.dimensions[d];
  if (accept('}')) return true;
  do {
    const bool nested = peek().is('{');
    const std::uint64_t begin = at;
    if (!parse_initializer(variable, declarator, dimension + 1, at)) return false;
    if (nested) at = std::max(at, begin + stride);  // what an inner list leaves out is zero
  } while (accept(','));
  return expect('}');
}

bool ModuleParser::parse_initial_value(Variable& variable, std::uint64_t at, const Token& where) {
  const std::uint32_t size = bytes_of(variable.type);
  Relocation relocation;
  const bool is_name = peek().kind == TokenKind::kIdentifier && peek().text != "WARP_SZ";
  std::uint64_t bits = 0;
  if (is_name) {
    Token name = next();
    if (name.text == "generic" && accept('(')) {
      relocation.generic = true;
      if (!parse_identifier(name) || !expect(')')) return false;
    }
    if (peek().is('+') || peek().is('-')) {
      std::uint64_t addend = 0;
      if (!parse_u64(addend, "an address's offset")) return false;
      relocation.addend = static_cast<std::int64_t>(addend);
    }
    if (size != 8 && size != 4)
      return fail(where, "an address does not fit in an element of `" + variable.name + "`");
    relocation.offset = at;
    relocation.size = size;
    const auto variable_number = static_cast<std::uint32_t>(module_.variables_.size());
    pending_.push_back({variable_number, static_cast<std::uint32_t>(variable.relocations.size()), name});
    variable.relocations.push_back(relocation);
  } else {
    Constant constant;
    if (!parse_constant(constant) || !constant_bits(where, constant, variable.type, bits)) return false;
    if (peek().is('('))
      return fail(peek(), ErrorKind::kUnsupported, "unsupported: a masked address as initial value");
  }
  // A trailing run of zeros is kept out of memory: `initial` grows only to the last value written.
  if (bits == 0) return true;
  if (variable.initial.size() < at + size) {
    initial_bytes_ += at + size - variable.initial.size();
    if (initial_bytes_ > kMaxTextBytes)
      return fail(where, ErrorKind::kLimit, "the module's initial values are too large");
    variable.initial.resize(at + size);
  }
  std::memcpy(variable.initial.data() + at, &bits, size);
  return true;
}

bool ModuleParser::resolve_relocations() {
  for (const Pending& pending : pending_) {
    Relocation& relocation = module_.variables_[pending.variable].relocations[pending.relocation];
    if (const auto variable = module_.variable_index(pending.name.text)) {
      relocation.index = *variable;
    } else if (const auto function = module_.function_index(pending.name.text)) {
      relocation.index = *function;
      relocation.is_function = true;
    } else {
      return unexpected(pending.name, "the name of a variable or function of this module");
    }
  }
  return true;
}

std::expected<Module, Error> Module::parse(std::string_view text, std::string file) {
  Module module;
  module.file_ = std::move(file);
  if (text.size() > kMaxTextBytes) {
    return std::unexpected(
        Error{ErrorKind::kLimit, module.file_, 0, 0, "the PTX text is larger than 256 MiB"});
  }
  // Text in fatbins is NUL-padded.
  while (text.ends_with('\0')) text.remove_suffix(1);
  module.text_ = std::make_shared<const std::string>(text);
  ModuleParser parser(module);
  if (!parser.parse()) return std::unexpected(parser.error());
  return module;
}

std::optional<std::uint32_t> Module::function_index(std::string_view name) const {
  const auto found = function_index_.find(std::string(name));
  if (found == function_index_.end()) return std::nullopt;
  return found->second;
}

std::optional<std::uint32_t> Module::variable_index(std::string_view name) const {
  const auto found = variable_index_.find(std::string(name));
  if (found == variable_index_.end()) return std::nullopt;
  return found->second;
}

const FunctionDecl* Module::find_function(std::string_view name) const {
  const auto index = function_index(name);
  return index ? &functions_[*index] : nullptr;
}

std::expected<Function, Error> Module::parse_function(std::string_view name) const {
  const auto index = function_index(name);
  if (!index) {
    return std::unexpected(
        Error{ErrorKind::kNotFound, file_, 0, 0, "no function `" + std::string(name) + "`"});
  }
  return parse_function(*index);
}

std::expected<Function, Error> Module::parse_function(std::uint32_t index) const {
  if (index >= functions_.size()) {
    return std::unexpected(
        Error{ErrorKind::kNotFound, file_, 0, 0, "no function with number " + std::to_string(index)});
  }
  const FunctionDecl& decl = functions_[index];
  if (!decl.is_defined) {
    return std::unexpected(Error{ErrorKind::kNotFound, file_, decl.line, 0,
                                 "function `" + decl.name + "` has no body in this module"});
  }
  FunctionParser parser(*this, index);
  if (!parser.parse()) return std::unexpected(parser.error());
  return parser.take();
}

SharedLayout layout_shared(const Module& module, std::span<const Function* const> functions) {
  SharedLayout layout;
  const auto align_up = [](std::uint64_t value, std::uint64_t align) {
    return (value + align - 1) / align * align;
  };
  std::vector<std::uint32_t> named;
  for (const Function* function : functions) {
    named.insert(named.end(), function->module_variables.begin(), function->module_variables.end());
  }
  std::ranges::sort(named);
  const auto repeated = std::ranges::unique(named);
  named.erase(repeated.begin(), repeated.end());
  std::erase_if(named,
                [&](std::uint32_t index) { return module.variables()[index].space != StateSpace::kShared; });
  const auto is_dynamic = [&](std::uint32_t index) {
    return module.variables()[index].linkage == Linkage::kExtern;
  };
  for (const std::uint32_t index : named) {
    if (is_dynamic(index)) continue;
    const Variable& variable = module.variables()[index];
    layout.static_bytes = align_up(layout.static_bytes, variable.align);
    layout.module_offsets.emplace_back(index, layout.static_bytes);
    layout.static_bytes += variable.size;
  }
  for (const Function* function : functions) {
    layout.static_bytes = align_up(layout.static_bytes, function->shared_align);
    layout.function_offsets.push_back(layout.static_bytes);
    layout.static_bytes += function->shared_bytes;
  }
  std::uint64_t dynamic_align = 16;
  for (const std::uint32_t index : named) {
    if (is_dynamic(index))
      dynamic_align = std::max<std::uint64_t>(dynamic_align, module.variables()[index].align);
  }
  layout.dynamic_offset = align_up(layout.static_bytes, dynamic_align);
  for (const std::uint32_t index : named) {
    if (is_dynamic(index)) layout.module_offsets.emplace_back(index, layout.dynamic_offset);
  }
  std::ranges::sort(layout.module_offsets);
  return layout;
}

}  // namespace vgpu::software::ptx
