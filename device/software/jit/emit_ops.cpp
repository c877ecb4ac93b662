// Values, and which rule emits an instruction. The same code emits scalars and vectors: LLVM's instructions
// take both.
#include <llvm/IR/MDBuilder.h>

#include <algorithm>

#include "device/software/jit/emitter.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

using ir::Op;
using ir::Type;
using llvm::Value;

llvm::Type* Emitter::type(Type t) const {
  switch (t) {
    case Type::kF32:
      return llvm::Type::getFloatTy(context_);
    case Type::kF64:
      return llvm::Type::getDoubleTy(context_);
    case Type::kVoid:
      return llvm::Type::getVoidTy(context_);
    default:
      return llvm::Type::getIntNTy(context_, ir::bits_of(t));
  }
}

llvm::Type* Emitter::type(Type t, bool vector) const {
  return vector ? llvm::FixedVectorType::get(type(t), kWarpSize) : type(t);
}

llvm::Constant* Emitter::constant(Type t, std::uint64_t bits) const {
  const std::uint32_t width = ir::bits_of(t);
  const llvm::APInt value(64, bits);
  const llvm::APInt narrow = width == 64 ? value : value.trunc(width);
  if (t == Type::kF32)
    return llvm::ConstantFP::get(context_, llvm::APFloat(llvm::APFloat::IEEEsingle(), narrow));
  if (t == Type::kF64)
    return llvm::ConstantFP::get(context_, llvm::APFloat(llvm::APFloat::IEEEdouble(), narrow));
  return llvm::ConstantInt::get(type(t), narrow);
}

llvm::Constant* Emitter::constant(Type t, std::uint64_t bits, bool vector) const {
  llvm::Constant* one = constant(t, bits);
  return vector ? llvm::ConstantVector::getSplat(llvm::ElementCount::getFixed(kWarpSize), one) : one;
}

llvm::Constant* Emitter::same(Value* like, Type t, std::uint64_t bits) const {
  if (!like->getType()->isVectorTy()) return constant(t, bits);
  const unsigned lanes = llvm::cast<llvm::FixedVectorType>(like->getType())->getNumElements();
  return llvm::ConstantVector::getSplat(llvm::ElementCount::getFixed(lanes), constant(t, bits));
}

// Each lane asks for its bit. A bitcast says the same, and LLVM 19 may then never end: it moves i32 logic to
// the vector's side of the cast and back again (llvm-project issue 123333).
Value* Emitter::as_mask(Value* bits) {
  ir::LaneTable table{};
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) table[lane] = std::int64_t{1} << lane;
  Value* own = b_.CreateAnd(splat(bits), table_constant(Type::kI32, table, 0));
  return b_.CreateICmpNE(own, same(own, Type::kI32, 0));
}

llvm::Constant* Emitter::table_constant(Type t, const ir::LaneTable& table, std::int64_t base) const {
  std::vector<llvm::Constant*> lanes;
  for (const std::int64_t entry : table)
    lanes.push_back(constant(t, static_cast<std::uint64_t>(base + entry)));
  return llvm::ConstantVector::get(lanes);
}

Value* Emitter::intrinsic(llvm::Intrinsic::ID id, std::initializer_list<llvm::Type*> types,
                          std::initializer_list<Value*> args) {
  return b_.CreateIntrinsic(id, types, args);
}

Value* Emitter::scalar(ValueId id) {
  const ir::Value& value = function_.values[id];
  if (value.is_undef) return constant(value.type, 0);
  if (value.instruction == ir::kNone) return constant(value.type, value.bits);
  if (shape(id).known) return constant(value.type, static_cast<std::uint64_t>(shape(id).base));
  Value*& slot = scalars_[id];
  if (slot == nullptr) slot = b_.CreateLoad(type(value.type), homes_[id]);
  return slot;
}

Value* Emitter::vector(ValueId id) {
  const ir::Value& value = function_.values[id];
  const ir::Shape& s = shape(id);
  if (value.instruction == ir::kNone) return constant(value.type, value.is_undef ? 0 : value.bits, true);
  if (s.known) return table_constant(value.type, shapes_.table_of(s), s.base);
  Value*& slot = vectors_[id];
  if (slot != nullptr) return slot;
  if (s.is_varying()) {
    slot = b_.CreateLoad(type(value.type, true), homes_[id]);
  } else {
    Value* result = splat(scalar(id));
    if (!s.is_uniform()) result = b_.CreateAdd(result, table_constant(value.type, shapes_.table_of(s), 0));
    slot = result;
  }
  return vectors_[id];
}

