// Global, local, constant and parameter memory. Tables are only read; what is written belongs to one thread;
// what several threads change is changed by atomics whose order does not matter, each cell by one operation.
#include <algorithm>

#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

void Builder::reach(std::size_t buffer, std::uint64_t end) {
  case_.buffers[buffer].bytes = std::max(case_.buffers[buffer].bytes, end);
}

Builder::Access Builder::access(std::uint32_t most_bytes) {
  static constexpr struct {
    const char* type;
    std::uint32_t bytes;
  } kTypes[] = {{"u8", 1},  {"s8", 1},  {"u16", 2}, {"s16", 2}, {"b16", 2}, {"u32", 4}, {"s32", 4},
                {"f32", 4}, {"f32", 4}, {"b32", 4}, {"u64", 8}, {"s64", 8}, {"f64", 8}};
  Access what;
  do {
    const auto& type = kTypes[dice_.below(static_cast<std::uint32_t>(std::size(kTypes)))];
    what.type = type.type;
    what.bytes = type.bytes;
  } while (what.bytes > most_bytes);
  if (dice_.chance(40)) what.count = dice_.chance(50) ? 2 : 4;
  while (what.size() > std::min(most_bytes, 16u)) what.count /= 2;
  return what;
}

// Registers for the elements, none of them twice.
std::string Builder::registers(const Access& what) {
  Pool pool = kR;
  std::uint32_t size = 8;
  if (what.type == "f32") {
    pool = kF;
    size = 5;
  } else if (what.type == "f64") {
    pool = kD;
    size = 3;
  } else if (what.bytes == 8) {
    pool = kQ;
    size = 4;
  } else if (what.bytes <= 2 && dice_.chance(50)) {
    pool = kH;
    size = 4;
  }
  const std::uint32_t first = dice_.below(size);
  const std::string prefix = reg(pool).substr(0, 2);
  if (what.count == 1) return Text{prefix, first};
  std::string list = "{";
  for (std::uint32_t i = 0; i < what.count; ++i) {
    const bool sink = i > 0 && dice_.chance(6);
    list += Text{i == 0 ? "" : ", ", sink ? std::string("_") : Text{prefix, (first + i) % size}};
  }
  return list + "}";
}

std::string Builder::load(const Access& what, const std::string& opcode, const std::string& address) {
  return Text{opcode, what.suffix(), registers(what), ", [", address, "]"};
}

// Appends the store. Floats go through scratch registers, their NaNs made the same.
void Builder::store(Statement& out, const Access& what, const std::string& opcode,
                    const std::string& address) {
  const std::string before = guard();
  std::string list;
  for (std::uint32_t i = 0; i < what.count; ++i) {
    std::string value;
    if (what.type == "f32") {
      value = Text{"%xf", i};
      canonical32(out, reg(kF), "%x9");
      out.add(Text{" mov.b32 ", value, ", %x9;"});
    } else if (what.type == "f64") {
      value = Text{"%xd", i};
      canonical64(out, reg(kD), "%y7");
      out.add(Text{" mov.b64 ", value, ", %y7;"});
    } else if (what.type == "b16" && dice_.chance(50)) {
      value = Text{"%xh", i};
      canonical16(out, reg(kG), value);
    } else if (what.bytes == 8) {
      value = reg(kQ);
    } else if (what.bytes <= 2) {
      value = reg(dice_.chance(50) || what.count > 1 ? kH : kR);
    } else {
      value = reg(dice_.chance(85) ? kR : dice_.chance(50) ? kU : kW);
    }
    list += Text{i == 0 ? "" : ", ", value};
  }
  if (what.count > 1) list = Text{"{", list, "}"};
  out.add(Text{" ", before, opcode, what.suffix(), "[", address, "], ", list, ";"});
}

