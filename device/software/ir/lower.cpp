// Lowering: functions, control flow, predication and calls.
#include "device/software/ir/lower.h"

#include <algorithm>

#include "device/software/ir/cfg.h"
#include "device/software/ir/lowering.h"

namespace vgpu::software::ir {

namespace {

constexpr std::size_t kMaxInstructions = 400'000;  // after inlining; a limit against hostile call trees

bool is_f32_arithmetic(const ptx::Instruction& inst) {
  using ptx::Opcode;
  switch (inst.opcode) {
    case Opcode::kAdd:
    case Opcode::kSub:
    case Opcode::kMul:
    case Opcode::kFma:
    case Opcode::kMad:
    case Opcode::kDiv:
    case Opcode::kRcp:
    case Opcode::kSqrt:
    case Opcode::kRsqrt:
    case Opcode::kEx2:
    case Opcode::kLg2:
    case Opcode::kSin:
    case Opcode::kCos:
    case Opcode::kMin:
    case Opcode::kMax:
    case Opcode::kSetp:
    case Opcode::kSet:
      return inst.type == ptx::Type::kF32 || inst.source_type == ptx::Type::kF32;
    case Opcode::kSlct:
      return inst.source_type == ptx::Type::kF32;
    case Opcode::kCvt:
      // Only where a subnormal input changes the result.
      return inst.source_type == ptx::Type::kF32 &&
             (inst.rounding == ptx::Rounding::kRmi || inst.rounding == ptx::Rounding::kRpi ||
              inst.type == ptx::Type::kF64);
    default:
      return false;
  }
}

bool is_pure(const ptx::Instruction& inst) {
  using ptx::Opcode;
  switch (inst.opcode) {
    case Opcode::kActivemask:
    case Opcode::kAtom:
    case Opcode::kBarrier:
    case Opcode::kBarWarpSync:
    case Opcode::kBrxIdx:
    case Opcode::kCall:
    case Opcode::kExit:
    case Opcode::kFence:
    case Opcode::kLd:
    case Opcode::kMatch:
    case Opcode::kMembar:
    case Opcode::kRed:
    case Opcode::kRet:
    case Opcode::kShfl:
    case Opcode::kSt:
    case Opcode::kTrap:
    case Opcode::kVote:
    case Opcode::kBra:
      return false;
    default:
      return true;
  }
}

}  // namespace

Type type_of_ptx(ptx::Type type) {
  switch (type) {
    case ptx::Type::kNone:
      return Type::kVoid;
    case ptx::Type::kF32:
      return Type::kF32;
    case ptx::Type::kF64:
      return Type::kF64;
    default:
      return int_type(ptx::bits_of(type));
  }
}

Rounding rounding_of(ptx::Rounding rounding) {
  switch (rounding) {
    case ptx::Rounding::kRz:
    case ptx::Rounding::kRzi:
      return Rounding::kZero;
    case ptx::Rounding::kRm:
    case ptx::Rounding::kRmi:
      return Rounding::kDown;
    case ptx::Rounding::kRp:
    case ptx::Rounding::kRpi:
      return Rounding::kUp;
    default:
      return Rounding::kNearest;
  }
}

std::expected<Function, LowerError> lower(const ptx::Module& module, std::string_view kernel,
                                          const LowerOptions& options) {
  return Lowering(module, options).run(kernel);
}

void Lowering::fail_at(std::uint32_t line, const std::string& why, LowerErrorKind kind) {
  if (error_) return;
  error_ = LowerError{kind, module_.file() + ":" + std::to_string(line) + ": " + why};
}

bool Lowering::fail(const Inst& inst, const std::string& why) {
  fail_at(inst.line, why + ": " + ptx::print(module_, *frame_->function, inst), LowerErrorKind::kUnsupported);
  return false;
}

const ptx::Function* Lowering::load(std::uint32_t index) {
  auto& slot = loaded_[index];
  if (!slot) {
    auto parsed = module_.parse_function(index);
    if (!parsed) {
      if (!error_) {
        const auto kind = parsed.error().kind == ptx::ErrorKind::kUnsupported ? LowerErrorKind::kUnsupported
                                                                              : LowerErrorKind::kParse;
        error_ = LowerError{kind, parsed.error().describe()};
      }
      return nullptr;
    }
    slot = std::make_unique<ptx::Function>(std::move(*parsed));
  }
  return slot.get();
}

bool Lowering::load_reachable(std::uint32_t root, std::vector<const ptx::Function*>& functions) {
  std::vector<std::uint32_t> work{root};
  std::set<std::uint32_t> seen{root};
  for (std::size_t i = 0; i < work.size(); ++i) {
    const ptx::Function* function = load(work[i]);
    if (function == nullptr) return false;
    functions.push_back(function);
    for (const std::uint32_t callee : function->called_functions) {
      if (module_.functions()[callee].is_defined && seen.insert(callee).second) work.push_back(callee);
    }
  }
  return true;
}

void Lowering::choose_flush_mode(const std::vector<const ptx::Function*>& functions) {
  bool any_flush = false;
  bool any_exact = false;
  for (const ptx::Function* function : functions) {
    for (const Inst& inst : function->instructions) {
      if (inst.type == ptx::Type::kF64 && inst.opcode != ptx::Opcode::kMov &&
          inst.opcode != ptx::Opcode::kLd && inst.opcode != ptx::Opcode::kSt) {
        any_exact = true;
      }
      if (inst.source_type == ptx::Type::kF64) any_exact = true;
      if (inst.has(ptx::kFlagFtz)) {
        any_flush = true;
      } else if (is_f32_arithmetic(inst)) {
        any_exact = true;
      }
    }
  }
  out_.flush = !any_flush ? FlushMode::kNever : any_exact ? FlushMode::kExplicit : FlushMode::kAlways;
}

std::expected<Function, LowerError> Lowering::run(std::string_view kernel) {
  const auto index = module_.function_index(kernel);
  if (!index || !module_.functions()[*index].is_entry || !module_.functions()[*index].is_defined) {
    return std::unexpected(LowerError{LowerErrorKind::kNotFound,
                                      module_.file() + ": no kernel named '" + std::string(kernel) + "'"});
  }
  std::vector<const ptx::Function*> functions;
  if (!load_reachable(*index, functions)) return std::unexpected(*error_);
  choose_flush_mode(functions);
  shared_ = ptx::layout_shared(module_, functions);
  for (std::size_t i = 0; i < functions.size(); ++i)
    shared_frames_[functions[i]] = shared_.function_offsets[i];
  for (const auto& [variable, offset] : shared_.module_offsets) shared_variables_[variable] = offset;

  const ptx::FunctionDecl& decl = module_.functions()[*index];
  out_.name = decl.name;
  out_.param_bytes = decl.parameter_bytes;
  out_.static_shared_bytes = static_cast<std::uint32_t>(shared_.static_bytes);
  out_.dynamic_shared_offset = static_cast<std::uint32_t>(shared_.dynamic_offset);

  Frame frame;
  frame.function = functions.front();
  frame.shared_base = shared_frames_[frame.function];
  block_ = new_block();
  lower_body(frame);
  if (error_) return std::unexpected(*error_);
  rebuild_preds(out_);
  return std::move(out_);
}

void Lowering::lower_body(Frame& frame) {
  Frame* const outer = frame_;
  frame_ = &frame;
  const ptx::Function& function = *frame.function;
  frame.first_register = static_cast<std::uint32_t>(out_.registers.size());
  for (const ptx::Type type : function.registers) out_.registers.push_back(type_of_ptx(type));
  frame.carry_register = static_cast<std::uint32_t>(function.registers.size());
  out_.registers.push_back(Type::kI1);

  const auto align16 = [](std::uint64_t bytes) { return (bytes + 15) & ~std::uint64_t{15}; };
  frame.call_base = frame.local_base + align16(function.local_bytes);
  frame.frame_end = frame.call_base + align16(function.call_param_bytes);
  if (frame.frame_end > std::uint64_t{1} << 20) {
    fail_at(line_, "more than 1 MiB of local memory a thread", LowerErrorKind::kUnsupported);
  }
  out_.local_bytes = std::max(out_.local_bytes, static_cast<std::uint32_t>(frame.frame_end));

  const std::size_t count = function.instructions.size();
  frame.block_at.assign(count + 1, kNone);
  for (const ptx::Operand& op : function.operands) {
    if (op.kind == ptx::OperandKind::kLabel && frame.block_at[op.index] == kNone) {
      frame.block_at[op.index] = new_block();
    }
  }
  for (std::size_t i = 0; i <= count && !error_; ++i) {
    if (frame.block_at[i] != kNone) {
      jump(frame.block_at[i]);
      start(frame.block_at[i]);
    }
    if (!is_open()) {
      if (i == count) break;
      continue;  // unreachable text
    }
    if (i == count) {
      lower_return();
      break;
    }
    const Inst& inst = function.instructions[i];
    line_ = inst.line;
    if (out_.blocks[block_].body.empty()) out_.blocks[block_].line = line_;
    if (out_.instructions.size() > kMaxInstructions) {
      fail_at(line_, "the kernel is too large after inlining", LowerErrorKind::kUnsupported);
      break;
    }
    lower_guarded(inst, i);
  }
  frame_ = outer;
}

void Lowering::lower_guarded(const Inst& inst, std::size_t index) {
  if (inst.guard.predicate == ptx::kNoRegister) return lower_instruction(inst, index);
  ValueId guard = read(inst.guard.predicate);
  if (inst.opcode == ptx::Opcode::kBra) {
    const ptx::Operand& target = operands(inst)[0];
    const BlockId next = new_block();
    if (inst.guard.negated) {
      branch(guard, next, frame_->block_at[target.index]);
    } else {
      branch(guard, frame_->block_at[target.index], next);
    }
    return start(next);
  }
  if (inst.guard.negated) guard = negate(guard);
  if (is_pure(inst)) {
    guard_ = guard;
    lower_instruction(inst, index);
    guard_ = kNone;
    return;
  }
  const BlockId then = new_block();
  const BlockId next = new_block();
  branch(guard, then, next);
  start(then);
  lower_instruction(inst, index);
  jump(next);
  start(next);
}

void Lowering::lower_return() {
  if (frame_->return_block == kNone) {
    exit_block();
  } else {
    jump(frame_->return_block);
  }
}

void Lowering::lower_instruction(const Inst& inst, std::size_t) {
  using ptx::Opcode;
  switch (inst.opcode) {
    case Opcode::kBra:
      return jump(frame_->block_at[operands(inst)[0].index]);
    case Opcode::kBrxIdx: {
      const ValueId selector = operand(inst, operands(inst)[0], Type::kI32);
      const auto targets = frame_->function->elements_of(operands(inst)[1]);
      for (std::size_t i = 0; i + 1 < targets.size(); ++i) {
        const ValueId hit = icmp(Compare::kEq, selector, constant(Type::kI32, i));
        const BlockId next = new_block();
        branch(hit, frame_->block_at[targets[i].index], next);
        start(next);
      }
      return jump(frame_->block_at[targets.back().index]);
    }
    case Opcode::kExit:
      return exit_block();
    case Opcode::kRet:
      return lower_return();
    case Opcode::kTrap:
      emit(Op::kTrap, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(TrapReason::kTrapInstruction);
      return exit_block();
    case Opcode::kCall:
      return lower_call(inst);
    default:
      break;
  }
  if (lower_memory(inst)) return;
  if (lower_alu(inst)) return;
  if (!error_) fail(inst, "unsupported instruction");
}

void Lowering::lower_call(const Inst& inst) {
  const auto ops = operands(inst);
  std::size_t target_at = inst.destination_count;
  if (target_at >= ops.size()) return void(fail(inst, "call without a target"));
  const ptx::Operand& target = ops[target_at];
  const auto give_up = [&] {
    emit(Op::kTrap, Type::kVoid, {}, 0).imm = static_cast<std::int64_t>(TrapReason::kUnsupportedCall);
    exit_block();
    start(new_block());
  };
  if (target.kind != ptx::OperandKind::kFunction) return give_up();
  const ptx::FunctionDecl& decl = module_.functions()[target.index];
  std::vector<const ptx::Operand*> arguments;
  for (std::size_t i = target_at + 1; i < ops.size(); ++i) {
    if (ops[i].kind != ptx::OperandKind::kPrototype) arguments.push_back(&ops[i]);
  }
  const auto place_of = [&](const ptx::Operand& op) -> std::optional<std::uint64_t> {
    if (op.kind != ptx::OperandKind::kSymbol || op.in_module) return std::nullopt;
    const ptx::Variable& variable = frame_->function->variables[op.index];
    if (variable.role == ptx::Variable::Role::kCallParameter) return frame_->call_base + variable.offset;
    const auto at = frame_->place.find(op.index);
    if (at != frame_->place.end()) return at->second;
    return std::nullopt;
  };
  if (!decl.is_defined) {
    if (decl.name != "vprintf" || arguments.size() != 2 || inst.destination_count > 1) return give_up();
    ValueId values[2];
    for (std::size_t i = 0; i < 2; ++i) {
      if (const auto place = place_of(*arguments[i])) {
        Instruction& load = emit(Op::kLoad, Type::kI64, {constant(Type::kI32, *place)});
        load.space = Space::kLocal;
        load.count = 1;
        values[i] = load.results[0];
      } else {
        values[i] = operand(inst, *arguments[i], Type::kI64);
      }
    }
    const ValueId result = emit(Op::kPrintf, Type::kI32, {values[0], values[1]}).results[0];
    if (inst.destination_count == 1) {
      if (const auto place = place_of(ops[0])) {
        emit(Op::kStore, Type::kI32, {constant(Type::kI32, *place), result}, 0).space = Space::kLocal;
      } else {
        write(ops[0], result);
      }
    }
    return;
  }
  for (const Frame* up = frame_; up != nullptr; up = up->caller) {
    if (up->function->index == target.index) {
      return void(fail(inst, "recursive call of '" + decl.name + "' is not supported"));
    }
  }
  const ptx::Function* callee = load(target.index);
  if (callee == nullptr) return;
  if (arguments.size() != decl.parameters.size() || inst.destination_count != decl.returns.size()) {
    return void(fail(inst, "call does not match the declaration of '" + decl.name + "'"));
  }
  Frame frame;
  frame.function = callee;
  frame.caller = frame_;
  frame.is_kernel = false;
  frame.local_base = frame_->frame_end;
  frame.shared_base = shared_frames_[callee];
  frame.return_block = new_block();
  const auto first_register = static_cast<std::uint32_t>(out_.registers.size());
  for (std::size_t i = 0; i < arguments.size() + inst.destination_count; ++i) {
    const bool is_argument = i < arguments.size();
    const ptx::Operand& op = is_argument ? *arguments[i] : ops[i - arguments.size()];
    const ptx::Parameter& formal = is_argument ? decl.parameters[i] : decl.returns[i - arguments.size()];
    if (formal.is_register) continue;
    const auto place = place_of(op);
    if (!place) return void(fail(inst, "call argument must be a .param variable"));
    frame.place[static_cast<std::uint32_t>(i)] = *place;  // variables: parameters first, then returns
  }
  std::vector<std::pair<std::uint32_t, ValueId>> register_arguments;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (!decl.parameters[i].is_register) continue;
    const ptx::RegisterId reg = callee->parameter_registers[i];
    const ValueId v = operand(inst, *arguments[i], type_of_ptx(callee->registers[reg]));
    register_arguments.emplace_back(first_register + reg, v);
  }
  // lower_body() appends the callee's registers at first_register; the writes only name them.
  for (const auto& [slot, v] : register_arguments) emit(Op::kRegWrite, type_of(v), {v}, 0).imm = slot;
  lower_body(frame);
  start(frame.return_block);
  line_ = inst.line;
  for (std::size_t i = 0; i < inst.destination_count; ++i) {
    if (!decl.returns[i].is_register) continue;
    const std::uint32_t slot = first_register + callee->return_registers[i];
    write(ops[i], value(Op::kRegRead, out_.registers[slot], {}, slot));
  }
}

}  // namespace vgpu::software::ir
