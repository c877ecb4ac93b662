// Calls and returns, barriers, and what the lanes of a warp do together.
#include <algorithm>
#include <bit>

#include "device/software/oracle/arithmetic.h"
#include "device/software/oracle/machine.h"

namespace vgpu::software::oracle {

using ptx::Instruction;
using ptx::Opcode;
using ptx::Operand;
using ptx::OperandKind;

bool Warp::enter(Lane& lane, const ptx::Function& function) {
  const ptx::FunctionDecl& decl = machine_.module.functions()[function.index];
  Frame frame;
  frame.function = &function;
  const std::uint64_t align = std::max<std::uint64_t>(16, function.local_align);
  frame.local_base = (lane.local.size() + align - 1) / align * align;
  if (lane.frames.size() >= kMaxCallDepth || frame.local_base + function.local_bytes > kMaxLocalBytes) {
    return fault(lane, Outcome::kTrap, "the call stack is full");
  }
  lane.local.resize(frame.local_base + function.local_bytes);
  frame.registers.resize(function.registers.size());
  frame.params.resize(decl.parameter_bytes);
  frame.returns.resize(decl.return_bytes);
  frame.call_params.resize(function.call_param_bytes);
  lane.frames.push_back(std::move(frame));
  return true;
}

bool Warp::call(Lane& lane, const Instruction& i) {
  const ptx::Function& caller = *lane.frame().function;
  const auto operands = caller.operands_of(i);
  const Operand& target = operands[i.destination_count];
  std::uint64_t index = target.index;
  if (target.kind == OperandKind::kRegister) index = lane.frame().registers[target.index] - kFunctionAddress;
  if (index >= machine_.module.functions().size()) {
    return fault(lane, Outcome::kIllegalAddress, "a call of an address that is no function");
  }
  const ptx::FunctionDecl& decl = machine_.module.functions()[index];
  const ptx::Function* callee = machine_.find(static_cast<std::uint32_t>(index));
  if (callee == nullptr) {
    if (decl.name == "vprintf" && machine_.config.vprintf) return call_printf(lane, i);
    return fault(lane, Outcome::kUnsupported,
                 "a call of `" + decl.name + "`, which this module does not define");
  }
  auto arguments = operands.subspan(i.destination_count + 1U);
  if (!arguments.empty() && arguments.back().kind == OperandKind::kPrototype)
    arguments = arguments.first(arguments.size() - 1);
  if (arguments.size() != decl.parameters.size() || i.destination_count != decl.returns.size()) {
    return fault(lane, Outcome::kTrap, "an indirect call whose prototype does not fit `" + decl.name + "`");
  }
  if (!enter(lane, *callee)) return false;
  Frame& from = lane.frames[lane.frames.size() - 2];
  Frame& to = lane.frame();
  for (std::size_t n = 0; n < arguments.size(); ++n) {
    const ptx::Parameter& parameter = decl.parameters[n];
    const Operand& argument = arguments[n];
    if (parameter.is_register || argument.kind != OperandKind::kSymbol) {
      const std::uint64_t value = argument.kind == OperandKind::kRegister
                                      ? from.registers[argument.index]
                                      : static_cast<std::uint64_t>(argument.value);
      if (parameter.is_register) {
        to.registers[callee->parameter_registers[n]] = truncate(value, ptx::bits_of(parameter.type));
      } else {
        std::copy_n(reinterpret_cast<const std::byte*>(&value), std::min<std::size_t>(8, parameter.size),
                    to.params.begin() + parameter.offset);
      }
      continue;
    }
    const ptx::Variable& variable = caller.variables[argument.index];
    const auto& source =
        variable.role == ptx::Variable::Role::kCallParameter ? from.call_params : from.params;
    std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(variable.offset), parameter.size,
                to.params.begin() + parameter.offset);
  }
  return true;
}

bool Warp::call_printf(Lane& lane, const Instruction& i) {
  Frame& frame = lane.frame();
  const auto operands = frame.function->operands_of(i);
  std::uint64_t values[2] = {};
  for (std::size_t n = 0; n < 2; ++n) {
    const Operand& argument = operands[i.destination_count + 1U + n];
    if (argument.kind == OperandKind::kSymbol) {
      const std::uint64_t offset = frame.function->variables[argument.index].offset;
      std::copy_n(frame.call_params.begin() + static_cast<std::ptrdiff_t>(offset), 8,
                  reinterpret_cast<std::byte*>(&values[n]));
    } else {
      values[n] = read(lane, argument, 64);
    }
  }
  // Nothing is recorded of a read that fails: printf decides what that means.
  const auto reader = [&](std::uint64_t address, std::span<std::byte> out) {
    const Result before = machine_.result;
    const bool done = access(lane, ptx::StateSpace::kGeneric, address, out, false);
    machine_.result = before;
    return done;
  };
  const std::int32_t result = machine_.config.vprintf(values[0], values[1], reader);
  if (i.destination_count == 1) {
    if (operands[0].kind == OperandKind::kRegister) {
      write(lane, operands[0], static_cast<std::uint32_t>(result));
    } else {
      const std::uint64_t offset = frame.function->variables[operands[0].index].offset;
      std::copy_n(reinterpret_cast<const std::byte*>(&result), sizeof result,
                  frame.call_params.begin() + static_cast<std::ptrdiff_t>(offset));
    }
  }
  ++frame.pc;
  return true;
}

