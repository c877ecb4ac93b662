// The vocabulary of lowering: blocks and their ends, values, registers, operands.
#include "device/software/ir/lowering.h"

namespace vgpu::software::ir {

BlockId Lowering::new_block() {
  out_.blocks.emplace_back();
  out_.blocks.back().line = line_;
  return static_cast<BlockId>(out_.blocks.size() - 1);
}

void Lowering::jump(BlockId target) {
  if (!is_open()) return;
  out_.blocks[block_].terminator = Terminator::kJump;
  out_.blocks[block_].succs = {target};
  block_ = kNone;
}

void Lowering::branch(ValueId condition, BlockId yes, BlockId no) {
  if (!is_open()) return;
  if (yes == no) return jump(yes);
  out_.blocks[block_].terminator = Terminator::kBranch;
  out_.blocks[block_].condition = condition;
  out_.blocks[block_].succs = {yes, no};
  block_ = kNone;
}

void Lowering::exit_block() {
  if (!is_open()) return;
  out_.blocks[block_].terminator = Terminator::kExit;
  block_ = kNone;
}

Instruction& Lowering::emit(Op op, Type type, std::vector<ValueId> operand_list, std::uint32_t results) {
  Instruction inst;
  inst.op = op;
  inst.type = type;
  inst.operands = std::move(operand_list);
  inst.line = line_;
  inst.block = block_;
  const InstructionId id = out_.create(std::move(inst), results);
  out_.blocks[block_].body.push_back(id);
  return out_.instructions[id];
}

ValueId Lowering::value(Op op, Type type, std::vector<ValueId> operand_list, std::int64_t imm) {
  Instruction inst;
  inst.op = op;
  inst.type = type;
  inst.operands = std::move(operand_list);
  inst.line = line_;
  inst.block = block_;
  inst.imm = imm;
  const InstructionId id = out_.create(std::move(inst), 1);
  out_.blocks[block_].body.push_back(id);
  return out_.instructions[id].results[0];
}

ValueId Lowering::as(ValueId id, Type want) {
  const Type have = type_of(id);
  if (have == want) return id;
  const std::uint32_t from = bits_of(have);
  const std::uint32_t to = bits_of(want);
  if (from == to) {
    if (out_.is_constant(id)) return constant(want, out_.values[id].bits);
    return value(Op::kBitcast, want, {id});
  }
  if (is_float(have)) id = as(id, int_type(from));
  if (out_.is_constant(id)) return as(constant(int_type(to), out_.values[id].bits), want);
  return as(value(from > to ? Op::kTrunc : Op::kZExt, int_type(to), {id}), want);
}

ValueId Lowering::extend(ValueId id, Type want, bool is_signed) {
  if (bits_of(type_of(id)) >= bits_of(want)) return as(id, want);
  id = as(id, int_type(bits_of(type_of(id))));
  return as(value(is_signed ? Op::kSExt : Op::kZExt, int_type(bits_of(want)), {id}), want);
}

ValueId Lowering::icmp(Compare compare, ValueId a, ValueId b) {
  Instruction& inst = emit(Op::kICmp, type_of(a), {a, b});
  inst.imm = static_cast<std::int64_t>(compare);
  return inst.results[0];
}

ValueId Lowering::read(ptx::RegisterId reg) {
  const std::uint32_t slot = frame_->first_register + reg;
  return value(Op::kRegRead, out_.registers[slot], {}, slot);
}

void Lowering::write(ptx::RegisterId reg, ValueId value_id) {
  const std::uint32_t slot = frame_->first_register + reg;
  value_id = as(value_id, out_.registers[slot]);
  if (guard_ != kNone) value_id = select(guard_, value_id, read(reg));
  emit(Op::kRegWrite, out_.registers[slot], {value_id}, 0).imm = slot;
}

void Lowering::write(const ptx::Operand& destination, ValueId value_id) {
  if (destination.kind == ptx::OperandKind::kRegister) write(destination.index, value_id);
}

ValueId Lowering::operand(const Inst& inst, const ptx::Operand& op, Type want) {
  switch (op.kind) {
    case ptx::OperandKind::kRegister: {
      ValueId v = read(op.index);
      if (op.negated) v = negate(v);
      return as(v, want);
    }
    case ptx::OperandKind::kImmediate: {
      auto bits = static_cast<std::uint64_t>(op.value);
      if (op.negated) bits = bits == 0 ? 1 : 0;
      return constant(want, bits);
    }
    case ptx::OperandKind::kSpecial:
      return as(special(op.special()), want);
    case ptx::OperandKind::kSymbol:
      return as(symbol_address(inst, op.symbol(), op.value), want);
    case ptx::OperandKind::kSink:
      return out_.undef(want);
    default:
      fail(inst, "operand of this kind is not supported here");
      return out_.undef(want);
  }
}

// The address of a variable in its own state space.
ValueId Lowering::symbol_address(const Inst& inst, ptx::SymbolRef symbol, std::int64_t offset) {
  const auto plus = [&](std::uint64_t base) {
    return constant(Type::kI64, base + static_cast<std::uint64_t>(offset));
  };
  if (symbol.in_module) {
    const ptx::Variable& variable = module_.variables()[symbol.index];
    if (variable.space == ptx::StateSpace::kShared) {
      const auto at = shared_variables_.find(symbol.index);
      return plus(at != shared_variables_.end() ? at->second : shared_.dynamic_offset);
    }
    const ValueId base = value(Op::kGlobalAddr, Type::kI64, {}, symbol.index);
    return offset == 0 ? base : value(Op::kAdd, Type::kI64, {base, plus(0)});
  }
  const ptx::Variable& variable = frame_->function->variables[symbol.index];
  switch (variable.space) {
    case ptx::StateSpace::kShared:
      if (variable.linkage == ptx::Linkage::kExtern) return plus(shared_.dynamic_offset);
      return plus(frame_->shared_base + variable.offset);
    case ptx::StateSpace::kLocal:
      return plus(frame_->local_base + variable.offset);
    case ptx::StateSpace::kParam: {
      if (variable.role == ptx::Variable::Role::kCallParameter)
        return plus(frame_->call_base + variable.offset);
      const auto at = frame_->place.find(symbol.index);
      return plus(at != frame_->place.end() ? at->second : variable.offset);
    }
    default:
      fail(inst, "address of a variable in this state space");
      return out_.undef(Type::kI64);
  }
}

ValueId Lowering::special(ptx::SpecialRegister reg) {
  using SR = ptx::SpecialRegister;
  switch (reg) {
    case SR::kNtidX:
    case SR::kNtidY:
    case SR::kNtidZ:
      return constant(Type::kI32,
                      out_.ntid[static_cast<std::size_t>(reg) - static_cast<std::size_t>(SR::kNtidX)]);
    case SR::kNwarpid:
      return constant(Type::kI32, (out_.threads() + kWarpSize - 1) / kWarpSize);
    case SR::kClock64:
    case SR::kGlobaltimer:
      return emit(Op::kClock, Type::kI64, {}).results[0];
    case SR::kClock:
    case SR::kGlobaltimerLo:
      return as(emit(Op::kClock, Type::kI64, {}).results[0], Type::kI32);
    case SR::kClockHi:
    case SR::kGlobaltimerHi:
      return as(value(Op::kLShr, Type::kI64,
                      {emit(Op::kClock, Type::kI64, {}).results[0], constant(Type::kI32, 32)}),
                Type::kI32);
    case SR::kGridid:
      return value(Op::kSpecial, Type::kI64, {}, static_cast<std::int64_t>(reg));
    default:
      return value(Op::kSpecial, Type::kI32, {}, static_cast<std::int64_t>(reg));
  }
}

}  // namespace vgpu::software::ir
