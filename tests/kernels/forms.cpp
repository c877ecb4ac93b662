// See forms.h.
#include "tests/kernels/forms.h"

#include <sstream>

namespace vgpu::testing::kernels {
namespace {

const std::vector<std::uint64_t>& edges(const std::string& type) {
  static const std::vector<std::uint64_t> narrow = {0,    1,      2,      7,      0x7F,   0x80,
                                                    0xFF, 0x7FFF, 0x8000, 0xFFFF, 0xFFFE, 0x1234};
  static const std::vector<std::uint64_t> words = {
      0,          1,          2,          31,         32,         33,         0x7F,       0xFF80,
      0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0xFFFFFFFE, 0x12345678, 0x0F0F0F0F, 0xFF00FF00};
  static const std::vector<std::uint64_t> longs = {0,
                                                   1,
                                                   63,
                                                   64,
                                                   0xFFFFFFFF,
                                                   0x100000000,
                                                   0x7FFFFFFFFFFFFFFF,
                                                   0x8000000000000000,
                                                   0xFFFFFFFFFFFFFFFF,
                                                   0xFFFFFFFF00000000,
                                                   0x0123456789ABCDEF};
  static const std::vector<std::uint64_t> floats = {
      0,          0x80000000, 0x3F800000, 0xBF800000,
      0x3F000000, 0x40200000, 0xC0600000, 0x00000001,  // ± 0, 1, ½, 2½ …
      0x80000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF,
      0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000,  // limits, ∞, NaN
      0x4EFFFFFF, 0x4F000000, 0xCF000000, 0x4F800000,
      0x3EFFFFFF, 0x33800000, 0x42FE0000, 0x3DCCCCCD};
  static const std::vector<std::uint64_t> doubles = {0,
                                                     0x8000000000000000,
                                                     0x3FF0000000000000,
                                                     0xBFF8000000000000,
                                                     0x4004000000000000,
                                                     0x0000000000000001,
                                                     0x000FFFFFFFFFFFFF,
                                                     0x7FEFFFFFFFFFFFFF,
                                                     0x7FF0000000000000,
                                                     0xFFF0000000000000,
                                                     0x7FF8000000000000,
                                                     0x41E0000000000000,
                                                     0x43E0000000000000,
                                                     0x3FB999999999999A,
                                                     0x36A0000000000001,
                                                     0x47EFFFFFF0000000};
  static const std::vector<std::uint64_t> halves = {0,      0x8000, 0x3C00, 0xBC00, 0x3800, 0x4100,
                                                    0x0001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00,
                                                    0xFC00, 0x7E00, 0x2E66, 0x6400};
  if (type == "f32") return floats;
  if (type == "f64") return doubles;
  if (type == "f16") return halves;
  if (type.ends_with("16") || type.ends_with("8")) return narrow;
  return type.ends_with("64") ? longs : words;
}

std::uint64_t any_value(const std::string& type, Random& random) {
  const auto& list = edges(type);
  const std::uint64_t choice = random.bits() >> 8;
  if (choice % 3 == 0) return list[(choice / 3) % list.size()];
  if (type == "f32") return bits(random.real(-100, 100));
  if (type == "f64") return bits(static_cast<double>(random.real(-100, 100)) * 1.0000000000001);
  std::uint64_t value = random.bits();
  if (type == "f16") return value & 0x83FF ? (value & 0xBFFF) : value & 0xFFFF;
  if (type.ends_with("16")) return value & 0xFFFF;
  if (type.ends_with("8")) return value & 0xFF;
  if (!type.ends_with("64")) value &= 0xFFFF'FFFF;
  return choice % 2 == 0 ? value : value >> (choice % 31);
}

std::vector<Slots> rows_for(const std::vector<std::string>& types) {
  std::vector<Slots> rows;
  Random random(types.size() + 100);
  const auto& first = edges(types[0]);
  const auto& second = edges(types.size() > 1 ? types[1] : types[0]);
  for (const std::uint64_t a : first) {
    for (const std::uint64_t b : second) {
      rows.push_back({a, b, 0, 0});
      for (std::size_t i = 2; i < types.size(); ++i) rows.back()[i] = any_value(types[i], random);
      if (types.size() == 1) break;
    }
  }
  for (int k = 0; k < 200; ++k) {
    Slots row{};
    for (std::size_t i = 0; i < types.size(); ++i) row[i] = any_value(types[i], random);
    rows.push_back(row);
  }
  return rows;
}

// Registers hold f16 values as bits.
std::string register_type(const std::string& type) {
  if (type == "f16" || type.ends_with("8")) return "b16";
  return type;
}

std::string memory_type(const std::string& type) {
  return type == "f16" ? "b16" : type;
}

}  // namespace

std::string form_header() {
  return ".version 8.4\n.target sm_61\n.address_size 64\n\n";
}

void add_form(std::vector<Case>& cases, const Form& form) {
  std::vector<std::string> types;
  std::istringstream words(form.inputs);
  for (std::string type; words >> type;) types.push_back(type);
  const bool wide = form.output.ends_with("64");

  std::ostringstream ptx;
  ptx << form_header() << ".visible .entry form(.param .u64 in, .param .u64 out, .param .u32 n)\n{\n"
      << "\t.reg .pred %p<4>;\n\t.reg .b16 %h<4>;\n\t.reg .b32 %r<8>;\n\t.reg .b64 %q<4>;\n\t.reg .f32 "
         "%f<4>;\n"
      << "\t.reg .b32 %i, %n, %t;\n\t.reg .b64 %in, %out;\n\t.reg .pred %done;\n";
  for (std::size_t k = 0; k < types.size(); ++k) {
    ptx << "\t.reg ." << register_type(types[k]) << " %" << "abce"[k] << ";\n";
  }
  ptx << "\t.reg ." << form.output << " %d;\n"
      << "\tmov.u32 %t, %ctaid.x;\n\tmov.u32 %n, %ntid.x;\n\tmov.u32 %i, %tid.x;\n\tmad.lo.s32 %i, %t, %n, "
         "%i;\n"
      << "\tld.param.u32 %n, [n];\n\tsetp.ge.u32 %done, %i, %n;\n\t@%done bra $end;\n"
      << "\tld.param.u64 %in, [in];\n\tld.param.u64 %out, [out];\n"
      << "\tmad.wide.u32 %in, %i, 32, %in;\n\tmad.wide.u32 %out, %i, " << (wide ? 8 : 4) << ", %out;\n";
  for (std::size_t k = 0; k < types.size(); ++k) {
    ptx << "\tld.global." << memory_type(types[k]) << " %" << "abce"[k] << ", [%in+" << k * 8 << "];\n";
  }
  ptx << form.body << "\n\tst.global." << form.output << " [%out], %d;\n$end:\n\tret;\n}\n";

  const auto rows = rows_for(types);
  Case test;
  test.name = "form_" + form.name;
  test.file = form.name + ".ptx";
  test.ptx = ptx.str();
  const std::size_t in = test.in(rows);
  const auto n = static_cast<std::uint32_t>(rows.size());
  std::size_t out = 0;
  const auto collect = [&]<typename T>(T) {
    std::vector<T> expected;
    for (const Slots& row : rows) expected.push_back(static_cast<T>(form.expected(row)));
    return test.out(expected);
  };
  if (wide) {
    out = collect(std::uint64_t{});
  } else {
    out = collect(std::uint32_t{});
  }
  if (form.tolerance != 0) {
    test.buffers[out].compare = form.output == "f64" ? Compare::kDouble : Compare::kFloat;
    test.buffers[out].tolerance = form.tolerance;
  }
  test.launch("form", {(n + 95) / 96}, {96}).pointer(in).pointer(out).value(n);
  cases.push_back(std::move(test));
}

}  // namespace vgpu::testing::kernels