// Loads around one address, as an unrolled loop or a block of quantised weights has them.
Statement Builder::load_table(const Context& context) {
  Statement out;
  const bool same_for_all = dice_.chance(25);
  const std::size_t buffer = tables_[dice_.below(3)];
  const std::uint32_t unit = 1u << dice_.below(5);
  std::uint32_t largest = table_index(out, context, same_for_all);
  std::int64_t shift = 0;
  if (dice_.chance(30)) {  // negative offsets
    shift = dice_.between(1, 8);
    out.add(Text{" add.u32 %x6, %x6, ", shift, ";"});
    largest += static_cast<std::uint32_t>(shift);
  }
  global_address(out, buffer, "%x6", unit, "%y4");
  for (std::uint32_t i = dice_.chance(50) ? 1 : dice_.between(2, 5); i > 0; --i) {
    const Access what = access(unit);
    const std::int64_t step = dice_.chance(70) ? dice_.below(8) : dice_.below(40);
    const std::int64_t offset = step * what.size() - shift * unit;
    const std::string opcode = dice_.any({"ld.global", "ld.global", "ld.global.nc", "ld.global.nc", "ld",
                                          "ld.cg", unless_joined("ld.volatile.global", "ld.global")});
    const std::string address = offset == 0 ? std::string("%y4") : Text{"%y4+", offset};
    if (same_for_all && context.together == Together::kBlock && what.bytes == 4 && what.count == 1 &&
        dice_.chance(40)) {
      out.add(Text{" ", opcode, ".u32 ", reg(kU), ", [", address, "];"});
    } else {
      out.add(Text{" ", guard(), load(what, opcode, address), ";"});
    }
    reach(buffer, static_cast<std::uint64_t>(std::int64_t{largest} * unit + offset + what.size()));
  }
  return out;
}

// The end of a row: lanes beyond it do not load.
Statement Builder::load_guarded(const Context& context) {
  Statement out;
  const std::size_t buffer = tables_[dice_.below(3)];
  const std::uint32_t largest = table_index(out, context, false);
  const Access what = access(16);
  const std::uint32_t end = dice_.between(1, largest + 1);
  out.add(Text{" setp.", dice_.any({"lt.u32", "lt.s32"}), " %z0, %x6, ", end, ";"});
  reach(buffer, std::uint64_t{end} * what.size());
  const std::string opcode = dice_.any({"ld.global", "ld.global.nc"});
  if (dice_.chance(50)) {
    global_address(out, buffer, "%x6", what.size(), "%y4");
    return out.add(Text{" @%z0 ", load(what, opcode, "%y4"), ";"});
  }
  const std::string skip = label();
  out.add(Text{" @!%z0 bra ", skip, ";"});
  global_address(out, buffer, "%x6", what.size(), "%y4");
  out.add(Text{" ", load(what, opcode, "%y4"), ";"});
  return out.add(skip + ":");
}

Statement Builder::load_gather() {
  Statement out;
  const Access what = access(16);
  data_index(out, kGatherBytes / what.size());
  global_address(out, gather_, "%x6", what.size(), "%y4");
  return out.add(Text{" ", guard(), load(what, dice_.any({"ld.global", "ld.global.nc", "ld"}), "%y4"), ";"});
}

Statement Builder::load_walking(const Context& context) {
  Statement out;
  const auto& pointer = context.pointers[dice_.below(static_cast<std::uint32_t>(context.pointers.size()))];
  for (std::uint32_t i = dice_.between(1, 3); i > 0; --i) {
    const Access what = access(pointer.unit);
    const std::uint32_t offset = dice_.below(6) * what.size();
    out.add(Text{" ", guard(),
                 load(what, dice_.any({"ld.global", "ld.global.nc"}), Text{pointer.reg, "+", offset}), ";"});
    reach(pointer.buffer, pointer.reach + offset + what.size());
  }
  return out;
}

