// Atomics, shuffles, barriers, and loops over lanes for what has no vector instruction.
#include <llvm/IR/IntrinsicsX86.h>

#include "device/software/jit/emitter.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

using ir::Type;
using llvm::Value;

Value* Emitter::scratch(llvm::Type* element_type, unsigned slot) {
  Value*& memory = scratch_[{element_type, slot}];
  if (memory == nullptr) {
    llvm::IRBuilder<> at_entry(entry_, entry_->begin());
    auto* array = at_entry.CreateAlloca(llvm::ArrayType::get(element_type, kWarpSize));
    array->setAlignment(llvm::Align(64));
    memory = array;
  }
  return memory;
}

Value* Emitter::spill(Value* value, unsigned slot) {
  Value* memory = scratch(value->getType()->getScalarType(), slot);
  b_.CreateAlignedStore(value, memory, llvm::Align(64));
  return memory;
}

Value* Emitter::element(Value* spilled, llvm::Type* element_type, Value* lane) {
  return b_.CreateLoad(element_type, b_.CreateGEP(element_type, spilled, lane));
}

Value* Emitter::reload(Value* spilled, llvm::Type* element_type) {
  return b_.CreateAlignedLoad(llvm::FixedVectorType::get(element_type, kWarpSize), spilled, llvm::Align(64));
}

void Emitter::for_each_lane(Value* lanes, const std::function<void(Value*)>& body) {
  auto* before = b_.GetInsertBlock();
  auto* loop = new_block("lane");
  auto* done = new_block("lanes.done");
  // Blocks run with at least one lane; a loop's first turn needs no test.
  b_.CreateBr(loop);
  b_.SetInsertPoint(loop);
  auto* left = b_.CreatePHI(b_.getInt32Ty(), 2);
  left->addIncoming(lanes, before);
  Value* lane = b_.CreateBinaryIntrinsic(llvm::Intrinsic::cttz, left, b_.getFalse());
  lane = b_.CreateAnd(lane, i32(31));
  body(b_.CreateZExt(lane, b_.getInt64Ty()));
  Value* next = b_.CreateAnd(left, b_.CreateSub(left, i32(1)));
  left->addIncoming(next, b_.GetInsertBlock());
  b_.CreateCondBr(b_.CreateICmpNE(next, i32(0)), loop, done);
  b_.SetInsertPoint(done);
}

Value* Emitter::first_lane(ValueId id) {
  if (shape(id).is_uniform()) return scalar(id);
  if (full_mask()) return b_.CreateExtractElement(vector(id), std::uint64_t{0});
  Value* lane = b_.CreateAnd(b_.CreateBinaryIntrinsic(llvm::Intrinsic::cttz, mask(), b_.getFalse()), i32(31));
  Value* all = vector(id);
  if (all->getType()->getScalarSizeInBits() < 8) {
    return b_.CreateTrunc(b_.CreateLShr(bits_of_mask(all), lane), b_.getInt1Ty());
  }
  return b_.CreateExtractElement(all, lane);
}

