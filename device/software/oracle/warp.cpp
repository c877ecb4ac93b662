// A warp: which lanes run next, and the instructions that concern one lane at a time.
#include <algorithm>
#include <bit>
#include <tuple>

#include "device/software/oracle/arithmetic.h"
#include "device/software/oracle/machine.h"

namespace vgpu::software::oracle {

using ptx::Instruction;
using ptx::Opcode;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Type;

namespace {

// Bits of source operand n, for immediates: registers have their width from their declaration.
std::uint32_t source_bits(const Instruction& i, std::size_t n) {
  switch (i.opcode) {
    case Opcode::kCvt:
      return ptx::bits_of(i.source_type);
    case Opcode::kSet:
      return n == 2 ? 1 : ptx::bits_of(i.source_type);
    case Opcode::kSlct:
      return n == 2 ? 32 : ptx::bits_of(i.type);
    case Opcode::kMad:
      return n == 2 && i.mul_part == ptx::MulPart::kWide ? 2 * ptx::bits_of(i.type) : ptx::bits_of(i.type);
    case Opcode::kShl:
    case Opcode::kShr:
    case Opcode::kBfe:
      return n == 0 ? ptx::bits_of(i.type) : 32;
    case Opcode::kBfi:
      return n < 2 ? ptx::bits_of(i.type) : 32;
    default:
      return ptx::bits_of(i.type);
  }
}

}  // namespace

Warp::Warp(Block& block, std::uint32_t index) : block_(block), machine_(block.machine), index_(index) {
  const Dim3& size = machine_.config.block;
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    Lane& lane = lanes[n];
    lane.thread = index * kWarpLanes + n;
    if (lane.thread >= size.count()) continue;
    lane.tid = {lane.thread % size.x, lane.thread / size.x % size.y, lane.thread / size.x / size.y};
    lane.state = Lane::State::kRunning;
    if (!enter(lane, *machine_.kernel)) {
      lane.state = Lane::State::kExited;  // a fault is recorded: nothing of the grid runs
      continue;
    }
    lane.frame().params.assign(machine_.config.params.begin(), machine_.config.params.end());
  }
}

LaneMask Warp::live() const {
  LaneMask mask = 0;
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if (lanes[n].state != Lane::State::kExited) mask |= 1U << n;
  }
  return mask;
}

bool Warp::fault(Lane& lane, Outcome outcome, std::string message) {
  Result& result = machine_.result;
  if (result.outcome == Outcome::kDone) {
    result.thread = lane.thread;
    if (!lane.frames.empty()) {
      const Frame& frame = lane.frame();
      const Instruction& i = frame.function->instructions[frame.pc];
      result.line = i.line;
      message += " at `" + ptx::print(machine_.module, *frame.function, i) + "`";
    }
  }
  return machine_.fault(outcome, std::move(message));
}

// The running lanes at the deepest call, and of those the ones at the lowest instruction.
LaneMask Warp::pick(bool deferred_too) const {
  const Lane* best = nullptr;
  LaneMask group = 0;
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    const Lane& lane = lanes[n];
    if (lane.state != Lane::State::kRunning || (lane.deferred && !deferred_too)) continue;
    const auto key = [](const Lane& l) {
      return std::tuple(-static_cast<std::int64_t>(l.frames.size()), l.frames.back().function->index,
                        l.frames.back().pc);
    };
    if (best == nullptr || key(lane) < key(*best)) {
      best = &lane;
      group = 0;
    }
    if (key(lane) == key(*best)) group |= 1U << n;
  }
  return group;
}

bool Warp::run(std::uint64_t budget, std::uint64_t& ran) {
  for (ran = 0; ran < budget; ++ran) {
    LaneMask group = pick(false);
    bool forced = false;
    if (group == 0) {
      // Nothing else can run: whoever waits for lanes of its mask goes on without them.
      group = pick(true);
      forced = true;
    }
    if (group == 0) return true;
    if (++machine_.result.steps > machine_.config.max_steps) {
      return fault(lanes[static_cast<std::size_t>(std::countr_zero(group))], Outcome::kStepLimit,
                   "more than " + std::to_string(machine_.config.max_steps) + " instructions");
    }
    if (!step(group, forced)) return false;
  }
  return true;
}

