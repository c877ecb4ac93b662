// Control flow: conditions, loops, jumps without structure, branch tables, calls, ways out.
#include <algorithm>

#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

std::string Builder::extra(const char* prefix, const char* type) {
  const std::string name = Text{prefix, next_counter_++, "_"};
  counters_.push_back(Text{" .reg ", type, " ", name, ";"});
  return name;
}

// A context for statements that fewer threads may execute. Whoever is known by a mask must not leave a loop
// alone.
Context Builder::inside(const Context& context, Together together, std::string mask) const {
  Context child = context;
  ++child.depth;
  if (together != context.together || mask != context.mask) child.leave.clear();
  child.together = std::max(context.together, together);
  child.mask = std::move(mask);
  return child;
}

Statement Builder::condition(const Context& context) {
  Statement out;
  Context then = inside(context, context.together, context.mask);
  Context otherwise = then;
  const std::string compare = dice_.any({"eq", "ne", "lt", "gt"});
  const std::uint32_t kind = dice_.below(10);
  if (kind < 2) {
    out.add(Text{" setp.", compare, ".u32 %z6, ", reg(kU), ", ",
                 dice_.chance(50) ? uniform() : std::to_string(dice_.below(9)), ";"});
  } else if (kind < 4 && context.together != Together::kParted) {
    out.add(Text{" setp.", compare, ".u32 %z6, ", reg(kW), ", ", dice_.below(5), ";"});
    then = otherwise = inside(context, Together::kWarp, context.mask);
  } else if (kind < 6 && (context.mask == "-1" || context.mask.starts_with("0x"))) {
    // Lanes by number: who is where is known.
    const std::uint32_t here = context.mask == "-1"
                                   ? 0xFFFF'FFFF
                                   : static_cast<std::uint32_t>(std::stoul(context.mask, nullptr, 16));
    const std::uint32_t chosen = dice_.chance(50) ? 0xFFFF'FFFFu >> dice_.between(1, 31)
                                                  : static_cast<std::uint32_t>(dice_.bits() >> 20);
    const auto text = [](std::uint32_t mask) {
      if (mask == 0) return std::string();
      static constexpr char kDigits[] = "0123456789abcdef";
      std::string hex = "0x";
      for (int shift = 28; shift >= 0; shift -= 4) hex += kDigits[mask >> shift & 15];
      return hex;
    };
    out.add(Text{" shr.u32 %x0, ", chosen, ", %lane;\n and.b32 %x0, %x0, 1;\n setp.ne.u32 %z6, %x0, 0;"});
    then = inside(context, Together::kParted, text(here & chosen));
    otherwise = inside(context, Together::kParted, text(here & ~chosen));
  } else if (kind < 8 && !context.mask.empty()) {
    // Lanes by data: who is where is asked for.
    const std::string yes = extra("%m", ".b32");
    const std::string no = extra("%m", ".b32");
    out.add(Text{" setp.", compare, ".s32 %z6, ", reg(kR), ", ", varying(), ";\n vote.sync.ballot.b32 ", yes,
                 ", %z6, ", context.mask, ";\n vote.sync.ballot.b32 ", no, ", !%z6, ", context.mask, ";"});
    then = inside(context, Together::kParted, yes);
    otherwise = inside(context, Together::kParted, no);
  } else {
    if (dice_.chance(50)) {
      out.add(Text{" setp.", compare, ".s32 %z6, ", reg(kR), ", ", varying(), ";"});
    } else {
      out.add(Text{" mov.pred %z6, ", reg(kP), ";"});
    }
    then = otherwise = inside(context, Together::kParted, "");
  }
  const std::string end = label();
  const bool has_else = dice_.chance(50);
  const std::string other = has_else ? label() : end;
  out.add(Text{" @!%z6 bra ", other, ";"});
  out.body = statements(then, dice_.between(1, 4));
  if (has_else) {
    out.middle = {Text{" bra", dice_.chance(50) ? ".uni " : " ", end, ";"}, other + ":"};
    out.otherwise = statements(otherwise, dice_.between(1, 3));
  }
  out.tail = {end + ":"};
  return out;
}

