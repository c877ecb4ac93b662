// Index shapes: what real kernels make of thread numbers, with the values they have, so that the buffers end
// exactly where the furthest access does.
#include <algorithm>

#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {
namespace {

// One operation on %x4, in text and in numbers.
struct Step {
  std::string lines;
  std::function<std::uint32_t(std::uint32_t)> compute;
};

void apply(LaneIndex& index, const Step& step) {
  index.lines.push_back(step.lines);
  for (std::uint32_t& value : index.values) value = step.compute(value);
}

}  // namespace

LaneIndex Builder::lane_index(std::uint32_t limit) {
  const auto& block = case_.block;
  LaneIndex index;
  index.reg = "%x4";
  const auto basis = [&](const std::string& to, std::vector<std::uint32_t>& values) {
    const std::uint32_t which = dice_.below(6);
    static constexpr const char* kNames[] = {"%t", "%t", "%tx", "%ty", "%lane", "%tz"};
    index.lines.push_back(Text{" mov.u32 ", to, ", ", kNames[which], ";"});
    values.resize(threads_);
    for (std::uint32_t t = 0; t < threads_; ++t) {
      const std::uint32_t all[] = {
          t, t, t % block[0], t / block[0] % block[1], t % 32, t / block[0] / block[1]};
      values[t] = all[which];
    }
  };
  basis("%x4", index.values);
  const auto step = [&] {
    const std::uint32_t k = dice_.between(1, 4);
    const std::uint32_t m = dice_.chance(50) ? dice_.between(1, 20) : dice_.between(1, 4);
    const std::uint32_t n = dice_.below(12);
    switch (dice_.below(9)) {
      case 0:  // t / 2 * 18 + (t & 1) * 8
        apply(index, {Text{" shr.u32 %x5, %x4, ", k, ";\n and.b32 %x4, %x4, ", (1u << k) - 1,
                           ";\n mul.lo.u32 %x4, "
                           "%x4, ",
                           n, ";\n mad.lo.u32 %x4, %x5, ", m, ", %x4;"},
                      [=](std::uint32_t v) { return (v >> k) * m + (v & ((1u << k) - 1)) * n; }});
        break;
      case 1:
        apply(index, {Text{" mul.lo.s32 %x4, %x4, ", m, ";"}, [=](std::uint32_t v) { return v * m; }});
        break;
      case 2:
        apply(index, {Text{" div.s32 %x5, %x4, ", m + 1, ";\n rem.s32 %x4, %x4, ", m + 1,
                           ";\n shl.b32 %x5, %x5, ", k, ";\n add.s32 %x4, %x4, %x5;"},
                      [=](std::uint32_t v) { return v / (m + 1) * (1u << k) + v % (m + 1); }});
        break;
      case 3:
        apply(index, {Text{" xor.b32 %x4, %x4, ", m, ";"}, [=](std::uint32_t v) { return v ^ m; }});
        break;
      case 4:
        apply(index, {Text{" sub.u32 %x4, 1023, %x4;\n and.b32 %x4, %x4, 1023;"},
                      [=](std::uint32_t v) { return (1023 - v) & 1023; }});
        break;
      case 5:
        apply(index, {Text{" shr.u32 %x4, %x4, ", k, ";"}, [=](std::uint32_t v) { return v >> k; }});
        break;
      case 6: {
        const std::uint32_t turn = dice_.below(threads_ + 1);
        apply(index, {Text{" setp.lt.u32 %z1, %x4, ", turn, ";\n add.u32 %x5, %x4, ", n,
                           ";\n selp.b32 %x4, %x5, ", m, ", %z1;"},
                      [=](std::uint32_t v) { return v < turn ? v + n : m; }});
        break;
      }
      case 7: {  // wraps around at 32 bits, and comes back
        const std::uint32_t big = static_cast<std::uint32_t>(dice_.bits() >> 20) | 1;
        apply(index, {Text{" mul.lo.u32 %x4, %x4, ", big, ";\n bfe.u32 %x4, %x4, ", 20 + k, ", 7;"},
                      [=](std::uint32_t v) { return v * big >> (20 + k) & 127; }});
        break;
      }
      default:
        apply(index, {Text{" add.s32 %x4, %x4, -", n, ";\n and.b32 %x4, %x4, 127;"},
                      [=](std::uint32_t v) { return (v - n) & 127; }});
        break;
    }
  };
  for (std::uint32_t i = dice_.below(3); i > 0; --i) step();
  if (dice_.chance(35)) {
    std::vector<std::uint32_t> second;
    basis("%x7", second);
    const std::uint32_t m = dice_.between(1, 33);
    index.lines.push_back(Text{" mad.lo.u32 %x4, %x7, ", m, ", %x4;"});
    for (std::uint32_t t = 0; t < threads_; ++t) index.values[t] += second[t] * m;
  }
  if (index.largest() >= limit) {
    std::uint32_t mask = 0;
    while (mask * 2 + 1 < limit) mask = mask * 2 + 1;
    apply(index, {Text{" and.b32 %x4, %x4, ", mask, ";"}, [=](std::uint32_t v) { return v & mask; }});
  }
  return index;
}