void Emitter::emit_atomic(const Inst& inst) {
  using AO = ir::AtomicOp;
  const auto op = static_cast<AO>(inst.sub);
  const std::uint32_t bytes = ir::bits_of(inst.type) / 8;
  const Place at = place(inst, bytes);
  llvm::Type* element_type = type(inst.type);
  Value* addresses = spill(b_.CreatePtrToInt(pointers(at), type(Type::kI64, true)), 0);
  std::vector<Value*> values;
  for (std::size_t i = 1; i < inst.operands.size(); ++i) {
    values.push_back(spill(vector(inst.operands[i]), static_cast<unsigned>(i)));
  }
  Value* out = scratch(element_type, 3);
  for_each_lane(mask(), [&](Value* lane) {
    Value* pointer = b_.CreateIntToPtr(element(addresses, b_.getInt64Ty(), lane), b_.getPtrTy());
    Value* a = element(values[0], element_type, lane);
    const auto order = llvm::AtomicOrdering::AcquireRelease;
    const llvm::MaybeAlign align{llvm::Align(bytes)};
    Value* old;
    if (op == AO::kCompareExchange) {
      Value* b = element(values[1], element_type, lane);
      Value* pair = b_.CreateAtomicCmpXchg(pointer, a, b, align, order, llvm::AtomicOrdering::Acquire);
      old = b_.CreateExtractValue(pair, 0);
    } else {
      llvm::AtomicRMWInst::BinOp kind = llvm::AtomicRMWInst::Add;
      switch (op) {
        case AO::kExchange:
          kind = llvm::AtomicRMWInst::Xchg;
          break;
        case AO::kMinS:
          kind = llvm::AtomicRMWInst::Min;
          break;
        case AO::kMaxS:
          kind = llvm::AtomicRMWInst::Max;
          break;
        case AO::kMinU:
          kind = llvm::AtomicRMWInst::UMin;
          break;
        case AO::kMaxU:
          kind = llvm::AtomicRMWInst::UMax;
          break;
        case AO::kAnd:
          kind = llvm::AtomicRMWInst::And;
          break;
        case AO::kOr:
          kind = llvm::AtomicRMWInst::Or;
          break;
        case AO::kXor:
          kind = llvm::AtomicRMWInst::Xor;
          break;
        case AO::kIncrement:
          kind = llvm::AtomicRMWInst::UIncWrap;
          break;
        case AO::kDecrement:
          kind = llvm::AtomicRMWInst::UDecWrap;
          break;
        case AO::kFAdd:
        case AO::kHalf2Add:
          kind = llvm::AtomicRMWInst::FAdd;
          break;
        default:
          break;
      }
      if (op == AO::kHalf2Add || (op == AO::kFAdd && !ir::is_float(inst.type))) {
        llvm::Type* half = llvm::Type::getHalfTy(context_);
        llvm::Type* whole = half;
        if (op == AO::kHalf2Add) whole = llvm::FixedVectorType::get(half, 2);
        old = b_.CreateBitCast(b_.CreateAtomicRMW(kind, pointer, b_.CreateBitCast(a, whole), align, order),
                               element_type);
      } else {
        old = b_.CreateAtomicRMW(kind, pointer, a, align, order);
      }
    }
    b_.CreateStore(old, b_.CreateGEP(element_type, out, lane));
  });
  define(inst.results[0], reload(out, element_type));
}

void Emitter::emit_fence(const Inst& inst) {
  const bool warp_only = inst.imm == static_cast<std::int64_t>(ptx::Scope::kNone);
  // Between lanes of a warp program order is enough.
  const auto scope = warp_only ? llvm::SyncScope::SingleThread : llvm::SyncScope::System;
  b_.CreateFence(llvm::AtomicOrdering::SequentiallyConsistent, scope);
}

// Lane i of the result is lane lanes[i] (0..31) of the value.
Value* Emitter::permute(Value* value, Value* lanes) {
  if (!target_.avx512) {
    Value* memory = spill(value, 0);
    Value* places = b_.CreateGEP(b_.getInt32Ty(), memory, lanes);
    return b_.CreateMaskedGather(type(Type::kI32, true), places, llvm::Align(4));
  }
  const auto half = [&](Value* v, int h) {
    std::vector<int> index(16);
    for (int i = 0; i < 16; ++i) index[static_cast<std::size_t>(i)] = h * 16 + i;
    return b_.CreateShuffleVector(v, index);
  };
  Value* low = half(value, 0);
  Value* high = half(value, 1);
  Value* parts[2];
  for (int h = 0; h < 2; ++h) {
    parts[h] =
        b_.CreateIntrinsic(llvm::Intrinsic::x86_avx512_vpermi2var_d_512, {}, {low, half(lanes, h), high});
  }
  std::vector<int> all(32);
  for (int i = 0; i < 32; ++i) all[static_cast<std::size_t>(i)] = i;
  return b_.CreateShuffleVector(parts[0], parts[1], all);
}