void Warp::return_from(Lane& lane) {
  if (lane.frames.size() == 1) {
    exit_lane(lane);
    return;
  }
  const Frame done = std::move(lane.frames.back());
  lane.frames.pop_back();
  lane.local.resize(done.local_base);
  Frame& caller = lane.frame();
  const Instruction& i = caller.function->instructions[caller.pc];
  const auto operands = caller.function->operands_of(i);
  const ptx::FunctionDecl& decl = machine_.module.functions()[done.function->index];
  for (std::size_t n = 0; n < decl.returns.size(); ++n) {
    const ptx::Parameter& result = decl.returns[n];
    std::uint64_t value = 0;
    const std::span bytes(reinterpret_cast<std::byte*>(&value), 8);
    if (result.is_register) {
      value = done.registers[done.function->return_registers[n]];
    } else {
      std::copy_n(done.returns.begin() + result.offset, std::min<std::size_t>(8, result.size), bytes.begin());
    }
    if (operands[n].kind == OperandKind::kRegister) {
      write(lane, operands[n], value);
      continue;
    }
    const ptx::Variable& variable = caller.function->variables[operands[n].index];
    auto& target = variable.role == ptx::Variable::Role::kCallParameter ? caller.call_params : caller.returns;
    const auto at = target.begin() + static_cast<std::ptrdiff_t>(variable.offset);
    if (result.is_register) {
      std::copy_n(bytes.begin(), std::min<std::size_t>(8, result.size), at);
    } else {
      std::copy_n(done.returns.begin() + result.offset, result.size, at);
    }
  }
  ++caller.pc;
}

void Warp::exit_lane(Lane& lane) {
  lane.state = Lane::State::kExited;
  block_.thread_exited();
}

bool Warp::barrier(const Instruction& i, LaneMask active) {
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    Lane& lane = lanes[n];
    const auto operands = lane.frame().function->operands_of(i);
    const bool reduces = i.barrier >= ptx::BarrierOp::kRedAnd;
    const std::size_t first = i.destination_count;
    const std::size_t counts = operands.size() - first - (reduces ? 1 : 0);
    const std::uint64_t id = read(lane, operands[first], 32);
    const auto expected = static_cast<std::uint32_t>(counts > 1 ? read(lane, operands[first + 1], 32) : 0);
    if (id >= kBarriers || expected > 1024 || expected % kWarpLanes != 0) {
      return fault(
          lane, Outcome::kTrap,
          "a barrier with number " + std::to_string(id) + " and " + std::to_string(expected) + " threads");
    }
    Barrier& target = block_.barriers[static_cast<std::size_t>(id)];
    ++target.arrived;
    target.expected = expected;
    if (std::ranges::find(target.warps, this) == target.warps.end()) {
      target.warps.push_back(this);
      target.absent += kWarpLanes - static_cast<std::uint32_t>(std::popcount(live()));
    }
    if (reduces) {
      const bool value = read(lane, operands.back(), 1) != 0;
      target.all = target.all && value;
      target.any = target.any || value;
      target.count += value ? 1 : 0;
    }
    if (i.barrier == ptx::BarrierOp::kArrive) {
      ++lane.frame().pc;
    } else {
      lane.state = Lane::State::kAtBarrier;
      target.waiting.emplace_back(this, n);
    }
  }
  block_.complete_barriers();
  return true;
}

void Warp::release(std::uint32_t number, const Barrier& barrier) {
  Lane& lane = lanes[number];
  Frame& frame = lane.frame();
  const Instruction& i = frame.function->instructions[frame.pc];
  const auto operands = frame.function->operands_of(i);
  switch (i.barrier) {
    case ptx::BarrierOp::kRedAnd:
      write(lane, operands[0], barrier.all ? 1 : 0);
      break;
    case ptx::BarrierOp::kRedOr:
      write(lane, operands[0], barrier.any ? 1 : 0);
      break;
    case ptx::BarrierOp::kRedPopc:
      write(lane, operands[0], barrier.count);
      break;
    default:
      break;
  }
  lane.state = Lane::State::kRunning;
  ++frame.pc;
}