bool Warp::step(LaneMask group, bool forced) {
  Lane& first = lanes[static_cast<std::size_t>(std::countr_zero(group))];
  const Instruction& i = first.frame().function->instructions[first.frame().pc];
  LaneMask active = group;
  if (i.guard.predicate != ptx::kNoRegister) {
    for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
      if ((group >> n & 1) == 0) continue;
      Frame& frame = lanes[n].frame();
      if ((frame.registers[i.guard.predicate] != 0) == i.guard.negated) {
        active &= ~(1U << n);
        ++frame.pc;
        lanes[n].deferred = false;
      }
    }
  }
  if (active == 0) return true;
  if (const auto members = member_mask(i, active); members && !forced && (*members & live() & ~active) != 0) {
    for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
      if ((active >> n & 1) != 0) lanes[n].deferred = true;
    }
    return true;
  }
  // Something moves: whoever was waiting looks again.
  for (Lane& lane : lanes) lane.deferred = false;
  return execute(i, active);
}

bool Warp::execute(const Instruction& i, LaneMask active) {
  switch (i.opcode) {
    case Opcode::kBarrier:
      return barrier(i, active);
    case Opcode::kShfl:
      return shuffle(i, active);
    case Opcode::kVote:
    case Opcode::kActivemask:
      return vote(i, active);
    case Opcode::kMatch:
      return match(i, active);
    default:
      break;
  }
  for (std::uint32_t n = 0; n < kWarpLanes; ++n) {
    if ((active >> n & 1) == 0) continue;
    Lane& lane = lanes[n];
    Frame& frame = lane.frame();
    const auto operands = frame.function->operands_of(i);
    switch (i.opcode) {
      case Opcode::kBra:
        frame.pc = operands[0].index;
        continue;
      case Opcode::kBrxIdx: {
        const std::uint64_t choice = read(lane, operands[0], 32);
        if (choice >= operands[1].count) return fault(lane, Outcome::kTrap, "brx.idx beyond its targets");
        frame.pc = frame.function->elements_of(operands[1])[choice].index;
        continue;
      }
      case Opcode::kCall:
        if (!call(lane, i)) return false;
        continue;
      case Opcode::kRet:
        return_from(lane);
        continue;
      case Opcode::kExit:
        exit_lane(lane);
        continue;
      case Opcode::kTrap:
        return fault(lane, Outcome::kTrap, "trap");
      case Opcode::kLd:
      case Opcode::kSt:
        if (!load_store(lane, i)) return false;
        break;
      case Opcode::kAtom:
      case Opcode::kRed:
        if (!atomic(lane, i)) return false;
        break;
      case Opcode::kCvta:
      case Opcode::kIsspacep:
        if (!convert_address(lane, i)) return false;
        break;
      case Opcode::kMov:
        move(lane, i);
        break;
      case Opcode::kSetp: {
        const std::size_t d = i.destination_count;
        const std::uint32_t bits = ptx::bits_of(i.type);
        const bool truth =
            compare(i, i.type, read(lane, operands[d], bits), read(lane, operands[d + 1], bits));
        const bool third = operands.size() > d + 2 && read(lane, operands[d + 2], 1) != 0;
        write(lane, operands[0], combine(i.bool_op, truth, third) ? 1 : 0);
        if (d == 2) write(lane, operands[1], combine(i.bool_op, !truth, third) ? 1 : 0);
        break;
      }
      case Opcode::kBarWarpSync:
      case Opcode::kMembar:
      case Opcode::kFence:
      case Opcode::kNanosleep:
      case Opcode::kPrefetch:
        break;
      default: {
        if (!is_pure(i.opcode))
          return fault(lane, Outcome::kUnsupported, "an instruction without a meaning here");
        Sources sources{};
        const std::size_t count = operands.size() - i.destination_count;
        for (std::size_t k = 0; k < count; ++k) {
          sources[k] = read(lane, operands[i.destination_count + k], source_bits(i, k));
        }
        const std::uint64_t value = evaluate(i, std::span(sources).first(count), lane.carry);
        if (i.opcode == Opcode::kCvt) {
          write_extended(lane, operands[0], value, i.type);
        } else {
          write(lane, operands[0], value);
        }
        break;
      }
    }
    ++frame.pc;
  }
  return true;
}