void Emitter::emit_shfl(const Inst& inst) {
  using Mode = ptx::ShuffleMode;
  const auto mode = static_cast<Mode>(inst.sub);
  const ValueId source = inst.operands[0];
  const ir::Shape& b = shape(inst.operands[1]);
  const ir::Shape& c = shape(inst.operands[2]);
  if (b.known && c.known) {
    std::vector<int> from(32);
    std::vector<llvm::Constant*> in_range(32);
    const ir::LaneTable& bt = shapes_.table_of(b);
    const ir::LaneTable& ct = shapes_.table_of(c);
    for (int lane = 0; lane < 32; ++lane) {
      const auto i = static_cast<std::size_t>(lane);
      const auto by = static_cast<int>((b.base + bt[i]) & 31);
      const auto clamp = static_cast<int>((c.base + ct[i]) & 31);
      const auto segment = static_cast<int>(((c.base + ct[i]) >> 8) & 31);
      const int most = (lane & segment) | (clamp & ~segment);
      int j = 0;
      bool good = false;
      switch (mode) {
        case Mode::kUp:
          j = lane - by;
          good = j >= most;
          break;
        case Mode::kDown:
          j = lane + by;
          good = j <= most;
          break;
        case Mode::kBfly:
          j = lane ^ by;
          good = j <= most;
          break;
        default:
          j = (lane & segment) | (by & ~segment);
          good = j <= most;
          break;
      }
      from[i] = good ? j : lane;
      in_range[i] = constant(Type::kI1, good ? 1 : 0);
    }
    if (!shape(inst.results[0]).known) {
      if (shape(inst.results[0]).is_varying()) {
        define(inst.results[0], b_.CreateShuffleVector(vector(source), from));
      } else if (shape(source).is_uniform()) {
        define(inst.results[0], scalar(source));
      } else {
        define(inst.results[0], b_.CreateExtractElement(vector(source), static_cast<std::uint64_t>(from[0])));
      }
    }
    define(inst.results[1], llvm::ConstantVector::get(in_range));
    return;
  }
  const auto k = [&](std::uint64_t v) { return constant(Type::kI32, v, true); };
  ir::LaneTable identity{};
  for (std::size_t i = 0; i < kWarpSize; ++i) identity[i] = static_cast<std::int64_t>(i);
  Value* lane = table_constant(Type::kI32, identity, 0);
  Value* by = b_.CreateAnd(vector(inst.operands[1]), k(31));
  Value* control = vector(inst.operands[2]);
  Value* clamp = b_.CreateAnd(control, k(31));
  Value* segment = b_.CreateAnd(b_.CreateLShr(control, k(8)), k(31));
  Value* outside = b_.CreateNot(segment);
  Value* least = b_.CreateAnd(lane, segment);
  Value* most = b_.CreateOr(least, b_.CreateAnd(clamp, outside));
  Value* j;
  switch (mode) {
    case Mode::kUp:
      j = b_.CreateSub(lane, by);
      break;
    case Mode::kDown:
      j = b_.CreateAdd(lane, by);
      break;
    case Mode::kBfly:
      j = b_.CreateXor(lane, by);
      break;
    default:
      j = b_.CreateOr(least, b_.CreateAnd(by, outside));
      break;
  }
  Value* good = mode == Mode::kUp ? b_.CreateICmpSGE(j, most) : b_.CreateICmpSLE(j, most);
  if (!shape(inst.results[0]).known) {
    if (!shape(inst.results[0]).is_varying()) {
      if (shape(source).is_uniform()) {
        define(inst.results[0], scalar(source));
      } else {
        define(inst.results[0],
               b_.CreateExtractElement(vector(source), b_.CreateAnd(scalar(inst.operands[1]), i32(31))));
      }
    } else {
      define(inst.results[0], permute(vector(source), b_.CreateAnd(b_.CreateSelect(good, j, lane), k(31))));
    }
  }
  define(inst.results[1], good);
}

// Per active lane: the active lanes that hold the same value.
Value* Emitter::match(Value* value) {
  llvm::Type* element_type = value->getType()->getScalarType();
  Value* spilled = spill(value, 0);
  Value* out = scratch(b_.getInt32Ty(), 1);
  for_each_lane(mask(), [&](Value* lane) {
    Value* equal = b_.CreateICmpEQ(value, splat(element(spilled, element_type, lane)));
    b_.CreateStore(b_.CreateAnd(bits_of_mask(equal), mask()), b_.CreateGEP(b_.getInt32Ty(), out, lane));
  });
  return reload(out, b_.getInt32Ty());
}

Value* Emitter::hook(std::size_t offset) {
  return b_.CreateLoad(b_.getPtrTy(), b_.CreateConstGEP1_64(b_.getInt8Ty(), hooks_, offset));
}

// The block's only warp waits for nobody.
bool Emitter::passes_at_once(const Inst& barrier) const {
  const ValueId threads = barrier.operands[1];
  return function_.threads() <= kWarpSize && function_.is_constant(threads) &&
         function_.values[threads].bits <= kWarpSize;
}

