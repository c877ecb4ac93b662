// The form as text, for tests, documents and Options::dump.
#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

namespace {

const char* name_of(Type type) {
  constexpr const char* kNames[] = {"void", "i1", "i8", "i16", "i32", "i64", "f32", "f64"};
  return kNames[static_cast<std::uint8_t>(type)];
}

std::string operand_text(const Function& function, ValueId id) {
  const Value& value = function.values[id];
  if (value.is_undef) return "undef";
  if (value.instruction != kNone) return "%" + std::to_string(id);
  if (value.type == Type::kI1) return value.bits != 0 ? "true" : "false";
  if (is_float(value.type)) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string hex;
    for (int shift = static_cast<int>(bits_of(value.type)) - 4; shift >= 0; shift -= 4) {
      hex += kDigits[(value.bits >> shift) & 15];
    }
    return "0x" + hex;
  }
  const std::uint32_t unused = 64 - bits_of(value.type);
  return std::to_string(static_cast<std::int64_t>(value.bits << unused) >> unused);
}

std::string instruction_text(const Function& function, const Instruction& inst) {
  std::string text = "  ";
  for (std::size_t i = 0; i < inst.results.size(); ++i) {
    text += (i == 0 ? "%" : ", %") + std::to_string(inst.results[i]);
  }
  if (!inst.results.empty()) text += " = ";
  text += name_of(inst.op);
  if (inst.op == Op::kLoad || inst.op == Op::kStore || inst.op == Op::kAtomic) {
    constexpr const char* kSpaces[] = {".global", ".shared", ".local", ".param"};
    text += kSpaces[static_cast<std::uint8_t>(inst.space)];
    if (inst.is_constant) text += ".constant";
    if (inst.is_volatile) text += ".volatile";
  }
  if (inst.sub != 0) text += "." + std::to_string(inst.sub);
  if (inst.of_block != 0) text += " of block " + std::to_string(inst.of_block);
  if (inst.type != Type::kVoid) text += std::string(" ") + name_of(inst.type);
  if (inst.op == Op::kTrap) text += " line " + std::to_string(inst.line);
  if (inst.imm != 0) text += " #" + std::to_string(inst.imm);
  for (std::size_t i = 0; i < inst.operands.size(); ++i) {
    text += (i == 0 ? " " : ", ") + operand_text(function, inst.operands[i]);
  }
  return text + "\n";
}

}  // namespace

const char* name_of(Op op) {
  constexpr const char* kNames[] = {
      "regread",     "regwrite",  "phi",      "add",        "sub",      "mul",        "mulhi.s",
      "mulhi.u",     "div.s",     "div.u",    "rem.s",      "rem.u",    "min.s",      "min.u",
      "max.s",       "max.u",     "abs",      "and",        "or",       "xor",        "shl",
      "lshr",        "ashr",      "funnel.l", "funnel.r",   "popc",     "clz",        "brev",
      "bfe.s",       "bfe.u",     "bfi",      "bfind.s",    "bfind.u",  "fns",        "prmt",
      "lop3",        "dp4a",      "dp2a",     "icmp",       "fcmp",     "select",     "trunc",
      "zext",        "sext",      "bitcast",  "f2s",        "f2u",      "s2f",        "u2f",
      "fext",        "ftrunc",    "half2f32", "f322half",   "f642half", "fround",     "fadd",
      "fsub",        "fmul",      "ffma",     "fdiv",       "fsqrt",    "fneg",       "fabs",
      "fmin",        "fmax",      "flush",    "sat",        "ex2",      "lg2",        "sin",
      "cos",         "tanh",      "rsqrt",    "testp",      "special",  "globaladdr", "sharedwindow",
      "localwindow", "sharedend", "localend", "localstart", "clock",    "activemask", "load",
      "store",       "atomic",    "fence",    "shfl",       "vote",     "match",      "barrier",
      "keep",        "trap",      "printf"};
  return kNames[static_cast<std::uint8_t>(op)];
}

std::string print(const Function& function) {
  std::string text = "kernel " + function.name + "\n";
  for (std::size_t i = 0; i < function.blocks.size(); ++i) {
    const Block& block = function.blocks[i];
    if (i != 0 && block.preds.empty()) continue;
    text += "b" + std::to_string(i) + ":";
    for (std::size_t p = 0; p < block.preds.size(); ++p) {
      text += (p == 0 ? "  ; from b" : ", b") + std::to_string(block.preds[p]);
    }
    text += "\n";
    for (const InstructionId id : block.phis) text += instruction_text(function, function.instructions[id]);
    for (const InstructionId id : block.body) text += instruction_text(function, function.instructions[id]);
    switch (block.terminator) {
      case Terminator::kExit:
        text += "  exit\n";
        break;
      case Terminator::kJump:
        text += "  jump b" + std::to_string(block.succs[0]) + "\n";
        break;
      case Terminator::kBranch:
        text += "  branch " + operand_text(function, block.condition) + ", b" +
                std::to_string(block.succs[0]) + ", b" + std::to_string(block.succs[1]) + "\n";
        break;
    }
  }
  return text;
}

}  // namespace vgpu::software::ir
