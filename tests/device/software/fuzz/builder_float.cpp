// Floating point: what IEEE and PTX define to the bit. A NaN has no defined payload or sign, so that bits of
// floats reach memory and integers only with every NaN made the same.
#include "tests/device/software/fuzz/builder.h"

namespace vgpu::testing::fuzz {

std::string Builder::ftz() {
  return dice_.below(100) < flush_ ? ".ftz" : "";
}

void Builder::canonical32(Statement& out, const std::string& from, const std::string& to) {
  out.add(Text{" setp.nan.f32 %z7, ", from, ", ", from, ";\n mov.b32 ", to, ", ", from, ";\n selp.b32 ", to,
               ", 0x7FFFFFFF, ", to, ", %z7;"});
}

void Builder::canonical64(Statement& out, const std::string& from, const std::string& to) {
  out.add(Text{" setp.nan.f64 %z7, ", from, ", ", from, ";\n mov.b64 ", to, ", ", from, ";\n selp.b64 ", to,
               ", 0x7FF8000000000000, ", to, ", %z7;"});
}

void Builder::canonical16(Statement& out, const std::string& from, const std::string& to) {
  out.add(Text{" setp.nan.f16 %z7, ", from, ", ", from, ";\n selp.b16 ", to, ", 0x7FFF, ", from, ", %z7;"});
}

std::string Builder::float32() {
  const std::string to = reg(kF);
  const auto s = [&] {
    if (dice_.chance(85)) return reg(kF);
    return dice_.any({"0f3F800000", "0f00000000", "0f80000000", "0fC0200000", "0f3DCCCCCD", "0f7F800000",
                      "0f4B000001", "0f00000001"});
  };
  const std::string sat = dice_.chance(12) ? ".sat" : "";
  switch (dice_.below(12)) {
    case 0:
    case 1:
      return Text{
          dice_.any({"add", "sub", "mul"}), rounding(), ftz(), sat, ".f32 ", to, ", ", s(), ", ", s()};
    case 2:
    case 3:
      return Text{"fma", rounding(), ftz(), sat, ".f32 ", to, ", ", s(), ", ", s(), ", ", s()};
    case 4:
      return Text{"div", rounding(), ftz(), ".f32 ", to, ", ", s(), ", ", s()};
    case 5:
      return Text{dice_.any({"rcp", "sqrt"}), rounding(), ftz(), ".f32 ", to, ", ", s()};
    case 6:
      return Text{dice_.any({"min", "max"}), ftz(), ".f32 ", to, ", ", s(), ", ", s()};
    case 7:
      return Text{dice_.any({"abs", "neg"}), ftz(), ".f32 ", to, ", ", s()};
    case 8:
      return Text{"selp.f32 ", to, ", ", s(), ", ", s(), ", ", reg(kP)};
    case 9:
      return Text{"slct", ftz(), ".f32.f32 ", to, ", ", s(), ", ", s(), ", ", s()};
    case 10:
      return Text{"cvt", dice_.any({".rni", ".rzi", ".rmi", ".rpi"}), ftz(), sat, ".f32.f32 ", to, ", ", s()};
    default:
      return Text{"mov.f32 ", to, ", ", s()};
  }
}

std::string Builder::float64() {
  const std::string to = reg(kD);
  const auto s = [&] {
    if (dice_.chance(85)) return reg(kD);
    return dice_.any(
        {"0d3FF0000000000000", "0d0000000000000000", "0dBFB999999999999A", "0d4004000000000000"});
  };
  switch (dice_.below(7)) {
    case 0:
    case 1:
      return Text{dice_.any({"add", "sub", "mul", "div"}), rounding(), ".f64 ", to, ", ", s(), ", ", s()};
    case 2:
      return Text{"fma", rounding(), ".f64 ", to, ", ", s(), ", ", s(), ", ", s()};
    case 3:
      return Text{dice_.any({"rcp", "sqrt"}), rounding(), ".f64 ", to, ", ", s()};
    case 4:
      return Text{dice_.any({"min", "max"}), ".f64 ", to, ", ", s(), ", ", s()};
    case 5:
      return Text{dice_.any({"abs", "neg"}), ".f64 ", to, ", ", s()};
    default:
      return Text{"selp.f64 ", to, ", ", s(), ", ", s(), ", ", reg(kP)};
  }
}

std::string Builder::half() {
  const bool pair = dice_.chance(50);
  const Pool pool = pair ? kV : kG;
  const std::string type = pair ? ".f16x2 " : ".f16 ";
  const std::string to = reg(pool);
  const std::string flush = dice_.chance(20) ? ".ftz" : "";
  const std::string sat = dice_.chance(15) ? ".sat" : "";
  const auto s = [&] { return reg(pool); };
  switch (dice_.below(5)) {
    case 0:
      return Text{"fma.rn", flush, sat, type, to, ", ", s(), ", ", s(), ", ", s()};
    case 1:
      return Text{dice_.any({"abs", "neg"}), type, to, ", ", s()};
    case 2:
      return Text{
          "setp", dice_.any({".lt", ".geu", ".eq", ".neu", ".nan"}), ".f16 ", reg(kP), ", ", reg(kG), ", ",
          reg(kG)};
    default:
      return Text{dice_.any({"add", "sub", "mul"}),
                  dice_.any({"", ".rn"}),
                  flush,
                  sat,
                  type,
                  to,
                  ", ",
                  s(),
                  ", ",
                  s()};
  }
}

std::string Builder::float_conversion() {
  const std::string integer = dice_.any({"u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"});
  const Pool integer_pool = integer.ends_with("64")   ? kQ
                            : integer.ends_with("32") ? kR
                            : dice_.chance(50)        ? kH
                                                      : kR;
  const std::string sat = dice_.chance(15) ? ".sat" : "";
  const std::string whole = dice_.any({".rni", ".rzi", ".rmi", ".rpi"});
  switch (dice_.below(9)) {
    case 0:
      return Text{"cvt", rounding(), sat, ".f32.", integer, " ", reg(kF), ", ", reg(integer_pool)};
    case 1:
      return Text{"cvt", rounding(), ".f64.", integer, " ", reg(kD), ", ", reg(integer_pool)};
    case 2:
      return Text{"cvt.rn.f16.", integer, " ", reg(kG), ", ", reg(integer_pool)};
    case 3:
      return Text{"cvt", whole, ftz(), sat, ".", integer, ".f32 ", reg(integer_pool), ", ", reg(kF)};
    case 4:
      return Text{"cvt", whole, sat, ".", integer, ".f64 ", reg(integer_pool), ", ", reg(kD)};
    case 5:
      return Text{"cvt", whole, ".", integer, ".f16 ", reg(integer_pool), ", ", reg(kG)};
    case 6:
      return dice_.chance(50) ? Text{"cvt.f32.f16 ", reg(kF), ", ", reg(kG)}
                              : Text{"cvt", rounding(), ".f16.f32 ", reg(kG), ", ", reg(kF)};
    case 7:
      return dice_.chance(50) ? Text{"cvt", ftz(), ".f64.f32 ", reg(kD), ", ", reg(kF)}
                              : Text{"cvt", rounding(), ftz(), sat, ".f32.f64 ", reg(kF), ", ", reg(kD)};
    default:
      return Text{"cvt", whole, ".f64.f64 ", reg(kD), ", ", reg(kD)};
  }
}

std::string Builder::float_comparison() {
  const std::string compare = dice_.any({".eq", ".ne", ".lt", ".le", ".gt", ".ge", ".equ", ".neu", ".ltu",
                                         ".leu", ".gtu", ".geu", ".num", ".nan"});
  const std::string test = dice_.any({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  switch (dice_.below(6)) {
    case 0:
      return Text{"setp", compare, ".f64 ", reg(kP), ", ", reg(kD), ", ", reg(kD)};
    case 1:
      return Text{"set",   compare, ftz(),  dice_.any({".u32", ".s32"}), ".f32 ", reg(kR), ", ",
                  reg(kF), ", ",    reg(kF)};
    case 2:
      return Text{
          "testp.", test,
          dice_.chance(50) ? Text{".f32 ", reg(kP), ", ", reg(kF)} : Text{".f64 ", reg(kP), ", ", reg(kD)}};
    case 3:
      return Text{"set", compare, ftz(), ".f32.f32 ", reg(kF), ", ", reg(kF), ", ", reg(kF)};
    default:
      return Text{"setp", compare,
                  dice_.chance(20) ? Text{dice_.any({".and", ".or", ".xor"}), ftz(), ".f32 ", reg(kP), ", ",
                                          reg(kF), ", ", reg(kF), ", ", predicate()}
                                   : Text{ftz(), ".f32 ", reg(kP), ", ", reg(kF), ", ", reg(kF)}};
  }
}

// Floats to bits, and bits to floats.
Statement Builder::to_bits() {
  Statement out;
  switch (dice_.below(7)) {
    case 0:
      canonical32(out, reg(kF), "%x0");
      return out.add(Text{" mov.b32 ", reg(kR), ", %x0;"});
    case 1:
      canonical64(out, reg(kD), "%y0");
      return out.add(Text{" mov.b64 ", reg(kQ), ", %y0;"});
    case 2:
      canonical16(out, reg(kG), "%xh0");
      return out.add(Text{" mov.b16 ", reg(kH), ", %xh0;"});
    case 3:
      return Statement(Text{" mov.b32 ", reg(kF), ", ", reg(kR), ";"});
    case 4:
      return Statement(Text{" mov.b64 ", reg(kD), ", ", reg(kQ), ";"});
    case 5:
      return dice_.chance(50) ? Statement(Text{" mov.b32 ", reg(kV), ", {", reg(kG), ", ", reg(kG), "};"})
                              : Statement(Text{" mov.b32 {%xh0, ", reg(kG), "}, ", reg(kV), ";"});
    default:
      // The sign of a NaN is not defined: it is made one before it is copied.
      canonical32(out, reg(kF), "%x0");
      return out.add(Text{" mov.b32 %xf0, %x0;\n copysign.f32 ", reg(kF), ", %xf0, ", reg(kF), ";"});
  }
}

// Approximate instructions, within bounds that every implementation keeps: the kernel itself compares with
// what the result must be near to, and only that verdict is kept.
Statement Builder::approximate() {
  Statement out;
  out.add(Text{" and.b32 %x0, ", reg(kR), ", 0xFFFFF;\n add.u32 %x0, %x0, 1;\n cvt.rn.f32.u32 %xf0, %x0;"});
  const std::string flush = flush_ == 100 || dice_.chance(50) ? ".ftz" : "";
  const char* bound = "0f38000000";  // 2^-15
  switch (dice_.below(6)) {
    case 0:
      out.add(Text{" rcp.approx", flush, ".f32 %xf1, %xf0;\n fma.rn", flush,
                   ".f32 %xf2, %xf1, %xf0, 0fBF800000;"});
      break;
    case 1:
      out.add(Text{" rsqrt.approx", flush, ".f32 %xf1, %xf0;\n mul", flush, ".f32 %xf3, %xf1, %xf0;\n fma.rn",
                   flush, ".f32 %xf2, %xf1, %xf3, 0fBF800000;"});
      break;
    case 2:
      out.add(Text{" sqrt.approx", flush, ".f32 %xf1, %xf0;\n div.approx", flush,
                   ".f32 %xf3, %xf1, %xf0;\n fma.rn", flush, ".f32 %xf2, %xf1, %xf3, 0fBF800000;"});
      break;
    case 3:
      out.add(Text{" mul", flush, ".f32 %xf0, %xf0, 0f37200000;\n ex2.approx", flush,
                   ".f32 %xf1, %xf0;\n lg2.approx", flush, ".f32 %xf3, %xf1;\n sub", flush,
                   ".f32 %xf2, %xf3, %xf0;"});
      bound = "0f3A800000";  // 2^-10
      break;
    case 4:
      out.add(Text{" mul", flush, ".f32 %xf0, %xf0, 0f36400000;\n sin.approx", flush,
                   ".f32 %xf1, %xf0;\n cos.approx", flush, ".f32 %xf3, %xf0;\n mul", flush,
                   ".f32 %xf1, %xf1, %xf1;\n fma.rn", flush, ".f32 %xf1, %xf3, %xf3, %xf1;\n sub", flush,
                   ".f32 %xf2, %xf1, 0f3F800000;"});
      bound = "0f3A800000";
      break;
    default:
      out.add(Text{" div.full", flush, ".f32 %xf1, 0f40400000, %xf0;\n mul", flush,
                   ".f32 %xf3, %xf1, 0f3EAAAAAB;\n fma.rn", flush, ".f32 %xf2, %xf3, %xf0, 0fBF800000;"});
      break;
  }
  out.add(Text{" abs", flush, ".f32 %xf2, %xf2;\n setp.lt", flush, ".f32 %z0, %xf2, ", bound, ";"});
  return out.add(Text{" @!%z0 add.u32 ", reg(kR), ", %x0, 0x5EED;"});
}

Statement Builder::float_statement() {
  const std::uint32_t choice = dice_.below(100);
  const auto plain = [&](const std::string& text) { return Statement(Text{" ", guard(), text, ";"}); };
  if (choice < 40) return plain(float32());
  if (choice < 50) return plain(float64());
  if (choice < 62) return plain(half());
  if (choice < 78) return plain(float_conversion());
  if (choice < 88) return plain(float_comparison());
  if (choice < 95) return to_bits();
  return approximate();
}

}  // namespace vgpu::testing::fuzz