// The thread's own bytes: a row of 64, or an element of one of four columns, each with one size for all.
std::uint32_t Builder::own_address(Statement& out) {
  static constexpr std::uint32_t kColumnUnits[] = {16, 4, 8, 2};
  const std::uint32_t which = dice_.below(1 + kOwnColumns);
  const LaneIndex& map = own_maps_[which];
  for (const std::string& line : map.lines) out.add(line);
  out.add(" sub.u32 %x6, %gt, %t;");
  if (which == 0) {
    out.add(" add.u32 %x6, %x6, %x4;");
    global_address(out, own_rows_, "%x6", kOwnRowBytes, "%y4");
    return kOwnRowBytes;
  }
  const std::uint32_t unit = kColumnUnits[which - 1];
  const std::uint32_t all = threads_ * blocks_;
  out.add(Text{" mad.lo.u32 %x6, %x6, ", 16 / unit, ", %x4;\n add.u32 %x6, %x6, ",
               (which - 1) * all * (16 / unit), ";"});
  global_address(out, own_columns_, "%x6", unit, "%y4");
  return unit;
}

Statement Builder::own_slot() {
  Statement out;
  const std::uint32_t bytes = own_address(out);
  for (std::uint32_t i = bytes == kOwnRowBytes ? dice_.between(1, 4) : 1; i > 0; --i) {
    const Access what = access(bytes);
    const std::uint32_t offset = dice_.below(bytes / what.size()) * what.size();
    const std::string address = Text{"%y4+", offset};
    if (dice_.chance(65)) {
      store(out, what,
            dice_.any(
                {"st.global", "st.global", "st", "st.cg", unless_joined("st.volatile.global", "st.global")}),
            address);
    } else {
      out.add(
          Text{" ", guard(),
               load(what, dice_.any({"ld.global", "ld", unless_joined("ld.volatile.global", "ld.global")}),
                    address),
               ";"});
    }
  }
  return out;
}

// One thread of the block writes for all.
Statement Builder::block_cell() {
  Statement out(Text{" setp.eq.u32 %z0, %t, ", dice_.chance(60) ? 0 : dice_.below(threads_), ";"});
  // Always the same thread for one cell: the first word by thread 0, the second by the last one.
  const bool first = dice_.chance(60);
  out.head.back() = Text{" setp.eq.u32 %z0, %t, ", first ? 0 : threads_ - 1, ";"};
  out.add(Text{" sub.u32 %x6, %gt, %t;\n div.u32 %x6, %x6, ", threads_, ";"});
  global_address(out, block_cells_, "%x6", 8, "%y4");
  return out.add(Text{" @%z0 st.global.u32 [%y4+", first ? 0 : 4, "], ", varying(), ";"});
}

Statement Builder::local_access() {
  Statement out;
  const Access what = access(16);
  std::string address;
  const bool generic = dice_.chance(20);
  if (dice_.chance(50) && !generic) {
    address = Text{"loc+", dice_.below(kLocalBytes / what.size()) * what.size()};
  } else {
    data_index(out, kLocalBytes / what.size());
    out.add(Text{" mov.u64 %y5, loc;", generic ? "\n cvta.local.u64 %y5, %y5;" : "",
                 "\n mad.wide.u32 %y5, %x6, ", what.size(), ", %y5;"});
    address = "%y5";
  }
  if (dice_.chance(50)) {
    store(out, what, generic ? "st" : "st.local", address);
  } else {
    out.add(Text{" ", guard(), load(what, generic ? "ld" : "ld.local", address), ";"});
  }
  return out;
}

Statement Builder::constant_access() {
  Statement out;
  const Access what = access(16);
  const bool constant = dice_.chance(60);
  const std::string name = constant ? "constants" : "globals";
  const std::string opcode = constant ? "ld.const" : dice_.any({"ld.global", "ld.global.nc"});
  if (dice_.chance(40)) {
    return out.add(
        Text{" ", guard(),
             load(what, opcode, Text{name, "+", dice_.below(kConstBytes / what.size()) * what.size()}), ";"});
  }
  if (dice_.chance(60)) {
    data_index(out, kConstBytes / what.size());
  } else {
    const LaneIndex lane = lane_index(kConstBytes / what.size());
    for (const std::string& line : lane.lines) out.add(line);
    out.add(" mov.u32 %x6, %x4;");
  }
  out.add(Text{" mov.u64 %y5, ", name, ";\n mad.wide.u32 %y5, %x6, ", what.size(), ", %y5;"});
  return out.add(Text{" ", guard(), load(what, opcode, "%y5"), ";"});
}

