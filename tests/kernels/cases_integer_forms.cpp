// Integer instructions that clang does not emit, or not with these modifiers.
#include <algorithm>
#include <bit>

#include "tests/kernels/forms.h"

namespace vgpu::testing::kernels {
namespace {

std::uint64_t clamp32(std::int64_t v) {
  return bits(static_cast<std::int32_t>(std::clamp<std::int64_t>(v, INT32_MIN, INT32_MAX)));
}

std::int64_t signed_field(std::uint64_t v, unsigned width) {
  const std::uint64_t shifted = v << (64 - width);
  return static_cast<std::int64_t>(shifted) >> (64 - width);
}

// 64 × 64 → high 64, by schoolbook on 16-bit digits, which shares nothing with the implementations.
std::uint64_t high_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t columns[8] = {};
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned j = 0; j < 4; ++j) {
      const std::uint64_t p = (a >> (16 * i) & 0xFFFF) * (b >> (16 * j) & 0xFFFF);
      columns[i + j] += p & 0xFFFF;
      columns[i + j + 1] += p >> 16;
    }
  }
  for (unsigned k = 0; k < 7; ++k) {
    columns[k + 1] += columns[k] >> 16;
    columns[k] &= 0xFFFF;
  }
  return columns[4] | columns[5] << 16 | columns[6] << 32 | columns[7] << 48;
}

