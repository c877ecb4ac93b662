// See null_tests.h.
#include "device/software/ptx/null_tests.h"

#include <bit>
#include <cstring>
#include <optional>
#include <unordered_map>

namespace vgpu::software::ptx {

namespace {

constexpr std::uint64_t kWordBytes = 8;
constexpr std::uint64_t kMostWords = 64;

bool is_wide(Type type) {
  return type == Type::kB64 || type == Type::kU64 || type == Type::kS64;
}

// The word that a load of the kernel's parameters reads, if it is one of those looked at.
std::optional<std::uint64_t> word_read(const Function& kernel, const Instruction& load) {
  if (load.opcode != Opcode::kLd || load.space != StateSpace::kParam || !is_wide(load.type) ||
      load.vector > 1)
    return std::nullopt;
  const Operand& place = kernel.operands_of(load)[1];
  if (place.kind != OperandKind::kMemory || place.memory_base != MemoryBase::kSymbol || place.in_module)
    return std::nullopt;
  const Variable& variable = kernel.variables[place.index];
  if (variable.role != Variable::Role::kParameter) return std::nullopt;
  const std::uint64_t byte = variable.offset + static_cast<std::uint64_t>(place.value);
  if (byte % kWordBytes != 0 || byte / kWordBytes >= kMostWords) return std::nullopt;
  return byte / kWordBytes;
}

}  // namespace

std::uint64_t null_tested_words(const Function& kernel) {
  std::unordered_map<RegisterId, std::uint64_t> words;
  for (const Instruction& inst : kernel.instructions) {
    const auto word = word_read(kernel, inst);
    const auto operands = kernel.operands_of(inst);
    if (word && operands[0].kind == OperandKind::kRegister) words[operands[0].index] = *word;
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
      if (const auto word = words.find(compared[i].index); word != words.end())
        tested |= std::uint64_t{1} << word->second;
    }
  }
  return tested;
}

std::uint64_t null_words(std::uint64_t tested, std::span<const std::byte> parameters) {
  std::uint64_t nulls = 0;
  for (std::uint64_t left = tested; left != 0; left &= left - 1) {
    const auto word = static_cast<std::size_t>(std::countr_zero(left));
    if ((word + 1) * kWordBytes > parameters.size()) break;
    std::uint64_t value = 0;
    std::memcpy(&value, parameters.data() + word * kWordBytes, kWordBytes);
    if (value == 0) nulls |= std::uint64_t{1} << word;
  }
  return nulls;
}

}  // namespace vgpu::software::ptx