Statement Builder::loop(const Context& context) {
  Statement out;
  const std::string counter = extra("%k", ".b32");
  const std::string limit = extra("%l", ".b32");
  const std::uint32_t least = dice_.below(3);
  std::uint32_t most = least + 3;
  Context child = inside(context, context.together, context.mask);
  switch (dice_.below(5)) {
    case 0:
      most = least + dice_.below(3);
      out.add(Text{" mov.u32 ", limit, ", ", most, ";"});
      break;
    case 1:
      out.add(
          Text{" and.b32 ", limit, ", ", reg(kU), ", 3;\n add.u32 ", limit, ", ", limit, ", ", least, ";"});
      break;
    case 2:
      if (context.together != Together::kParted) {
        out.add(
            Text{" and.b32 ", limit, ", ", reg(kW), ", 3;\n add.u32 ", limit, ", ", limit, ", ", least, ";"});
        child = inside(context, Together::kWarp, context.mask);
        break;
      }
      [[fallthrough]];
    default:
      out.add(Text{" and.b32 ", limit, ", ", dice_.any({"%lane", "%t", "%tx"}), ", 3;"});
      if (dice_.chance(50)) out.head.back() = Text{" and.b32 ", limit, ", ", reg(kR), ", 3;"};
      out.add(Text{" add.u32 ", limit, ", ", limit, ", ", least, ";"});
      child = inside(context, Together::kParted, "");
      break;
  }
  const std::string top = label();
  const std::string next = label();
  const std::string end = label();
  child.leave = {end, next};
  const bool down = dice_.chance(30);
  const bool test_below = !down && least > 0 && most > 0 && dice_.chance(40);
  child.terms.push_back({counter, down ? most : most == 0 ? 0 : most - 1});
  std::string advance;
  if (!context.in_function && dice_.chance(60)) {
    WalkingPointer pointer;
    pointer.reg = extra("%j", ".b64");
    pointer.buffer = tables_[dice_.below(3)];
    pointer.unit = 1u << dice_.below(5);
    const std::uint32_t step = dice_.chance(60) ? dice_.below(20) : threads_;
    const std::uint32_t largest = table_index(out, context, dice_.chance(15));
    global_address(out, pointer.buffer, "%x6", pointer.unit, pointer.reg);
    pointer.reach = (std::uint64_t{largest} + std::uint64_t{most} * step) * pointer.unit;
    advance = Text{" add.s64 ", pointer.reg, ", ", pointer.reg, ", ", step * pointer.unit, ";"};
    child.pointers.push_back(pointer);
  }
  out.add(down ? Text{" mov.u32 ", counter, ", ", limit, ";"} : Text{" mov.u32 ", counter, ", 0;"});
  out.add(top + ":");
  if (!test_below) {
    out.add(down ? Text{" setp.eq.u32 %z6, ", counter, ", 0;\n @%z6 bra ", end, ";"}
                 : Text{" setp.ge.", dice_.any({"u32", "s32"}), " %z6, ", counter, ", ", limit,
                        ";\n @%z6 bra ", end, ";"});
  }
  if (dice_.chance(20)) out.add(" .pragma \"nounroll\";");
  out.body = statements(child, dice_.between(1, 5));
  out.tail.push_back(next + ":");
  if (!advance.empty()) out.tail.push_back(advance);
  out.tail.push_back(Text{" add.s32 ", counter, ", ", counter, ", ", down ? "-1" : "1", ";"});
  out.tail.push_back(test_below ? Text{" setp.lt.u32 %z6, ", counter, ", ", limit, ";\n @%z6 bra ", top, ";"}
                                : Text{" bra", dice_.chance(50) ? ".uni " : " ", top, ";"});
  out.tail.push_back(end + ":");
  return out;
}

// Jumps from anywhere to anywhere, a bounded number of them for each thread.
Statement Builder::soup() {
  Statement out;
  const std::string fuel = extra("%k", ".b32");
  out.add(Text{" mov.u32 ", fuel, ", ", dice_.between(5, 24), ";"});
  std::vector<std::string> labels;
  for (std::uint32_t i = dice_.between(3, 7); i > 0; --i) labels.push_back(label());
  const std::string end = label();
  const auto anywhere = [&] { return labels[dice_.below(static_cast<std::uint32_t>(labels.size()))]; };
  Context context;
  context.together = Together::kParted;
  context.mask.clear();
  for (const std::string& name : labels) {
    Statement block;
    block.needed = true;
    block.head = {name + ":"};
    for (std::uint32_t i = dice_.between(1, 3); i > 0; --i)
      block.body.push_back(dice_.chance(70) ? integer_statement(context) : float_statement());
    block.tail.push_back(
        Text{" sub.u32 ", fuel, ", ", fuel, ", 1;\n setp.eq.u32 %z6, ", fuel, ", 0;\n @%z6 bra ", end, ";"});
    switch (dice_.below(5)) {
      case 0:
        block.tail.push_back(Text{" bra ", anywhere(), ";"});
        break;
      case 1:
        block.tail.push_back(Text{" @", predicate(), " bra ", anywhere(), ";"});
        break;
      case 2:
        block.tail.push_back(
            Text{" and.b32 %x0, ", reg(kR), ", 3;\n setp.eq.u32 %z6, %x0, 1;\n @!%z6 bra ", anywhere(), ";"});
        break;
      case 3:
        block.tail.push_back(
            Text{" setp.gt.u32 %z6, ", reg(kU), ", ", fuel, ";\n @%z6 bra ", anywhere(), ";"});
        break;
      default:
        break;
    }
    out.body.push_back(std::move(block));
  }
  out.tail = {end + ":"};
  return out;
}

