// Lowering: loads, stores, atomics, address conversions, and what lanes do together.
#include "device/software/ir/lowering.h"
#include "device/software/ptx/null_tests.h"

namespace vgpu::software::ir {

namespace {

AtomicOp atomic_of(const ptx::Instruction& inst) {
  const bool is_signed = ptx::is_signed(inst.type);
  switch (inst.atomic) {
    case ptx::AtomicOp::kExch:
      return AtomicOp::kExchange;
    case ptx::AtomicOp::kCas:
      return AtomicOp::kCompareExchange;
    case ptx::AtomicOp::kMin:
      return is_signed ? AtomicOp::kMinS : AtomicOp::kMinU;
    case ptx::AtomicOp::kMax:
      return is_signed ? AtomicOp::kMaxS : AtomicOp::kMaxU;
    case ptx::AtomicOp::kAnd:
      return AtomicOp::kAnd;
    case ptx::AtomicOp::kOr:
      return AtomicOp::kOr;
    case ptx::AtomicOp::kXor:
      return AtomicOp::kXor;
    case ptx::AtomicOp::kInc:
      return AtomicOp::kIncrement;
    case ptx::AtomicOp::kDec:
      return AtomicOp::kDecrement;
    default:
      if (inst.type == ptx::Type::kF16x2) return AtomicOp::kHalf2Add;
      return ptx::is_float(inst.type) ? AtomicOp::kFAdd : AtomicOp::kAdd;
  }
}

}  // namespace

std::optional<Lowering::Address> Lowering::address(const Inst& inst, const ptx::Operand& op) {
  if (op.kind != ptx::OperandKind::kMemory) {
    fail(inst, "operand is not an address");
    return std::nullopt;
  }
  Address result;
  bool is_kernel_param = false;
  switch (inst.space) {
    case ptx::StateSpace::kShared:
      result.space = Space::kShared;
      break;
    case ptx::StateSpace::kLocal:
      result.space = Space::kLocal;
      break;
    case ptx::StateSpace::kParam: {
      // Parameters of the kernel lie in the parameter block; those of inlined functions in local memory.
      const bool own = op.memory_base != ptx::MemoryBase::kSymbol ||
                       frame_->function->variables[op.index].role != ptx::Variable::Role::kCallParameter;
      is_kernel_param = frame_->is_kernel && own;
      result.space = is_kernel_param ? Space::kParam : Space::kLocal;
      result.is_constant = is_kernel_param;
      break;
    }
    default:
      result.space = Space::kGlobal;
      result.is_constant = inst.space == ptx::StateSpace::kConst;
      break;
  }
  const Type type = result.space == Space::kGlobal || result.space == Space::kParam ? Type::kI64 : Type::kI32;
  switch (op.memory_base) {
    case ptx::MemoryBase::kRegister:
      result.base = as(read(op.index), type);
      result.offset = op.value;
      break;
    case ptx::MemoryBase::kSymbol: {
      ValueId base = symbol_address(inst, op.symbol(), 0);
      if (inst.space == ptx::StateSpace::kGeneric) {
        // A generic access that names a variable means the variable's generic address.
        const ptx::StateSpace home =
            op.in_module ? module_.variables()[op.index].space : frame_->function->variables[op.index].space;
        if (home == ptx::StateSpace::kShared) {
          base = value(Op::kAdd, Type::kI64, {value(Op::kSharedWindow, Type::kI64, {}), base});
        } else if (home == ptx::StateSpace::kLocal) {
          base = value(Op::kAdd, Type::kI64, {value(Op::kLocalWindow, Type::kI64, {}), base});
        }
      }
      result.base = as(base, type);
      result.offset = op.value;
      break;
    }
    default:
      result.base = constant(type, static_cast<std::uint64_t>(op.value));
      break;
  }
  return result;
}

bool Lowering::lower_memory(const Inst& inst) {
  using ptx::Opcode;
  switch (inst.opcode) {
    case Opcode::kLd:
      lower_load(inst);
      return true;
    case Opcode::kSt:
      lower_store(inst);
      return true;
    case Opcode::kAtom:
    case Opcode::kRed:
      lower_atomic(inst);
      return true;
    case Opcode::kCvta:
      lower_cvta(inst);
      return true;
    case Opcode::kIsspacep:
      lower_isspacep(inst);
      return true;
    case Opcode::kPrefetch:
    case Opcode::kNanosleep:
      return true;  // no effect a program can see
    case Opcode::kFence:
    case Opcode::kMembar:
      emit(Op::kFence, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(inst.scope);
      return true;
    case Opcode::kBarWarpSync:
      // The lanes of a warp run in step; what remains is the order of memory accesses.
      emit(Op::kFence, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(ptx::Scope::kNone);
      return true;
    case Opcode::kActivemask:
      write(operands(inst)[0], emit(Op::kActiveMask, Type::kI32, {}).results[0]);
      return true;
    case Opcode::kShfl:
      lower_shfl(inst);
      return true;
    case Opcode::kVote:
      lower_vote(inst);
      return true;
    case Opcode::kMatch:
      lower_match(inst);
      return true;
    case Opcode::kBarrier:
      lower_barrier(inst);
      return true;
    default:
      return false;
  }
}

// A load of 64 bits of the kernel's parameters that are known to be 0.
bool Lowering::is_null_param(const Inst& inst, const Address& at) const {
  if (at.space != Space::kParam || inst.vector > 1 || type_of_ptx(inst.type) != Type::kI64 ||
      !out_.is_constant(at.base))
    return false;
  const std::uint64_t byte = out_.values[at.base].bits + static_cast<std::uint64_t>(at.offset);
  return (null_params_ & ptx::null_word_at(byte)) != 0;
}

void Lowering::lower_load(const Inst& inst) {
  const auto ops = operands(inst);
  const auto at = address(inst, ops[1]);
  if (!at) return;
  const Type element = type_of_ptx(inst.type);
  if (is_null_param(inst, *at)) {
    ++out_.null_params;
    return write(ops[0], constant(Type::kI64, 0));
  }
  Instruction& load = emit(Op::kLoad, element, {at->base}, inst.vector);
  load.imm = at->offset;
  load.space = at->space;
  load.count = inst.vector;
  load.is_volatile = inst.has(ptx::kFlagVolatile) || inst.cache == ptx::CacheOp::kCv ||
                     (inst.order != ptx::MemoryOrder::kNone && inst.order != ptx::MemoryOrder::kWeak);
  load.is_constant = at->is_constant || inst.has(ptx::kFlagNc);
  const std::vector<ValueId> results = load.results;
  if (inst.order == ptx::MemoryOrder::kAcquire) {
    emit(Op::kFence, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(inst.scope);
  }
  const auto store = [&](const ptx::Operand& destination, ValueId v) {
    if (destination.kind != ptx::OperandKind::kRegister) return;
    const Type reg = out_.registers[frame_->first_register + destination.index];
    write(destination.index, extend(v, reg, ptx::is_signed(inst.type)));
  };
  if (ops[0].kind != ptx::OperandKind::kVector) return store(ops[0], results[0]);
  const auto elements = frame_->function->elements_of(ops[0]);
  for (std::size_t i = 0; i < elements.size(); ++i) store(elements[i], results[i]);
}

void Lowering::lower_store(const Inst& inst) {
  const auto ops = operands(inst);
  const auto at = address(inst, ops[0]);
  if (!at) return;
  if (at->space == Space::kParam) return void(fail(inst, "store to a kernel parameter"));
  const Type element = type_of_ptx(inst.type);
  std::vector<ValueId> values{at->base};
  if (ops[1].kind == ptx::OperandKind::kVector) {
    for (const ptx::Operand& op : frame_->function->elements_of(ops[1])) {
      values.push_back(operand(inst, op, element));
    }
  } else {
    values.push_back(operand(inst, ops[1], element));
  }
  if (inst.order == ptx::MemoryOrder::kRelease) {
    emit(Op::kFence, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(inst.scope);
  }
  Instruction& store = emit(Op::kStore, element, std::move(values), 0);
  store.imm = at->offset;
  store.space = at->space;
  store.is_volatile = inst.has(ptx::kFlagVolatile) ||
                      (inst.order != ptx::MemoryOrder::kNone && inst.order != ptx::MemoryOrder::kWeak);
}

void Lowering::lower_atomic(const Inst& inst) {
  const auto ops = operands(inst);
  const std::size_t first = inst.destination_count;
  const auto at = address(inst, ops[first]);
  if (!at) return;
  const Type type = type_of_ptx(inst.type);
  std::vector<ValueId> values{at->base};
  for (std::size_t i = first + 1; i < ops.size(); ++i) values.push_back(operand(inst, ops[i], type));
  Instruction& atomic = emit(Op::kAtomic, type, std::move(values), 1);
  atomic.sub = static_cast<std::uint8_t>(atomic_of(inst));
  atomic.imm = at->offset;
  atomic.space = at->space;
  const ValueId result = atomic.results[0];
  if (inst.destination_count == 1) write(ops[0], result);
}

void Lowering::lower_cvta(const Inst& inst) {
  const auto ops = operands(inst);
  const ValueId source = operand(inst, ops[1], Type::kI64);
  ValueId result = source;
  const bool shared = inst.space == ptx::StateSpace::kShared;
  if (inst.space == ptx::StateSpace::kParam) return void(fail(inst, "parameters have no generic address"));
  if (shared || inst.space == ptx::StateSpace::kLocal) {
    const ValueId window = value(shared ? Op::kSharedWindow : Op::kLocalWindow, Type::kI64, {});
    result = inst.has(ptx::kFlagToSpace) ? value(Op::kSub, Type::kI64, {source, window})
                                         : value(Op::kAdd, Type::kI64, {window, source});
  }
  write(ops[0], result);
}

void Lowering::lower_isspacep(const Inst& inst) {
  const auto ops = operands(inst);
  const ValueId a = operand(inst, ops[1], Type::kI64);
  const auto within = [&](ValueId base, ValueId size) {
    return icmp(Compare::kLtU, value(Op::kSub, Type::kI64, {a, base}), size);
  };
  const auto in_shared = [&] {
    return within(value(Op::kSharedWindow, Type::kI64, {}), value(Op::kSharedEnd, Type::kI64, {}));
  };
  const auto in_local = [&] {
    const ValueId start_at = value(Op::kLocalStart, Type::kI64, {});
    const ValueId end = value(Op::kLocalEnd, Type::kI64, {});
    return within(start_at, value(Op::kSub, Type::kI64, {end, start_at}));
  };
  const auto in_const = [&] {
    ValueId any = constant(Type::kI1, 0);
    for (std::uint32_t i = 0; i < module_.variables().size(); ++i) {
      const ptx::Variable& variable = module_.variables()[i];
      if (variable.space != ptx::StateSpace::kConst) continue;
      const ValueId hit =
          within(value(Op::kGlobalAddr, Type::kI64, {}, i), constant(Type::kI64, variable.size));
      any = value(Op::kOr, Type::kI1, {any, hit});
    }
    return any;
  };
  switch (inst.space) {
    case ptx::StateSpace::kShared:
      return write(ops[0], in_shared());
    case ptx::StateSpace::kLocal:
      return write(ops[0], in_local());
    case ptx::StateSpace::kConst:
      return write(ops[0], in_const());
    case ptx::StateSpace::kGlobal: {
      const ValueId other =
          value(Op::kOr, Type::kI1, {in_shared(), value(Op::kOr, Type::kI1, {in_local(), in_const()})});
      return write(ops[0], negate(other));
    }
    default:
      return void(fail(inst, "unsupported state space"));
  }
}

void Lowering::lower_shfl(const Inst& inst) {
  const auto ops = operands(inst);
  const std::size_t first = inst.destination_count;
  const ValueId a = operand(inst, ops[first], Type::kI32);
  const ValueId b = operand(inst, ops[first + 1], Type::kI32);
  const ValueId c = operand(inst, ops[first + 2], Type::kI32);
  Instruction& shfl = emit(Op::kShfl, Type::kI32, {a, b, c}, 2);
  shfl.sub = static_cast<std::uint8_t>(inst.shuffle);
  const ValueId result = shfl.results[0];
  const ValueId in_range = shfl.results[1];
  write(ops[0], result);
  if (inst.destination_count == 2) write(ops[1], in_range);
}

// Every vote is a ballot of the active lanes, then arithmetic with the member mask.
void Lowering::lower_vote(const Inst& inst) {
  const auto ops = operands(inst);
  const auto ballot = [&](ValueId predicate) {
    Instruction& vote = emit(Op::kVote, Type::kI32, {predicate});
    return vote.results[0];
  };
  const ValueId predicate = operand(inst, ops[1], Type::kI1);
  const ValueId members = inst.has(ptx::kFlagSync) && ops.size() > 2 ? operand(inst, ops[2], Type::kI32)
                                                                     : constant(Type::kI32, ~0u);
  const auto of_members = [&](ValueId mask) { return value(Op::kAnd, Type::kI32, {mask, members}); };
  const ValueId zero = constant(Type::kI32, 0);
  switch (inst.vote) {
    case ptx::VoteMode::kAll:
      return write(ops[0], icmp(Compare::kEq, of_members(ballot(negate(predicate))), zero));
    case ptx::VoteMode::kAny:
      return write(ops[0], icmp(Compare::kNe, of_members(ballot(predicate)), zero));
    case ptx::VoteMode::kUni: {
      const ValueId none = icmp(Compare::kEq, of_members(ballot(predicate)), zero);
      const ValueId all = icmp(Compare::kEq, of_members(ballot(negate(predicate))), zero);
      return write(ops[0], value(Op::kOr, Type::kI1, {none, all}));
    }
    default:
      return write(ops[0], of_members(ballot(predicate)));
  }
}

void Lowering::lower_match(const Inst& inst) {
  const auto ops = operands(inst);
  const std::size_t first = inst.destination_count;
  const Type type = int_type(ptx::bits_of(inst.type));
  const ValueId v = operand(inst, ops[first], type);
  const ValueId members = operand(inst, ops[first + 1], Type::kI32);
  const ValueId same = value(Op::kMatch, Type::kI32, {v});
  const ValueId mine = value(Op::kAnd, Type::kI32, {same, members});
  if (inst.has(ptx::kFlagMatchAny)) return write(ops[0], mine);
  const ValueId present =
      value(Op::kAnd, Type::kI32, {emit(Op::kActiveMask, Type::kI32, {}).results[0], members});
  const ValueId all = icmp(Compare::kEq, mine, present);
  write(ops[0], select(all, present, constant(Type::kI32, 0)));
  if (inst.destination_count == 2) write(ops[1], all);
}

void Lowering::lower_barrier(const Inst& inst) {
  const auto ops = operands(inst);
  const bool reduces = inst.barrier >= ptx::BarrierOp::kRedAnd;
  const std::size_t first = inst.destination_count;
  const std::size_t sources = ops.size() - first;
  const ValueId id = operand(inst, ops[first], Type::kI32);
  const std::size_t counts = sources - (reduces ? 1 : 0);
  const ValueId threads = counts > 1 ? operand(inst, ops[first + 1], Type::kI32) : constant(Type::kI32, 0);
  const ValueId predicate = reduces ? operand(inst, ops.back(), Type::kI1) : constant(Type::kI1, 0);
  BarrierKind kind = BarrierKind::kSync;
  if (inst.barrier == ptx::BarrierOp::kArrive) kind = BarrierKind::kArrive;
  if (inst.barrier == ptx::BarrierOp::kRedAnd) kind = BarrierKind::kReduceAnd;
  if (inst.barrier == ptx::BarrierOp::kRedOr) kind = BarrierKind::kReduceOr;
  if (inst.barrier == ptx::BarrierOp::kRedPopc) kind = BarrierKind::kReducePopcount;
  out_.uses_barriers = true;
  Instruction& barrier = emit(Op::kBarrier, Type::kI32, {id, threads, predicate});
  barrier.sub = static_cast<std::uint8_t>(kind);
  const ValueId result = barrier.results[0];
  if (!reduces || first == 0) return;
  if (kind == BarrierKind::kReducePopcount) {
    write(ops[0], result);
  } else {
    write(ops[0], icmp(Compare::kNe, result, constant(Type::kI32, 0)));
  }
}

}  // namespace vgpu::software::ir
