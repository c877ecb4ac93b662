// The kernel around the random statements: shape, registers, what every thread starts with and leaves behind.
#include "tests/device/software/fuzz/builder.h"

#include <algorithm>
#include <cstring>

namespace vgpu::testing::fuzz {
namespace {

struct PoolInfo {
  const char* prefix;
  const char* type;
  std::uint32_t size;
};
constexpr PoolInfo kPools[] = {{"%u", ".b32", 5}, {"%w", ".b32", 3}, {"%r", ".b32", 8}, {"%q", ".b64", 4},
                               {"%h", ".b16", 4}, {"%f", ".f32", 5}, {"%d", ".f64", 3}, {"%g", ".b16", 3},
                               {"%v", ".b32", 2}, {"%p", ".pred", 4}};

std::vector<std::uint8_t> bytes_of(std::uint32_t value) {
  std::vector<std::uint8_t> bytes(4);
  std::memcpy(bytes.data(), &value, 4);
  return bytes;
}

}  // namespace

std::uint32_t LaneIndex::largest() const {
  return *std::ranges::max_element(values);
}

Builder::Builder(std::uint64_t seed) : seed_(seed), dice_(seed) {}

std::string Builder::reg(Pool pool) {
  return Text{kPools[pool].prefix, dice_.below(kPools[pool].size)};
}

std::string Builder::uniform() {
  switch (dice_.below(8)) {
    case 0:
      return immediate();
    case 1:
      return dice_.any({"%cx", "%cy", "WARP_SZ"});
    default:
      return reg(kU);
  }
}

std::string Builder::warp_uniform() {
  return dice_.chance(50) ? reg(kW) : uniform();
}

std::string Builder::varying() {
  switch (dice_.below(10)) {
    case 0:
      return dice_.any({"%tx", "%ty", "%tz", "%lane", "%t"});
    case 1:
      return immediate();
    case 2:
      return warp_uniform();
    default:
      return reg(kR);
  }
}

std::string Builder::source(Together level) {
  switch (level) {
    case Together::kBlock:
      return uniform();
    case Together::kWarp:
      return warp_uniform();
    default:
      return varying();
  }
}

// A register that may be written here, and how uniform what is written must be.
std::string Builder::target(const Context& context, Together& level) {
  level = Together::kParted;
  if (context.together == Together::kBlock && dice_.chance(20)) {
    level = Together::kBlock;
    return reg(kU);
  }
  if (context.together != Together::kParted && dice_.chance(15)) {
    level = Together::kWarp;
    return reg(kW);
  }
  return reg(kR);
}

std::string Builder::guard() {
  return dice_.chance(20) ? Text{"@", predicate(), " "} : "";
}

std::size_t Builder::add_buffer(std::uint64_t bytes, Fill fill, Place place) {
  case_.buffers.push_back({bytes, fill, dice_.bits() >> 32, place});
  ParamSpec param;
  param.is_buffer = true;
  param.buffer = case_.buffers.size() - 1;
  case_.params.push_back(param);
  buffer_params_.push_back(Text{".param .u64 b", param.buffer});
  return param.buffer;
}

void Builder::choose_shape() {
  auto& block = case_.block;
  switch (dice_.below(9)) {
    case 0:
      block = {dice_.between(1, 40), 1, 1};
      break;
    case 1:
      block = {dice_.between(33, 300), 1, 1};
      break;
    case 2:
    case 6:
      block = {32, dice_.chance(60) ? 4 * dice_.between(1, 2) : dice_.between(1, 8), 1};
      break;
    case 3:
      block = {8u << dice_.below(3), 4u << dice_.below(2), dice_.between(1, 2)};
      break;
    case 4:
      block = {dice_.between(1, 9), dice_.between(1, 9), dice_.between(1, 3)};
      break;
    case 5:
      block = {dice_.chance(20) ? 1024u : 512u, 1, 1};
      break;
    default:
      block = {32 * dice_.between(1, 6), 1, 1};
      break;
  }
  threads_ = block[0] * block[1] * block[2];
  auto& grid = case_.grid;
  grid = {dice_.between(1, threads_ > 300 ? 2 : 4), dice_.chance(25) ? 2u : 1u, dice_.chance(10) ? 2u : 1u};
  blocks_ = grid[0] * grid[1] * grid[2];
  case_.seed = seed_;
  case_.opt_level = static_cast<int>(dice_.chance(70) ? 1 : dice_.below(3));
  has_exits_ = dice_.chance(35);
  may_be_joined_ = dice_.chance(50);
  flush_ = dice_.chance(40) ? 100 : dice_.chance(50) ? 0 : 50;
}

std::vector<Statement> Builder::statements(const Context& context, std::uint32_t count) {
  std::vector<Statement> list;
  for (std::uint32_t i = 0; i < count; ++i) list.push_back(statement(context));
  return list;
}

Statement Builder::statement(const Context& context) {
  const bool may_nest = context.depth < 4 && budget_ > 0;
  if (budget_ > 0) --budget_;
  const std::uint32_t choice = dice_.below(100);
  if (choice < 16 && may_nest) return control_statement(context);
  if (choice < 26 && !context.mask.empty()) return warp_statement(context);
  if (choice < 50) return memory_statement(context);
  if (choice < 68) return float_statement();
  return integer_statement(context);
}

Statement Builder::declarations(bool in_function) {
  Statement out;
  out.needed = true;
  for (const PoolInfo& pool : kPools)
    out.add(Text{" .reg ", pool.type, " ", pool.prefix, "<", pool.size, ">;"});
  out.add(" .reg .b32 %x<20>, %t, %gt, %tx, %ty, %tz, %lane, %cx, %cy;");
  out.add(" .reg .b64 %y<8>, %base;");
  out.add(" .reg .b16 %xh<8>;");
  out.add(" .reg .f32 %xf<8>;");
  out.add(" .reg .f64 %xd<4>;");
  out.add(" .reg .pred %z<8>;");
  if (!may_be_joined_) out.add(Text{" .local .align 16 .b8 loc[", kLocalBytes, "];"});
  out.add(
      " mov.u32 %tx, %tid.x;\n mov.u32 %ty, %tid.y;\n mov.u32 %tz, %tid.z;\n mov.u32 %lane, %laneid;\n "
      "mov.u32 "
      "%cx, %ctaid.x;\n mov.u32 %cy, %ctaid.y;");
  out.add(
      " mov.u32 %x1, %ntid.x;\n mad.lo.u32 %t, %ty, %x1, %tx;\n mov.u32 %x2, %ntid.y;\n mul.lo.u32 %x1, %x1, "
      "%x2;\n mad.lo.u32 %t, %tz, %x1, %t;");
  if (!in_function) {
    out.add(" mov.u32 %x0, %ctaid.z;\n mov.u32 %x1, %nctaid.y;\n mad.lo.u32 %x0, %x0, %x1, %cy;");
    out.add(
        Text{" mov.u32 %x1, %nctaid.x;\n mad.lo.u32 %x0, %x0, %x1, %cx;\n"
             " mad.lo.u32 %gt, %x0, ",
             threads_, ", %t;"});
  }
  out.add(" mov.u32 %x0, 0;");
  for (std::uint32_t at = 0; at < kLocalBytes && !may_be_joined_; at += 16)
    out.add(Text{" st.local.v4.u32 [loc+", at, "], {%x0, %x0, %x0, %x0};"});
  return out;
}

// Every register of the pools gets a value, shared memory is cleared.
Statement Builder::prologue() {
  Statement out;
  out.needed = true;
  for (std::uint32_t i = 0; i < kPools[kU].size; ++i) {
    if (i < 3) {
      out.add(Text{" ld.param.u32 %u", i, ", [n", i, "];"});
    } else {
      out.add(Text{" mov.u32 %u", i, ", ", i == 3 ? "%ctaid.x" : immediate(), ";"});
    }
  }
  out.add(" shr.u32 %w0, %t, 5;\n mul.lo.u32 %w1, %w0, 77;\n mov.u32 %w2, %u1;");
  out.add(Text{" ld.param.u64 %y0, [b", init_, "];\n mad.wide.u32 %y0, %gt, 64, %y0;"});
  out.add(" ld.global.v4.u32 {%r0, %r1, %r2, %r3}, [%y0];");
  out.add(" mov.u32 %r4, %t;\n shr.u32 %r5, %t, 3;\n mad.lo.u32 %r6, %t, 12, %u3;\n and.b32 %r7, %r0, 15;");
  out.add(" ld.global.v2.u64 {%q0, %q1}, [%y0+16];\n mul.wide.s32 %q2, %r1, %r4;\n cvt.u64.u32 %q3, %t;");
  out.add(" ld.global.v4.u16 {%h0, %h1, %h2, %h3}, [%y0+32];\n cvt.u16.u32 %h3, %t;");
  out.add(" ld.global.v2.b16 {%g0, %g1}, [%y0+40];\n cvt.rn.f16.s32 %g2, %r7;");
  out.add(" ld.global.v2.b32 {%v0, %v1}, [%y0+48];");
  out.add(Text{" ld.param.u64 %y1, [b", tables_[0], "];"});
  out.add(
      " and.b32 %x0, %t, 15;\n mad.wide.u32 %y1, %x0, 16, %y1;\n ld.global.v4.f32 {%f0, %f1, %f2, %f3}, "
      "[%y1];\n cvt.rn.f32.s32 %f4, %r7;");
  out.add(" ld.global.f64 %d0, [%y0+16];\n cvt.f64.f32 %d1, %f1;\n cvt.rn.f64.s32 %d2, %r4;");
  out.add(
      " setp.lt.s32 %p0, %r0, 0;\n setp.gt.u32 %p1, %r4, 20;\n setp.eq.u32 %p2, %r7, 3;\n setp.ne.u32 %p3, "
      "%u0, 0;");
  reach(tables_[0], 256);
  // Shared memory: each thread clears what is its by turns, in rounds that all take.
  const auto clear = [&](const std::string& name, std::uint32_t bytes) {
    const std::string top = label();
    const std::string end = label();
    out.add(
        Text{" mov.u32 %x0, ", name, ";\n mad.lo.u32 %x0, %t, 4, %x0;\n mov.u32 %x1, 0;\n mov.u32 %x2, 0;"});
    out.add(top + ":");
    out.add(Text{" setp.ge.u32 %z0, %x1, ", bytes / 4, ";\n @%z0 bra ", end, ";"});
    out.add(Text{" add.u32 %x3, %x1, %t;\n setp.lt.u32 %z0, %x3, ", bytes / 4,
                 ";\n @%z0 st.shared.u32 [%x0], %x2;"});
    out.add(Text{" add.u32 %x0, %x0, ", 4 * threads_, ";\n add.u32 %x1, %x1, ", threads_, ";\n bra.uni ", top,
                 ";"});
    out.add(end + ":");
  };
  clear("dyn", case_.dynamic_shared_bytes);
  clear("phase", 16 * threads_);
  clear("own", kOwnSharedBytes * threads_);
  clear("wphase", 8 * ((threads_ + 31) / 32 * 32));
  clear("xcell", 8 * kCells);
  out.add(" bar.sync 0;");
  return out;
}

Statement Builder::epilogue() {
  Statement out;
  out.needed = true;
  // What threads added up together, by those that came this far.
  out.add(" bar.sync 0;");
  out.add(Text{" setp.ge.u32 %z0, %t, ", kCells, ";\n @%z0 bra $end;"});
  out.add(Text{
      " mov.u32 %x0, xcell;\n mad.lo.u32 %x0, %t, 8, %x0;\n ld.shared.u64 %y0, [%x0];\n sub.u32 %x1, %gt, "
      "%t;\n mad.lo.u32 %x1, %x1, ",
      kCells, ", 0;\n div.u32 %x1, %x1, ", threads_, ";\n add.u32 %x1, %x1, %t;\n ld.param.u64 %y1, [b",
      block_cells_,
      "];\n mad.wide.u32 %y1, %x1, 8, "
      "%y1;\n st.global.u64 [%y1+",
      8 * blocks_, "], %y0;"});
  out.add("$end:");
  out.add(Text{" ld.param.u64 %base, [b", out_, "];\n mad.wide.u32 %base, %gt, ", out_stride_, ", %base;"});
  std::uint32_t at = 0;
  const auto store32 = [&](const std::string& name) {
    out.add(Text{" st.global.u32 [%base+", at, "], ", name, ";"});
    at += 4;
  };
  for (const Pool pool : {kU, kW, kR}) {
    for (std::uint32_t i = 0; i < kPools[pool].size; ++i) store32(Text{kPools[pool].prefix, i});
  }
  for (std::uint32_t i = 0; i < kPools[kF].size; ++i) {
    canonical32(out, Text{"%f", i}, "%x1");
    store32("%x1");
  }
  for (const Pool pool : {kG, kH}) {
    for (std::uint32_t i = 0; i < kPools[pool].size; ++i) {
      if (pool == kG) canonical16(out, Text{"%g", i}, "%xh3");
      out.add(Text{" cvt.u32.u16 %x1, ", pool == kG ? std::string("%xh3") : Text{"%h", i}, ";"});
      store32("%x1");
    }
  }
  for (std::uint32_t i = 0; i < kPools[kV].size; ++i) {
    out.add(Text{" mov.b32 {%xh1, %xh2}, %v", i, ";"});
    canonical16(out, "%xh1", "%xh3");
    canonical16(out, "%xh2", "%xh4");
    out.add(" mov.b32 %x1, {%xh3, %xh4};");
    store32("%x1");
  }
  out.add(" mov.u32 %x1, 0;");
  for (std::uint32_t i = 0; i < kPools[kP].size; ++i)
    out.add(Text{" selp.b32 %x2, ", 1u << i, ", 0, %p", i, ";\n or.b32 %x1, %x1, %x2;"});
  store32("%x1");
  at = (at + 7) / 8 * 8;
  for (std::uint32_t i = 0; i < kPools[kQ].size; ++i, at += 8)
    out.add(Text{" st.global.u64 [%base+", at, "], %q", i, ";"});
  for (std::uint32_t i = 0; i < kPools[kD].size; ++i, at += 8) {
    canonical64(out, Text{"%d", i}, "%y1");
    out.add(Text{" st.global.u64 [%base+", at, "], %y1;"});
  }
  out.add(" ret;");
  return out;
}

std::string Builder::module_variables() const {
  std::string table;
  Dice values(seed_ + 1);
  for (std::uint32_t i = 0; i < kConstBytes / 4; ++i) table += Text{i == 0 ? "" : ", ", values.word()};
  return Text{".const .align 16 .b32 constants[",          kConstBytes / 4, "] = {", table,
              "};\n.global .align 16 .b32 globals[",       kConstBytes / 4, "] = {", table,
              "};\n.extern .shared .align 16 .b8 dyn[];\n"};
}

Generated Builder::build() {
  choose_shape();
  std::uint32_t stride = 0;
  for (const Pool pool : {kU, kW, kR, kF, kG, kH, kV}) stride += 4 * kPools[pool].size;
  stride = (stride + 4 + 7) / 8 * 8 + 8 * (kPools[kQ].size + kPools[kD].size);
  out_stride_ = stride;
  const std::uint64_t all = std::uint64_t{threads_} * blocks_;
  init_ = add_buffer(64 * all, Fill::kRandom, Place::kAnywhere);
  out_ = add_buffer(stride * all, Fill::kPattern, Place::kAnywhere);
  // Tables end where the furthest access does.
  tables_.push_back(add_buffer(0, Fill::kFloats, Place::kAtEnd));
  tables_.push_back(add_buffer(0, Fill::kRandom, dice_.chance(70) ? Place::kAtEnd : Place::kAtStart));
  tables_.push_back(add_buffer(0, dice_.chance(50) ? Fill::kHalves : Fill::kDoubles, Place::kAtEnd));
  gather_ = add_buffer(kGatherBytes, dice_.chance(50) ? Fill::kRandom : Fill::kFloats, Place::kAtEnd);
  own_rows_ = add_buffer(kOwnRowBytes * all, Fill::kRandom, Place::kAtEnd);
  own_columns_ = add_buffer(16 * kOwnColumns * all, Fill::kRandom, Place::kAtEnd);
  cells_ = add_buffer(8 * kCells, Fill::kRandom, Place::kAnywhere);
  block_cells_ = add_buffer(8 * blocks_ * (1 + kCells), Fill::kPattern, Place::kAnywhere);
  case_.dynamic_shared_bytes = 16 * dice_.between(1, 8);
  std::string params;
  for (const std::string& param : buffer_params_) params += Text{params.empty() ? "" : ", ", param};
  for (std::uint32_t i = 0; i < 3; ++i) {
    params += Text{", .param .u32 n", i};
    case_.params.push_back({.bytes = bytes_of(i == 0 ? dice_.below(16) : dice_.word()), .align = 4});
  }
  params += Text{", .param .align 16 .b8 blob[", kBlobBytes, "]"};
  ParamSpec blob;
  blob.align = 16;
  for (std::uint32_t i = 0; i < kBlobBytes / 4; ++i) {
    for (const std::uint8_t byte : bytes_of(dice_.float_bits())) blob.bytes.push_back(byte);
  }
  case_.params.push_back(blob);

  for (std::uint32_t i = 0; i <= kOwnColumns; ++i) own_maps_.push_back(one_to_one());
  functions_ = dice_.chance(40) ? dice_.between(1, 2) : 0;
  Generated result;
  Statement& root = result.program.root;
  root.head = {".version 8.4\n.target sm_61\n.address_size 64", module_variables()};
  for (std::uint32_t i = 0; i < functions_; ++i) root.body.push_back(function(i));

  Statement kernel;
  kernel.needed = true;
  budget_ = dice_.between(8, 45);
  Context context;
  context.terms = {{"%cx", case_.grid[0] - 1}, {"%cy", case_.grid[1] - 1}};
  Statement start = prologue();
  std::vector<Statement> middle = statements(context, dice_.between(4, 16));
  const std::string bounds = dice_.chance(25)   ? Text{" .maxntid ", threads_, ", 1, 1\n"}
                             : dice_.chance(25) ? Text{" .reqntid ", case_.block[0], ", ", case_.block[1],
                                                       ", ",         case_.block[2], "\n"}
                                                : std::string();
  kernel.head = {Text{".visible .entry k(", params, ")\n", bounds, "{"}};
  kernel.head.push_back(Text{" .shared .align 16 .b8 phase[", 16 * threads_, "];\n .shared .align 8 .b8 own[",
                             kOwnSharedBytes * threads_, "];\n .shared .align 8 .b8 xcell[", 8 * kCells,
                             "];\n .shared .align 8 .b8 wphase[", 8 * ((threads_ + 31) / 32 * 32), "];"});
  for (const std::string& counter : counters_) kernel.head.push_back(counter);
  kernel.body.push_back(declarations(false));
  kernel.body.push_back(std::move(start));
  for (Statement& each : middle) kernel.body.push_back(std::move(each));
  kernel.body.push_back(epilogue());
  kernel.tail = {"}"};
  root.body.push_back(std::move(kernel));
  for (const std::size_t table : tables_) {
    auto& bytes = case_.buffers[table].bytes;
    bytes = (std::max<std::uint64_t>(bytes, 16) + 15) / 16 * 16;
  }
  result.shape = case_;
  return result;
}

Generated generate(std::uint64_t seed) {
  return Builder(seed).build();
}

}  // namespace vgpu::testing::fuzz
