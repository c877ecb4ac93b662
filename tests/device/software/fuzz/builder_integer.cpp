// Integer and bit instructions, comparisons, carry chains, integer conversions.
#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

// `to` = a divisor: never zero, never minus one.
void Builder::safe_divisor(Statement& out, bool wide, bool is_signed, const std::string& to) {
  const std::string type = wide ? ".b64 " : ".b32 ";
  const std::string from = wide ? reg(kQ) : reg(kR);
  if (dice_.chance(25)) {
    out.add(Text{" mov", type, to, ", ", dice_.any({"1", "2", "3", "7", "10", "32", "641", "65536"}), ";"});
    return;
  }
  out.add(
      Text{" shr", wide ? ".u64 " : ".u32 ", to, ", ", from, ", ", dice_.between(1, wide ? 60 : 30), ";"});
  out.add(Text{" or", type, to, ", ", to, ", ", dice_.any({"1", "2", "5"}), ";"});
  if (is_signed && dice_.chance(30)) {
    out.add(Text{" add", wide ? ".s64 " : ".s32 ", to, ", ", to, ", 1;\n neg", wide ? ".s64 " : ".s32 ", to,
                 ", ", to, ";"});
  }
}

std::string Builder::integer32(Together level, const std::string& to) {
  const auto s = [&] { return source(level); };
  const std::string u = dice_.any({".u32 ", ".s32 "});
  switch (dice_.below(30)) {
    case 0:
      return Text{"add", u, to, ", ", s(), ", ", s()};
    case 1:
      return Text{"sub", u, to, ", ", s(), ", ", s()};
    case 2:
      return Text{"mul.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s()};
    case 3:
      return Text{"mad.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ", ", s()};
    case 4:
      return Text{"mul24.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s()};
    case 5:
      return Text{"mad24.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ", ", s()};
    case 6:
      return Text{"sad", u, to, ", ", s(), ", ", s(), ", ", s()};
    case 7:
      return Text{dice_.any({"min", "max"}), u, to, ", ", s(), ", ", s()};
    case 8:
    case 9:
      return Text{dice_.any({"and", "or", "xor"}), ".b32 ", to, ", ", s(), ", ", s()};
    case 10:
      return Text{dice_.any({"not", "cnot"}), ".b32 ", to, ", ", s()};
    case 11:
      return Text{"shl.b32 ", to, ", ", s(), ", ", dice_.chance(70) ? std::to_string(dice_.below(36)) : s()};
    case 12:
    case 13:
      return Text{"shr", u, to, ", ", s(), ", ", dice_.chance(70) ? std::to_string(dice_.below(36)) : s()};
    case 14:
      return Text{"shf.",  dice_.any({"l", "r"}),
                  ".",     dice_.any({"wrap", "clamp"}),
                  ".b32 ", to,
                  ", ",    s(),
                  ", ",    s(),
                  ", ",    dice_.chance(60) ? std::to_string(dice_.below(40)) : s()};
    case 15:
    case 16:
      return Text{"lop3.b32 ", to, ", ", s(), ", ", s(), ", ", s(), ", ", dice_.below(256)};
    case 17:
      return Text{"prmt.b32 ", to,  ", ", s(),
                  ", ",        s(), ", ", dice_.chance(70) ? std::to_string(dice_.below(65536)) : s()};
    case 18:
      return Text{"prmt.b32", dice_.any({".f4e ", ".b4e ", ".rc8 ", ".ecl ", ".ecr ", ".rc16 "}),
                  to,         ", ",
                  s(),        ", ",
                  s(),        ", ",
                  s()};
    case 19:
      return Text{"bfe",
                  u,
                  to,
                  ", ",
                  s(),
                  ", ",
                  dice_.chance(70) ? std::to_string(dice_.below(36)) : s(),
                  ", ",
                  dice_.chance(70) ? std::to_string(dice_.below(36)) : s()};
    case 20:
      return Text{"bfi.b32 ", to,
                  ", ",       s(),
                  ", ",       s(),
                  ", ",       dice_.chance(70) ? std::to_string(dice_.below(36)) : s(),
                  ", ",       dice_.chance(70) ? std::to_string(dice_.below(36)) : s()};
    case 21:
      return Text{"bfind", dice_.any({"", ".shiftamt"}), u, to, ", ", s()};
    case 22:
      return Text{dice_.any({"brev", "clz", "popc"}), ".b32 ", to, ", ", s()};
    case 23:
      return Text{"dp4a.", dice_.any({"u32", "s32"}), u, to, ", ", s(), ", ", s(), ", ", s()};
    case 24:
      return Text{
          "dp2a.", dice_.any({"lo", "hi"}), ".", dice_.any({"u32", "s32"}), u, to, ", ", s(), ", ", s(), ", ",
          s()};
    case 25:
      return Text{dice_.any({"abs", "neg"}), ".s32 ", to, ", ", s()};
    case 26:
      return Text{dice_.any({"add.sat", "sub.sat"}), ".s32 ", to, ", ", s(), ", ", s()};
    case 27:
      return Text{dice_.any({"mad.hi.sat", "mad24.hi.sat"}), ".s32 ", to, ", ", s(), ", ", s(), ", ", s()};
    case 28:
      return Text{"slct.", dice_.any({"b32", "u32", "s32"}), ".s32 ", to, ", ", s(), ", ", s(), ", ", s()};
    default:
      return Text{"set.", dice_.any({"eq", "ne", "lt", "le", "gt", "ge"}), ".u32", u, to, ", ", s(), ", ",
                  s()};
  }
}

Statement Builder::integer_statement(const Context& context) {
  const std::uint32_t choice = dice_.below(100);
  if (choice < 55) {
    Together level{};
    const std::string to = target(context, level);
    if (dice_.chance(8)) {
      Statement out;
      const std::string type = dice_.any({".u32 ", ".s32 "});
      if (level != Together::kParted) return Statement(Text{" ", integer32(level, to), ";"});
      safe_divisor(out, false, type == ".s32 ", "%x0");
      return out.add(Text{" ", guard(), dice_.any({"div", "rem"}), type, to, ", ", varying(), ", %x0;"});
    }
    if (level == Together::kParted && dice_.chance(6)) {
      return Statement(Text{" ", guard(), "mov.u32 ", to, ", ",
                            dice_.any({"%ctaid.x", "%ctaid.y", "%tid.x", "%tid.y", "%warpid", "%ntid.y"}),
                            ";"});
    }
    if (level == Together::kParted && dice_.chance(12)) {
      switch (dice_.below(4)) {
        case 0:
          return Statement(Text{" selp.b32 ", to, ", ", varying(), ", ", varying(), ", ", reg(kP), ";"});
        case 1:
          return Statement(Text{" mov.u32 ", to, ", ",
                                dice_.any({"%lanemask_lt", "%lanemask_le", "%lanemask_eq", "%lanemask_ge",
                                           "%lanemask_gt", "%laneid", "%nwarpid", "%warpid", "%tid.x"}),
                                ";"});
        case 2: {
          Statement out(Text{" and.b32 %x0, ", varying(), ", 31;"});
          return out.add(
              Text{" fns.b32 ", to, ", ", reg(kR), ", %x0, ", static_cast<int>(dice_.below(9)) - 4, ";"});
        }
        default:
          return Statement(Text{" ", guard(), "mov.b32 ", to, ", ", varying(), ";"});
      }
    }
    return Statement(Text{" ", level == Together::kParted ? guard() : "", integer32(level, to), ";"});
  }
  if (choice < 68) return integer64();
  if (choice < 77) return integer16();
  if (choice < 82) return carry_chain();
  if (choice < 92) return comparison();
  return conversion();
}

Statement Builder::integer64() {
  const std::string to = reg(kQ);
  const auto s = [&] { return dice_.chance(85) ? reg(kQ) : immediate(); };
  const auto n = [&] { return dice_.chance(60) ? std::to_string(dice_.below(68)) : reg(kR); };
  const std::string u = dice_.any({".u64 ", ".s64 "});
  const std::string g = Text{" ", guard()};
  switch (dice_.below(14)) {
    case 0:
      return Statement(Text{g, dice_.any({"add", "sub"}), u, to, ", ", s(), ", ", s(), ";"});
    case 1:
      return Statement(Text{g, "mul.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ";"});
    case 2:
      return Statement(Text{g, "mad.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ", ", s(), ";"});
    case 3:
      return Statement(
          Text{g, "mul.wide", dice_.any({".u32 ", ".s32 "}), to, ", ", varying(), ", ", varying(), ";"});
    case 4:
      return Statement(Text{g, "mad.wide", dice_.any({".u32 ", ".s32 "}), to, ", ", varying(), ", ",
                            varying(), ", ", s(), ";"});
    case 5:
      return Statement(Text{g, dice_.any({"min", "max"}), u, to, ", ", s(), ", ", s(), ";"});
    case 6:
      return Statement(Text{g, dice_.any({"and", "or", "xor"}), ".b64 ", to, ", ", s(), ", ", s(), ";"});
    case 7:
      return dice_.chance(50) ? Statement(Text{g, "shl.b64 ", to, ", ", s(), ", ", n(), ";"})
                              : Statement(Text{g, "shr", u, to, ", ", s(), ", ", n(), ";"});
    case 8:
      return Statement(Text{g, "bfe", u, to, ", ", s(), ", ", n(), ", ", n(), ";"});
    case 9:
      return Statement(Text{g, "bfi.b64 ", to, ", ", s(), ", ", s(), ", ", n(), ", ", n(), ";"});
    case 10:
      return dice_.chance(50)
                 ? Statement(Text{g, dice_.any({"clz", "popc"}), ".b64 ", reg(kR), ", ", s(), ";"})
                 : Statement(Text{g, "bfind", dice_.any({"", ".shiftamt"}), u, reg(kR), ", ", s(), ";"});
    case 11:
      return dice_.chance(50)
                 ? Statement(Text{g, dice_.any({"brev", "not", "cnot"}), ".b64 ", to, ", ", s(), ";"})
                 : Statement(Text{g, dice_.any({"neg", "abs"}), ".s64 ", to, ", ", s(), ";"});
    case 12:
      return dice_.chance(50) ? Statement(Text{g, "mov.b64 ", to, ", {", reg(kR), ", ", reg(kR), "};"})
                              : Statement(Text{" mov.b64 {%x0, %x1}, ", reg(kQ), ";\n mov.b32 ", reg(kR),
                                               ", %x", dice_.below(2), ";"});
    default: {
      Statement out;
      const bool is_signed = u == ".s64 ";
      safe_divisor(out, true, is_signed, "%y0");
      return out.add(Text{g, dice_.any({"div", "rem"}), u, to, ", ", s(), ", %y0;"});
    }
  }
}

Statement Builder::integer16() {
  const std::string to = reg(kH);
  const auto s = [&] {
    return dice_.chance(80) ? reg(kH) : std::to_string(static_cast<int>(dice_.below(400)) - 200);
  };
  const std::string u = dice_.any({".u16 ", ".s16 "});
  const std::string g = Text{" ", guard()};
  switch (dice_.below(10)) {
    case 0:
      return Statement(Text{g, dice_.any({"add", "sub"}), u, to, ", ", s(), ", ", s(), ";"});
    case 1:
      return Statement(Text{g, "mul.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ";"});
    case 2:
      return Statement(Text{g, "mad.", dice_.any({"lo", "hi"}), u, to, ", ", s(), ", ", s(), ", ", s(), ";"});
    case 3:
      return Statement(Text{g, "mul.wide", u, reg(kR), ", ", s(), ", ", s(), ";"});
    case 4:
      return Statement(Text{g, dice_.any({"min", "max"}), u, to, ", ", s(), ", ", s(), ";"});
    case 5:
      return Statement(Text{g, dice_.any({"and", "or", "xor"}), ".b16 ", to, ", ", s(), ", ", s(), ";"});
    case 6:
      return dice_.chance(50) ? Statement(Text{g, "shl.b16 ", to, ", ", s(), ", ", dice_.below(20), ";"})
                              : Statement(Text{g, "shr", u, to, ", ", s(), ", ", dice_.below(20), ";"});
    case 7:
      return dice_.chance(50) ? Statement(Text{g, "mov.b32 ", reg(kR), ", {", reg(kH), ", ", reg(kH), "};"})
                              : Statement(Text{" mov.b32 {%xh0, %xh1}, ", reg(kR), ";\n mov.b16 ", to,
                                               ", %xh", dice_.below(2), ";"});
    case 8:
      return Statement(Text{g, "selp.b16 ", to, ", ", s(), ", ", s(), ", ", reg(kP), ";"});
    default: {
      Statement out(
          Text{" shr.u16 %xh0, ", reg(kH), ", ", dice_.between(1, 12), ";\n or.b16 %xh0, %xh0, 1;"});
      return out.add(Text{g, dice_.any({"div", "rem"}), u, to, ", ", s(), ", %xh0;"});
    }
  }
}

// The carry flag lives within one statement.
Statement Builder::carry_chain() {
  Statement out;
  const std::string u = dice_.any({".u32 ", ".s32 "});
  switch (dice_.below(4)) {
    case 0:
      out.add(Text{" add.cc", u, "%x0, ", varying(), ", ", varying(), ";\n addc.cc", u, "%x1, ", varying(),
                   ", ", varying(), ";\n addc", u, "%x2, ", varying(), ", 0;"});
      break;
    case 1:
      out.add(Text{" sub.cc", u, "%x0, ", varying(), ", ", varying(), ";\n subc.cc", u, "%x1, ", varying(),
                   ", ", varying(), ";\n subc", u, "%x2, ", varying(), ", ", varying(), ";"});
      break;
    case 2:
      out.add(Text{" mad.lo.cc", u, "%x0, ", varying(), ", ", varying(), ", ", varying(), ";\n madc.hi.cc", u,
                   "%x1, ", varying(), ", ", varying(), ", ", varying(), ";\n addc", u, "%x2, 0, 0;"});
      break;
    default:
      out.add(Text{" add.cc.u64 %y0, ", reg(kQ), ", ", reg(kQ), ";\n addc.u64 %y1, ", reg(kQ), ", ", reg(kQ),
                   ";\n xor.b64 ", reg(kQ),
                   ", %y0, %y1;\n mov.u32 %x0, 1;\n mov.u32 %x1, 2;\n addc.u32 %x2, 5, 6;"});
      break;
  }
  return out.add(Text{" mov.u32 ", reg(kR), ", %x0;\n xor.b32 ", reg(kR), ", %x1, %x2;"});
}

Statement Builder::comparison() {
  const std::string to = reg(kP);
  const std::string compare = dice_.any({".eq", ".ne", ".lt", ".le", ".gt", ".ge"});
  std::string operands;
  switch (dice_.below(6)) {
    case 0:
      operands = Text{dice_.any({".u64 ", ".s64 "}), "@, ", reg(kQ), ", ", reg(kQ)};
      break;
    case 1:
      operands = Text{dice_.any({".u16 ", ".s16 "}), "@, ", reg(kH), ", ", reg(kH)};
      break;
    case 2: {
      Statement out(
          Text{" ", dice_.any({"and", "or", "xor"}), ".pred ", to, ", ", reg(kP), ", ", reg(kP), ";"});
      return dice_.chance(50) ? out : Statement(Text{" not.pred ", to, ", ", reg(kP), ";"});
    }
    default:
      operands = Text{dice_.any({".u32 ", ".s32 "}), "@, ", varying(), ", ", varying()};
      break;
  }
  const std::size_t at = operands.find('@');
  std::string combined;
  if (dice_.chance(25)) {
    combined = dice_.any({".and", ".or", ".xor"});
    operands += Text{", ", predicate()};
  }
  std::string targets = to;
  if (dice_.chance(20)) {
    const std::string second = reg(kP);
    if (second != to) targets += Text{"|", second};
  }
  return Statement(Text{" ", guard(), "setp", compare, combined, operands.substr(0, at), targets,
                        operands.substr(at + 1), ";"});
}

Statement Builder::conversion() {
  const std::string from = dice_.any({"u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"});
  const std::string to = dice_.any({"u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"});
  const auto pool = [&](const std::string& type) {
    if (type.ends_with("64")) return kQ;
    if (type.ends_with("32")) return kR;
    return dice_.chance(50) ? kH : kR;
  };
  return Statement(Text{" ", guard(), "cvt", dice_.chance(30) ? ".sat." : ".", to, ".", from, " ",
                        reg(pool(to)), ", ", reg(pool(from)), ";"});
}

}  // namespace vgpu::testing::fuzz