Statement Builder::table_branch(const Context& context) {
  Statement out;
  const std::uint32_t ways = dice_.between(2, 4);
  const bool same_for_all = dice_.chance(30);
  std::string targets;
  std::vector<std::string> labels;
  for (std::uint32_t i = 0; i < ways; ++i) labels.push_back(label());
  for (const std::string& name : labels) targets += Text{targets.empty() ? "" : ", ", name};
  const std::string list = label();
  const std::string end = label();
  out.add(Text{" rem.u32 %x0, ", same_for_all ? reg(kU) : reg(kR), ", ", ways, ";"});
  out.add(Text{list, ": .branchtargets ", targets, ";\n brx.idx %x0, ", list, ";"});
  const Context child =
      same_for_all ? inside(context, context.together, context.mask) : inside(context, Together::kParted, "");
  for (const std::string& name : labels) {
    Statement way;
    way.needed = true;
    way.head = {name + ":"};
    way.body = statements(child, dice_.between(1, 2));
    if (dice_.chance(80)) way.tail = {Text{" bra ", end, ";"}};
    out.body.push_back(std::move(way));
  }
  out.tail = {end + ":"};
  return out;
}

Statement Builder::leave(const Context& context) {
  std::string condition_line;
  if (context.together == Together::kBlock ||
      (context.together == Together::kParted && !context.mask.empty())) {
    condition_line = Text{" setp.eq.u32 %z6, ", reg(kU), ", ", dice_.below(6), ";"};
  } else if (context.together == Together::kWarp) {
    condition_line = Text{" setp.eq.u32 %z6, ", reg(kW), ", ", dice_.below(6), ";"};
  } else {
    condition_line = Text{" setp.eq.u32 %z6, ", reg(kR), ", ", varying(), ";"};
    if (dice_.chance(50))
      condition_line = Text{" and.b32 %x0, ", reg(kR), ", 7;\n setp.eq.u32 %z6, %x0, ", dice_.below(8), ";"};
  }
  Statement out;
  if (has_exits_ && !context.in_function && (context.leave.empty() || dice_.chance(40))) {
    out.add(Text{" and.b32 %x0, ", varying(), ", ", dice_.any({"7", "15", "31"}),
                 ";\n setp.eq.u32 %z6, %x0, ", dice_.below(8), ";"});
    return out.add(Text{" @%z6 ", dice_.any({"exit;", "ret;", "bra $end;"})});
  }
  if (context.in_function && dice_.chance(40)) {
    return out.add(Text{" mov.b32 result_, ", reg(kR), ";\n @", reg(kP), " bra $return;"});
  }
  if (context.leave.empty()) return integer_statement(context);
  out.add(condition_line);
  return out.add(
      Text{" @%z6 bra ", context.leave[dice_.below(static_cast<std::uint32_t>(context.leave.size()))], ";"});
}

Statement Builder::call() {
  Statement out;
  const std::uint32_t which = dice_.below(functions_);
  const std::string to = reg(kR);
  if (by_register_[which]) {
    return out.add(Text{" call", dice_.chance(50) ? ".uni" : "", " (", to, "), f", which, ", (", reg(kR),
                        ", ", reg(kQ), ", ", reg(kF), ");"});
  }
  out.add(" {\n .param .b32 pr;\n .param .b32 pa;\n .param .align 8 .b8 pb[16];\n .param .f32 pc;");
  out.add(Text{" st.param.b32 [pa], ", reg(kR), ";\n st.param.b64 [pb], ", reg(kQ),
               ";\n st.param.b32 [pb+8], ", reg(kR), ";\n st.param.b32 [pb+12], ", reg(kR),
               ";\n st.param.f32 [pc], ", reg(kF), ";"});
  out.add(Text{" call.uni (pr), f", which, ", (pa, pb, pc);\n ld.param.b32 ", to, ", [pr];\n }"});
  return out;
}

