// The PTX front end: what the tree says of well-formed text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "device/software/ptx/ast.h"

namespace vgpu::software::ptx {
namespace {

using ::testing::ElementsAre;

std::string header() {
  return ".version 8.4\n.target sm_61\n.address_size 64\n";
}

Module parse_module(const std::string& text) {
  auto module = Module::parse(text, "test.ptx");
  EXPECT_TRUE(module) << module.error().describe();
  return module ? std::move(*module) : Module{};
}

// An entry `k` with registers %p (pred), %h (b16), %r (b32), %q (b64), %f (f32), %d (f64) around `body`.
Function parse_body(const std::string& body) {
  const Module module =
      parse_module(header() +
                   ".global .align 4 .u32 word;\n.visible .entry k(.param .u64 a, .param .u32 b)\n{\n"
                   ".reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<9>; .reg .b64 %q<4>; .reg .f32 %f<4>; "
                   ".reg .f64 %d<4>;\n" +
                   body + "\n}\n");
  auto function = module.parse_function("k");
  EXPECT_TRUE(function) << function.error().describe();
  return function ? std::move(*function) : Function{};
}

Instruction parse_one(const std::string& text) {
  return parse_body(text + "\nret;").instructions.at(0);
}

TEST(PtxModule, HeaderAndIndexAreScanned) {
  const Module module = parse_module(
      "// a comment\n.version 8.4\n.target sm_61, debug\n.address_size 64\n.file 1 \"a.cu\", 0, 3\n"
      ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);\n"
      ".visible .entry first(.param .u8 x, .param .align 8 .b8 y[12], .param .f64 z)\n.maxntid 33, "
      "2\n.minnctapersm 4\n{ ret; }\n"
      ".entry second() { /* { */ // }\n ret; }\n"
      ".weak .func third { ret; }\n.section .debug_str { .b8 1 }\n");
  EXPECT_EQ(module.version_major(), 8U);
  EXPECT_EQ(module.version_minor(), 4U);
  EXPECT_EQ(module.target(), 61U);
  ASSERT_EQ(module.functions().size(), 4U);
  const FunctionDecl* first = module.find_function("first");
  ASSERT_NE(first, nullptr);
  EXPECT_TRUE(first->is_entry && first->is_defined);
  EXPECT_EQ(first->linkage, Linkage::kVisible);
  EXPECT_THAT(first->bounds.max_threads, ElementsAre(33, 2, 1));
  EXPECT_EQ(first->bounds.min_blocks, 4U);
  ASSERT_EQ(first->parameters.size(), 3U);
  EXPECT_EQ(first->parameters[1].offset, 8U);
  EXPECT_EQ(first->parameters[1].size, 12U);
  EXPECT_EQ(first->parameters[2].offset, 24U);
  EXPECT_EQ(first->parameter_bytes, 32U);
  EXPECT_FALSE(module.find_function("vprintf")->is_defined);
  EXPECT_EQ(module.find_function("third")->linkage, Linkage::kWeak);
  EXPECT_EQ(module.find_function("fourth"), nullptr);
}

TEST(PtxModule, VariablesCarryTheirInitialValues) {
  const Module module = parse_module(
      header() +
      ".global .align 8 .b8 text[5] = {72, 105, 0x21};\n"
      ".const .f32 pi = 0f40490FDB;\n.global .u32 grid[2][3] = {{1}, {4, 5, -1}};\n"
      ".global .u64 links[2] = {text+2, generic(later)};\n.global .u16 later;\n"
      ".global .b16 open[] = {1, 2, 3};\n.extern .shared .align 16 .b8 pool[];\n.shared .b32 box[7];\n");
  const auto variables = module.variables();
  ASSERT_EQ(variables.size(), 8U);
  EXPECT_THAT(variables[0].initial, ElementsAre(72, 105, 0x21));
  EXPECT_EQ(variables[0].size, 5U);
  EXPECT_EQ(variables[0].align, 8U);
  EXPECT_EQ(variables[1].space, StateSpace::kConst);
  EXPECT_THAT(variables[1].initial, ElementsAre(0xDB, 0x0F, 0x49, 0x40));
  EXPECT_THAT(variables[2].initial,
              ElementsAre(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 255, 255, 255, 255));
  ASSERT_EQ(variables[3].relocations.size(), 2U);
  EXPECT_EQ(variables[3].relocations[0].index, 0U);
  EXPECT_EQ(variables[3].relocations[0].addend, 2);
  EXPECT_EQ(variables[3].relocations[1].index, 4U);
  EXPECT_EQ(variables[3].relocations[1].offset, 8U);
  EXPECT_TRUE(variables[3].relocations[1].generic);
  EXPECT_EQ(variables[5].size, 6U);
  EXPECT_EQ(variables[6].linkage, Linkage::kExtern);
  EXPECT_EQ(variables[6].size, 0U);
  EXPECT_EQ(variables[7].size, 28U);
}

TEST(PtxFunction, ModifiersBecomeEnums) {
  const Instruction fma = parse_one("fma.rn.ftz.sat.f32 %f0, %f1, %f2, 0f3F800000;");
  EXPECT_EQ(fma.opcode, Opcode::kFma);
  EXPECT_EQ(fma.type, Type::kF32);
  EXPECT_EQ(fma.rounding, Rounding::kRn);
  EXPECT_TRUE(fma.has(kFlagFtz) && fma.has(kFlagSat));
  const Instruction load = parse_one("ld.global.nc.v2.f32 {%f0, _}, [%q0+-8];");
  EXPECT_EQ(load.space, StateSpace::kGlobal);
  EXPECT_EQ(load.vector, 2);
  EXPECT_TRUE(load.has(kFlagNc));
  const Instruction set = parse_one("setp.lt.and.s32 %p0|%p1, %r0, -3, !%p2;");
  EXPECT_EQ(set.compare, Compare::kLt);
  EXPECT_EQ(set.bool_op, BoolOp::kAnd);
  EXPECT_EQ(set.destination_count, 2);
  const Instruction cvt = parse_one("cvt.rzi.ftz.s32.f32 %r0, %f0;");
  EXPECT_EQ(cvt.type, Type::kS32);
  EXPECT_EQ(cvt.source_type, Type::kF32);
  EXPECT_EQ(cvt.rounding, Rounding::kRzi);
  const Instruction barrier = parse_one("bar.red.popc.u32 %r0, 1, 64, %p0;");
  EXPECT_EQ(barrier.opcode, Opcode::kBarrier);
  EXPECT_EQ(barrier.barrier, BarrierOp::kRedPopc);
  EXPECT_TRUE(barrier.has(kFlagAligned));
  EXPECT_EQ(parse_one("bar.warp.sync -1;").opcode, Opcode::kBarWarpSync);
  const Instruction atom = parse_one("atom.global.gpu.relaxed.cas.b64 %q0, [%q1], %q2, %q3;");
  EXPECT_EQ(atom.atomic, AtomicOp::kCas);
  EXPECT_EQ(atom.scope, Scope::kGpu);
  EXPECT_EQ(atom.order, MemoryOrder::kRelaxed);
  EXPECT_EQ(parse_one("add.f32 %f0, %f1, %f2;").rounding, Rounding::kRn);
  EXPECT_EQ(parse_one("vote.ballot.sync.b32 %r0, %p0, -1;").vote, VoteMode::kBallot);
  EXPECT_EQ(parse_one("cvta.to.global.u64 %q0, %q1;").space, StateSpace::kGlobal);
}

TEST(PtxFunction, ImmediatesAreCanonical) {
  const auto immediate = [](const std::string& text) {
    const Function function = parse_body(text + "\nret;");
    const auto operands = function.operands_of(function.instructions[0]);
    EXPECT_EQ(operands.back().kind, OperandKind::kImmediate);
    return operands.back().value;
  };
  EXPECT_EQ(immediate("mov.u32 %r0, 0xffffffff;"), -1);
  EXPECT_EQ(immediate("mov.b32 %r0, 0f3F800000;"), 0x3F800000);
  EXPECT_EQ(immediate("mov.f32 %f0, 1.5;"), 0x3FC00000);
  EXPECT_EQ(immediate("mov.f32 %f0, -0.5;"), 0xBF000000);
  EXPECT_EQ(immediate("mov.f64 %d0, 0f3F800000;"), 0x3FF0000000000000);
  EXPECT_EQ(immediate("mov.u16 %h0, 0x8000;"), -32768);
  EXPECT_EQ(immediate("add.s32 %r0, %r1, 2*(3+WARP_SZ)-(1|6);"), 63);
  EXPECT_EQ(immediate("mov.u64 %q0, 18446744073709551615U;"), -1);
  EXPECT_EQ(immediate("mov.u32 %r0, 0b101;"), 5);
  EXPECT_EQ(immediate("mov.u32 %r0, 017;"), 15);
  EXPECT_EQ(immediate("mov.pred %p0, -1;"), 1);
}

TEST(PtxFunction, LabelsAndScopesAreResolved) {
  const Function function = parse_body(
      "mov.u32 %r0, 1;\n{\n.reg .b32 %r<3>;\nmov.u32 %r0, 2;\n@%p0 bra $there;\n$here:\nbra.uni "
      "$out;\n$there:\nbra $here;\n}\n"
      "{\n$here:\nbra $here;\n}\n$out:");
  const auto target = [&](std::size_t i) { return function.operands_of(function.instructions[i])[0].index; };
  EXPECT_EQ(target(2), 4U);
  EXPECT_EQ(target(3), 6U);
  EXPECT_EQ(target(4), 3U);
  EXPECT_EQ(target(5), 5U);
  // A label at the end stands on the `ret` that is added.
  ASSERT_EQ(function.instructions.size(), 7U);
  EXPECT_EQ(function.instructions[6].opcode, Opcode::kRet);
  const auto outer = function.operands_of(function.instructions[0])[0].index;
  const auto inner = function.operands_of(function.instructions[1])[0].index;
  EXPECT_NE(outer, inner);
  EXPECT_EQ(function.register_name(outer), "%r0");
  EXPECT_EQ(function.register_name(inner), "%r$1_0");
}

TEST(PtxFunction, FramesAreLaidOut) {
  const Function function = parse_body(
      ".shared .align 4 .b8 s[6];\n.shared .align 16 .f32 v[4];\n.local .align 8 .b8 c[12];\n.local .u64 d;\n"
      "ld.shared.f32 %f0, [v+4];\nld.global.u32 %r0, [word];\nst.local.u32 [c+8], %r0;\nld.param.u64 %q0, "
      "[a];\nret;"
      "\n{ .param .b64 p0; .param .align 16 .b8 a$[16]; }");
  EXPECT_EQ(function.shared_bytes, 32U);
  EXPECT_EQ(function.shared_align, 16U);
  EXPECT_EQ(function.local_bytes, 24U);
  EXPECT_THAT(function.module_variables, ElementsAre(0));
}

TEST(PtxFunction, CallsAreCheckedAgainstTheirCallee) {
  const std::string text =
      header() +
      ".func (.param .b32 r) f(.param .b64 x, .param .b32 y);\n"
      ".entry k() {\n.reg .b64 %q<2>; .reg .b32 %r<2>;\n.param .b64 a; .param .b32 b; .param .b32 c;\n"
      "st.param.b64 [a+0], %q0;\ncall.uni (c), f, (a, b);\nld.param.b32 %r0, [c+0];\n"
      "$proto: .callprototype (.param .b32 _) _ (.param .b64 _, .param .b32 _);\n"
      "call (c), %q1, (a, b), $proto;\nret; }\n";
  const auto function = parse_module(text).parse_function("k");
  ASSERT_TRUE(function) << function.error().describe();
  const Instruction& direct = function->instructions[1];
  EXPECT_TRUE(direct.has(kFlagUni));
  EXPECT_EQ(direct.destination_count, 1);
  const auto operands = function->operands_of(direct);
  ASSERT_EQ(operands.size(), 4U);
  EXPECT_EQ(operands[1].kind, OperandKind::kFunction);
  EXPECT_EQ(function->operands_of(function->instructions[3]).back().kind, OperandKind::kPrototype);
}

TEST(PtxFunction, PrintedTextParsesToTheSameTree) {
  const std::string body =
      "@!%p1 mad.lo.cc.u32 %r0, %r1, 7, %r2;\nshfl.sync.bfly.b32 %r0|%p0, %r1, 16, 31, "
      "-1;\nld.volatile.shared.v4.u32 {%r0, %r1, _, %r3}, [%r4+16];\n"
      "mov.b64 %q0, {%r0, %r1};\nslct.f32.s32 %f0, %f1, 0f00000000, %r0;\nshf.r.clamp.b32 %r0, %r1, %r2, "
      "%r3;\nlop3.b32 %r0, %r1, %r2, %r3, 0x96;\n"
      "set.leu.and.ftz.u32.f32 %r0, %f0, 0f7F800000, !%p0;\nprmt.b32.rc16 %r0, %r1, %r2, 1;\n$t: "
      ".branchtargets $a, $b;\nbrx.idx %r0, $t;\n$a: bar.red.and.pred %p0, 0, !%p1;\n"
      "$b: cvt.rn.sat.f16.f32 %h0, %f0;\natom.shared.cta.exch.b32 %r0, [%r1], "
      "%r2;\nmembar.gl;\nfence.acq_rel.gpu;\nmov.u64 %q1, word+4;\nmul.wide.s32 %q0, %r1, -5;\n"
      "testp.subnormal.f32 %p0, %f0;\nbfind.shiftamt.u32 %r0, %r1;\nisspacep.shared %p2, "
      "%q0;\ndiv.full.ftz.f32 %f0, %f1, %f2;\nmov.u32 %r0, %ctaid.y;";
  const Function before = parse_body(body);
  const Module module =
      parse_module(header() + ".global .align 4 .u32 word;\n.entry k(.param .u64 a, .param .u32 b) {}\n");
  const std::string text = print(module, before);
  const Module again =
      parse_module(header() + ".global .align 4 .u32 word;\n.entry k(.param .u64 a, .param .u32 b)\n" + text);
  const auto after = again.parse_function("k");
  ASSERT_TRUE(after) << after.error().describe() << "\n" << text;
  EXPECT_EQ(print(again, *after), text);
  ASSERT_EQ(after->instructions.size(), before.instructions.size());
  for (std::size_t i = 0; i < before.instructions.size(); ++i) {
    EXPECT_EQ(after->instructions[i].flags, before.instructions[i].flags)
        << print(module, before, before.instructions[i]);
    EXPECT_EQ(after->instructions[i].type, before.instructions[i].type);
  }
}

TEST(PtxModule, SharedMemoryOfAllFunctionsIsLaidOutTogether) {
  const Module module = parse_module(
      header() +
      ".shared .align 4 .b8 x[10];\n.shared .align 8 .b8 unused[100];\n.extern .shared .align 32 .b8 "
      "pool[];\n"
      ".func f() { .reg .b32 %r; .shared .align 16 .b8 own[3]; mov.u32 %r, x; mov.u32 %r, own; ret; }\n"
      ".entry k() { .reg .b32 %r; .shared .b32 mine; mov.u32 %r, mine; mov.u32 %r, pool; call f; ret; }\n");
  const auto kernel = module.parse_function("k");
  const auto callee = module.parse_function("f");
  ASSERT_TRUE(kernel && callee);
  EXPECT_THAT(kernel->called_functions, ElementsAre(0));
  const Function* const list[] = {&*kernel, &*callee};
  const SharedLayout layout = layout_shared(module, list);
  EXPECT_THAT(layout.module_offsets, ElementsAre(std::pair{0U, 0U}, std::pair{2U, 32U}));
  EXPECT_THAT(layout.function_offsets, ElementsAre(12, 16));
  EXPECT_EQ(layout.static_bytes, 19U);
  EXPECT_EQ(layout.dynamic_offset, 32U);
}

}  // namespace
}  // namespace vgpu::software::ptx
