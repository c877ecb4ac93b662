// AST back to text, for logs and tests. What is printed parses again to the same AST.
#include <cinttypes>
#include <cstdio>

#include "device/software/ptx/opcode_table.h"

namespace vgpu::software::ptx {
namespace {

std::string hex(std::uint64_t value, int digits) {
  char text[24];
  std::snprintf(text, sizeof text, "%0*" PRIX64, digits, value);
  return text;
}

class Printer {
 public:
  Printer(const Module& module, const Function& function) : module_(module), function_(function) {}

  std::string instruction(const Instruction& i) const;
  std::string body() const;

 private:
  std::string opcode(const Instruction& i) const;
  std::string operand(const Instruction& i, const Operand& o, Type type) const;
  std::string offset(std::int64_t value) const { return value == 0 ? "" : "+" + std::to_string(value); }
  std::string symbol(const Operand& o) const {
    return o.in_module ? module_.variables()[o.index].name : variable_name(o.index);
  }
  // Inner scopes may declare a name again, so variables of the body carry their number.
  std::string variable_name(std::uint32_t index) const {
    const Variable& variable = function_.variables[index];
    const bool formal =
        variable.role == Variable::Role::kParameter || variable.role == Variable::Role::kReturn;
    return formal ? variable.name : variable.name + "$" + std::to_string(index);
  }

