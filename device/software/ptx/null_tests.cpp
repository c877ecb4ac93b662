// See null_tests.h.
#include "device/software/ptx/null_tests.h"

#include <bit>
#include <cstring>
#include <unordered_map>

namespace vgpu::software::ptx {

namespace {

bool is_wide(Type type) {
  return type == Type::kB64 || type == Type::kU64 || type == Type::kS64;
}

// The word of the kernel's parameters that an instruction loads, if it does.
std::uint64_t word_loaded(const Function& kernel, const Instruction& inst) {
  if (inst.opcode != Opcode::kLd || inst.space != StateSpace::kParam || !is_wide(inst.type) ||
      inst.vector > 1)
    return 0;
  const Operand& place = kernel.operands_of(inst)[1];
  if (kernel.operands_of(inst)[0].kind != OperandKind::kRegister || place.kind != OperandKind::kMemory ||
      place.memory_base != MemoryBase::kSymbol || place.in_module)
    return 0;
  const Variable& variable = kernel.variables[place.index];
  if (variable.role != Variable::Role::kParameter) return 0;
  return null_word_at(variable.offset + static_cast<std::uint64_t>(place.value));
}

}  // namespace

std::uint64_t null_tested_words(const Function& kernel) {
  std::unordered_map<RegisterId, std::uint64_t> words;  // that a register is ever loaded from
  for (const Instruction& inst : kernel.instructions) {
    if (const std::uint64_t word = word_loaded(kernel, inst); word != 0)
      words[kernel.operands_of(inst)[0].index] |= word;
  }
  std::uint64_t tested = 0;
  for (const Instruction& inst : kernel.instructions) {
    if (inst.opcode != Opcode::kSetp || !is_wide(inst.type) ||
        (inst.compare != Compare::kEq && inst.compare != Compare::kNe))
      continue;
    const auto compared = kernel.operands_of(inst).subspan(inst.destination_count);
    const auto is_zero = [](const Operand& operand) {
      return operand.kind == OperandKind::kImmediate && operand.value == 0;
    };
    for (const std::size_t i : {0U, 1U}) {
      if (compared[i].kind != OperandKind::kRegister || !is_zero(compared[1 - i])) continue;
      if (const auto loaded = words.find(compared[i].index); loaded != words.end()) tested |= loaded->second;
    }
  }
  return tested;
}

std::uint64_t null_words(std::uint64_t tested, std::span<const std::byte> parameters) {
  std::uint64_t nulls = 0;
  for (std::uint64_t left = tested; left != 0; left &= left - 1) {
    const auto word = static_cast<std::size_t>(std::countr_zero(left));
    if ((word + 1) * kNullWordBytes > parameters.size()) break;
    std::uint64_t value = 0;
    std::memcpy(&value, parameters.data() + word * kNullWordBytes, kNullWordBytes);
    if (value == 0) nulls |= std::uint64_t{1} << word;
  }
  return nulls;
}

}  // namespace vgpu::software::ptx