// The lanes a .sync instruction names; no value for other instructions.
std::optional<LaneMask> Warp::member_mask(const Instruction& i, LaneMask active) {
  const bool names_members = i.opcode == Opcode::kBarWarpSync || i.has(ptx::kFlagSync);
  if (!names_members) return std::nullopt;
  Lane& lane = lanes[static_cast<std::size_t>(std::countr_zero(active))];
  return static_cast<LaneMask>(read(lane, lane.frame().function->operands_of(i).back(), 32));
}

bool Warp::shuffle(const Instruction& i, LaneMask active) {
  std::array<std::uint64_t, kWarpLanes> values{};
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    values[n] = read(lanes[n], lanes[n].frame().function->operands_of(i)[i.destination_count], 32);
  }
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    Lane& lane = lanes[n];
    const auto operands = lane.frame().function->operands_of(i);
    const auto b = static_cast<std::int32_t>(read(lane, operands[i.destination_count + 1U], 32) & 0x1F);
    const auto c = static_cast<std::uint32_t>(read(lane, operands[i.destination_count + 2U], 32));
    const auto clamp = static_cast<std::int32_t>(c & 0x1F);
    const auto segment = static_cast<std::int32_t>((c >> 8) & 0x1F);
    const auto self = static_cast<std::int32_t>(n);
    const std::int32_t highest = (self & segment) | (clamp & ~segment);
    const std::int32_t lowest = self & segment;
    std::int32_t from = 0;
    bool in_range = false;
    switch (i.shuffle) {
      case ptx::ShuffleMode::kUp:
        from = self - b;
        in_range = from >= highest;
        break;
      case ptx::ShuffleMode::kDown:
        from = self + b;
        in_range = from <= highest;
        break;
      case ptx::ShuffleMode::kBfly:
        from = self ^ b;
        in_range = from <= highest;
        break;
      default:
        from = lowest | (b & ~segment);
        in_range = from <= highest;
        break;
    }
    if (!in_range) from = self;
    // What an inactive lane would give is open; its own value is as good as any.
    const bool readable = (active >> static_cast<std::uint32_t>(from) & 1) != 0;
    if (!readable) ++machine_.result.open_values;
    write(lane, operands[0], values[static_cast<std::size_t>(readable ? from : self)]);
    if (i.destination_count == 2) write(lane, operands[1], in_range ? 1 : 0);
    ++lane.frame().pc;
  }
  return true;
}

bool Warp::vote(const Instruction& i, LaneMask active) {
  LaneMask voters = active;
  LaneMask votes = 0;
  if (i.opcode == Opcode::kActivemask) {
    votes = active;
  } else {
    if (const auto members = member_mask(i, active)) voters &= *members;
    for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
      if ((voters >> n & 1) == 0) continue;
      if (read(lanes[n], lanes[n].frame().function->operands_of(i)[1], 1) != 0) votes |= 1U << n;
    }
  }
  std::uint64_t value = votes;
  switch (i.vote) {
    case ptx::VoteMode::kAll:
      value = votes == voters ? 1 : 0;
      break;
    case ptx::VoteMode::kAny:
      value = votes != 0 ? 1 : 0;
      break;
    case ptx::VoteMode::kUni:
      value = votes == 0 || votes == voters ? 1 : 0;
      break;
    default:
      break;
  }
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    Lane& lane = lanes[n];
    write(lane, lane.frame().function->operands_of(i)[0], value);
    ++lane.frame().pc;
  }
  return true;
}

bool Warp::match(const Instruction& i, LaneMask active) {
  const std::uint32_t bits = ptx::bits_of(i.type);
  std::array<std::uint64_t, kWarpLanes> values{};
  LaneMask members = active;
  if (const auto mask = member_mask(i, active)) members &= *mask;
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((members >> n & 1) == 0) continue;
    values[n] = read(lanes[n], lanes[n].frame().function->operands_of(i)[i.destination_count], bits);
  }
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    LaneMask equal = 0;
    for (std::uint32_t other = 0; other < kWarpLanes; ++other) {
      if ((members >> other & 1) != 0 && values[other] == values[n]) equal |= 1U << other;
    }
    Lane& lane = lanes[n];
    const auto operands = lane.frame().function->operands_of(i);
    const bool all = equal == members;
    write(lane, operands[0], i.has(ptx::kFlagMatchAny) || all ? equal : 0);
    if (i.destination_count == 2) write(lane, operands[1], all ? 1 : 0);
    ++lane.frame().pc;
  }
  return true;
}

}  // namespace vgpu::software::oracle