void Emitter::define(ValueId id, Value* value) {
  if (shape(id).known) return;
  if (shape(id).is_varying() && !is_vector(value)) value = splat(value);
  (shape(id).is_varying() ? vectors_ : scalars_)[id] = value;
  if (needs_home_[id]) b_.CreateStore(value, homes_[id]);
}

void Emitter::emit_instruction(const Inst& inst) {
  switch (inst.op) {
    case Op::kLoad:
      return emit_load(inst);
    case Op::kStore:
      return emit_store(inst);
    case Op::kAtomic:
      return emit_atomic(inst);
    case Op::kShfl:
      return emit_shfl(inst);
    case Op::kBarrier:
      return emit_barrier(inst);
    case Op::kFence:
      return emit_fence(inst);
    case Op::kTrap:
      return emit_trap(i32(static_cast<std::uint64_t>(inst.imm)), inst.line);
    case Op::kVote: {
      Value* votes = bits_of_mask(vector(inst.operands[0]));
      return define(inst.results[0], full_mask() ? votes : b_.CreateAnd(votes, mask()));
    }
    case Op::kActiveMask:
      return define(inst.results[0], mask());
    case Op::kMatch:
      return define(inst.results[0], match(vector(inst.operands[0])));
    case Op::kPrintf:
      return define(inst.results[0], print(inst));
    case Op::kKeep: {
      if (!shape(inst.results[0]).is_varying()) return define(inst.results[0], scalar(inst.operands[0]));
      llvm::AllocaInst* home = homes_[inst.results[0]];
      Value* value = vector(inst.operands[0]);
      if (!full_mask()) {
        value = b_.CreateSelect(mask_vector(), value, b_.CreateLoad(home->getAllocatedType(), home));
      }
      return define(inst.results[0], value);
    }
    default: {
      const ValueId result = inst.results[0];
      if (shape(result).known) return;
      return define(result, emit_pure(inst, shape(result).is_varying()));
    }
  }
}