void add_arithmetic(std::vector<Case>& cases) {
  add_form(cases, {"add_sat", "s32 s32", "s32", "add.sat.s32 %d, %a, %b;",
                   [](const Slots& s) { return clamp32(std::int64_t{s32(s[0])} + s32(s[1])); }});
  add_form(cases, {"sub_sat", "s32 s32", "s32", "sub.sat.s32 %d, %a, %b;",
                   [](const Slots& s) { return clamp32(std::int64_t{s32(s[0])} - s32(s[1])); }});
  add_form(cases, {"add_carry_chain", "u64 u64", "u64",
                   "mov.b64 {%r0, %r1}, %a;\n mov.b64 {%r2, %r3}, %b;\n add.cc.u32 %r4, %r0, %r2;\n addc.u32 "
                   "%r5, %r1, %r3;\n mov.b64 %d, {%r4, %r5};",
                   [](const Slots& s) { return s[0] + s[1]; }});
  add_form(cases, {"carry_out_of_a_chain", "u64 u64", "u32",
                   "mov.b64 {%r0, %r1}, %a;\n mov.b64 {%r2, %r3}, %b;\n add.cc.u32 %r4, %r0, %r2;\n "
                   "addc.cc.u32 %r5, %r1, %r3;\n addc.u32 %d, 0, 0;",
                   [](const Slots& s) { return bits(s[0] + s[1] < s[0]); }});
  add_form(cases, {"subtract_borrow_chain", "u64 u64", "u64",
                   "mov.b64 {%r0, %r1}, %a;\n mov.b64 {%r2, %r3}, %b;\n sub.cc.u32 %r4, %r0, %r2;\n subc.u32 "
                   "%r5, %r1, %r3;\n mov.b64 %d, {%r4, %r5};",
                   [](const Slots& s) { return s[0] - s[1]; }});
  add_form(cases, {"borrow_out_of_a_chain", "u64 u64", "u32", "sub.cc.u64 %q0, %a, %b;\n subc.u32 %d, 0, 0;",
                   [](const Slots& s) { return bits(s[0] < s[1] ? 0xFFFFFFFFU : 0U); }});
  add_form(cases, {"multiply_add_carry_chain", "u32 u32 u64", "u64",
                   "mov.b64 {%r0, %r1}, %c;\n mad.lo.cc.u32 %r2, %a, %b, %r0;\n madc.hi.u32 %r3, %a, %b, "
                   "%r1;\n mov.b64 %d, {%r2, %r3};",
                   [](const Slots& s) { return s[0] * s[1] + s[2]; }});
  add_form(cases, {"mul_hi_u64", "u64 u64", "u64", "mul.hi.u64 %d, %a, %b;",
                   [](const Slots& s) { return high_product(s[0], s[1]); }});
  add_form(cases, {"mul_hi_s64", "s64 s64", "s64", "mul.hi.s64 %d, %a, %b;", [](const Slots& s) {
                     return high_product(s[0], s[1]) - (s64(s[0]) < 0 ? s[1] : 0) -
                            (s64(s[1]) < 0 ? s[0] : 0);
                   }});
  add_form(cases, {"mul_wide_s16", "s16 s16", "s32", "mul.wide.s16 %d, %a, %b;", [](const Slots& s) {
                     return bits(static_cast<std::int16_t>(s[0]) * static_cast<std::int16_t>(s[1]));
                   }});
  add_form(cases, {"mul_wide_u16", "u16 u16", "u32", "mul.wide.u16 %d, %a, %b;",
                   [](const Slots& s) { return s[0] * s[1]; }});
  add_form(cases, {"mad_wide_s32", "s32 s32 s64", "s64", "mad.wide.s32 %d, %a, %b, %c;",
                   [](const Slots& s) { return bits(std::int64_t{s32(s[0])} * s32(s[1])) + s[2]; }});
  add_form(cases, {"mad_hi_u32", "u32 u32 u32", "u32", "mad.hi.u32 %d, %a, %b, %c;",
                   [](const Slots& s) { return bits(u32((s[0] * s[1] >> 32) + s[2])); }});
  add_form(cases,
           {"mad_hi_sat_s32", "s32 s32 s32", "s32", "mad.hi.sat.s32 %d, %a, %b, %c;",
            [](const Slots& s) { return clamp32((std::int64_t{s32(s[0])} * s32(s[1]) >> 32) + s32(s[2])); }});
  add_form(cases, {"mul24_lo_s32", "s32 s32", "s32", "mul24.lo.s32 %d, %a, %b;", [](const Slots& s) {
                     return bits(u32(bits(signed_field(s[0], 24) * signed_field(s[1], 24))));
                   }});
  add_form(cases, {"mul24_hi_u32", "u32 u32", "u32", "mul24.hi.u32 %d, %a, %b;",
                   [](const Slots& s) { return bits(u32((s[0] & 0xFFFFFF) * (s[1] & 0xFFFFFF) >> 16)); }});
  add_form(cases, {"mad24_lo_u32", "u32 u32 u32", "u32", "mad24.lo.u32 %d, %a, %b, %c;",
                   [](const Slots& s) { return bits(u32((s[0] & 0xFFFFFF) * (s[1] & 0xFFFFFF) + s[2])); }});
  add_form(cases, {"sad_s32", "s32 s32 s32", "s32", "sad.s32 %d, %a, %b, %c;", [](const Slots& s) {
                     const std::int64_t difference = std::int64_t{s32(s[0])} - s32(s[1]);
                     return bits(u32(bits(difference < 0 ? -difference : difference) + s[2]));
                   }});
  add_form(cases, {"sad_u32", "u32 u32 u32", "u32", "sad.u32 %d, %a, %b, %c;", [](const Slots& s) {
                     return bits(u32((s[0] > s[1] ? s[0] - s[1] : s[1] - s[0]) + s[2]));
                   }});
  add_form(cases, {"abs_s16", "s16", "s32", "abs.s16 %h0, %a;\n cvt.s32.s16 %d, %h0;", [](const Slots& s) {
                     const auto v = static_cast<std::int16_t>(s[0]);
                     return bits(std::int32_t{static_cast<std::int16_t>(v < 0 ? -v : v)});
                   }});
  add_form(cases, {"neg_s64", "s64", "s64", "neg.s64 %d, %a;", [](const Slots& s) { return 0 - s[0]; }});
  add_form(cases,
           {"div_rem_s16", "s16 s16", "u32",
            "or.b16 %h2, %b, 1;\n div.s16 %h0, %a, %h2;\n rem.s16 %h1, %a, %h2;\n mov.b32 %d, {%h0, %h1};",
            [](const Slots& s) {
              const int a = static_cast<std::int16_t>(s[0]);
              const int b = static_cast<std::int16_t>(s[1] | 1);
              return bits(static_cast<std::uint16_t>(a / b) | std::uint32_t{static_cast<std::uint16_t>(a % b)}
                                                                  << 16);
            }});
  add_form(cases, {"min_max_s64", "s64 s64", "u64",
                   "min.s64 %q0, %a, %b;\n max.s64 %q1, %a, %b;\n sub.s64 %d, %q1, %q0;",
                   [](const Slots& s) { return s64(s[0]) > s64(s[1]) ? s[0] - s[1] : s[1] - s[0]; }});
  add_form(cases, {"min_u16", "u16 u16", "u32", "min.u16 %h0, %a, %b;\n cvt.u32.u16 %d, %h0;",
                   [](const Slots& s) { return std::min(s[0], s[1]); }});
}

