// libFuzzer target: the PTX parser over any text; what parses must print, and print to text that parses
// again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "device/software/ptx/ast.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using vgpu::software::ptx::Module;
  const auto module = Module::parse(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.ptx");
  if (!module) {
    return 0;
  }
  for (uint32_t i = 0; i < module->functions().size(); ++i) {
    const auto function = module->parse_function(i);
    if (!function) {
      continue;
    }
    for (const auto& instruction : function->instructions) {
      for (const auto& operand : function->operands_of(instruction)) {
        using Kind = vgpu::software::ptx::OperandKind;
        if (operand.kind == Kind::kRegister && operand.index >= function->registers.size()) std::abort();
        if (operand.kind == Kind::kLabel && operand.index >= function->instructions.size()) std::abort();
      }
    }
    if (vgpu::software::ptx::print(*module, *function).empty()) std::abort();
  }
  return 0;
}