Value* Emitter::emit_pure(const Inst& inst, bool as_vector) {
  const auto in = [&](std::size_t i) { return get(inst.operands[i], as_vector); };
  llvm::Type* out = type(inst.type, as_vector);
  switch (inst.op) {
    case Op::kAdd:
      return b_.CreateAdd(in(0), in(1));
    case Op::kSub:
      return b_.CreateSub(in(0), in(1));
    case Op::kMul:
      return b_.CreateMul(in(0), in(1));
    case Op::kMulHiS:
      return multiply_high(in(0), in(1), true);
    case Op::kMulHiU:
      return multiply_high(in(0), in(1), false);
    case Op::kDivS:
    case Op::kDivU:
    case Op::kRemS:
    case Op::kRemU:
      return divide(inst, in(0), in(1));
    case Op::kMinS:
      return b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, in(0), in(1));
    case Op::kMinU:
      return b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, in(0), in(1));
    case Op::kMaxS:
      return b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, in(0), in(1));
    case Op::kMaxU:
      return b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, in(0), in(1));
    case Op::kAbs:
      return b_.CreateBinaryIntrinsic(llvm::Intrinsic::abs, in(0), b_.getFalse());
    case Op::kAnd:
      return b_.CreateAnd(in(0), in(1));
    case Op::kOr:
      return b_.CreateOr(in(0), in(1));
    case Op::kXor:
      return b_.CreateXor(in(0), in(1));
    case Op::kShl:
    case Op::kLShr:
    case Op::kAShr:
      return shift(inst.op, in(0), in(1));
    case Op::kFunnelL:
    case Op::kFunnelR:
      return funnel(inst, in(0), in(1), in(2));
    case Op::kPopc:
    case Op::kClz: {
      Value* v = in(0);
      Value* n = inst.op == Op::kPopc ? b_.CreateUnaryIntrinsic(llvm::Intrinsic::ctpop, v)
                                      : b_.CreateBinaryIntrinsic(llvm::Intrinsic::ctlz, v, b_.getFalse());
      return b_.CreateZExtOrTrunc(n, out);
    }
    case Op::kBrev:
      return b_.CreateUnaryIntrinsic(llvm::Intrinsic::bitreverse, in(0));
    case Op::kBfeS:
    case Op::kBfeU:
      return field_extract(in(0), in(1), in(2), inst.op == Op::kBfeS);
    case Op::kBfi:
      return field_insert(in(0), in(1), in(2), in(3));
    case Op::kBfindS:
    case Op::kBfindU:
      return find_first(in(0), inst.op == Op::kBfindS, inst.imm != 0);
    case Op::kFns:
      return find_nth_set(in(0), in(1), in(2));
    case Op::kPrmt:
      return permute_bytes(inst, in(0), in(1), in(2));
    case Op::kLop3:
      return logic3(in(0), in(1), in(2), static_cast<std::uint32_t>(inst.imm));
    case Op::kDp4a:
      return dot4(inst, in(0), in(1), in(2));
    case Op::kDp2a:
      return dot2(inst, in(0), in(1), in(2));
    case Op::kICmp:
    case Op::kFCmp:
      return compare(inst, in(0), in(1));
    case Op::kSelect:
      return b_.CreateSelect(shape(inst.operands[0]).is_uniform() ? scalar(inst.operands[0]) : in(0), in(1),
                             in(2));
    case Op::kTrunc:
      return b_.CreateTrunc(in(0), out);
    case Op::kZExt:
      if (is_guarded(inst)) guard_wrap(inst);
      return b_.CreateZExt(in(0), out);
    case Op::kSExt:
      if (is_guarded(inst)) guard_wrap(inst);
      return b_.CreateSExt(in(0), out);
    case Op::kBitcast:
      return b_.CreateBitCast(in(0), out);
    case Op::kSpecial:
      return special(inst, as_vector);
    case Op::kGlobalAddr: {
      auto* load = b_.CreateAlignedLoad(
          b_.getInt64Ty(),
          b_.CreateConstGEP1_64(b_.getInt64Ty(), globals_, static_cast<std::uint64_t>(inst.imm)),
          llvm::Align(8));
      load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
      return load;
    }
    case Op::kSharedWindow:
      return shared_base_;
    case Op::kLocalWindow:
      return b_.CreateAdd(local_offsets_, constant(Type::kI64, kDeviceWindowBase, true));
    case Op::kSharedEnd:
      return b_.CreateZExt(shared_bytes_, b_.getInt64Ty());
    case Op::kLocalStart:
      return local_base_;
    case Op::kLocalEnd:
      return b_.CreateAdd(
          local_base_, b_.CreateMul(b_.CreateZExt(local_stride_, b_.getInt64Ty()), i64(function_.threads())));
    case Op::kClock:
      return b_.CreateIntrinsic(llvm::Intrinsic::readcyclecounter, {}, {});
    default:
      return emit_float(inst, as_vector);
  }
}

// Checked where it stands.
bool Emitter::is_guarded(const Inst& inst) const {
  const ValueId result = inst.results[0];
  return result < shapes_.guarded.size() && shapes_.guarded[result] && !shapes_.guarded_on_entry[result];
}

// Computes lane 0's value before its instruction's turn, from what is there where the block begins.
void Emitter::compute_early(ValueId value) {
  const Inst* inst = function_.definition(value);
  if (inst == nullptr || inst->block != block_ || inst->op == Op::kPhi || shape(value).known ||
      scalars_.contains(value))
    return;
  for (const ValueId operand : inst->operands) compute_early(operand);
  scalars_[value] = emit_pure(*inst, false);
}

// All lanes' indices fit their type if lane 0's value is in [first, first + count).
Value* Emitter::fits_unwrapped(const Inst& inst) {
  ++counts_.guards;
  const ValueId index = inst.operands[0];
  const std::uint32_t width = ir::bits_of(function_.values[index].type);
  const auto [low, high] = std::ranges::minmax(shapes_.table_of(shape(index)));
  const bool is_signed = inst.op == Op::kSExt;
  llvm::Type* wide = b_.getInt64Ty();
  Value* base = is_signed ? b_.CreateSExt(scalar(index), wide) : b_.CreateZExt(scalar(index), wide);
  const std::int64_t least = is_signed ? -(std::int64_t{1} << (width - 1)) : 0;
  const std::int64_t first = least - std::min<std::int64_t>(low, 0);
  const std::int64_t count =
      (std::int64_t{1} << width) - std::max<std::int64_t>(high, 0) + std::min<std::int64_t>(low, 0);
  Value* from_first = b_.CreateSub(base, i64(static_cast<std::uint64_t>(first)));
  return b_.CreateICmpULT(from_first, i64(static_cast<std::uint64_t>(std::max<std::int64_t>(count, 0))));
}