void add_bits(std::vector<Case>& cases) {
  const auto amount = [](std::uint64_t b, unsigned width) { return u32(b) >= width ? width : u32(b); };
  add_form(cases, {"shl_b32", "b32 u32", "b32", "shl.b32 %d, %a, %b;",
                   [=](const Slots& s) { return bits(u32(s[0] << amount(s[1], 32))); }});
  add_form(cases, {"shl_b16", "b16 u32", "u32", "shl.b16 %h0, %a, %b;\n cvt.u32.u16 %d, %h0;",
                   [=](const Slots& s) { return s[0] << amount(s[1], 16) & 0xFFFF; }});
  add_form(cases, {"shl_b64", "b64 u32", "b64", "shl.b64 %d, %a, %b;",
                   [=](const Slots& s) { return amount(s[1], 64) == 64 ? 0 : s[0] << amount(s[1], 64); }});
  add_form(cases, {"shr_u32", "u32 u32", "u32", "shr.u32 %d, %a, %b;",
                   [=](const Slots& s) { return s[0] >> amount(s[1], 32); }});
  add_form(cases, {"shr_s32", "s32 u32", "s32", "shr.s32 %d, %a, %b;", [=](const Slots& s) {
                     return bits(static_cast<std::int32_t>(std::int64_t{s32(s[0])} >> amount(s[1], 32)));
                   }});
  add_form(cases,
           {"shr_s16", "s16 u32", "s32", "shr.s16 %h0, %a, %b;\n cvt.s32.s16 %d, %h0;",
            [=](const Slots& s) { return bits(static_cast<std::int16_t>(s[0]) >> amount(s[1], 16)); }});
  add_form(cases, {"shr_s64", "s64 u32", "s64", "shr.s64 %d, %a, %b;",
                   [=](const Slots& s) { return bits(s64(s[0]) >> std::min(amount(s[1], 64), 63U)); }});
  add_form(cases, {"shf_l_wrap", "b32 b32 u32", "b32", "shf.l.wrap.b32 %d, %a, %b, %c;",
                   [](const Slots& s) { return bits(u32((s[1] << 32 | s[0]) << (s[2] & 31) >> 32)); }});
  add_form(cases, {"shf_r_wrap", "b32 b32 u32", "b32", "shf.r.wrap.b32 %d, %a, %b, %c;",
                   [](const Slots& s) { return bits(u32((s[1] << 32 | s[0]) >> (s[2] & 31))); }});
  add_form(cases,
           {"shf_l_clamp", "b32 b32 u32", "b32", "shf.l.clamp.b32 %d, %a, %b, %c;",
            [](const Slots& s) { return s[2] >= 32 ? s[0] : bits(u32((s[1] << 32 | s[0]) << s[2] >> 32)); }});
  add_form(cases,
           {"shf_r_clamp", "b32 b32 u32", "b32", "shf.r.clamp.b32 %d, %a, %b, %c;",
            [](const Slots& s) { return s[2] >= 32 ? s[1] : bits(u32((s[1] << 32 | s[0]) >> s[2])); }});
  add_form(cases, {"lop3_majority", "b32 b32 b32", "b32", "lop3.b32 %d, %a, %b, %c, 0xE8;",
                   [](const Slots& s) { return (s[0] & s[1]) | (s[0] & s[2]) | (s[1] & s[2]); }});
  add_form(cases, {"lop3_xor_and", "b32 b32 b32", "b32", "lop3.b32 %d, %a, %b, %c, 0x28;",
                   [](const Slots& s) { return (s[0] ^ s[1]) & s[2]; }});
  add_form(cases, {"prmt", "b32 b32 b32", "b32", "prmt.b32 %d, %a, %b, %c;", [](const Slots& s) {
                     const std::uint64_t both = s[0] | s[1] << 32;
                     std::uint64_t out = 0;
                     for (unsigned k = 0; k < 4; ++k) {
                       const auto selector = static_cast<unsigned>(s[2] >> (4 * k) & 15);
                       const std::uint64_t byte = both >> (8 * (selector & 7)) & 255;
                       out |= ((selector & 8) != 0 ? (byte >> 7) * 255 : byte) << (8 * k);
                     }
                     return out;
                   }});
  struct Mode {
    const char* name;
    unsigned bytes[4][4];  // by selector, lowest byte first: which bytes of {b, a} are taken
  };
  const Mode modes[] = {
      {"f4e", {{0, 1, 2, 3}, {1, 2, 3, 4}, {2, 3, 4, 5}, {3, 4, 5, 6}}},
      {"b4e", {{0, 7, 6, 5}, {1, 0, 7, 6}, {2, 1, 0, 7}, {3, 2, 1, 0}}},
      {"rc8", {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}}},
      {"ecl", {{0, 1, 2, 3}, {1, 1, 2, 3}, {2, 2, 2, 3}, {3, 3, 3, 3}}},
      {"ecr", {{0, 0, 0, 0}, {0, 1, 1, 1}, {0, 1, 2, 2}, {0, 1, 2, 3}}},
      {"rc16", {{0, 1, 0, 1}, {2, 3, 2, 3}, {0, 1, 0, 1}, {2, 3, 2, 3}}},
  };
  for (const Mode& mode : modes) {
    add_form(cases, {std::string("prmt_") + mode.name, "b32 b32 b32", "b32",
                     std::string("prmt.b32.") + mode.name + " %d, %a, %b, %c;", [mode](const Slots& s) {
                       const std::uint64_t both = s[0] | s[1] << 32;
                       std::uint64_t out = 0;
                       for (unsigned k = 0; k < 4; ++k)
                         out |= (both >> (8 * mode.bytes[s[2] & 3][k]) & 255) << (8 * k);
                       return out;
                     }});
  }
  const auto field = [](std::uint64_t a, std::uint64_t position, std::uint64_t length, unsigned width,
                        bool is_signed) {
    position &= 255;
    length &= 255;
    std::uint64_t out = 0;
    for (unsigned k = 0; k < width; ++k) {
      std::uint64_t from = position + k;
      const bool in_field = k < length && from < width;
      if (!in_field && (!is_signed || length == 0)) continue;
      if (!in_field) from = std::min<std::uint64_t>(position + length - 1, width - 1);
      out |= (a >> from & 1) << k;
    }
    return out;
  };
  add_form(cases, {"bfe_u32", "u32 u32 u32", "u32",
                   "and.b32 %r0, %b, 63;\n and.b32 %r1, %c, 63;\n bfe.u32 %d, %a, %r0, %r1;",
                   [=](const Slots& s) { return field(s[0], s[1] & 63, s[2] & 63, 32, false); }});
  add_form(cases, {"bfe_s32", "s32 u32 u32", "s32", "bfe.s32 %d, %a, %b, %c;",
                   [=](const Slots& s) { return field(s[0], s[1], s[2], 32, true); }});
  add_form(cases, {"bfe_u64", "u64 u32 u32", "u64", "bfe.u64 %d, %a, %b, %c;",
                   [=](const Slots& s) { return field(s[0], s[1], s[2], 64, false); }});
  add_form(cases, {"bfe_s64", "s64 u32 u32", "s64",
                   "and.b32 %r0, %b, 31;\n and.b32 %r1, %c, 63;\n bfe.s64 %d, %a, %r0, %r1;",
                   [=](const Slots& s) { return field(s[0], s[1] & 31, s[2] & 63, 64, true); }});
  const auto inserted = [](std::uint64_t a, std::uint64_t b, std::uint64_t position, std::uint64_t length,
                           unsigned width) {
    position &= 255;
    length &= 255;
    std::uint64_t mask = 0;
    for (unsigned k = 0; k < width; ++k) {
      if (k >= position && k < position + length) mask |= std::uint64_t{1} << k;
    }
    return position >= width ? b : (b & ~mask) | (a << position & mask);
  };
  add_form(cases, {"bfi_b32", "b32 b32 u32 u32", "b32",
                   "and.b32 %r0, %c, 31;\n and.b32 %r1, %e, 31;\n bfi.b32 %d, %a, %b, %r0, %r1;",
                   [=](const Slots& s) { return inserted(s[0], s[1], s[2] & 31, s[3] & 31, 32); }});
  add_form(cases, {"bfi_b32_any", "b32 b32 u32 u32", "b32", "bfi.b32 %d, %a, %b, %c, %e;",
                   [=](const Slots& s) { return inserted(s[0], s[1], s[2], s[3], 32); }});
  add_form(cases, {"bfi_b64", "b64 b64 u32 u32", "b64", "bfi.b64 %d, %a, %b, %c, %e;",
                   [=](const Slots& s) { return inserted(s[0], s[1], s[2], s[3], 64); }});
  add_form(cases, {"bfind_u32", "u32", "u32", "bfind.u32 %d, %a;", [](const Slots& s) {
                     return bits(31U - static_cast<unsigned>(std::countl_zero(u32(s[0]))));
                   }});
  add_form(cases,
           {"bfind_s32", "s32", "u32", "bfind.s32 %d, %a;", [](const Slots& s) {
              return bits(31U - static_cast<unsigned>(std::countl_zero(u32(s32(s[0]) < 0 ? ~s[0] : s[0]))));
            }});
  add_form(cases, {"bfind_shiftamt_u64", "u64", "u32", "bfind.shiftamt.u64 %d, %a;", [](const Slots& s) {
                     return s[0] == 0 ? 0xFFFFFFFFULL : static_cast<unsigned>(std::countl_zero(s[0]));
                   }});
  add_form(cases, {"brev_b64", "b64", "b64", "brev.b64 %d, %a;", [](const Slots& s) {
                     std::uint64_t out = 0;
                     for (unsigned k = 0; k < 64; ++k) out |= (s[0] >> k & 1) << (63 - k);
                     return out;
                   }});
  add_form(cases, {"clz_popc_b64", "b64", "u32",
                   "clz.b64 %r0, %a;\n popc.b64 %r1, %a;\n mad.lo.s32 %d, %r0, 100, %r1;",
                   [](const Slots& s) { return bits(std::countl_zero(s[0]) * 100 + std::popcount(s[0])); }});
  add_form(
      cases,
      {"clz_popc_b32", "b32", "u32", "clz.b32 %r0, %a;\n popc.b32 %r1, %a;\n mad.lo.s32 %d, %r0, 100, %r1;",
       [](const Slots& s) { return bits(std::countl_zero(u32(s[0])) * 100 + std::popcount(s[0])); }});
  add_form(cases,
           {"cnot_b32", "b32", "b32", "cnot.b32 %d, %a;", [](const Slots& s) { return bits(s[0] == 0); }});
  add_form(cases, {"not_b16", "b16", "u32", "not.b16 %h0, %a;\n cvt.u32.u16 %d, %h0;",
                   [](const Slots& s) { return ~s[0] & 0xFFFF; }});
}