LaneIndex Builder::one_to_one() {
  LaneIndex index;
  index.reg = "%x4";
  index.values.resize(threads_);
  for (std::uint32_t t = 0; t < threads_; ++t) index.values[t] = t;
  index.lines.emplace_back(" mov.u32 %x4, %t;");
  switch (dice_.below(4)) {
    case 0:
      apply(index, {Text{" sub.u32 %x4, ", threads_ - 1, ", %x4;"},
                    [=, this](std::uint32_t v) { return threads_ - 1 - v; }});
      break;
    case 1:
      if (threads_ % 32 == 0) {
        const std::uint32_t flip = dice_.below(32);
        apply(index, {Text{" xor.b32 %x4, %x4, ", flip, ";"}, [=](std::uint32_t v) { return v ^ flip; }});
      }
      break;
    case 2: {
      const std::uint32_t turn = dice_.below(threads_);
      apply(index, {Text{" add.u32 %x4, %x4, ", turn, ";\n setp.ge.u32 %z1, %x4, ", threads_,
                         ";\n @%z1 sub.u32 %x4, %x4, ", threads_, ";"},
                    [=, this](std::uint32_t v) { return (v + turn) % threads_; }});
      break;
    }
    default:
      break;
  }
  return index;
}

std::uint32_t Builder::table_index(Statement& out, const Context& context, bool same_for_all) {
  std::uint32_t largest = 0;
  if (same_for_all) {
    largest = dice_.below(40);
    out.add(Text{" mov.u32 %x6, ", largest, ";"});
  } else {
    const LaneIndex lane = lane_index(dice_.chance(80) ? 600 : 5000);
    for (const std::string& line : lane.lines) out.add(line);
    out.add(" mov.b32 %x6, %x4;");
    largest = lane.largest();
  }
  for (std::uint32_t i = dice_.below(3); i > 0 && !context.terms.empty(); --i) {
    const UniformTerm& term = context.terms[dice_.below(static_cast<std::uint32_t>(context.terms.size()))];
    const std::uint32_t stride = dice_.chance(50) ? dice_.between(1, 64) : threads_;
    out.add(Text{" mad.lo.s32 %x6, ", term.reg, ", ", stride, ", %x6;"});
    largest += term.largest * stride;
  }
  return largest;
}

void Builder::data_index(Statement& out, std::uint32_t count) {
  const std::string from = dice_.chance(80) ? reg(kR) : reg(kW);
  switch (dice_.below(4)) {
    case 0: {
      std::uint32_t mask = 0;
      while (mask * 2 + 1 < count) mask = mask * 2 + 1;
      out.add(Text{" and.b32 %x6, ", from, ", ", mask, ";"});
      break;
    }
    case 1:
      out.add(Text{" mul.hi.u32 %x6, ", from, ", ", count, ";"});
      break;
    case 2:
      out.add(Text{" shr.u32 %x6, ", from, ", ", dice_.below(30), ";\n min.u32 %x6, %x6, ", count - 1, ";"});
      break;
    default:
      out.add(Text{" rem.u32 %x6, ", from, ", ", count, ";"});
      break;
  }
}

void Builder::global_address(Statement& out, std::size_t buffer, const std::string& index, std::uint32_t unit,
                             const std::string& to) {
  out.add(Text{" ld.param.u64 %y6, [b", buffer, "];"});
  if (dice_.chance(60)) out.add(" cvta.to.global.u64 %y6, %y6;");
  std::uint32_t shift = 0;
  while (1u << shift < unit) ++shift;
  switch (dice_.below(6)) {
    case 0:
      out.add(Text{" mul.wide.u32 %y7, ", index, ", ", unit, ";\n add.s64 ", to, ", %y6, %y7;"});
      break;
    case 1:
      out.add(Text{" mad.wide.s32 ", to, ", ", index, ", ", unit, ", %y6;"});
      break;
    case 2:
      out.add(Text{" cvt.u64.u32 %y7, ", index, ";\n shl.b64 %y7, %y7, ", shift, ";\n add.s64 ", to,
                   ", %y7, %y6;"});
      break;
    case 3:
      out.add(Text{" shl.b32 %x9, ", index, ", ", shift, ";\n cvt.u64.u32 %y7, %x9;\n add.u64 ", to,
                   ", %y6, %y7;"});
      break;
    case 4:
      out.add(Text{" mul.lo.s32 %x9, ", index, ", ", unit,
                   ";\n cvt.s64.s32 %y7, %x9;\n sub.s64 %y7, %y6, %y7;\n "
                   "sub.s64 %y7, %y6, %y7;\n add.s64 ",
                   to, ", %y6, %y7;"});
      break;
    default:
      out.add(Text{" cvt.s64.s32 %y7, ", index, ";\n mad.lo.s64 ", to, ", %y7, ", unit, ", %y6;"});
      break;
  }
}

}  // namespace vgpu::testing::fuzz