  const Module& module_;
  const Function& function_;
};

// Types operands are printed in: what an immediate's bits mean.
Type operand_type(const Instruction& i, std::size_t position) {
  const std::size_t source = position - i.destination_count;
  switch (i.opcode) {
    case Opcode::kCvt:
    case Opcode::kSet:
      return position < i.destination_count ? i.type : source == 2 ? Type::kPred : i.source_type;
    case Opcode::kSlct:
      return source == 2 ? i.source_type : i.type;
    case Opcode::kBfe:
    case Opcode::kShl:
    case Opcode::kShr:
      return source == 0 ? i.type : Type::kB32;
    case Opcode::kBfi:
      return source < 2 ? i.type : Type::kB32;
    case Opcode::kMad:
      return i.type;
    default:
      return i.type;
  }
}

std::string Printer::opcode(const Instruction& i) const {
  std::string text(name_of(i.opcode));
  if (i.opcode == Opcode::kBarWarpSync) return text;
  if (i.opcode == Opcode::kBarrier) text = i.has(kFlagAligned) ? "bar" : "barrier";
  const auto word = [&](ModifierGroup group, auto value) {
    if (static_cast<std::uint8_t>(value) != 0) text += modifier_word(group, static_cast<std::uint8_t>(value));
  };
  const auto flag = [&](Flag bit, std::string_view name) {
    if (i.has(bit)) text += name;
  };
  if (i.opcode == Opcode::kBrxIdx) text += ".idx";
  flag(kFlagVolatile, ".volatile");
  word(kGroupOrder, i.order);
  word(i.opcode == Opcode::kMembar ? kGroupLevel : kGroupScope, i.scope);
  flag(kFlagToSpace, ".to");
  word(kGroupSpace, i.space);
  word(kGroupCache, i.cache);
  flag(kFlagNc, ".nc");
  if (i.opcode == Opcode::kMatch) text += i.has(kFlagMatchAny) ? ".any" : ".all";
  flag(kFlagSync, ".sync");
  if (i.barrier >= BarrierOp::kRedAnd) text += ".red";
  word(i.barrier >= BarrierOp::kRedAnd ? kGroupBarrierRed : kGroupBarrier, i.barrier);
  word(kGroupShuffle, i.shuffle);
  word(kGroupVote, i.vote);
  word(kGroupAtomic, i.atomic);
  word(kGroupTestp, i.testp);
  word(kGroupCompare, i.compare);
  word(kGroupBool, i.bool_op);
  if (i.opcode == Opcode::kShf) text += i.has(kFlagRight) ? ".r" : ".l";
  if (i.opcode == Opcode::kShf) text += i.has(kFlagWrap) ? ".wrap" : ".clamp";
  word(i.mul_part == MulPart::kWide ? kGroupMulWide : kGroupMulPart, i.mul_part);
  word(i.rounding >= Rounding::kRni ? kGroupIntegralRounding : kGroupRounding, i.rounding);
  flag(kFlagApprox, ".approx");
  flag(kFlagFull, ".full");
  flag(kFlagFtz, ".ftz");
  flag(kFlagNan, ".NaN");
  flag(kFlagSat, ".sat");
  flag(kFlagCarryOut, ".cc");
  flag(kFlagShiftAmount, ".shiftamt");
  flag(kFlagUni, ".uni");
  if (i.vector > 1) text += i.vector == 2 ? ".v2" : ".v4";
  if (i.type != Type::kNone) text += "." + std::string(name_of(i.type));
  if (i.source_type != Type::kNone) text += "." + std::string(name_of(i.source_type));
  word(kGroupPrmt, i.prmt);
  if (i.opcode == Opcode::kPrefetch) text += ".L1";
  return text;
}

std::string Printer::operand(const Instruction& i, const Operand& o, Type type) const {
  std::string text = o.negated ? "!" : "";
  switch (o.kind) {
    case OperandKind::kRegister:
      return text + function_.register_name(o.index);
    case OperandKind::kImmediate:
      if (type == Type::kF32) return "0f" + hex(static_cast<std::uint32_t>(o.value), 8);
      if (type == Type::kF64) return "0d" + hex(static_cast<std::uint64_t>(o.value), 16);
      return text + std::to_string(o.value);
    case OperandKind::kSpecial:
      return std::string(name_of(o.special()));
    case OperandKind::kSymbol:
      return symbol(o) + offset(o.value);
    case OperandKind::kFunction:
      return module_.functions()[o.index].name;
    case OperandKind::kMemory:
      switch (o.memory_base) {
        case MemoryBase::kRegister:
          return "[" + function_.register_name(o.index) + offset(o.value) + "]";
        case MemoryBase::kSymbol:
          return "[" + symbol(o) + offset(o.value) + "]";
        default:
          return "[" + std::to_string(o.value) + "]";
      }
    case OperandKind::kVector: {
      text = "{";
      for (const Operand& element : function_.elements_of(o)) {
        if (text.size() > 1) text += ", ";
        text += operand(i, element, type);
      }
      return text + "}";
    }
    case OperandKind::kSink:
      return "_";
    case OperandKind::kLabel:
      return "$I" + std::to_string(o.index);
    case OperandKind::kLabelList:
      return "$T" + std::to_string(o.index);
    case OperandKind::kPrototype:
      return function_.prototypes[o.index].name;
  }
  return text;
}

std::string Printer::instruction(const Instruction& i) const {
  std::string text;
  if (i.guard.predicate != kNoRegister) {
    text +=
        std::string("@") + (i.guard.negated ? "!" : "") + function_.register_name(i.guard.predicate) + " ";
  }
  text += opcode(i);
  const auto operands = function_.operands_of(i);
  if (i.opcode == Opcode::kCall) {
    text += " ";
    if (i.destination_count > 0) text += "(";
    for (std::size_t n = 0; n < operands.size(); ++n) {
      const bool is_target = n == i.destination_count;
      const bool is_prototype = operands[n].kind == OperandKind::kPrototype;
      if (is_target && n > 0) text += "), ";
      if (!is_target && !is_prototype && n != 0) text += n == i.destination_count + 1U ? ", (" : ", ";
      if (is_prototype) text += n > i.destination_count + 1U ? "), " : ", ";
      text += operand(i, operands[n], Type::kB64);
    }
    const bool closed = operands.back().kind == OperandKind::kPrototype;
    if (operands.size() > i.destination_count + 1U && !closed) text += ")";
  } else {
    for (std::size_t n = 0; n < operands.size(); ++n) {
      const bool pair = n == 1 && i.destination_count == 2;
      text += n == 0 ? " " : pair ? "|" : ", ";
      text += operand(i, operands[n], operand_type(i, n));
    }
  }
  return text + ";";
}

std::string Printer::body() const {
  std::string text = "{\n";
  for (const RegisterRange& range : function_.register_ranges) {
    if (range.count == 0) continue;
    const bool formal = !range.numbered && range.scope == 0 && [&] {
      for (const auto& list : {function_.parameter_registers, function_.return_registers}) {
        for (const RegisterId id : list) {
          if (id == range.first) return true;
        }
      }
      return false;
    }();
    if (formal) continue;
    std::string name = function_.register_name(range.first);
    if (range.numbered) {
      name.pop_back();  // the 0 of the first
      name += "<" + std::to_string(range.count) + ">";
    }
    text += "\t.reg ." + std::string(name_of(function_.registers[range.first])) + " " + name + ";\n";
  }
  for (std::size_t n = 0; n < function_.variables.size(); ++n) {
    const Variable& variable = function_.variables[n];
    if (variable.role == Variable::Role::kParameter || variable.role == Variable::Role::kReturn) continue;
    const std::uint64_t count = bytes_of(variable.type) == 0 ? 0 : variable.size / bytes_of(variable.type);
    text += "\t." + std::string(name_of(variable.space)) + " .align " + std::to_string(variable.align) +
            " ." + std::string(name_of(variable.type)) + " " + variable_name(static_cast<std::uint32_t>(n));
    if (count != 1) text += "[" + std::to_string(count) + "]";
    text += ";\n";
  }
  for (const FunctionDecl& prototype : function_.prototypes) {
    const auto list = [](const std::vector<Parameter>& parameters) {
      std::string out = "(";
      for (const Parameter& p : parameters) {
        if (out.size() > 1) out += ", ";
        out += (p.is_register ? ".reg ." : ".param .align " + std::to_string(p.align) + " .") +
               std::string(name_of(p.type)) + " _";
        if (!p.is_register && p.size != bytes_of(p.type))
          out += "[" + std::to_string(p.size / bytes_of(p.type)) + "]";
      }
      return out + ")";
    };
    text += "\t" + prototype.name + ": .callprototype " + list(prototype.returns) + " _ " +
            list(prototype.parameters) + ";\n";
  }
  for (std::size_t n = 0; n < function_.instructions.size(); ++n) {
    const Instruction& i = function_.instructions[n];
    if (i.opcode == Opcode::kBrxIdx) {
      const Operand& list = function_.operands_of(i).back();
      text += "\t$T" + std::to_string(list.index) + ": .branchtargets";
      const char* separator = " ";
      for (const Operand& target : function_.elements_of(list)) {
        text += separator + operand(i, target, Type::kNone);
        separator = ", ";
      }
      text += ";\n";
    }
    text += "$I" + std::to_string(n) + ":\t" + instruction(i) + "\n";
  }
  return text + "}\n";
}

}  // namespace

std::string print(const Module& module, const Function& function, const Instruction& instruction) {
  return Printer(module, function).instruction(instruction);
}

std::string print(const Module& module, const Function& function) {
  return Printer(module, function).body();
}

}  // namespace vgpu::software::ptx