void add_choices(std::vector<Case>& cases) {
  add_form(cases, {"slct_s32", "b32 b32 s32", "b32", "slct.b32.s32 %d, %a, %b, %c;",
                   [](const Slots& s) { return s32(s[2]) >= 0 ? s[0] : s[1]; }});
  add_form(cases, {"selp_b64", "b64 b64 u32", "b64", "setp.ne.u32 %p0, %c, 0;\n selp.b64 %d, %a, %b, %p0;",
                   [](const Slots& s) { return s[2] != 0 ? s[0] : s[1]; }});
  add_form(cases, {"set_u32_s32", "s32 s32", "u32", "set.lt.u32.s32 %d, %a, %b;",
                   [](const Slots& s) { return s32(s[0]) < s32(s[1]) ? 0xFFFFFFFFULL : 0; }});
  add_form(cases, {"set_with_predicate", "s32 s32", "u32",
                   "setp.gt.s32 %p0, %a, 5;\n set.lt.and.u32.s32 %d, %a, %b, !%p0;", [](const Slots& s) {
                     return s32(s[0]) < s32(s[1]) && s32(s[0]) <= 5 ? 0xFFFFFFFFULL : 0;
                   }});
  struct Comparison {
    const char* name;
    bool (*holds)(std::int64_t, std::int64_t);
  };
  const Comparison comparisons[] = {{"eq", [](std::int64_t a, std::int64_t b) { return a == b; }},
                                    {"ne", [](std::int64_t a, std::int64_t b) { return a != b; }},
                                    {"lt", [](std::int64_t a, std::int64_t b) { return a < b; }},
                                    {"le", [](std::int64_t a, std::int64_t b) { return a <= b; }},
                                    {"gt", [](std::int64_t a, std::int64_t b) { return a > b; }},
                                    {"ge", [](std::int64_t a, std::int64_t b) { return a >= b; }}};
  for (const Comparison& c : comparisons) {
    const std::string name = c.name;
    const std::string select = "\n selp.b32 %d, 1, 0, %p0;";
    add_form(cases, {"setp_" + name + "_s32", "s32 s32", "u32", "setp." + name + ".s32 %p0, %a, %b;" + select,
                     [c](const Slots& s) { return bits(c.holds(s32(s[0]), s32(s[1]))); }});
    add_form(cases, {"setp_" + name + "_u32", "u32 u32", "u32", "setp." + name + ".u32 %p0, %a, %b;" + select,
                     [c](const Slots& s) { return bits(c.holds(s64(s[0]), s64(s[1]))); }});
    add_form(cases, {"setp_" + name + "_s16", "s16 s16", "u32", "setp." + name + ".s16 %p0, %a, %b;" + select,
                     [c](const Slots& s) {
                       return bits(c.holds(static_cast<std::int16_t>(s[0]), static_cast<std::int16_t>(s[1])));
                     }});
    add_form(cases, {"setp_" + name + "_s64", "s64 s64", "u32", "setp." + name + ".s64 %p0, %a, %b;" + select,
                     [c](const Slots& s) { return bits(c.holds(s64(s[0]), s64(s[1]))); }});
  }
  add_form(cases, {"setp_unsigned_spellings", "u32 u32", "u32",
                   "setp.lo.u32 %p0, %a, %b;\n setp.hs.u32 %p1, %a, %b;\n setp.ls.u32 %p2, %a, %b;\n "
                   "setp.hi.u32 %p3, %a, %b;\n"
                   "selp.b32 %r0, 1, 0, %p0;\n selp.b32 %r1, 2, 0, %p1;\n selp.b32 %r2, 4, 0, %p2;\n "
                   "selp.b32 %r3, 8, 0, %p3;\n"
                   "add.u32 %r0, %r0, %r1;\n add.u32 %r2, %r2, %r3;\n add.u32 %d, %r0, %r2;",
                   [](const Slots& s) {
                     return std::uint64_t{(s[0] < s[1] ? 1U : 2U) + (s[0] <= s[1] ? 4U : 8U)};
                   }});
  const char* const operations[] = {"and", "or", "xor"};
  for (unsigned k = 0; k < 3; ++k) {
    add_form(cases, {std::string("setp_with_") + operations[k], "s32 s32", "u32",
                     std::string("setp.gt.s32 %p2, %b, 7;\n setp.lt.") + operations[k] +
                         ".s32 %p0|%p1, %a, %b, !%p2;\n"
                         "selp.b32 %r0, 1, 0, %p0;\n selp.b32 %r1, 2, 0, %p1;\n or.b32 %d, %r0, %r1;",
                     [k](const Slots& s) {
                       const bool less = s32(s[0]) < s32(s[1]);
                       const bool third = s32(s[1]) <= 7;
                       const auto combine = [&](bool v) {
                         return k == 0 ? (v && third) : k == 1 ? (v || third) : v != third;
                       };
                       return std::uint64_t{(combine(less) ? 1U : 0U) | (combine(!less) ? 2U : 0U)};
                     }});
  }
  add_form(cases, {"predicate_logic", "s32 s32", "u32",
                   "setp.lt.s32 %p0, %a, 0;\n setp.lt.s32 %p1, %b, 0;\n xor.pred %p2, %p0, %p1;\n not.pred "
                   "%p3, %p2;\n and.pred %p2, %p2, %p0;\n or.pred %p3, %p3, %p2;\n"
                   "mov.pred %p1, %p3;\n mov.u32 %d, 0;\n @%p1 mov.u32 %d, 5;\n @!%p1 add.u32 %d, %d, 9;",
                   [](const Slots& s) {
                     const bool a = s32(s[0]) < 0;
                     const bool b = s32(s[1]) < 0;
                     return std::uint64_t{(a == b) || (a != b && a) ? 5U : 9U};
                   }});
}

