// Statements that clang does not emit: communication with predicates, counted barriers, scopes, branch
// tables, register parameters, vectors of every width.
#include <algorithm>

#include "tests/kernels/forms.h"

namespace vgpu::testing::kernels {
namespace {

using Words = std::vector<std::uint32_t>;

// An entry `form(in, out)` over words: `body` finds %t (the thread), %in and %out (its own slots), %a (its
// input) and leaves its result in %d.
Case word_case(const std::string& name, const std::string& declarations, const std::string& body,
               const Words& in, const Words& expected, std::uint32_t threads) {
  Case test;
  test.name = "form_" + name;
  test.file = name + ".ptx";
  test.ptx =
      form_header() + declarations +
      "\n.visible .entry form(.param .u64 in, .param .u64 out)\n{\n"
      "\t.reg .pred %p<8>;\n\t.reg .b16 %h<8>;\n\t.reg .b32 %r<16>;\n\t.reg .b64 %q<8>;\n\t.reg .f32 %f<4>;\n"
      "\t.reg .b32 %a, %d, %t;\n\t.reg .b64 %in, %out;\n"
      "\tmov.u32 %t, %tid.x;\n\tld.param.u64 %in, [in];\n\tld.param.u64 %out, [out];\n"
      "\tcvta.to.global.u64 %in, %in;\n\tcvta.to.global.u64 %out, %out;\n"
      "\tmad.wide.u32 %in, %t, 4, %in;\n\tmad.wide.u32 %out, %t, 4, %out;\n\tld.global.u32 %a, [%in];\n" +
      body + "\n\tst.global.u32 [%out], %d;\n\tret;\n}\n";
  const std::size_t bi = test.in(in);
  const std::size_t bo = test.out(expected);
  test.launch("form", {1}, {threads}).pointer(bi).pointer(bo);
  return test;
}

Words numbers(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  Words words(n);
  for (auto& w : words) w = static_cast<std::uint32_t>(random.bits() >> 20) & 0xFFFF;
  return words;
}

template <typename F>
Words map(const Words& in, F f) {
  Words out;
  for (std::uint32_t t = 0; t < in.size(); ++t) out.push_back(f(in, t));
  return out;
}

void add_shuffles(std::vector<Case>& cases) {
  const Words in = numbers(64, 80);
  const auto add = [&](const char* name, const std::string& body, auto f) {
    cases.push_back(word_case(name, "", body, in, map(in, f), 64));
  };
  const std::string mark = "\n selp.b32 %r1, 1000000, 0, %p0;\n add.u32 %d, %r0, %r1;";
  add("shfl_up_with_predicate", "shfl.sync.up.b32 %r0|%p0, %a, 3, 0, -1;" + mark,
      [](const Words& v, std::uint32_t t) { return t % 32 >= 3 ? v[t - 3] + 1000000 : v[t]; });
  add("shfl_down_in_segments_of_8", "shfl.sync.down.b32 %r0|%p0, %a, 2, 6175, -1;" + mark,
      [](const Words& v, std::uint32_t t) { return t % 8 + 2 < 8 ? v[t + 2] + 1000000 : v[t]; });
  add("shfl_bfly_in_segments_of_4", "shfl.sync.bfly.b32 %r0|%p0, %a, 1, 7199, -1;" + mark,
      [](const Words& v, std::uint32_t t) { return v[t ^ 1] + 1000000; });
  add("shfl_idx_in_segments_of_16", "shfl.sync.idx.b32 %r0|%p0, %a, 5, 4127, -1;" + mark,
      [](const Words& v, std::uint32_t t) { return v[t / 16 * 16 + 5] + 1000000; });
  add("shfl_without_sync", "shfl.bfly.b32 %d, %a, 16, 31;",
      [](const Words& v, std::uint32_t t) { return v[t ^ 16]; });
  add("shfl_by_a_register", "and.b32 %r0, %a, 31;\n shfl.sync.idx.b32 %d, %a, %r0, 31, 0xffffffff;",
      [](const Words& v, std::uint32_t t) { return v[t / 32 * 32 + (v[t] & 31)]; });
  add("shfl_of_half_a_warp",
      "and.b32 %r0, %t, 16;\n setp.eq.u32 %p0, %r0, 0;\n mov.u32 %d, 7;\n @!%p0 bra $skip;\n "
      "shfl.sync.bfly.b32 %d, %a, 1, 31, 0xffff;\n$skip:",
      [](const Words& v, std::uint32_t t) { return t % 32 < 16 ? v[t ^ 1] : 7; });
}

void add_votes(std::vector<Case>& cases) {
  Words in = numbers(64, 81);
  for (std::uint32_t t = 32; t < 64; ++t) in[t] |= 1;
  const auto count = [](const Words& v, std::uint32_t t) {
    std::uint32_t mask = 0;
    for (std::uint32_t k = 0; k < 32; ++k) mask |= (v[t / 32 * 32 + k] & 1) << k;
    return mask;
  };
  const std::string odd = "and.b32 %r0, %a, 1;\n setp.ne.u32 %p0, %r0, 0;\n";
  cases.push_back(word_case(
      "vote_modes", "",
      odd + "vote.sync.all.pred %p1, %p0, -1;\n vote.sync.any.pred %p2, !%p0, -1;\n vote.sync.uni.pred %p3, "
            "%p0, -1;\n"
            "selp.b32 %r1, 1, 0, %p1;\n selp.b32 %r2, 2, 0, %p2;\n selp.b32 %r3, 4, 0, %p3;\n or.b32 %r1, "
            "%r1, %r2;\n or.b32 %d, %r1, %r3;",
      in, map(in, [&](const Words& v, std::uint32_t t) { return count(v, t) == 0xFFFFFFFF ? 5U : 2U; }), 64));
  cases.push_back(
      word_case("ballots", "",
                odd + "vote.sync.ballot.b32 %r1, %p0, -1;\n vote.ballot.sync.b32 %r2, !%p0, 0xffffffff;\n "
                      "vote.ballot.b32 %r3, %p0;\n sub.u32 %r2, %r2, %r3;\n add.u32 %d, %r1, %r2;",
                in, map(in, [&](const Words& v, std::uint32_t t) { return ~count(v, t); }), 64));
  cases.push_back(word_case(
      "activemask_of_parted_lanes", "",
      "and.b32 %r0, %t, 3;\n setp.eq.u32 %p0, %r0, 0;\n mov.u32 %d, 1;\n @!%p0 bra $skip;\n activemask.b32 "
      "%d;\n$skip:",
      in, map(in, [](const Words&, std::uint32_t t) { return t % 4 == 0 ? 0x11111111U : 1U; }), 64));
  cases.push_back(word_case("lane_masks", "",
                            "mov.u32 %r0, %lanemask_eq;\n mov.u32 %r1, %lanemask_lt;\n mov.u32 %r2, "
                            "%lanemask_ge;\n or.b32 %r1, %r1, %r2;\n not.b32 %r1, %r1;\n"
                            "mov.u32 %r3, %lanemask_le;\n mov.u32 %r4, %lanemask_gt;\n and.b32 %r3, %r3, "
                            "%r4;\n or.b32 %r1, %r1, %r3;\n"
                            "mov.u32 %r5, %laneid;\n mov.u32 %r6, WARP_SZ;\n shl.b32 %r7, 1, %r5;\n xor.b32 "
                            "%r7, %r7, %r0;\n add.u32 %d, %r7, %r1;\n add.u32 %d, %d, %r6;",
                            in, Words(64, 32), 64));
}

void add_barriers(std::vector<Case>& cases) {
  const Words in = numbers(96, 82);
  std::uint32_t odd = 0;
  for (const std::uint32_t v : in) odd += v & 1;
  cases.push_back(word_case("barrier_that_counts", "",
                            "and.b32 %r0, %a, 1;\n setp.ne.u32 %p0, %r0, 0;\n bar.red.popc.u32 %r1, 1, "
                            "%p0;\n bar.red.popc.u32 %r2, 2, 96, !%p0;\n"
                            "bar.red.or.pred %p1, 1, %p0;\n bar.red.and.pred %p2, 1, 96, %p0;\n selp.b32 "
                            "%r3, 100000, 0, %p1;\n selp.b32 %r4, 200000, 0, %p2;\n"
                            "mad.lo.u32 %d, %r1, 1000, %r2;\n add.u32 %d, %d, %r3;\n add.u32 %d, %d, %r4;",
                            in, Words(96, odd * 1000 + (96 - odd) + 100000), 96));
  // The first warp produces, the second consumes: arrive and sync of 64 threads; the third takes no part.
  cases.push_back(word_case(
      "barrier_of_some_warps", ".shared .align 4 .b8 box[128];",
      "mov.u32 %r0, box;\n and.b32 %r1, %t, 31;\n mad.lo.u32 %r0, %r1, 4, %r0;\n mov.u32 %d, %a;\n"
      "setp.ge.u32 %p0, %t, 64;\n @%p0 bra $done;\n setp.ge.u32 %p1, %t, 32;\n @%p1 bra $consume;\n"
      "st.shared.u32 [%r0], %a;\n membar.cta;\n bar.arrive 3, 64;\n bra.uni $done;\n"
      "$consume:\n bar.sync 3, 64;\n ld.shared.u32 %d, [%r0];\n$done:",
      in, map(in, [](const Words& v, std::uint32_t t) { return t >= 32 && t < 64 ? v[t - 32] : v[t]; }), 96));
  cases.push_back(word_case(
      "barrier_sync_and_warp_sync", ".shared .align 4 .b8 box[384];",
      "mov.u32 %r0, box;\n mad.lo.u32 %r1, %t, 4, %r0;\n st.shared.u32 [%r1], %a;\n barrier.sync 0;\n "
      "xor.b32 %r2, %t, 32;\n min.u32 %r2, %r2, 95;\n"
      "mad.lo.u32 %r2, %r2, 4, %r0;\n ld.volatile.shared.u32 %d, [%r2];\n barrier.sync 1;\n "
      "st.volatile.shared.u32 [%r1], %d;\n bar.warp.sync -1;\n xor.b32 %r3, %t, 1;\n"
      "mad.lo.u32 %r3, %r3, 4, %r0;\n ld.shared.u32 %d, [%r3];",
      in, map(in, [](const Words& v, std::uint32_t t) { return v[std::min((t ^ 1) ^ 32, 95U)]; }), 96));
}

void add_atomics(std::vector<Case>& cases) {
  const Words in = numbers(32, 83);
  std::uint32_t sum = 0;
  for (const std::uint32_t v : in) sum += v;
  cases.push_back(word_case(
      "red_and_atom_on_shared", ".shared .align 8 .b8 cell[32];",
      "mov.u32 %r0, cell;\n mov.u32 %r1, 0;\n st.shared.v4.u32 [%r0], {%r1, %r1, %r1, %r1};\n "
      "st.shared.v4.u32 [%r0+16], {%r1, %r1, %r1, %r1};\n bar.sync 0;\n"
      "red.shared.add.u32 [%r0], %a;\n atom.shared.max.u32 _, [%r0+4], %a;\n atom.shared.inc.u32 %r2, "
      "[%r0+8], 15;\n cvt.u64.u32 %q0, %a;\n red.shared.add.u64 [%r0+16], %q0;\n"
      "atom.shared.cas.b32 %r7, [%r0+12], 0, 99;\n bar.sync 0;\n"
      "ld.shared.u32 %r3, [%r0];\n ld.shared.u32 %r4, [%r0+4];\n ld.shared.u32 %r5, [%r0+8];\n ld.shared.u32 "
      "%r6, [%r0+16];\n sub.u32 %d, %r3, %r6;\n add.u32 %d, %d, %r3;\n"
      "add.u32 %d, %d, %r4;\n add.u32 %d, %d, %r5;\n ld.shared.u32 %r6, [%r0+12];\n add.u32 %d, %d, %r6;",
      in, Words(32, sum + *std::ranges::max_element(in) + 99), 32));
}

void add_control(std::vector<Case>& cases) {
  const Words in = numbers(64, 84);
  cases.push_back(word_case("branch_table", "",
                            "and.b32 %r0, %a, 3;\n$targets: .branchtargets $zero, $one, $two, $one;\n "
                            "brx.idx %r0, $targets;\n$zero:\n mov.u32 %d, 10;\n bra.uni $join;\n"
                            "$one:\n add.u32 %d, %a, 1;\n bra $join;\n$two:\n mov.u32 %d, 30;\n$join:",
                            in,
                            map(in,
                                [](const Words& v, std::uint32_t t) {
                                  return v[t] % 4 == 0 ? 10 : v[t] % 4 == 2 ? 30 : v[t] + 1;
                                }),
                            64));
  cases.push_back(word_case("scopes_declare_names_again", "",
                            "mov.u32 %r0, 5;\n{\n .reg .b32 %r<2>;\n .reg .u32 temp;\n mov.u32 %r0, %a;\n "
                            "mov.u32 temp, %r0;\n{\n .reg .u32 temp;\n mov.u32 temp, 3;\n bra $inner;\n "
                            "mov.u32 temp, 4;\n$inner:\n add.u32 %r0, %r0, temp;\n}\n"
                            " add.u32 %d, %r0, temp;\n}\n{\n bra $inner;\n$inner:\n add.u32 %d, %d, %r0;\n}",
                            in, map(in, [](const Words& v, std::uint32_t t) { return v[t] * 2 + 8; }), 64));
  cases.push_back(word_case(
      "register_parameters",
      ".func (.reg .u32 result) weigh(.reg .u32 x, .reg .u32 y)\n{\n .reg .pred %p<2>;\n setp.gt.u32 %p1, x, "
      "30000;\n @%p1 bra $big;\n add.u32 result, x, y;\n ret;\n$big:\n sub.u32 result, x, y;\n ret.uni;\n}\n",
      "call.uni (%r0), weigh, (%a, 17);\n mov.u32 %d, %r0;", in,
      map(in, [](const Words& v, std::uint32_t t) { return v[t] > 30000 ? v[t] - 17 : v[t] + 17; }), 64));
  cases.push_back(word_case(
      "loop_with_guards", "",
      "and.b32 %r0, %a, 15;\n mov.u32 %d, 0;\n$loop:\n setp.eq.u32 %p0, %r0, 0;\n @%p0 bra $end;\n and.b32 "
      "%r1, %r0, 1;\n setp.eq.u32 %p1, %r1, 0;\n"
      "@%p1 add.u32 %d, %d, %r0;\n @!%p1 mad.lo.u32 %d, %d, 3, 1;\n sub.u32 %r0, %r0, 1;\n bra $loop;\n$end:",
      in,
      map(in,
          [](const Words& v, std::uint32_t t) {
            std::uint32_t d = 0;
            for (std::uint32_t k = v[t] & 15; k > 0; --k) d = k % 2 == 0 ? d + k : d * 3 + 1;
            return d;
          }),
      64));
}

void add_memory(std::vector<Case>& cases) {
  const Words in = numbers(32, 85);
  cases.push_back(
      word_case("vectors_in_local_memory", "",
                ".local .align 16 .b8 frame[48];\n mov.u64 %q0, frame;\n cvta.local.u64 %q1, %q0;\n "
                "cvta.to.local.u64 %q2, %q1;\n mov.u32 %r0, 1;\n"
                "st.local.v4.u32 [%q2], {%a, %r0, %t, %a};\n cvt.u16.u32 %h0, %a;\n cvt.u16.u32 %h1, %t;\n "
                "st.local.v2.u16 [%q2+16], {%h0, %h1};\n st.local.v4.u8 [%q2+20], {%h0, %h1, %h0, %h1};\n"
                "ld.local.v2.u32 {%r1, %r2}, [frame];\n ld.v2.u32 {%r3, _}, [%q1+8];\n ld.local.u32 %r4, "
                "[frame+16];\n ld.local.s8 %r5, [%q2+21];\n ld.local.u16 %r6, [frame+22];\n"
                "add.u32 %d, %r1, %r2;\n add.u32 %d, %d, %r3;\n xor.b32 %d, %d, %r4;\n add.u32 %d, %d, "
                "%r5;\n add.u32 %d, %d, %r6;",
                in,
                map(in,
                    [](const Words& v, std::uint32_t t) {
                      const std::uint32_t low = v[t] & 0xFF;
                      return ((v[t] + 1 + t) ^ ((v[t] & 0xFFFF) | t << 16)) + t + (low | t << 8);
                    }),
                32));
  cases.push_back(
      word_case("constants_and_address_spaces",
                ".const .align 4 .u32 table[4] = {11, 0x16, 33};\n.global .align 8 .u64 pointers[2] = "
                "{table, generic(word)};\n.global .align 4 .u32 word = 77;\n.shared .align 4 .b8 box[16];\n",
                "and.b32 %r0, %a, 3;\n mul.wide.u32 %q0, %r0, 4;\n mov.u64 %q1, table;\n add.s64 %q0, %q0, "
                "%q1;\n ld.const.u32 %d, [%q0];\n ld.const.u32 %r1, [table+4];\n add.u32 %d, %d, %r1;\n"
                "ld.global.u64 %q2, [pointers+8];\n ld.u32 %r2, [%q2];\n add.u32 %d, %d, %r2;\n mov.u64 %q3, "
                "box;\n cvta.shared.u64 %q4, %q3;\n"
                "isspacep.shared %p0, %q4;\n isspacep.global %p1, %q2;\n isspacep.local %p2, %q4;\n selp.b32 "
                "%r3, 1000, 0, %p0;\n selp.b32 %r4, 2000, 0, %p1;\n selp.b32 %r5, 4000, 0, %p2;\n"
                "add.u32 %d, %d, %r3;\n add.u32 %d, %d, %r4;\n add.u32 %d, %d, %r5;",
                in,
                map(in,
                    [](const Words& v, std::uint32_t t) {
                      const std::uint32_t table[4] = {11, 22, 33, 0};
                      return table[v[t] & 3] + 22 + 77 + 3000;
                    }),
                32));
  cases.push_back(
      word_case("cached_and_volatile_accesses", "",
                "prefetch.global.L2 [%in];\n ld.global.nc.u32 %r0, [%in];\n ld.global.cg.u32 %r1, [%in];\n "
                "ld.volatile.global.u32 %r2, [%in];\n ld.global.L1::evict_last.u32 %r3, [%in];\n"
                "add.u32 %d, %r0, %r1;\n sub.u32 %d, %d, %r2;\n add.u32 %d, %d, %r3;\n st.cg.u32 [%out], "
                "%d;\n membar.gl;\n membar.sys;\n ld.cg.u32 %d, [%out];",
                in, map(in, [](const Words& v, std::uint32_t t) { return v[t] * 2; }), 32));
}

}  // namespace

void add_statement_form_cases(std::vector<Case>& cases) {
  add_shuffles(cases);
  add_votes(cases);
  add_barriers(cases);
  add_atomics(cases);
  add_control(cases);
  add_memory(cases);
}

}  // namespace vgpu::testing::kernels
