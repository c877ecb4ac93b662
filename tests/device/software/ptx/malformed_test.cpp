// Malformed PTX is refused with a place and a reason; nothing crashes, hangs or takes memory without bound.
#include <gtest/gtest.h>

#include <string>

#include "device/software/ptx/ast.h"

namespace vgpu::software::ptx {
namespace {

std::string header() {
  return ".version 8.4\n.target sm_61\n.address_size 64\n";
}

std::string entry(const std::string& body) {
  return header() +
         ".global .u32 word; .shared .u32 box; .func f(.param .b32 x);\n.entry k(.param .u64 a)\n{\n" +
         ".reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<4>; .reg .b64 %q<4>; .reg .f32 %f<4>;\n" + body +
         "\n}\n";
}

struct Refusal {
  const char* text;
  ErrorKind kind;
  const char* reason;  // part of the message
};

void expect_refused(const std::string& text, const Refusal& expected) {
  SCOPED_TRACE(expected.text);
  const auto module = Module::parse(text, "bad.ptx");
  Error error;
  if (module) {
    const auto function = module->parse_function("k");
    ASSERT_FALSE(function);
    error = function.error();
  } else {
    error = module.error();
  }
  EXPECT_EQ(error.kind, expected.kind) << error.describe();
  EXPECT_NE(error.message.find(expected.reason), std::string::npos) << error.describe();
  EXPECT_EQ(error.file, "bad.ptx");
  EXPECT_GT(error.line, 0U);
  EXPECT_GT(error.column, 0U);
}

TEST(PtxMalformed, InstructionsAreRefusedByName) {
  const Refusal refusals[] = {
      {"frobnicate.u32 %r0, %r1;", ErrorKind::kUnsupported, "unknown opcode `frobnicate`"},
      {"add.sideways.u32 %r0, %r1, %r2;", ErrorKind::kUnsupported, "unknown modifier `.sideways` of `add`"},
      {"mma.sync.aligned.m8n8k4.f32 %f0;", ErrorKind::kUnsupported, "unknown opcode `mma`"},
      {"add.pred %p0, %p1, %p2;", ErrorKind::kUnsupported, "type `.pred` does not fit `add`"},
      {"add.u32.u32 %r0, %r1, %r2;", ErrorKind::kUnsupported, "does not fit"},
      {"add.rn.rz.f32 %f0, %f1, %f2;", ErrorKind::kSyntax, "excludes"},
      {"add.rn.u32 %r0, %r1, %r2;", ErrorKind::kSyntax, "needs a float type"},
      {"add.ftz.u32 %r0, %r1, %r2;", ErrorKind::kSyntax, ".ftz needs .f32"},
      {"add %r0, %r1, %r2;", ErrorKind::kSyntax, "needs 1 types"},
      {"mul.s32 %r0, %r1, %r2;", ErrorKind::kSyntax, "needs .lo, .hi or .wide"},
      {"mul.wide.lo.s32 %q0, %r1, %r2;", ErrorKind::kSyntax, "excludes"},
      {"mul.wide.s64 %q0, %q1, %q2;", ErrorKind::kSyntax, ".wide needs 16 or 32 bits"},
      {"fma.f32 %f0, %f1, %f2, %f3;", ErrorKind::kSyntax, "needs a rounding mode"},
      {"div.f32 %f0, %f1, %f2;", ErrorKind::kSyntax, "needs a rounding mode"},
      {"sin.f32 %f0, %f1;", ErrorKind::kSyntax, "needs .approx"},
      {"cvt.s32.f32 %r0, %f0;", ErrorKind::kSyntax, "needs .rni"},
      {"cvt.f32.s32 %f0, %r0;", ErrorKind::kSyntax, "needs .rn"},
      {"cvt.rn.f64.f32 %q0, %f0;", ErrorKind::kSyntax, "rounding mode"},
      {"setp.u32 %p0, %r0, %r1;", ErrorKind::kSyntax, "needs a comparison"},
      {"setp.lt.b32 %p0, %r0, %r1;", ErrorKind::kSyntax, "bits compare"},
      {"setp.lt.and.u32 %p0, %r0, %r1;", ErrorKind::kSyntax, "wrong number of operands"},
      {"setp.lt.u32 %p0, %r0, %r1, %p1;", ErrorKind::kSyntax, "wrong number of operands"},
      {"ld.nc.u32 %r0, [%q0];", ErrorKind::kSyntax, ".nc needs .global"},
      {"ld.v4.u64 {%q0, %q1, %q2, %q3}, [%q0];", ErrorKind::kSyntax, "more than 16 bytes"},
      {"ld.v2.u32 %r0, [%q0];", ErrorKind::kSyntax, "expected `{`"},
      {"ld.v2.u32 {%r0, %r1, %r2}, [%q0];", ErrorKind::kSyntax, "where 2 are needed"},
      {"ld.u32 %r0, [%h0];", ErrorKind::kSyntax, "cannot hold an address"},
      {"ld.global.u32 %r0, [box];", ErrorKind::kSyntax, "is in .shared, the instruction addresses .global"},
      {"ld.u32 %h0, [%q0];", ErrorKind::kSyntax, "where .u32 is needed"},
      {"st.const.u32 [%q0], %r0;", ErrorKind::kSyntax, "cannot write .const"},
      {"add.u32 %r0, %q1, %r2;", ErrorKind::kSyntax, "register `%q1` of type .b64 where .u32 is needed"},
      {"add.u32 %r0, %r9, %r2;", ErrorKind::kUnsupported, "no register `%r9`"},
      {"add.u32 %r0, %r1;", ErrorKind::kSyntax, "expected `,`, found `;`"},
      {"add.u32 %r0, %r1, %r2, %r3;", ErrorKind::kSyntax, "expected `;`"},
      {"add.u32 %r0, %r1, 0f3F800000x;", ErrorKind::kSyntax, "malformed number"},
      {"mov.u32 %r0, 99999999999999999999;", ErrorKind::kSyntax, "does not fit in 64 bits"},
      {"mov.f32 %f0, 3;", ErrorKind::kSyntax, "an integer where"},
      {"mov.u32 %r0, 1.5;", ErrorKind::kSyntax, "where an integer is needed"},
      {"mov.u32 %r0, 5/0;", ErrorKind::kSyntax, "division overflows"},
      {"mov.u32 %r0, nobody;", ErrorKind::kSyntax, "no register, variable or function `nobody`"},
      {"mov.f32 %f0, word;", ErrorKind::kSyntax, "an address where"},
      {"mov.b32 %r0, {%h0, %h1, %h2};", ErrorKind::kSyntax, "2 or 4 elements"},
      {"@%r0 bra $l;", ErrorKind::kSyntax, "is not a predicate"},
      {"bra $nowhere;", ErrorKind::kSyntax, "no label `$nowhere`"},
      {"bra %r0;", ErrorKind::kSyntax, "no label"},
      {"$l: $l: ret;", ErrorKind::kSyntax, "declared twice"},
      {"call g, (%r0);", ErrorKind::kSyntax, "no register, variable or function `g`"},
      {"call f, (%r0, %r1);", ErrorKind::kSyntax, "takes 1 arguments"},
      {"call f, (%q0);", ErrorKind::kSyntax, "argument 0 has another type"},
      {"call k, (%q0);", ErrorKind::kSyntax, "cannot be called"},
      {"call %q0;", ErrorKind::kSyntax, "needs a prototype"},
      {"brx.idx %r0, $l;", ErrorKind::kSyntax, "is not a list of .branchtargets"},
      {"bar.red.u32 %r0, 1, %p0;", ErrorKind::kSyntax, "needs .sync"},
      {"bar.red.popc.pred %p0, 1, %p0;", ErrorKind::kSyntax, "the type must be"},
      {"bar.arrive 1;", ErrorKind::kSyntax, "a thread count"},
      {"atom.add.s64 %q0, [%q1], %q2;", ErrorKind::kSyntax, "does not fit the operation"},
      {"atom.cas.b32 %r0, [%q1], %r2;", ErrorKind::kSyntax, "wrong number of operands"},
      {"red.exch.b32 [%q0], %r0;", ErrorKind::kSyntax, "neither .exch nor .cas"},
      {"atom.local.add.u32 %r0, [%q0], 1;", ErrorKind::kSyntax, "works on generic"},
      {"shfl.sync.b32 %r0, %r1, 1, 2, -1;", ErrorKind::kSyntax, "needs .up"},
      {"shfl.sync.bfly.b32 %r0, %r1, 1, 31;", ErrorKind::kSyntax, "wrong number of operands"},
      {"vote.sync.all.b32 %r0, %p0, -1;", ErrorKind::kSyntax, "the type must be"},
      {"lop3.b32 %r0, %r1, %r2, %r3, 256;", ErrorKind::kSyntax, "from 0 to 255"},
      {"lop3.b32 %r0, %r1, %r2, %r3, %r0;", ErrorKind::kSyntax, "must be an immediate"},
      {"shf.wrap.b32 %r0, %r1, %r2, %r3;", ErrorKind::kSyntax, "needs .l or .r"},
      {"mov.u32 %r0, %nonsense.x;", ErrorKind::kUnsupported, "no register `%nonsense.x`"},
      {"mov.u64 %q0, %tid.x;", ErrorKind::kSyntax, "special register"},
      {".reg .b128 x;", ErrorKind::kUnsupported, "unsupported register type"},
      {".reg .b32 %r<4>;", ErrorKind::kSyntax, "declared twice"},
      {".reg .b32 x, x;", ErrorKind::kSyntax, "declared twice"},
      {".reg .b32 x<4000000000>;", ErrorKind::kLimit, "registers"},
      {".local .b8 x[];", ErrorKind::kSyntax, "has no size"},
      {".local .b8 x[1000000000000];", ErrorKind::kLimit, "too large"},
      {".local .b8 x[2000000000];", ErrorKind::kLimit, "1 GiB"},
      {".shared .pred x;", ErrorKind::kSyntax, "cannot live in memory"},
      {".local .align 3 .b8 x[4];", ErrorKind::kSyntax, "power of two"},
      {".tex .u64 t;", ErrorKind::kUnsupported, "unsupported directive `.tex`"},
      {"{ mov.u32 %r0, 1;", ErrorKind::kSyntax, "does not end"},
      {"mov.u32 %r0, 1; /* no end", ErrorKind::kSyntax, "does not end"},
      {"\x01", ErrorKind::kSyntax, "expected an instruction"},
      {".pragma \"no end;\n", ErrorKind::kSyntax, "string"},
  };
  for (const Refusal& refusal : refusals) expect_refused(entry(refusal.text), refusal);
}

TEST(PtxMalformed, ModulesAreRefusedWithAReason) {
  const std::string h = header();
  const std::pair<std::string, Refusal> refusals[] = {
      {"", {"empty", ErrorKind::kSyntax, "expected `.version`"}},
      {"hello", {"word", ErrorKind::kSyntax, "expected `.version`"}},
      {".version 12.0\n.target sm_61\n", {"newer", ErrorKind::kUnsupportedVersion, "is newer than"}},
      {".version x\n", {"no version", ErrorKind::kSyntax, "a version such as"}},
      {".version 8.4\n.target gpu\n.address_size 64\n", {"no sm", ErrorKind::kSyntax, "no sm_"}},
      {".version 8.4\n.target sm_61\n.address_size 32\n",
       {"32 bits", ErrorKind::kUnsupported, ".address_size"}},
      {h + ".global .u32 a; .global .u32 a;", {"twice", ErrorKind::kSyntax, "already defined"}},
      {h + ".global .u32 a[2] = {1, 2, 3};", {"too many values", ErrorKind::kSyntax, "more initial values"}},
      {h + ".global .u32 a[2] = {{{{1}}}};", {"too deep", ErrorKind::kSyntax, "nested too deeply"}},
      {h + ".global .u64 a = nobody;", {"no symbol", ErrorKind::kSyntax, "the name of a variable"}},
      {h + ".global .u8 a[9] = {a};", {"narrow address", ErrorKind::kSyntax, "does not fit"}},
      {h + ".global .b8 a[99999999999999];", {"huge", ErrorKind::kLimit, "too large"}},
      {h + ".global .b8 a[9][999999999] = {{}, {}, {1}};",
       {"huge value", ErrorKind::kLimit, "initial values are too large"}},
      {h + ".shared .u32 a = 1;", {"shared value", ErrorKind::kSyntax, "cannot be initialised"}},
      {h + ".entry k(.param .b8 a[99999]) { ret; }", {"parameters", ErrorKind::kLimit, "32764 bytes"}},
      {h + ".entry k(.reg .b32 a) { ret; }", {"register", ErrorKind::kSyntax, ".param parameters only"}},
      {h + ".entry k() { ret; } .entry k() { ret; }", {"twice", ErrorKind::kSyntax, "already defined"}},
      {h + ".entry k() .maxntid 0 { ret; }", {"no threads", ErrorKind::kSyntax, "thread count of zero"}},
      {h + ".entry k() { ret; ", {"cut off", ErrorKind::kSyntax, "does not end"}},
      {h + ".entry k()", {"cut off", ErrorKind::kSyntax, "expected `;`"}},
      {h + ".tex .u64 t;", {"texture", ErrorKind::kUnsupported, "unsupported directive `.tex`"}},
      {h + ".global .u32 a = " + std::string(5000, '-') + "1;",
       {"deep", ErrorKind::kLimit, "nested too deeply"}},
      {h + ".global .u32 a = " + std::string(100000, '(') + "1;",
       {"deeper", ErrorKind::kLimit, "nested too deeply"}},
      {h + ".global .u32 a[2] = " + std::string(100000, '{'),
       {"braces", ErrorKind::kSyntax, "nested too deeply"}},
      {h + ".entry k() " + std::string(100, '{') + std::string(100, '}'),
       {"scopes", ErrorKind::kLimit, "scopes nested"}},
  };
  for (const auto& [text, refusal] : refusals) expect_refused(text, refusal);
}

TEST(PtxMalformed, ErrorsNameFileLineAndColumn) {
  const auto module = Module::parse(
      header() + ".entry k()\n{\n\t.reg .b32 %r<2>;\n\tmov.u32 %r0, 1;\n\tfrob %r0;\n}\n", "model.ptx");
  ASSERT_TRUE(module);
  const auto function = module->parse_function("k");
  ASSERT_FALSE(function);
  EXPECT_EQ(function.error().describe(), "model.ptx:8:2: unknown opcode `frob`");
}

TEST(PtxMalformed, UnprintableTextStaysOutOfMessages) {
  const auto module = Module::parse("\x1b[31m" + std::string(1000, '\xFF'), "x");
  ASSERT_FALSE(module);
  for (const char c : module.error().message) EXPECT_TRUE(c >= ' ' && c <= '~') << static_cast<int>(c);
  EXPECT_LT(module.error().message.size(), 200U);
}

TEST(PtxMalformed, EveryPrefixOfAModuleIsParsedOrRefused) {
  const std::string text = entry(
      "$t: .branchtargets $a;\n$a: brx.idx %r0, $t;\n{ .reg .b32 x; mov.b64 {x, _}, %q0; }\n"
      "@!%p0 ld.global.v2.f32 {%f0, %f1}, [%q0+16];\nshfl.sync.idx.b32 %r0|%p1, %r1, 0, 31, -1;\nret;");
  std::size_t parsed = 0;
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const auto module = Module::parse(text.substr(0, size), "cut.ptx");
    if (!module) continue;
    const auto function = module->parse_function("k");
    if (function) ++parsed;
  }
  EXPECT_EQ(parsed, 2U);  // the whole, and the whole without its last newline
}

TEST(PtxMalformed, MissingFunctionsAreNotFound) {
  const auto module = Module::parse(header() + ".extern .func f(.param .b32 x);\n", "x.ptx");
  ASSERT_TRUE(module);
  EXPECT_EQ(module->parse_function("g").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(module->parse_function("f").error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(module->parse_function(7U).error().kind, ErrorKind::kNotFound);
}

}  // namespace
}  // namespace vgpu::software::ptx