Statement Builder::param_access() {
  Statement out;
  const Access what = access(16);
  if (dice_.chance(70)) {
    return out.add(
        Text{" ", load(what, "ld.param", Text{"blob+", dice_.below(kBlobBytes / what.size()) * what.size()}),
             ";"});
  }
  data_index(out, kBlobBytes / what.size());
  out.add(Text{" mov.b64 %y5, blob;\n mad.wide.u32 %y5, %x6, ", what.size(), ", %y5;"});
  return out.add(Text{" ", load(what, "ld.param", "%y5"), ";"});
}

namespace {

struct CellOperation {
  const char* text;
  bool wide;
};
constexpr CellOperation kCellOperations[] = {{"add.u32", false}, {"min.u32", false}, {"max.s32", false},
                                             {"and.b32", false}, {"or.b32", false},  {"xor.b32", false},
                                             {"add.u64", true}};

}  // namespace

Statement Builder::atomic_shared_between_threads() {
  Statement out;
  const std::uint32_t which = dice_.below(7);
  const auto& operation = kCellOperations[which];
  out.add(Text{" and.b32 %x6, ", varying(), ", 1;\n mad.lo.u32 %x6, %x6, 7, ", which, ";"});
  global_address(out, cells_, "%x6", 8, "%y4");
  const std::string value = operation.wide ? reg(kQ) : varying();
  if (dice_.chance(60))
    return out.add(Text{" ", guard(), "red.global.", operation.text, " [%y4], ", value, ";"});
  return out.add(Text{" ", guard(), "atom.global.", operation.text, " ", operation.wide ? "%y5" : "%x7",
                      ", [%y4], ", value, ";"});
}

Statement Builder::atomic_on_own_cell() {
  Statement out;
  out.add(" sub.u32 %x6, %gt, %t;");
  Statement address;
  for (const std::string& line : own_maps_[0].lines) out.add(line);
  out.add(" add.u32 %x6, %x6, %x4;");
  global_address(out, own_rows_, "%x6", kOwnRowBytes, "%y4");
  const std::uint32_t offset = 8 * dice_.below(kOwnRowBytes / 8);
  const std::string space = dice_.any({"atom.global.", "atom."});
  if (dice_.chance(30)) {
    const std::string operation =
        dice_.any({"add.u64", "exch.b64", "min.s64", "max.u64", "and.b64", "xor.b64"});
    return out.add(
        Text{" ", guard(), space, operation, " ", reg(kQ), ", [%y4+", offset, "], ", reg(kQ), ";"});
  }
  if (dice_.chance(25)) {
    return out.add(Text{" ld.global.u32 %x7, [%y4+", offset, "];\n @", reg(kP), " xor.b32 %x7, %x7, 1;\n ",
                        guard(), space, "cas.b32 ", reg(kR), ", [%y4+", offset, "], %x7, ", varying(), ";"});
  }
  const std::string operation =
      dice_.any({"add.u32", "exch.b32", "min.s32", "max.u32", "and.b32", "or.b32", "inc.u32", "dec.u32"});
  return out.add(
      Text{" ", guard(), space, operation, " ", reg(kR), ", [%y4+", offset, "], ", varying(), ";"});
}

Statement Builder::memory_statement(const Context& context) {
  if (context.in_function) return dice_.chance(50) && !may_be_joined_ ? local_access() : constant_access();
  if (!context.pointers.empty() && dice_.chance(35)) return load_walking(context);
  switch (dice_.below(20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      return load_table(context);
    case 5:
    case 6:
      return load_guarded(context);
    case 7:
    case 8:
      return load_gather();
    case 9:
    case 10:
    case 11:
      return own_slot();
    case 12:
      return block_cell();
    case 13:
      return may_be_joined_ ? own_slot() : local_access();
    case 14:
      return constant_access();
    case 15:
      return param_access();
    case 16:
      return may_be_joined_ ? own_slot() : atomic_shared_between_threads();
    case 17:
      return may_be_joined_ ? load_table(context) : atomic_on_own_cell();
    default:
      return shared_statement(context);
  }
}

}  // namespace vgpu::testing::fuzz
