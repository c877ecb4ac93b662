// Loads, stores, atomics and addresses.
#include <cstdio>
#include <cstring>

#include "device/software/oracle/arithmetic.h"
#include "device/software/oracle/machine.h"

namespace vgpu::software::oracle {

using ptx::Instruction;
using ptx::Opcode;
using ptx::Operand;
using ptx::OperandKind;
using ptx::StateSpace;
using ptx::Type;

namespace {

struct Window {
  StateSpace space;
  std::uint64_t base;
};
constexpr Window kWindows[] = {{StateSpace::kShared, kSharedWindow},
                               {StateSpace::kLocal, kLocalWindow},
                               {StateSpace::kParam, kParamWindow}};

std::string hex(std::uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

// The bytes [address, address + size) of `memory`, or empty.
std::span<std::byte> inside(std::span<std::byte> memory, std::uint64_t address, std::size_t size) {
  if (address > memory.size() || size > memory.size() - address) return {};
  return memory.subspan(address, size);
}

}  // namespace

// A generic address becomes one of the space whose window it is in.
StateSpace Warp::effective_space(StateSpace space, std::uint64_t& address) {
  if (space == StateSpace::kConst) return StateSpace::kGlobal;
  if (space != StateSpace::kGeneric) return space;
  for (const Window& window : kWindows) {
    if (address >= window.base && address - window.base < kWindowBytes) {
      address -= window.base;
      return window.space;
    }
  }
  return StateSpace::kGlobal;
}

bool Warp::access(Lane& lane, StateSpace space, std::uint64_t address, std::span<std::byte> data,
                  bool store) {
  const std::uint64_t given = address;
  const auto refuse = [&] {
    machine_.result.address = given;
    return fault(lane, Outcome::kIllegalAddress, "illegal address " + hex(given));
  };
  Frame& frame = lane.frame();
  std::span<std::byte> memory;
  switch (effective_space(space, address)) {
    case StateSpace::kShared:
      memory = block_.shared;
      break;
    case StateSpace::kLocal:
      memory = lane.local;
      break;
    case StateSpace::kParam:
      if (address >= kCallParams) {
        memory = frame.call_params;
        address -= kCallParams;
      } else if (address >= kReturnParams) {
        memory = frame.returns;
        address -= kReturnParams;
      } else {
        memory = frame.params;
      }
      break;
    default: {
      const bool done = store ? machine_.memory.write(address, data) : machine_.memory.read(address, data);
      return done || refuse();
    }
  }
  const auto bytes = inside(memory, address, data.size());
  if (bytes.size() != data.size()) return refuse();
  std::memcpy(store ? bytes.data() : data.data(), store ? data.data() : bytes.data(), data.size());
  return true;
}

std::uint64_t Warp::memory_address(Lane& lane, const Operand& operand) {
  const auto offset = static_cast<std::uint64_t>(operand.value);
  switch (operand.memory_base) {
    case ptx::MemoryBase::kRegister: {
      const std::uint64_t base = lane.frame().registers[operand.index];
      // A 32-bit address stays one: it wraps at 32 bits.
      const bool narrow = ptx::bits_of(lane.frame().function->registers[operand.index]) == 32;
      return narrow ? truncate(base + offset, 32) : base + offset;
    }
    case ptx::MemoryBase::kSymbol:
      return symbol_address(lane, operand.symbol()) + offset;
    default:
      return offset;
  }
}

bool Warp::load_store(Lane& lane, const Instruction& i) {
  const auto operands = lane.frame().function->operands_of(i);
  const bool store = i.opcode == Opcode::kSt;
  const Operand& value = operands[store ? 1 : 0];
  const std::uint64_t address = memory_address(lane, operands[store ? 0 : 1]);
  const std::uint32_t size = ptx::bytes_of(i.type);
  if (address % (size * i.vector) != 0) {
    machine_.result.address = address;
    return fault(lane, Outcome::kMisalignedAddress, "misaligned address " + hex(address));
  }
  std::array<std::byte, 16> bytes{};
  const std::span data = std::span(bytes).first(size * i.vector);
  const auto elements = i.vector > 1 ? lane.frame().function->elements_of(value) : std::span(&value, 1);
  if (store) {
    for (std::size_t n = 0; n < i.vector; ++n) {
      const std::uint64_t element = read(lane, elements[n], ptx::bits_of(i.type));
      std::memcpy(bytes.data() + n * size, &element, size);
    }
    return access(lane, i.space, address, data, true);
  }
  if (!access(lane, i.space, address, data, false)) return false;
  for (std::size_t n = 0; n < i.vector; ++n) {
    std::uint64_t element = 0;
    std::memcpy(&element, bytes.data() + n * size, size);
    write_extended(lane, elements[n], element, i.type);
  }
  return true;
}

bool Warp::atomic(Lane& lane, const Instruction& i) {
  const auto operands = lane.frame().function->operands_of(i);
  const std::size_t d = i.destination_count;
  const std::uint64_t address = memory_address(lane, operands[d]);
  const std::uint32_t bits = ptx::bits_of(i.type);
  if (address % (bits / 8) != 0) {
    machine_.result.address = address;
    return fault(lane, Outcome::kMisalignedAddress, "misaligned address " + hex(address));
  }
  std::uint64_t old = 0;
  const std::span data(reinterpret_cast<std::byte*>(&old), bits / 8);
  if (!access(lane, i.space, address, data, false)) return false;
  const std::uint64_t before = old;
  const std::uint64_t b = read(lane, operands[d + 1], bits);
  const std::uint64_t c = operands.size() > d + 2 ? read(lane, operands[d + 2], bits) : 0;
  old = apply_atomic(i.atomic, i.type, before, b, c);
  if (!access(lane, i.space, address, data, true)) return false;
  if (d != 0) write(lane, operands[0], before);
  return true;
}

bool Warp::convert_address(Lane& lane, const Instruction& i) {
  const auto operands = lane.frame().function->operands_of(i);
  std::uint64_t address = read(lane, operands[1], 64);
  if (i.opcode == Opcode::kIsspacep) {
    StateSpace space = effective_space(StateSpace::kGeneric, address);
    if (i.space == StateSpace::kConst) space = StateSpace::kGeneric;  // constants lie in global memory here
    write(lane, operands[0], space == i.space ? 1 : 0);
    return true;
  }
  std::uint64_t base = 0;
  for (const Window& window : kWindows) {
    if (window.space == i.space) base = window.base;
  }
  write(lane, operands[0], i.has(ptx::kFlagToSpace) ? address - base : address + base);
  return true;
}

void Warp::move(Lane& lane, const Instruction& i) {
  const auto operands = lane.frame().function->operands_of(i);
  const std::uint32_t bits = i.type == Type::kPred ? 1 : ptx::bits_of(i.type);
  std::uint64_t value = 0;
  if (operands[1].kind == OperandKind::kVector) {
    const auto elements = lane.frame().function->elements_of(operands[1]);
    const auto part = static_cast<std::uint32_t>(bits / elements.size());
    for (std::size_t n = 0; n < elements.size(); ++n) value |= read(lane, elements[n], part) << (part * n);
  } else {
    value = read(lane, operands[1], bits);
  }
  if (operands[0].kind == OperandKind::kVector) {
    const auto elements = lane.frame().function->elements_of(operands[0]);
    const auto part = static_cast<std::uint32_t>(bits / elements.size());
    for (std::size_t n = 0; n < elements.size(); ++n)
      write(lane, elements[n], truncate(value >> (part * n), part));
  } else {
    write(lane, operands[0], value);
  }
}

}  // namespace vgpu::software::oracle