void Emitter::pass_barrier(const Inst& inst) {
  const auto kind = static_cast<BarrierKind>(inst.sub);
  if (kind == BarrierKind::kSync || kind == BarrierKind::kArrive) return define(inst.results[0], i32(0));
  Value* holds = b_.CreateAnd(bits_of_mask(vector(inst.operands[2])), mask());
  if (kind == BarrierKind::kReducePopcount)
    return define(inst.results[0], b_.CreateUnaryIntrinsic(llvm::Intrinsic::ctpop, holds));
  Value* result =
      kind == BarrierKind::kReduceAnd ? b_.CreateICmpEQ(holds, mask()) : b_.CreateICmpNE(holds, i32(0));
  define(inst.results[0], b_.CreateZExt(result, b_.getInt32Ty()));
}

// What the function says when it leaves.
Value* Emitter::describe_barrier(const Inst& inst) {
  const ValueId id = inst.operands[0];
  const ValueId threads = inst.operands[1];
  const auto kind = static_cast<BarrierKind>(inst.sub);
  if (ir::waits_for_all(function_, inst) && function_.is_constant(id))
    return i32(kWarpAtSync + function_.values[id].bits % kBarriers);
  const auto say = [&](std::size_t offset, Value* value) {
    b_.CreateStore(value, b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), frame_, offset));
  };
  Value* predicate = i32(0);
  if (kind != BarrierKind::kSync) {
    predicate = b_.CreateAnd(bits_of_mask(vector(inst.operands[2])), mask());
  }
  say(offsetof(WarpFrame, id), first_lane(id));
  say(offsetof(WarpFrame, threads), first_lane(threads));
  say(offsetof(WarpFrame, kind), i32(inst.sub));
  say(offsetof(WarpFrame, predicate), predicate);
  say(offsetof(WarpFrame, active), mask());
  return i32(kWarpAtBarrier);
}

// Leaves, and goes on behind here: nothing but what has a home is there then.
void Emitter::wait(Value* stop) {
  llvm::AllocaInst* lanes = nullptr;
  if (is_partial(block_)) {
    lanes = llvm::IRBuilder<>(entry_, entry_->begin()).CreateAlloca(b_.getInt32Ty());
    b_.CreateStore(mask(), lanes);
  }
  auto* resume = new_block("resume");
  resume_points_.push_back({b_.GetInsertBlock(), resume, stop});
  b_.CreateBr(resume);
  b_.SetInsertPoint(resume);
  scalars_.clear();
  vectors_.clear();
  mask_vector_ = nullptr;
  mask_ = lanes == nullptr ? nullptr : b_.CreateLoad(b_.getInt32Ty(), lanes);
}

// The last instruction of its block (ir::end_blocks_at_barriers).
void Emitter::emit_barrier(const Inst& inst) {
  if (passes_at_once(inst)) return pass_barrier(inst);
  end_prefetches();  // behind it what they need may be lost
  wait(describe_barrier(inst));
  const auto kind = static_cast<BarrierKind>(inst.sub);
  if (kind == BarrierKind::kSync || kind == BarrierKind::kArrive) return define(inst.results[0], i32(0));
  Value* at = b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), frame_, offsetof(WarpFrame, result));
  define(inst.results[0], b_.CreateLoad(b_.getInt32Ty(), at));
}

void Emitter::emit_trap(Value* reason, std::uint32_t line) {
  auto* signature = llvm::FunctionType::get(
      b_.getVoidTy(), {b_.getPtrTy(), b_.getInt32Ty(), b_.getInt32Ty(), b_.getInt32Ty()}, false);
  b_.CreateCall(signature, hook(offsetof(RuntimeHooks, trap)), {state_, warp_, reason, i32(line)});
}

Value* Emitter::print(const Inst& inst) {
  auto* i64_type = b_.getInt64Ty();
  auto* signature = llvm::FunctionType::get(b_.getInt32Ty(), {b_.getPtrTy(), i64_type, i64_type}, false);
  Value* formats = spill(vector(inst.operands[0]), 0);
  Value* arguments = spill(vector(inst.operands[1]), 1);
  Value* out = scratch(b_.getInt32Ty(), 0);
  for_each_lane(mask(), [&](Value* lane) {
    Value* result =
        b_.CreateCall(signature, hook(offsetof(RuntimeHooks, vprintf)),
                      {state_, element(formats, i64_type, lane), element(arguments, i64_type, lane)});
    b_.CreateStore(result, b_.CreateGEP(b_.getInt32Ty(), out, lane));
  });
  return reload(out, b_.getInt32Ty());
}

}  // namespace vgpu::software::jit