// A function that computes: nothing outside it changes but the result.
Statement Builder::function(std::uint32_t index) {
  by_register_.push_back(dice_.chance(50));
  const bool registers_only = by_register_.back();
  std::vector<std::string> outer = std::move(counters_);
  counters_.clear();
  const std::uint32_t callable = functions_;
  functions_ = index;
  budget_ = dice_.between(2, 8);
  Context context;
  context.together = Together::kParted;
  context.mask.clear();
  context.in_function = true;
  context.depth = 1;

  Statement out;
  out.needed = true;
  Statement start = declarations(true);
  start.add(" .reg .b32 result_, a_, c_;\n .reg .b64 b_;\n .reg .f32 e_;");
  if (registers_only) {
    start.add(" mov.b32 a_, a;\n mov.b64 b_, b;\n mov.f32 e_, c;\n mov.u32 c_, 99;");
  } else {
    start.add(
        " ld.param.b32 a_, [a];\n ld.param.b64 b_, [b];\n ld.param.f32 e_, [c];\n ld.param.b32 c_, [b+8];");
  }
  start.add(
      " mov.b32 %u0, 3;\n mov.b32 %u1, 40;\n mov.b32 %u2, %cx;\n mov.b32 %u3, 0;\n mov.b32 %u4, -1;\n "
      "shr.u32 %w0, %t, "
      "5;\n mov.b32 %w1, 5;\n mov.b32 %w2, 6;");
  start.add(
      " mov.b32 %r0, a_;\n mov.b32 %r1, c_;\n cvt.u32.u64 %r2, b_;\n mov.b32 %r3, %t;\n mov.b32 %r4, 17;\n "
      "shr.s32 %r5, "
      "a_, 3;\n mul.lo.u32 %r6, a_, c_;\n mov.b32 %r7, 1;");
  start.add(
      " mov.b64 %q0, b_;\n cvt.u64.u32 %q1, a_;\n mov.b64 %q2, 1;\n mov.b64 %q3, -5;\n cvt.u16.u32 %h0, "
      "a_;\n mov.b16 "
      "%h1, 7;\n mov.b16 %h2, -3;\n cvt.u16.u64 %h3, b_;");
  start.add(
      " mov.f32 %f0, e_;\n cvt.rn.f32.s32 %f1, c_;\n mov.f32 %f2, 0f3F800000;\n mov.f32 %f3, 0f00000000;\n "
      "mov.f32 %f4, "
      "e_;\n cvt.f64.f32 %d0, e_;\n mov.f64 %d1, 0d4000000000000000;\n cvt.rn.f64.s64 %d2, b_;");
  start.add(
      " cvt.rn.f16.f32 %g0, e_;\n mov.b16 %g1, 0x3C00;\n mov.b16 %g2, %h0;\n mov.b32 %v0, a_;\n mov.b32 %v1, "
      "0x3C004000;");
  start.add(
      " setp.lt.s32 %p0, a_, 0;\n setp.eq.u32 %p1, %t, 3;\n setp.gt.u32 %p2, c_, a_;\n setp.ne.u32 %p3, a_, "
      "c_;");
  std::vector<Statement> body = statements(context, dice_.between(2, 6));
  const std::string parameters = registers_only ? "(.reg .b32 result) f" : "(.param .b32 result) f";
  out.head = {Text{".func ", parameters, index,
                   registers_only ? "(.reg .b32 a, .reg .b64 b, .reg .f32 c)"
                                  : "(.param .b32 a, .param .align 8 .b8 b[16], .param .f32 c)",
                   "\n{"}};
  for (const std::string& counter : counters_) out.head.push_back(counter);
  out.body.push_back(std::move(start));
  for (Statement& each : body) out.body.push_back(std::move(each));
  Statement finish;
  finish.needed = true;
  canonical32(finish, "%f0", "%x0");
  finish.add(" xor.b32 result_, %r0, %r1;\n xor.b32 result_, result_, %x0;");
  finish.add("$return:");
  finish.add(registers_only ? " mov.b32 result, result_;" : " st.param.b32 [result], result_;");
  finish.add(" ret;\n}");
  out.body.push_back(std::move(finish));
  counters_ = std::move(outer);
  functions_ = callable;
  return out;
}

Statement Builder::control_statement(const Context& context) {
  switch (dice_.below(10)) {
    case 0:
    case 1:
    case 2:
      return condition(context);
    case 3:
    case 4:
    case 5:
      return loop(context);
    case 6:
      return soup();
    case 7:
      return table_branch(context);
    case 8:
      return functions_ > 0 ? call() : condition(context);
    default:
      return leave(context);
  }
}

}  // namespace vgpu::testing::fuzz
