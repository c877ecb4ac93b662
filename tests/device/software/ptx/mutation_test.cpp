// Real-looking modules with random damage: each is parsed or refused, and what parses is consistent. The
// fuzzers in tests/fuzz go deeper; this runs everywhere, under the sanitizers too.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "device/software/ptx/ast.h"
#include "tests/kernels/cases.h"

namespace vgpu::software::ptx {
namespace {

// Damages `text` in a few places: bytes, lines, words of other lines, numbers.
std::string damage(std::string text, std::mt19937_64& random) {
  static const std::vector<std::string> words = {
      ".v4",  ".f64", "%r1", "{", "}",  "[",          "_",     "bra",      ".reg .b32 %x<99999999>;",
      ".b16", "/*",   "\"",  "(", "-1", "0xFFFFFFFF", "0d7FF", "!",        ".shared .b8 a[4294967296];",
      "call", "@%p1", "brx", ";", "::", ".",          "+",     "\x80\xFF", "$L__BB0_1:"};
  const std::uint64_t edits = 1 + random() % 3;
  for (std::uint64_t k = 0; k < edits && !text.empty(); ++k) {
    const std::size_t at = random() % text.size();
    switch (random() % 6) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, 1 + random() % 20);
        break;
      case 2:
        text.insert(at, words[random() % words.size()]);
        break;
      case 3:
        text.insert(at, text.substr(random() % text.size(), 1 + random() % 60));
        break;
      case 4:
        text.resize(at);
        break;
      default:
        std::swap(text[at], text[random() % text.size()]);
        break;
    }
  }
  return text;
}

void expect_consistent(const Module& module, const Function& function) {
  for (const Instruction& instruction : function.instructions) {
    ASSERT_LE(instruction.first_operand + instruction.operand_count, function.operands.size());
    ASSERT_LE(instruction.destination_count, instruction.operand_count);
    const auto check = [&](const Operand& operand) {
      switch (operand.kind) {
        case OperandKind::kRegister:
          ASSERT_LT(operand.index, function.registers.size());
          break;
        case OperandKind::kLabel:
          ASSERT_LT(operand.index, function.instructions.size());
          break;
        case OperandKind::kFunction:
          ASSERT_LT(operand.index, module.functions().size());
          break;
        case OperandKind::kSymbol:
          ASSERT_LT(operand.index, operand.in_module ? module.variables().size() : function.variables.size());
          break;
        case OperandKind::kPrototype:
          ASSERT_LT(operand.index, function.prototypes.size());
          break;
        default:
          break;
      }
    };
    for (const Operand& operand : function.operands_of(instruction)) {
      check(operand);
      if (operand.kind != OperandKind::kVector && operand.kind != OperandKind::kLabelList) continue;
      ASSERT_LE(operand.index + operand.count, function.operands.size());
      for (const Operand& element : function.elements_of(operand)) check(element);
    }
  }
}

void expect_place_and_reason(const Error& error) {
  EXPECT_FALSE(error.message.empty());
  EXPECT_EQ(error.file, "damaged.ptx") << error.describe();
  EXPECT_GT(error.line, 0U) << error.describe();
}

TEST(PtxMutation, DamagedModulesAreParsedOrRefused) {
  std::vector<std::string> texts;
  for (const auto& test : testing::kernels::all_cases()) {
    if (texts.empty() || texts.back() != test.ptx) texts.push_back(test.ptx);
  }
  std::mt19937_64 random(2026);
  std::size_t parsed = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto module = Module::parse(damage(texts[random() % texts.size()], random), "damaged.ptx");
    if (!module) {
      ++refused;
      expect_place_and_reason(module.error());
      continue;
    }
    for (std::uint32_t i = 0; i < module->functions().size(); ++i) {
      const auto function = module->parse_function(i);
      if (!function) {
        ++refused;
        // A function without a body is no error of the text.
        if (function.error().kind != ErrorKind::kNotFound) expect_place_and_reason(function.error());
        continue;
      }
      ++parsed;
      expect_consistent(*module, *function);
    }
  }
  EXPECT_GT(parsed, 100U);
  EXPECT_GT(refused, 1000U);
}

}  // namespace
}  // namespace vgpu::software::ptx
