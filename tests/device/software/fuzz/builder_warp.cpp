// What lanes of a warp, and warps of a block, do together. The value of a lane that takes no part is open in
// PTX: it is replaced before anything sees it.
#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

Statement Builder::shuffle(const Context& context) {
  Statement out;
  const std::uint32_t mode = dice_.below(4);
  static constexpr const char* kModes[] = {"up", "down", "bfly", "idx"};
  const std::uint32_t segments =
      ((32u - (32u >> dice_.below(5))) & 31u);  // lanes stay in groups of 32, 16, 8 …
  const std::uint32_t clamp = segments << 8 | (mode == 0 ? 0 : 31);
  const bool is_float = dice_.chance(30);
  if (is_float) {
    out.add(Text{" mov.b32 %x14, ", reg(kF), ";"});
  } else {
    out.add(Text{" mov.b32 %x14, ", varying(), ";"});
  }
  out.add(Text{" and.b32 %x15, ", dice_.chance(70) ? std::to_string(dice_.below(32)) : varying(), ", 31;"});
  out.add(Text{" shfl.sync.", kModes[mode], ".b32 %x10|%z3, %x14, %x15, ", clamp, ", ", context.mask, ";"});
  const bool all_here = whole_warps() && context.mask == "-1" && context.together != Together::kParted;
  if (!all_here) {
    out.add(Text{" setp.eq.u32 %z4, %lane, %lane;\n vote.sync.ballot.b32 %x11, %z4, ", context.mask, ";"});
    switch (mode) {
      case 0:
        out.add(" sub.u32 %x12, %lane, %x15;");
        break;
      case 1:
        out.add(" add.u32 %x12, %lane, %x15;");
        break;
      case 2:
        out.add(" xor.b32 %x12, %lane, %x15;");
        break;
      default:
        out.add(Text{" and.b32 %x12, %lane, ", segments, ";\n and.b32 %x13, %x15, ", ~segments & 31,
                     ";\n or.b32 %x12, "
                     "%x12, %x13;"});
        break;
    }
    out.add(
        " selp.b32 %x12, %x12, %lane, %z3;\n shr.u32 %x13, %x11, %x12;\n and.b32 %x13, %x13, 1;\n "
        "setp.ne.u32 %z5, "
        "%x13, 0;\n selp.b32 %x10, %x10, 0, %z5;");
  }
  if (dice_.chance(40)) out.add(Text{" mov.pred ", reg(kP), ", %z3;"});
  return out.add(is_float ? Text{" mov.b32 ", reg(kF), ", %x10;"} : Text{" mov.b32 ", reg(kR), ", %x10;"});
}

// The forms before .sync, which sm_61 still has.
Statement Builder::legacy_shuffle() {
  if (dice_.chance(50)) return Statement(Text{" vote.ballot.b32 ", reg(kW), ", ", predicate(), ";"});
  return Statement(Text{" shfl.", dice_.any({"bfly", "idx"}), ".b32 ", reg(kR), ", ", reg(kR), ", ",
                        dice_.below(32), ", 31;"});
}

Statement Builder::vote(const Context& context) {
  if (dice_.chance(50)) {
    const bool uniform_here = context.together != Together::kParted;
    return Statement(Text{" ", dice_.any({"vote.sync.ballot", "vote.ballot.sync"}), ".b32 ",
                          uniform_here && dice_.chance(50) ? reg(kW) : reg(kR), ", ", predicate(), ", ",
                          context.mask, ";"});
  }
  return Statement(Text{" vote.sync.", dice_.any({"all", "any", "uni"}), ".pred ", reg(kP), ", ", predicate(),
                        ", ", context.mask, ";"});
}

Statement Builder::block_reduction() {
  const std::string id = std::to_string(dice_.below(16));
  if (dice_.chance(50))
    return Statement(Text{" bar.red.popc.u32 ", reg(kU), ", ", id, ", ", predicate(), ";"});
  Statement out(Text{" bar.red.", dice_.any({"and", "or"}), ".pred %z3, ", id, ", ", predicate(), ";"});
  return out.add(Text{" selp.b32 ", reg(kU), ", ", uniform(), ", ", uniform(), ", %z3;"});
}

// The first warps of the block exchange something; the others pass.
Statement Builder::some_warps_barrier() {
  const std::uint32_t count = 32 * dice_.between(1, threads_ / 32);
  const std::string skip = label();
  Statement out(Text{" setp.ge.u32 %z2, %t, ", count, ";\n @%z2 bra ", skip, ";"});
  out.add(
      Text{" mov.u32 %x8, phase;\n mad.lo.u32 %x8, %t, 16, %x8;\n st.shared.u32 [%x8], ", varying(), ";"});
  out.add(Text{" bar.sync ", dice_.between(5, 15), ", ", count, ";"});
  data_index(out, count);
  out.add(Text{" mov.u32 %x8, phase;\n mad.lo.u32 %x8, %x6, 16, %x8;\n ld.shared.u32 ", reg(kR), ", [%x8];"});
  out.add(skip + ":");
  return out.add(" bar.sync 0;");
}

Statement Builder::warp_statement(const Context& context) {
  const bool block = context.together == Together::kBlock;
  if (block && !may_be_joined_ && dice_.chance(12)) return block_reduction();
  if (block && !may_be_joined_ && whole_warps() && dice_.chance(8)) return some_warps_barrier();
  if (whole_warps() && context.together != Together::kParted && dice_.chance(8)) return legacy_shuffle();
  return dice_.chance(65) ? shuffle(context) : vote(context);
}

}  // namespace vgpu::testing::fuzz