void add_dot_products(std::vector<Case>& cases) {
  const auto byte = [](std::uint64_t v, unsigned k, bool is_signed) {
    const std::uint64_t b = v >> (8 * k) & 255;
    return is_signed ? std::int64_t{static_cast<std::int8_t>(b)} : static_cast<std::int64_t>(b);
  };
  for (const bool a_signed : {false, true}) {
    for (const bool b_signed : {false, true}) {
      const std::string types = std::string(a_signed ? ".s32" : ".u32") + (b_signed ? ".s32" : ".u32");
      const std::string suffix = std::string(a_signed ? "_s" : "_u") + (b_signed ? "s" : "u");
      add_form(cases, {"dp4a" + suffix, "b32 b32 b32", "b32", "dp4a" + types + " %d, %a, %b, %c;",
                       [=](const Slots& s) {
                         std::int64_t sum = s64(s[2]);
                         for (unsigned k = 0; k < 4; ++k)
                           sum += byte(s[0], k, a_signed) * byte(s[1], k, b_signed);
                         return bits(u32(bits(sum)));
                       }});
      for (const bool high : {false, true}) {
        add_form(cases, {std::string("dp2a_") + (high ? "hi" : "lo") + suffix, "b32 b32 b32", "b32",
                         std::string("dp2a.") + (high ? "hi" : "lo") + types + " %d, %a, %b, %c;",
                         [=](const Slots& s) {
                           std::int64_t sum = s64(s[2]);
                           for (unsigned k = 0; k < 2; ++k) {
                             const std::uint64_t half = s[0] >> (16 * k) & 0xFFFF;
                             const std::int64_t a = a_signed ? std::int64_t{static_cast<std::int16_t>(half)}
                                                             : static_cast<std::int64_t>(half);
                             sum += a * byte(s[1], k + (high ? 2 : 0), b_signed);
                           }
                           return bits(u32(bits(sum)));
                         }});
      }
    }
  }
}

