// Parses one function body: scopes, declarations, labels (function_parser.cpp) and instructions
// (instruction_parser.cpp, modifier_parser.cpp, special_parser.cpp). Names are resolved on the way; labels
// when their scope closes.
#pragma once

#include <array>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "device/software/ptx/ast.h"
#include "device/software/ptx/opcode_table.h"
#include "device/software/ptx/token_parser.h"

namespace vgpu::software::ptx {

inline constexpr std::uint32_t kNewestMajorVersion = 9;

class FunctionParser : public TokenParser {
 public:
  FunctionParser(const Module& module, std::uint32_t index);

  bool parse();
  Function take() { return std::move(function_); }

 private:
  struct Name {
    enum class Kind : std::uint8_t { kRegister, kVariable, kLabel, kPrototype, kLabelList } kind;
    std::uint32_t index = 0;
    std::uint32_t count = 0;  // kLabelList
  };
  struct NumberedRegisters {
    RegisterId first;
    std::uint32_t count;
  };
  struct NameScope {
    std::unordered_map<std::string_view, Name> names;
    std::unordered_map<std::string_view, NumberedRegisters> numbered;  // by prefix
    std::size_t first_fixup = 0;
    std::uint32_t number = 0;
  };
  struct Fixup {
    Token label;
    std::uint32_t operand;  // in function_.operands
  };

  // Declarations and structure.
  bool declare_signature();
  bool parse_statement();
  bool parse_registers();
  bool parse_variables(StateSpace space);
  bool parse_labelled(const Token& label);
  bool parse_call_prototype(const Token& label);
  bool parse_branch_targets(const Token& label);
  bool add_registers(std::string_view name, Type type, std::uint32_t count, bool numbered, const Token& at);
  bool add_variable(Variable variable, std::string_view name, const Token& at);
  bool declare(std::string_view name, Name value, const Token& at);
  bool close_scope();
  bool finish();
  [[nodiscard]] const Name* find_name(std::string_view name) const;
  [[nodiscard]] std::optional<RegisterId> find_register(std::string_view name) const;

  // Instructions.
  bool parse_instruction();
  bool parse_guard(Guard& guard);
  bool parse_modifiers(const Token& opcode);
  bool check_modifiers(const Token& at);
  bool parse_operands();
  bool parse_pattern(std::string_view pattern);
  bool parse_pattern_operand(char letter);
  bool parse_mov();
  bool parse_cvt();
  bool parse_load();
  bool parse_store();
  bool parse_barrier();
  bool parse_vote();
  bool parse_brx();
  bool parse_call();
  bool parse_call_arguments(bool returns);
  bool check_call(const Token& at, const FunctionDecl& callee, std::size_t returns,
                  std::size_t first_argument);
  bool commit();

  // Operands. `wider` allows a register wider than the type.
  bool parse_destination(Type type, bool wider = false);
  bool parse_destination_pair(Type type);  // d|p
  bool parse_source(Type type, bool wider = false);
  bool parse_predicate_source();
  bool parse_memory();
  bool parse_label_operand();
  bool parse_vector(Type type, bool destination, bool wider, std::uint32_t expected);
  bool parse_register_operand(const Token& name, Type type, bool wider, Operand& out);
  bool read_source(Type type, bool wider, Operand& out);
  bool read_destination(Type type, bool wider, Operand& out);
  bool read_address_offset(std::int64_t& out);
  bool resolve_symbol(const Token& name, Operand& out);
  bool push(const Operand& operand);
  void note_module_variable(std::uint32_t index);
  void note_function(std::uint32_t index);

  const Module& module_;
  const FunctionDecl& decl_;
  Function function_;
  std::vector<NameScope> scopes_;
  std::vector<Fixup> fixups_;
  std::uint32_t scope_count_ = 0;
  std::uint32_t label_at_end_ = 0;  // highest instruction index that a label stands on
  bool any_label_ = false;

  // The instruction being read.
  Instruction current_;
  const OpcodeInfo* info_ = nullptr;
  Token opcode_token_;
  std::uint64_t seen_groups_ = 0;
  std::array<Type, 3> types_{};
  std::size_t type_count_ = 0;
  std::vector<Operand> pending_;  // its operands, before they are placed
};

}  // namespace vgpu::software::ptx