// If a lane's index does not fit, the warp starts anew with code that does not rely on it.
void Emitter::guard_wrap(const Inst& inst) {
  Value* fits = fits_unwrapped(inst);
  auto* next = new_block("fits");
  if (restart_ == nullptr) {
    const llvm::IRBuilder<>::InsertPointGuard here(b_);
    restart_ = new_block("restart");
    b_.SetInsertPoint(restart_);
    const llvm::FunctionCallee plain = module_.getOrInsertFunction(kPlainSymbol, code_->getFunctionType());
    b_.CreateRet(b_.CreateCall(plain, {state_, warp_, frame_}));
  }
  b_.CreateCondBr(fits, next, restart_, llvm::MDBuilder(context_).createLikelyBranchWeights());
  b_.SetInsertPoint(next);
}

Value* Emitter::compare(const Inst& inst, Value* a, Value* b) {
  using P = llvm::CmpInst;
  constexpr llvm::CmpInst::Predicate kPredicates[] = {
      P::ICMP_EQ,  P::ICMP_NE,  P::ICMP_SLT, P::ICMP_SLE, P::ICMP_SGT, P::ICMP_SGE, P::ICMP_ULT, P::ICMP_ULE,
      P::ICMP_UGT, P::ICMP_UGE, P::FCMP_OEQ, P::FCMP_ONE, P::FCMP_OLT, P::FCMP_OLE, P::FCMP_OGT, P::FCMP_OGE,
      P::FCMP_UEQ, P::FCMP_UNE, P::FCMP_ULT, P::FCMP_ULE, P::FCMP_UGT, P::FCMP_UGE, P::FCMP_ORD, P::FCMP_UNO};
  return b_.CreateCmp(kPredicates[inst.imm], a, b);
}

Value* Emitter::thread_index(int dimension, bool as_vector) {
  const std::uint32_t nx = function_.ntid[0];
  const std::uint32_t step = dimension == 0 ? 1 : dimension == 1 ? nx : nx * function_.ntid[1];
  const std::uint32_t size = function_.ntid[dimension];
  Value* thread = as_vector ? threads_ : b_.CreateShl(warp_, i32(5));
  if (step != 1) thread = b_.CreateUDiv(thread, same(thread, Type::kI32, step));
  // The last dimension needs no remainder, except for lanes behind the block's end.
  if (step * size < function_.threads()) thread = b_.CreateURem(thread, same(thread, Type::kI32, size));
  return thread;
}

Value* Emitter::special(const Inst& inst, bool as_vector) {
  using SR = ptx::SpecialRegister;
  const auto reg = static_cast<SR>(inst.imm);
  const auto field = [&](Type t, std::size_t offset) {
    auto* load =
        b_.CreateAlignedLoad(type(t), b_.CreateConstGEP1_64(b_.getInt8Ty(), state_, offset), llvm::Align(4));
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return load;
  };
  const auto entry = [&](std::size_t array, SR first) {
    return field(Type::kI32, array + 4 * (static_cast<std::size_t>(reg) - static_cast<std::size_t>(first)));
  };
  switch (reg) {
    case SR::kTidX:
    case SR::kTidY:
    case SR::kTidZ:
      return thread_index(static_cast<int>(reg) - static_cast<int>(SR::kTidX), as_vector);
    case SR::kCtaidX:
      return b_.CreateAdd(entry(offsetof(BlockState, ctaid), SR::kCtaidX), i32(inst.of_block));
    case SR::kCtaidY:
    case SR::kCtaidZ:
      return entry(offsetof(BlockState, ctaid), SR::kCtaidX);
    case SR::kNctaidX:
    case SR::kNctaidY:
    case SR::kNctaidZ:
      return entry(offsetof(BlockState, nctaid), SR::kNctaidX);
    case SR::kWarpid:
      return warp_;
    case SR::kSmid:
      return i32(0);
    case SR::kNsmid:
      return i32(1);
    case SR::kGridid:
      return field(Type::kI64, offsetof(BlockState, grid_id));
    case SR::kDynamicSmemSize:
      return field(Type::kI32, offsetof(BlockState, dynamic_shared_bytes));
    case SR::kTotalSmemSize:
      return shared_bytes_;
    default:
      break;
  }
  const auto env = static_cast<std::size_t>(reg) - static_cast<std::size_t>(SR::kEnvreg0);
  if (env == 1) return field(Type::kI32, offsetof(BlockState, grid_workspace) + 4);
  if (env == 2) return field(Type::kI32, offsetof(BlockState, grid_workspace));
  return i32(0);
}

}  // namespace vgpu::software::jit