void add_conversions(std::vector<Case>& cases) {
  add_form(cases, {"cvt_s32_s8", "b32", "s32", "cvt.s32.s8 %d, %a;",
                   [](const Slots& s) { return bits(std::int32_t{static_cast<std::int8_t>(s[0])}); }});
  add_form(cases,
           {"cvt_s16_s8_of_a_wider_register", "b32", "s32", "cvt.s16.s8 %h0, %a;\n cvt.s32.s16 %d, %h0;",
            [](const Slots& s) { return bits(std::int32_t{static_cast<std::int8_t>(s[0])}); }});
  add_form(cases, {"cvt_s8_into_a_wider_register", "s32", "s32", "cvt.s8.s32 %d, %a;",
                   [](const Slots& s) { return bits(std::int32_t{static_cast<std::int8_t>(s[0])}); }});
  add_form(cases, {"cvt_u8_into_a_wider_register", "s32", "u32", "cvt.u8.s32 %d, %a;",
                   [](const Slots& s) { return s[0] & 0xFF; }});
  add_form(cases, {"cvt_sat_s8_s32", "s32", "s32", "cvt.sat.s8.s32 %d, %a;",
                   [](const Slots& s) { return bits(std::clamp(s32(s[0]), -128, 127)); }});
  add_form(cases, {"cvt_sat_u16_s32", "s32", "u32", "cvt.sat.u16.s32 %h0, %a;\n cvt.u32.u16 %d, %h0;",
                   [](const Slots& s) { return bits(std::clamp(s32(s[0]), 0, 65535)); }});
  add_form(cases, {"cvt_sat_s32_u32", "u32", "s32", "cvt.sat.s32.u32 %d, %a;",
                   [](const Slots& s) { return std::min<std::uint64_t>(s[0], 0x7FFFFFFF); }});
  add_form(cases, {"cvt_sat_u32_s64", "s64", "u32", "cvt.sat.u32.s64 %d, %a;", [](const Slots& s) {
                     return s64(s[0]) < 0 ? 0 : std::min<std::uint64_t>(s[0], 0xFFFFFFFF);
                   }});
  add_form(cases, {"cvt_s64_s32", "s32", "s64", "cvt.s64.s32 %d, %a;",
                   [](const Slots& s) { return bits(std::int64_t{s32(s[0])}); }});
  add_form(cases, {"cvt_u64_u16", "u16", "u64", "cvt.u64.u16 %d, %a;", [](const Slots& s) { return s[0]; }});
  add_form(cases, {"cvt_u16_u32", "u32", "u32", "cvt.u16.u32 %h0, %a;\n cvt.u32.u16 %d, %h0;",
                   [](const Slots& s) { return s[0] & 0xFFFF; }});
  add_form(cases, {"mov_split_and_join", "b64", "b64",
                   "mov.b64 {%h0, %h1, %h2, %h3}, %a;\n mov.b32 %r0, {%h3, %h2};\n mov.b32 %r1, {%h1, "
                   "%h0};\n mov.b64 %d, {%r0, %r1};",
                   [](const Slots& s) {
                     return (s[0] >> 48) | (s[0] >> 32 & 0xFFFF) << 16 | (s[0] >> 16 & 0xFFFF) << 32 |
                            s[0] << 48;
                   }});
  add_form(cases, {"mov_split_with_sink", "b32", "u32", "mov.b32 {_, %h0}, %a;\n cvt.u32.u16 %d, %h0;",
                   [](const Slots& s) { return s[0] >> 16; }});
}

}  // namespace

void add_integer_form_cases(std::vector<Case>& cases) {
  add_arithmetic(cases);
  add_bits(cases);
  add_choices(cases);
  add_dot_products(cases);
  add_conversions(cases);
}

}  // namespace vgpu::testing::kernels
