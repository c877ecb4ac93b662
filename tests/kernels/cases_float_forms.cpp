// Floating-point instructions with every rounding, flushing, saturation and conversion. Compiled with
// -frounding-math.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <limits>

#include "tests/kernels/forms.h"

namespace vgpu::testing::kernels {
namespace {

// Exact results, yet all NaNs equal: the smallest tolerance there is.
constexpr double kExactButNan = 1e-300;

struct Mode {
  const char* name;
  int host;
};
const Mode kModes[] = {{"rn", FE_TONEAREST}, {"rz", FE_TOWARDZERO}, {"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}};

template <typename F>
auto with_rounding(int mode, F f) {
  const int before = std::fegetround();
  std::fesetround(mode);
  const volatile auto result = f();
  std::fesetround(before);
  return +result;
}

float flush(float v) {
  return std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0F, v) : v;
}

template <typename T>
T saturate(T v) {
  return std::isnan(v) || v <= 0 ? T{0} : std::min(v, T{1});
}

void add_arithmetic(std::vector<Case>& cases) {
  for (const Mode& mode : kModes) {
    const std::string name = mode.name;
    const int host = mode.host;
    const auto f = [&](const std::string& op, const std::string& inputs, const std::string& body,
                       auto compute) {
      add_form(cases, {op + "_" + name + "_f32", inputs, "f32", body,
                       [=](const Slots& s) {
                         volatile float a = f32(s[0]);
                         volatile float b = f32(s[1]);
                         volatile float c = f32(s[2]);
                         return bits(with_rounding(host, [&] {
                           return static_cast<float>(compute(float{a}, float{b}, float{c}));
                         }));
                       },
                       kExactButNan});
    };
    f("add", "f32 f32", "add." + name + ".f32 %d, %a, %b;", [](float a, float b, float) {
      volatile float x = a;
      return x + b;
    });
    f("sub", "f32 f32", "sub." + name + ".f32 %d, %a, %b;", [](float a, float b, float) {
      volatile float x = a;
      return x - b;
    });
    f("mul", "f32 f32", "mul." + name + ".f32 %d, %a, %b;", [](float a, float b, float) {
      volatile float x = a;
      return x * b;
    });
    f("div", "f32 f32", "div." + name + ".f32 %d, %a, %b;", [](float a, float b, float) {
      volatile float x = a;
      return x / b;
    });
    f("fma", "f32 f32 f32", "fma." + name + ".f32 %d, %a, %b, %c;",
      [](float a, float b, float c) { return std::fma(a, b, c); });
    f("rcp", "f32", "rcp." + name + ".f32 %d, %a;", [](float a, float, float) {
      volatile float one = 1;
      return one / a;
    });
    f("sqrt", "f32", "sqrt." + name + ".f32 %d, %a;", [](float a, float, float) {
      volatile float x = a;
      return std::sqrt(float{x});
    });
    const auto d = [&](const std::string& op, const std::string& inputs, const std::string& body,
                       auto compute) {
      add_form(cases, {op + "_" + name + "_f64", inputs, "f64", body,
                       [=](const Slots& s) {
                         volatile double a = f64(s[0]);
                         volatile double b = f64(s[1]);
                         volatile double c = f64(s[2]);
                         return bits(with_rounding(host, [&] {
                           return static_cast<double>(compute(double{a}, double{b}, double{c}));
                         }));
                       },
                       kExactButNan});
    };
    d("add", "f64 f64", "add." + name + ".f64 %d, %a, %b;", [](double a, double b, double) {
      volatile double x = a;
      return x + b;
    });
    d("mul", "f64 f64", "mul." + name + ".f64 %d, %a, %b;", [](double a, double b, double) {
      volatile double x = a;
      return x * b;
    });
    d("div", "f64 f64", "div." + name + ".f64 %d, %a, %b;", [](double a, double b, double) {
      volatile double x = a;
      return x / b;
    });
    d("fma", "f64 f64 f64", "fma." + name + ".f64 %d, %a, %b, %c;",
      [](double a, double b, double c) { return std::fma(a, b, c); });
    d("sqrt", "f64", "sqrt." + name + ".f64 %d, %a;", [](double a, double, double) {
      volatile double x = a;
      return std::sqrt(double{x});
    });
  }
}

void add_flushing(std::vector<Case>& cases) {
  const auto f = [&](const std::string& name, const std::string& inputs, const std::string& body,
                     auto compute) {
    add_form(cases, {name, inputs, "f32", body,
                     [=](const Slots& s) {
                       return bits(flush(compute(flush(f32(s[0])), flush(f32(s[1])), flush(f32(s[2])))));
                     },
                     kExactButNan});
  };
  f("add_ftz", "f32 f32", "add.ftz.f32 %d, %a, %b;", [](float a, float b, float) { return a + b; });
  f("sub_ftz", "f32 f32", "sub.ftz.f32 %d, %a, %b;", [](float a, float b, float) { return a - b; });
  f("mul_ftz", "f32 f32", "mul.ftz.f32 %d, %a, %b;", [](float a, float b, float) { return a * b; });
  f("fma_ftz", "f32 f32 f32", "fma.rn.ftz.f32 %d, %a, %b, %c;",
    [](float a, float b, float c) { return std::fma(a, b, c); });
  f("abs_ftz", "f32", "abs.ftz.f32 %d, %a;", [](float a, float, float) { return std::fabs(a); });
  f("neg_ftz", "f32", "neg.ftz.f32 %d, %a;", [](float a, float, float) { return -a; });
  f("rcp_rn_ftz", "f32", "rcp.rn.ftz.f32 %d, %a;", [](float a, float, float) { return 1.0F / a; });
  f("cvt_ftz_f32_f32", "f32", "cvt.ftz.f32.f32 %d, %a;", [](float a, float, float) { return a; });
  f("add_rz_ftz", "f32 f32", "add.rz.ftz.f32 %d, %a, %b;", [](float a, float b, float) {
    volatile float x = a;
    return with_rounding(FE_TOWARDZERO, [&] { return x + b; });
  });
  const auto plain = [&](const std::string& name, const std::string& inputs, const std::string& body,
                         auto compute) {
    add_form(cases,
             {name, inputs, "f32", body,
              [=](const Slots& s) { return bits(compute(f32(s[0]), f32(s[1]), f32(s[2]))); }, kExactButNan});
  };
  plain("add_sat_f32", "f32 f32", "add.sat.f32 %d, %a, %b;",
        [](float a, float b, float) { return saturate(a + b); });
  plain("fma_sat_f32", "f32 f32 f32", "fma.rn.sat.f32 %d, %a, %b, %c;",
        [](float a, float b, float c) { return saturate(std::fma(a, b, c)); });
  plain("cvt_sat_f32_f32", "f32", "cvt.sat.f32.f32 %d, %a;",
        [](float a, float, float) { return saturate(a); });
  plain("mad_f32", "f32 f32 f32", "mad.rn.f32 %d, %a, %b, %c;",
        [](float a, float b, float c) { return std::fma(a, b, c); });
  plain("selp_f32", "f32 f32 f32", "setp.gt.f32 %p0, %c, 0f00000000;\n selp.f32 %d, %a, %b, %p0;",
        [](float a, float b, float c) { return c > 0 ? a : b; });
  plain("slct_f32", "f32 f32 f32", "slct.f32.f32 %d, %a, %b, %c;",
        [](float a, float b, float c) { return c >= 0 ? a : b; });
  add_form(cases, {"copysign_f32", "f32 f32", "f32", "copysign.f32 %d, %a, %b;",
                   [](const Slots& s) { return (s[0] & 0x80000000) | (s[1] & 0x7FFFFFFF); }, kExactButNan});
}

void add_minimum_maximum(std::vector<Case>& cases) {
  // Signs of zeros are compared too, through the bits.
  const auto pick = [](float a, float b, bool minimum) {
    if (std::isnan(a)) return b;
    if (std::isnan(b)) return a;
    if (a == b) return std::signbit(a) == minimum ? a : b;
    return (a < b) == minimum ? a : b;
  };
  const auto without_nan = [](const Slots& s) { return std::isnan(f32(s[0])) && std::isnan(f32(s[1])); };
  for (const bool minimum : {true, false}) {
    const std::string name = minimum ? "min" : "max";
    // Two NaNs give a NaN; which one is left open, so its bits are masked.
    const std::string body =
        ".f32 %f0, %a, %b;\n setp.nan.f32 %p0, %f0, %f0;\n mov.b32 %r0, %f0;\n selp.b32 %d, 77, %r0, %p0;";
    add_form(cases, {name + "_f32", "f32 f32", "b32", name + body, [=](const Slots& s) {
                       return without_nan(s) ? 77 : bits(pick(f32(s[0]), f32(s[1]), minimum));
                     }});
    add_form(cases, {name + "_ftz_f32", "f32 f32", "b32", name + ".ftz" + body, [=](const Slots& s) {
                       return without_nan(s) ? 77 : bits(pick(flush(f32(s[0])), flush(f32(s[1])), minimum));
                     }});
    add_form(cases,
             {name + "_f64", "f64 f64", "f64", name + ".f64 %d, %a, %b;",
              [=](const Slots& s) {
                return bits(minimum ? std::fmin(f64(s[0]), f64(s[1])) : std::fmax(f64(s[0]), f64(s[1])));
              },
              kExactButNan});
  }
}

void add_comparisons(std::vector<Case>& cases) {
  struct Comparison {
    const char* name;
    bool (*holds)(double, double);
  };
  const Comparison comparisons[] = {
      {"eq", [](double a, double b) { return a == b; }},
      {"ne", [](double a, double b) { return a < b || a > b; }},
      {"lt", [](double a, double b) { return a < b; }},
      {"le", [](double a, double b) { return a <= b; }},
      {"gt", [](double a, double b) { return a > b; }},
      {"ge", [](double a, double b) { return a >= b; }},
      {"equ", [](double a, double b) { return !(a < b || a > b); }},
      {"neu", [](double a, double b) { return !(a == b); }},
      {"ltu", [](double a, double b) { return !(a >= b); }},
      {"leu", [](double a, double b) { return !(a > b); }},
      {"gtu", [](double a, double b) { return !(a <= b); }},
      {"geu", [](double a, double b) { return !(a < b); }},
      {"num", [](double a, double b) { return !std::isnan(a) && !std::isnan(b); }},
      {"nan", [](double a, double b) { return std::isnan(a) || std::isnan(b); }},
  };
  for (const Comparison& c : comparisons) {
    const std::string name = c.name;
    const std::string select = " %p0, %a, %b;\n selp.b32 %d, 1, 0, %p0;";
    add_form(cases, {"setp_" + name + "_f32", "f32 f32", "u32", "setp." + name + ".f32" + select,
                     [c](const Slots& s) {
                       return bits(c.holds(static_cast<double>(f32(s[0])), static_cast<double>(f32(s[1]))));
                     }});
    add_form(cases, {"setp_" + name + "_ftz_f32", "f32 f32", "u32", "setp." + name + ".ftz.f32" + select,
                     [c](const Slots& s) {
                       return bits(c.holds(static_cast<double>(flush(f32(s[0]))),
                                           static_cast<double>(flush(f32(s[1])))));
                     }});
    add_form(cases, {"setp_" + name + "_f64", "f64 f64", "u32", "setp." + name + ".f64" + select,
                     [c](const Slots& s) { return bits(c.holds(f64(s[0]), f64(s[1]))); }});
  }
  add_form(cases, {"set_f32_f32", "f32 f32", "f32", "set.lt.f32.f32 %d, %a, %b;",
                   [](const Slots& s) { return bits(f32(s[0]) < f32(s[1]) ? 1.0F : 0.0F); }});
  struct Property {
    const char* name;
    bool (*holds)(float);
  };
  const Property properties[] = {{"finite", [](float v) { return std::isfinite(v); }},
                                 {"infinite", [](float v) { return std::isinf(v); }},
                                 {"number", [](float v) { return !std::isnan(v); }},
                                 {"notanumber", [](float v) { return std::isnan(v); }},
                                 {"normal", [](float v) { return std::isnormal(v); }},
                                 {"subnormal", [](float v) { return std::fpclassify(v) == FP_SUBNORMAL; }}};
  for (const Property& p : properties) {
    add_form(cases, {std::string("testp_") + p.name, "f32", "u32",
                     std::string("testp.") + p.name + ".f32 %p0, %a;\n selp.b32 %d, 1, 0, %p0;",
                     [p](const Slots& s) { return bits(p.holds(f32(s[0]))); }});
  }
}

double to_integral(double v, int mode) {
  volatile double x = v;
  return with_rounding(mode, [&] { return std::nearbyint(double{x}); });
}

// Clamped to [low, high]; NaN gives `nan`.
std::uint64_t to_integer(double v, double low, double high, std::uint64_t at_low, std::uint64_t at_high,
                         std::uint64_t nan) {
  if (std::isnan(v)) return nan;
  if (v <= low) return at_low;
  if (v >= high) return at_high;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(v));
}

void add_conversions(std::vector<Case>& cases) {
  const Mode integral[] = {
      {"rni", FE_TONEAREST}, {"rzi", FE_TOWARDZERO}, {"rmi", FE_DOWNWARD}, {"rpi", FE_UPWARD}};
  for (const Mode& mode : integral) {
    const std::string name = mode.name;
    const int host = mode.host;
    add_form(cases,
             {"cvt_" + name + "_f32_f32", "f32", "b32",
              "cvt." + name +
                  ".f32.f32 %f0, %a;\n setp.nan.f32 %p0, %f0, %f0;\n mov.b32 %r0, %f0;\n selp.b32 %d, 77, "
                  "%r0, %p0;",
              [=](const Slots& s) {
                return std::isnan(f32(s[0]))
                           ? 77
                           : bits(static_cast<float>(to_integral(static_cast<double>(f32(s[0])), host)));
              }});
    add_form(cases, {"cvt_" + name + "_s32_f32", "f32", "s32", "cvt." + name + ".s32.f32 %d, %a;",
                     [=](const Slots& s) {
                       return to_integer(to_integral(static_cast<double>(f32(s[0])), host), -0x1p31, 0x1p31,
                                         0x80000000, 0x7FFFFFFF, 0) &
                              0xFFFFFFFF;
                     }});
    add_form(
        cases,
        {"cvt_" + name + "_u32_f32", "f32", "u32", "cvt." + name + ".u32.f32 %d, %a;", [=](const Slots& s) {
           return to_integer(to_integral(static_cast<double>(f32(s[0])), host), 0, 0x1p32, 0, 0xFFFFFFFF, 0);
         }});
    add_form(cases, {"cvt_" + name + "_s64_f64", "f64", "s64", "cvt." + name + ".s64.f64 %d, %a;",
                     [=](const Slots& s) {
                       return to_integer(to_integral(f64(s[0]), host), -0x1p63, 0x1p63, 0x8000000000000000,
                                         0x7FFFFFFFFFFFFFFF, 0x8000000000000000);
                     }});
    add_form(cases, {"cvt_" + name + "_s16_f32", "f32", "s32",
                     "cvt." + name + ".s16.f32 %h0, %a;\n cvt.s32.s16 %d, %h0;", [=](const Slots& s) {
                       return to_integer(to_integral(static_cast<double>(f32(s[0])), host), -32768, 32767,
                                         0xFFFF8000, 0x7FFF, 0) &
                              0xFFFFFFFF;
                     }});
  }
  add_form(cases, {"cvt_rzi_ftz_s32_f32", "f32", "s32", "cvt.rzi.ftz.s32.f32 %d, %a;", [](const Slots& s) {
                     return to_integer(std::trunc(static_cast<double>(f32(s[0]))), -0x1p31, 0x1p31,
                                       0x80000000, 0x7FFFFFFF, 0) &
                            0xFFFFFFFF;
                   }});
  add_form(cases,
           {"cvt_rzi_s32_f16", "f16", "s32", "cvt.rzi.s32.f16 %d, %a;", [](const Slots& s) {
              const auto exponent = static_cast<int>(s[0] >> 10 & 31);
              if (exponent == 31)
                return (s[0] & 1023) != 0 ? bits(0) : bits((s[0] & 0x8000) != 0 ? INT32_MIN : INT32_MAX);
              const double magnitude =
                  exponent == 0
                      ? 0
                      : std::trunc(static_cast<double>(1024 + (s[0] & 1023)) * std::pow(2.0, exponent - 25));
              return bits(static_cast<std::int32_t>((s[0] & 0x8000) != 0 ? -magnitude : magnitude));
            }});
  for (const Mode& mode : kModes) {
    const std::string name = mode.name;
    const int host = mode.host;
    add_form(cases, {"cvt_" + name + "_f32_s32", "s32", "f32", "cvt." + name + ".f32.s32 %d, %a;",
                     [=](const Slots& s) {
                       volatile std::int32_t v = s32(s[0]);
                       return bits(with_rounding(host, [&] { return static_cast<float>(v); }));
                     }});
    add_form(cases, {"cvt_" + name + "_f32_u64", "u64", "f32", "cvt." + name + ".f32.u64 %d, %a;",
                     [=](const Slots& s) {
                       volatile std::uint64_t v = s[0];
                       return bits(with_rounding(host, [&] { return static_cast<float>(v); }));
                     }});
    add_form(cases, {"cvt_" + name + "_f64_s64", "s64", "f64", "cvt." + name + ".f64.s64 %d, %a;",
                     [=](const Slots& s) {
                       volatile std::int64_t v = s64(s[0]);
                       return bits(with_rounding(host, [&] { return static_cast<double>(v); }));
                     }});
    add_form(cases, {"cvt_" + name + "_f32_f64", "f64", "f32", "cvt." + name + ".f32.f64 %d, %a;",
                     [=](const Slots& s) {
                       volatile double v = f64(s[0]);
                       return bits(with_rounding(host, [&] { return static_cast<float>(v); }));
                     },
                     kExactButNan});
  }
  add_form(cases, {"cvt_f64_f32", "f32", "f64", "cvt.f64.f32 %d, %a;",
                   [](const Slots& s) { return bits(static_cast<double>(f32(s[0]))); }, kExactButNan});
  // Every half round-trips.
  add_form(cases, {"cvt_f32_f16_and_back", "f16", "u32",
                   "cvt.f32.f16 %f0, %a;\n cvt.rn.f16.f32 %h0, %f0;\n cvt.u32.u16 %r0, %h0;\n and.b32 %r1, "
                   "%r0, 32767;\n setp.gt.u32 %p0, %r1, 31744;\n selp.b32 %d, 77, %r0, %p0;",
                   [](const Slots& s) { return (s[0] & 0x7FFF) > 0x7C00 ? 77 : s[0]; }});
  // Directed rounding to half: between 1 and the next half, 1 + 2^-10.
  add_form(cases, {"cvt_directed_f16_f32", "f32", "u32",
                   "and.b32 %r0, 0, 0;\n mov.b32 %r0, %a;\n and.b32 %r0, %r0, 8191;\n or.b32 %r0, %r0, "
                   "1065353216;\n mov.b32 %f0, %r0;\n"
                   "cvt.rz.f16.f32 %h0, %f0;\n cvt.rp.f16.f32 %h1, %f0;\n neg.f32 %f0, %f0;\n cvt.rm.f16.f32 "
                   "%h2, %f0;\n cvt.u32.u16 %r1, %h0;\n cvt.u32.u16 %r2, %h1;\n cvt.u32.u16 %r3, %h2;\n"
                   "mad.lo.s32 %d, %r2, 65536, %r1;\n xor.b32 %d, %d, %r3;",
                   [](const Slots& s) {
                     const std::uint32_t up = (s[0] & 8191) != 0 ? 0x3C01 : 0x3C00;
                     return bits((up << 16 | 0x3C00U) ^ (0x8000U | up));
                   }});
}

void add_half(std::vector<Case>& cases) {
  // Through f32, in which sums and products of halves are exact enough to be rounded once more.
  const auto form = [&](const std::string& name, const std::string& op) {
    add_form(cases, {name, "f16 f16", "u32",
                     op + ".f16 %h0, %a, %b;\n cvt.f32.f16 %f0, %a;\n cvt.f32.f16 %f1, %b;\n " + op +
                         ".rn.f32 %f2, %f0, %f1;\n cvt.rn.f16.f32 %h1, %f2;\n"
                         "cvt.f32.f16 %f0, %h0;\n cvt.f32.f16 %f1, %h1;\n setp.equ.f32 %p0, %f0, %f1;\n "
                         "selp.b32 %d, 1, 0, %p0;",
                     [](const Slots&) { return std::uint64_t{1}; }});
  };
  form("add_f16", "add");
  form("sub_f16", "sub");
  form("mul_f16", "mul");
  add_form(cases,
           {"neg_abs_f16", "f16", "u32", "neg.f16 %h0, %a;\n abs.f16 %h1, %a;\n mov.b32 %d, {%h0, %h1};",
            [](const Slots& s) { return (s[0] ^ 0x8000) | (s[0] & 0x7FFF) << 16; }});
}

void add_approximations(std::vector<Case>& cases) {
  // Values in the range where the hardware's error is relative; edge values have their own rules.
  const std::string range =
      "and.b32 %r0, %r0, 8388607;\n or.b32 %r0, %r0, 1065353216;\n mov.b32 %f0, %r0;\n";  // [1, 2)
  const auto form = [&](const std::string& op, auto compute) {
    add_form(cases,
             {op + "_approx", "f32", "f32", "mov.b32 %r0, %a;\n" + range + op + ".approx.ftz.f32 %d, %f0;",
              [=](const Slots& s) {
                return bits(static_cast<float>(compute(
                    static_cast<double>(std::bit_cast<float>((u32(s[0]) & 0x7FFFFFU) | 0x3F800000U)))));
              },
              2e-6});
  };
  form("sin", [](double v) { return std::sin(v); });
  form("cos", [](double v) { return std::cos(v); });
  form("ex2", [](double v) { return std::exp2(v); });
  form("lg2", [](double v) { return std::log2(v); });
  form("rcp", [](double v) { return 1 / v; });
  form("sqrt", [](double v) { return std::sqrt(v); });
  form("rsqrt", [](double v) { return 1 / std::sqrt(v); });
  add_form(cases, {"ex2_approx_edges", "f32", "f32", "ex2.approx.ftz.f32 %d, %a;",
                   [](const Slots& s) {
                     return bits(flush(static_cast<float>(std::exp2(static_cast<double>(flush(f32(s[0])))))));
                   },
                   2e-6});
  add_form(cases, {"lg2_approx_edges", "f32", "f32", "lg2.approx.ftz.f32 %d, %a;",
                   [](const Slots& s) {
                     return bits(static_cast<float>(std::log2(static_cast<double>(flush(f32(s[0]))))));
                   },
                   2e-6});
  add_form(cases, {"rcp_approx_edges", "f32", "f32", "rcp.approx.ftz.f32 %d, %a;",
                   [](const Slots& s) { return bits(flush(1 / flush(f32(s[0])))); }, 2e-6});
}

}  // namespace

void add_float_form_cases(std::vector<Case>& cases) {
  add_arithmetic(cases);
  add_flushing(cases);
  add_minimum_maximum(cases);
  add_comparisons(cases);
  add_conversions(cases);
  add_half(cases);
  add_approximations(cases);
}

}  // namespace vgpu::testing::kernels