std::uint64_t Warp::read(Lane& lane, const Operand& operand, std::uint32_t bits) {
  std::uint64_t value = 0;
  switch (operand.kind) {
    case OperandKind::kRegister:
      value = lane.frame().registers[operand.index];
      break;
    case OperandKind::kImmediate:
      value = static_cast<std::uint64_t>(operand.value);
      break;
    case OperandKind::kSpecial:
      value = special(lane, operand.special());
      break;
    case OperandKind::kSymbol:
      value = symbol_address(lane, operand.symbol()) + static_cast<std::uint64_t>(operand.value);
      break;
    case OperandKind::kFunction:
      value = kFunctionAddress + operand.index;
      break;
    default:
      break;
  }
  value = truncate(value, bits);
  return operand.negated ? static_cast<std::uint64_t>(value == 0) : value;
}

std::uint64_t Warp::symbol_address(Lane& lane, ptx::SymbolRef symbol) {
  if (symbol.in_module) {
    if (machine_.module.variables()[symbol.index].space != ptx::StateSpace::kShared) {
      return machine_.config.globals[symbol.index];
    }
    return machine_.shared_offset(symbol.index);
  }
  const Frame& frame = lane.frame();
  const ptx::Variable& variable = frame.function->variables[symbol.index];
  switch (variable.space) {
    case ptx::StateSpace::kShared:
      return machine_.function_shared.at(frame.function->index) + variable.offset;
    case ptx::StateSpace::kLocal:
      return frame.local_base + variable.offset;
    default:
      break;
  }
  switch (variable.role) {
    case ptx::Variable::Role::kReturn:
      return kReturnParams + variable.offset;
    case ptx::Variable::Role::kCallParameter:
      return kCallParams + variable.offset;
    default:
      return variable.offset;
  }
}

void Warp::write(Lane& lane, const Operand& operand, std::uint64_t value) {
  if (operand.kind != OperandKind::kRegister) return;  // a sink
  Frame& frame = lane.frame();
  const Type type = frame.function->registers[operand.index];
  frame.registers[operand.index] = type == Type::kPred ? (value & 1) : truncate(value, ptx::bits_of(type));
}

// A register wider than the type: filled by the type's sign.
void Warp::write_extended(Lane& lane, const Operand& operand, std::uint64_t value, Type type) {
  if (ptx::is_signed(type)) value = static_cast<std::uint64_t>(sign_extend(value, ptx::bits_of(type)));
  write(lane, operand, value);
}

std::uint64_t Warp::special(const Lane& lane, ptx::SpecialRegister which) const {
  using enum ptx::SpecialRegister;
  const LaunchConfig& config = machine_.config;
  const std::uint32_t lane_id = lane.thread % kWarpLanes;
  const LaneMask own = 1U << lane_id;
  switch (which) {
    case kTidX:
      return lane.tid.x;
    case kTidY:
      return lane.tid.y;
    case kTidZ:
      return lane.tid.z;
    case kNtidX:
      return config.block.x;
    case kNtidY:
      return config.block.y;
    case kNtidZ:
      return config.block.z;
    case kCtaidX:
      return block_.index.x;
    case kCtaidY:
      return block_.index.y;
    case kCtaidZ:
      return block_.index.z;
    case kNctaidX:
      return config.grid.x;
    case kNctaidY:
      return config.grid.y;
    case kNctaidZ:
      return config.grid.z;
    case kLaneid:
      return lane_id;
    case kWarpid:
      return index_;
    case kNwarpid:
      return block_.warps.size();
    case kSmid:
      return 0;
    case kNsmid:
      return 1;
    case kGridid:
      return config.grid_id;
    case kLanemaskEq:
      return own;
    case kLanemaskLt:
      return own - 1;
    case kLanemaskLe:
      return own | (own - 1);
    case kLanemaskGt:
      return ~(own | (own - 1));
    case kLanemaskGe:
      return ~(own - 1);
    case kClock:
      return truncate(machine_.result.steps, 32);
    case kClockHi:
      return machine_.result.steps >> 32;
    case kClock64:
    case kGlobaltimer:
      return machine_.result.steps;
    case kGlobaltimerLo:
      return truncate(machine_.result.steps, 32);
    case kGlobaltimerHi:
      return machine_.result.steps >> 32;
    case kDynamicSmemSize:
      return config.dynamic_shared_bytes;
    case kTotalSmemSize:
      return machine_.shared_bytes;
    default:
      break;
  }
  const auto number = static_cast<std::uint32_t>(which) - static_cast<std::uint32_t>(kEnvreg0);
  if (number == 1) return config.grid_workspace >> 32;
  return number == 2 ? truncate(config.grid_workspace, 32) : 0;
}

}  // namespace vgpu::software::oracle
