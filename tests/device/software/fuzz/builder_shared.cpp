// Shared memory: phases between barriers, phases of a warp, what is a thread's own, cells for atomics. Each
// has an area of its own.
#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

// All store, wait, load what any of them stored, wait.
Statement Builder::shared_phase(const Context& context) {
  Statement out;
  const std::string barrier =
      Text{" ", dice_.chance(80) ? "bar.sync " : "barrier.sync ", dice_.below(4), ";"};
  const bool dynamic = dice_.chance(25);
  const std::uint32_t slots = dynamic ? case_.dynamic_shared_bytes / 16 : threads_;
  const std::string name = dynamic ? "dyn" : "phase";
  const LaneIndex map = one_to_one();
  for (const std::string& line : map.lines) out.add(line);
  const Access what = access(16);
  const std::uint32_t offset = dice_.below(16 / what.size()) * what.size();
  out.add(Text{" mov.u32 %x8, ", name, ";\n mad.lo.u32 %x8, %x4, 16, %x8;"});
  if (dynamic) {
    const std::string skip = label();
    out.add(Text{" setp.ge.u32 %z2, %x4, ", slots, ";\n @%z2 bra ", skip, ";"});
    store(out, what, "st.shared", Text{"%x8+", offset});
    out.add(skip + ":");
  } else {
    store(out, what, dice_.any({"st.shared", "st.shared", unless_joined("st.volatile.shared", "st.shared")}),
          Text{"%x8+", offset});
  }
  for (std::uint32_t i = dice_.below(3); i > 0; --i)
    out.body.push_back(dice_.chance(50) ? integer_statement(context) : float_statement());
  Statement loads;
  for (std::uint32_t i = dice_.between(1, 3); i > 0; --i) {
    const Access read = access(16);
    const std::uint32_t at = dice_.below(16 / read.size()) * read.size();
    switch (dice_.below(3)) {
      case 0:
        data_index(loads, slots);
        break;
      case 1:
        loads.add(Text{" mov.u32 %x6, ", dice_.below(slots), ";"});
        break;
      default: {
        const LaneIndex lane = lane_index(slots);
        for (const std::string& line : lane.lines) loads.add(line);
        loads.add(" mov.u32 %x6, %x4;");
        break;
      }
    }
    if (dice_.chance(75)) {
      loads.add(Text{" mov.u32 %x8, ", name, ";\n mad.lo.u32 %x8, %x6, 16, %x8;"});
      loads.add(Text{" ", guard(), load(read, "ld.shared", Text{"%x8+", at}), ";"});
    } else {
      loads.add(
          Text{" mov.u64 %y5, ", name, ";\n cvta.shared.u64 %y5, %y5;\n mad.wide.u32 %y5, %x6, 16, %y5;"});
      loads.add(Text{" ", guard(), load(read, "ld", Text{"%y5+", at}), ";"});
    }
  }
  out.middle.push_back(barrier);
  out.middle.insert(out.middle.end(), loads.head.begin(), loads.head.end());
  out.tail.push_back(barrier);
  return out;
}

// The same among the lanes of a warp.
Statement Builder::warp_phase() {
  Statement out;
  const std::string sync = " bar.warp.sync -1;";
  const Access what = access(8);
  out.add(" mov.u32 %x8, wphase;\n mad.lo.u32 %x8, %t, 8, %x8;");
  store(out, what, dice_.any({"st.shared", unless_joined("st.volatile.shared", "st.shared")}), "%x8");
  out.add(sync);
  out.add(Text{
      dice_.chance(50) ? Text{" xor.b32 %x6, %lane, ", dice_.below(32), ";"}
                       : Text{" and.b32 %x6, ", reg(kR), ", 31;"},
      "\n sub.u32 %x7, %t, %lane;\n add.u32 %x6, %x6, %x7;\n mov.u32 %x8, wphase;\n mad.lo.u32 %x8, %x6, 8, "
      "%x8;"});
  const Access read = access(8);
  out.add(Text{" ",
               load(read, dice_.any({"ld.shared", unless_joined("ld.volatile.shared", "ld.shared")}), "%x8"),
               ";"});
  return out.add(sync);
}

Statement Builder::own_shared() {
  Statement out(" mov.u32 %x8, own;\n mad.lo.u32 %x8, %t, 8, %x8;");
  for (std::uint32_t i = dice_.between(1, 3); i > 0; --i) {
    const Access what = access(kOwnSharedBytes);
    const std::string address = Text{"%x8+", dice_.below(kOwnSharedBytes / what.size()) * what.size()};
    if (dice_.chance(50)) {
      store(out, what, "st.shared", address);
    } else {
      out.add(Text{" ", guard(), load(what, "ld.shared", address), ";"});
    }
  }
  return out;
}

Statement Builder::shared_atomic() {
  static constexpr const char* kOperations[] = {"add.u32", "min.u32", "max.s32", "and.b32",
                                                "or.b32",  "xor.b32", "add.u64"};
  const std::uint32_t which = dice_.below(7);
  Statement out(Text{" and.b32 %x6, ", varying(), ", 1;\n mad.lo.u32 %x6, %x6, 7, ", which,
                     ";\n mov.u32 %x8, xcell;\n mad.lo.u32 %x8, %x6, 8, %x8;"});
  return out.add(Text{" ", guard(), "red.shared.", kOperations[which], " [%x8], ",
                      which == 6 ? reg(kQ) : varying(), ";"});
}

Statement Builder::shared_statement(const Context& context) {
  if (context.together == Together::kBlock && dice_.chance(60)) return shared_phase(context);
  if (context.together != Together::kParted && dice_.chance(40)) return warp_phase();
  return dice_.chance(50) || may_be_joined_ ? own_shared() : shared_atomic();
}

}  // namespace vgpu::testing::fuzz
