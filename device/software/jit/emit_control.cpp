// Blocks, masks and phis. Every value used outside its block, and every phi, has a home on the stack; LLVM
// turns homes into registers. That keeps the code right although walking blocks under masks changes the
// graph.
#include <llvm/IR/MDBuilder.h>

#include <algorithm>
#include <iterator>

#include "device/software/ir/dependence.h"
#include "device/software/jit/emitter.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

namespace {
constexpr auto kNoBlock = ir::kNone;
}

Emitter::Emitter(llvm::Module& module, const ir::Function& function, const ir::LaneShapes& shapes,
                 Target target, Passes passes)
    : module_(module),
      context_(module.getContext()),
      function_(function),
      shapes_(shapes),
      target_(target),
      passes_(passes),
      b_(module.getContext()) {}

llvm::BasicBlock* Emitter::new_block(const char* name) {
  return llvm::BasicBlock::Create(context_, name, code_);
}

AccessCounts Emitter::run(const std::string& symbol, Emitter* masked) {
  masked_ = masked;
  begin_function(symbol);
  create_blocks();
  find_lost_lanes();
  find_homes();
  find_dependences();
  declare_homes(nullptr);
  declare_waiting();
  emit_prologue();
  if (masked_ != nullptr) masked_->join(*this);
  emit_body();
  if (masked_ != nullptr) {
    masked_->emit_body();
    std::ranges::copy(masked_->resume_points_, std::back_inserter(resume_points_));
  }
  frame_bytes_ = leave_and_resume(*code_, resume_points_);
  return counts_;
}

void Emitter::begin_function(const std::string& symbol) {
  auto* pointer = llvm::PointerType::get(context_, 0);
  auto* signature = llvm::FunctionType::get(b_.getInt32Ty(), {pointer, b_.getInt32Ty(), pointer}, false);
  // It may have been declared by code that calls it.
  code_ = llvm::cast<llvm::Function>(module_.getOrInsertFunction(symbol, signature).getCallee());
  code_->addFnAttr("prefer-vector-width", target_.avx512 ? "512" : "256");
  code_->addFnAttr("min-legal-vector-width", target_.avx512 ? "512" : "256");
  code_->addFnAttr("frame-pointer", "none");
  // Without it vectors are spilled across cache lines: that the stack should be aligned for them, LLVM finds
  // out when it is too late to do so.
  code_->addFnAttr("stackrealign");
  code_->addFnAttr(llvm::Attribute::NoUnwind);
  if (function_.flush == ir::FlushMode::kAlways) {
    code_->addFnAttr("denormal-fp-math", "preserve-sign,preserve-sign");
  }
  state_ = code_->getArg(0);
  warp_ = code_->getArg(1);
  frame_ = code_->getArg(2);
  code_->addParamAttr(2, llvm::Attribute::NoAlias);
  entry_ = new_block("entry");
  return_ = new_block("return");
  b_.SetInsertPoint(return_);
  b_.CreateRet(i32(kWarpEnded));
  b_.SetInsertPoint(entry_);
  live_ = b_.CreateAlloca(b_.getInt32Ty());
}

void Emitter::create_blocks() {
  const std::size_t count = function_.blocks.size();
  body_.assign(count, nullptr);
  check_.assign(count, nullptr);
  after_.assign(count, nullptr);
  for (const BlockId id : shapes_.order) {
    body_[id] = new_block("b");
    if (is_partial(id)) {
      check_[id] = new_block("check");
      after_[id] = new_block("after");
    }
  }
}

// Where lanes may have stopped before others: behind a branch to a block that kills, as only some lanes take
// it.
void Emitter::find_lost_lanes() {
  chain_loses_lanes_.assign(shapes_.chains.size(), false);
  all_lanes_.assign(function_.blocks.size(), function_.threads() % kWarpSize == 0);
  std::vector<BlockId> behind;
  const auto lose_behind = [&](BlockId id) {
    for (const BlockId succ : function_.blocks[id].succs) {
      if (!all_lanes_[succ]) continue;
      all_lanes_[succ] = false;
      behind.push_back(succ);
    }
  };
  for (const BlockId id : shapes_.order) {
    const ir::Block& block = function_.blocks[id];
    const bool kills = std::ranges::any_of(block.succs, [&](BlockId succ) { return shapes_.is_kill[succ]; });
    if (is_partial(id)) {
      if (!kills && block.terminator != ir::Terminator::kExit) continue;
      const std::uint32_t chain = shapes_.component[id];
      chain_loses_lanes_[chain] = true;
      for (const BlockId one : shapes_.chains[chain]) lose_behind(one);
    } else if (kills && block.terminator == ir::Terminator::kBranch && !shape(block.condition).is_uniform() &&
               !shapes_.converges[id]) {
      lose_behind(id);
    }
  }
  while (!behind.empty()) {
    const BlockId id = behind.back();
    behind.pop_back();
    lose_behind(id);
  }
}

void Emitter::emit_body() {
  for (const BlockId id : shapes_.order) emit_block(id);
  for (std::size_t i = 0; i < shapes_.chains.size(); ++i) emit_chain_links(i);
}

// Which values are read in another block than their own?
void Emitter::find_homes() {
  needs_home_.assign(function_.values.size(), false);
  const auto used_in = [&](ValueId value, BlockId block) {
    const ir::InstructionId id = function_.values[value].instruction;
    if (id != ir::kNone && function_.instructions[id].block != block) needs_home_[value] = true;
  };
  for (const BlockId id : shapes_.order) {
    const ir::Block& block = function_.blocks[id];
    for (const auto phi : block.phis) {
      const Inst& inst = function_.instructions[phi];
      needs_home_[inst.results[0]] = true;
      for (std::size_t i = 0; i < block.preds.size(); ++i) used_in(inst.operands[i], block.preds[i]);
    }
    for (const auto i : block.body) {
      const Inst& inst = function_.instructions[i];
      if (inst.op == ir::Op::kKeep) needs_home_[inst.results[0]] = true;
      for (const ValueId operand : inst.operands) used_in(operand, id);
    }
    if (block.condition != ir::kNone) used_in(block.condition, id);
  }
}

void Emitter::find_dependences() {
  depends_on_block_ = ir::depending_values(function_, shapes_.order, [](const Inst& inst) {
    return inst.op == ir::Op::kSpecial &&
           static_cast<ptx::SpecialRegister>(inst.imm) == ptx::SpecialRegister::kCtaidX;
  });
  varies_by_data_ = ir::depending_values(function_, shapes_.order, ir::gives_data,
                                         [&](ValueId value) { return shape(value).is_varying(); });
}

// A home of the other form serves where it holds the same: the scalar, or the vector.
void Emitter::declare_homes(const Emitter* sharing) {
  homes_.assign(function_.values.size(), nullptr);
  for (ValueId value = 0; value < function_.values.size(); ++value) {
    if (!needs_home_[value] || shape(value).known) continue;
    llvm::Type* held = type(function_.values[value].type, shape(value).is_varying());
    llvm::AllocaInst* other = sharing == nullptr ? nullptr : sharing->homes_[value];
    homes_[value] = other != nullptr && other->getAllocatedType() == held ? other : b_.CreateAlloca(held);
  }
}

// A word for each block that part of a warp may wait for.
void Emitter::declare_waiting() {
  waiting_.assign(function_.blocks.size(), nullptr);
  const auto declare = [&](BlockId id) {
    if (waiting_[id] != nullptr) return;
    waiting_[id] = b_.CreateAlloca(b_.getInt32Ty());
    b_.CreateStore(i32(0), waiting_[id]);
  };
  for (std::size_t i = 0; i < shapes_.chains.size(); ++i) {
    std::ranges::for_each(shapes_.chains[i], declare);
    if (shapes_.chain_exit[i] != kNoBlock) declare(shapes_.chain_exit[i]);
  }
}

void Emitter::emit_prologue() {
  auto* pointer = llvm::PointerType::get(context_, 0);
  const auto field = [&](llvm::Type* t, std::size_t offset) {
    auto* load =
        b_.CreateAlignedLoad(t, b_.CreateConstGEP1_64(b_.getInt8Ty(), state_, offset), llvm::Align(4));
    load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return load;
  };
  hooks_ = field(pointer, offsetof(BlockState, hooks));
  params_ = field(pointer, offsetof(BlockState, params));
  globals_ = field(pointer, offsetof(BlockState, globals));
  cancel_ = field(pointer, offsetof(BlockState, cancel));
  shared_base_ = field(b_.getInt64Ty(), offsetof(BlockState, shared_base));
  shared_bytes_ = field(b_.getInt32Ty(), offsetof(BlockState, shared_bytes));
  local_base_ = field(b_.getInt64Ty(), offsetof(BlockState, local_base));
  local_stride_ = field(b_.getInt32Ty(), offsetof(BlockState, local_stride));
  // The first page boundary at or behind the end: nothing is mapped there.
  shared_limit_ = b_.CreateAnd(b_.CreateAdd(shared_bytes_, i32(4095)), i32(0x00FF'F000));
  threads_ =
      b_.CreateAdd(splat(b_.CreateShl(warp_, i32(5))), table_constant(
                                                           ir::Type::kI32,
                                                           [] {
                                                             ir::LaneTable table{};
                                                             for (std::size_t i = 0; i < kWarpSize; ++i)
                                                               table[i] = static_cast<std::int64_t>(i);
                                                             return table;
                                                           }(),
                                                           0));
  auto* wide = type(ir::Type::kI64, true);
  local_offsets_ = b_.CreateAdd(
      splat(b_.CreateSub(local_base_, i64(kDeviceWindowBase))),
      b_.CreateMul(b_.CreateZExt(threads_, wide), splat(b_.CreateZExt(local_stride_, b_.getInt64Ty()))));
  if (function_.threads() % kWarpSize == 0) {
    b_.CreateStore(i32(0xFFFF'FFFF), live_);
  } else {
    b_.CreateStore(bits_of_mask(b_.CreateICmpULT(threads_, splat(i32(function_.threads())))), live_);
  }
  // The terminator is added when everything that wants a slot in the entry has one.
  auto* first = new_block("first");
  b_.CreateBr(first);
  b_.SetInsertPoint(first);
  block_ = 0;
  go(0, 0);
}

void Emitter::join(const Emitter& speculating) {
  code_ = speculating.code_;
  entry_ = speculating.entry_;
  return_ = speculating.return_;
  live_ = speculating.live_;
  state_ = speculating.state_;
  warp_ = speculating.warp_;
  frame_ = speculating.frame_;
  hooks_ = speculating.hooks_;
  params_ = speculating.params_;
  globals_ = speculating.globals_;
  cancel_ = speculating.cancel_;
  shared_base_ = speculating.shared_base_;
  shared_limit_ = speculating.shared_limit_;
  shared_bytes_ = speculating.shared_bytes_;
  local_base_ = speculating.local_base_;
  local_stride_ = speculating.local_stride_;
  local_offsets_ = speculating.local_offsets_;
  threads_ = speculating.threads_;
  create_blocks();
  find_lost_lanes();
  find_homes();
  find_dependences();
  live_values_ = ir::live_values(function_);
  b_.SetInsertPoint(entry_->getTerminator());
  declare_homes(&speculating);
  declare_waiting();
}

// What the other form holds, in the shape that this one has.
void Emitter::take(Emitter& speculating, ValueId value) {
  if (function_.values[value].instruction == ir::kNone || shape(value).known) return;
  if (shape(value).is_varying()) {
    vectors_[value] = speculating.vector(value);
  } else {
    scalars_[value] = speculating.scalar(value);
  }
}

void Emitter::take_live(Emitter& speculating, const std::vector<ValueId>& live) {
  for (const ValueId value : live) {
    if (homes_[value] == nullptr || homes_[value] == speculating.homes_[value]) continue;
    take(speculating, value);
    b_.CreateStore(get(value, shape(value).is_varying()), homes_[value]);
  }
}

void Emitter::count_masked_warp() {
  V at = b_.CreateConstGEP1_64(b_.getInt8Ty(), state_, offsetof(BlockState, masked_warps));
  b_.CreateStore(b_.CreateAdd(b_.CreateLoad(b_.getInt64Ty(), at), i64(1)), at);
}

// Lanes did not agree at the end of this block: each goes its way from here, by this form.
void Emitter::go_on_from(Emitter& speculating, BlockId id) {
  block_ = id;
  scalars_.clear();
  vectors_.clear();
  b_.SetInsertPoint(speculating.b_.GetInsertBlock());
  count_masked_warp();
  mask_ = speculating.mask();
  mask_vector_ = nullptr;
  take_live(speculating, live_values_.out[id]);
  const ir::Block& block = function_.blocks[id];
  take(speculating, block.condition);
  for (const BlockId succ : block.succs) {
    const auto& preds = function_.blocks[succ].preds;
    const auto slot = static_cast<std::size_t>(std::ranges::find(preds, id) - preds.begin());
    for (const auto phi : function_.blocks[succ].phis)
      take(speculating, function_.instructions[phi].operands[slot]);
  }
  emit_terminator(id);
}

// A claim does not hold in this block, which has not begun: all live lanes go on with it, by this form.
void Emitter::go_on_at(Emitter& speculating, BlockId id) {
  scalars_.clear();
  vectors_.clear();
  b_.SetInsertPoint(speculating.b_.GetInsertBlock());
  count_masked_warp();
  take_live(speculating, live_values_.in[id]);
  if (is_partial(id)) b_.CreateStore(speculating.mask(), waiting_[id]);
  b_.CreateBr(body_[id]);
}

// Checks the claims that hold only if this block's indices do not wrap around.
void Emitter::check_on_entry(BlockId id) {
  V all_fit = nullptr;
  for (const auto i : function_.blocks[id].body) {
    const Inst& inst = function_.instructions[i];
    if (inst.results.empty() || !shapes_.guarded_on_entry[inst.results[0]]) continue;
    compute_early(inst.operands[0]);
    V fits = fits_unwrapped(inst);
    all_fit = all_fit == nullptr ? fits : b_.CreateAnd(all_fit, fits);
  }
  if (all_fit == nullptr) return;
  auto* next = new_block("fits");
  auto* wraps = new_block("wraps");
  b_.CreateCondBr(all_fit, next, wraps, llvm::MDBuilder(context_).createLikelyBranchWeights());
  b_.SetInsertPoint(wraps);
  // What is put into another shape there is not there on the other way.
  const auto scalars = scalars_;
  const auto vectors = vectors_;
  V mask_before = mask_;
  masked_->go_on_at(*this, id);
  scalars_ = scalars;
  vectors_ = vectors;
  mask_ = mask_before;
  b_.SetInsertPoint(next);
}

bool Emitter::full_mask() const {
  return all_lanes_[block_] && !is_partial(block_);
}

llvm::Value* Emitter::mask() {
  if (mask_ == nullptr) {
    mask_ = full_mask() ? static_cast<V>(i32(0xFFFF'FFFF)) : b_.CreateLoad(b_.getInt32Ty(), live_);
  }
  return mask_;
}

llvm::Value* Emitter::mask_vector() {
  if (mask_vector_ == nullptr) mask_vector_ = as_mask(mask());
  return mask_vector_;
}

void Emitter::poll_cancel() {
  auto* load = b_.CreateAlignedLoad(b_.getInt32Ty(), cancel_, llvm::Align(4));
  load->setAtomic(llvm::AtomicOrdering::Monotonic);
  auto* cancelled = new_block("cancelled");
  auto* next = new_block("next");
  b_.CreateCondBr(b_.CreateICmpNE(load, i32(0)), cancelled, next,
                  llvm::MDNode::get(context_, {llvm::MDString::get(context_, "branch_weights"),
                                               llvm::ConstantAsMetadata::get(i32(1)),
                                               llvm::ConstantAsMetadata::get(i32(1'000'000))}));
  b_.SetInsertPoint(cancelled);
  emit_trap(i32(static_cast<std::uint32_t>(TrapReason::kCancelled)), 0);
  b_.CreateBr(next);
  b_.SetInsertPoint(next);
}

void Emitter::add_lanes(BlockId to, V lanes) {
  b_.CreateStore(b_.CreateOr(b_.CreateLoad(b_.getInt32Ty(), waiting_[to]), lanes), waiting_[to]);
}

void Emitter::collect_phis(BlockId from, BlockId to, V edge, std::vector<PhiWrite>& writes) {
  const ir::Block& block = function_.blocks[to];
  const auto slot = static_cast<std::size_t>(std::ranges::find(block.preds, from) - block.preds.begin());
  for (const auto id : block.phis) {
    const Inst& phi = function_.instructions[id];
    const ValueId result = phi.results[0];
    const ValueId operand = phi.operands[slot];
    if (shape(result).known || function_.values[operand].is_undef) continue;
    writes.push_back({result, get(operand, shape(result).is_varying()), edge});
  }
}

void Emitter::store_phis(const std::vector<PhiWrite>& writes) {
  for (const PhiWrite& write : writes) {
    llvm::AllocaInst* home = homes_[write.phi];
    V value = write.value;
    if (write.edge != nullptr) {
      V old = b_.CreateLoad(home->getAllocatedType(), home);
      V taken = is_vector(value) ? as_mask(write.edge) : b_.CreateICmpNE(write.edge, i32(0));
      value = b_.CreateSelect(taken, value, old);
    }
    b_.CreateStore(value, home);
  }
}

void Emitter::go(BlockId from, BlockId to) {
  if (shapes_.is_kill[to]) {
    b_.CreateBr(return_);
    return;
  }
  const bool is_entry = from == to && from == 0;
  if (!is_entry && shapes_.position[to] <= shapes_.position[from]) poll_cancel();
  if (is_partial(to)) {
    add_lanes(to, b_.CreateLoad(b_.getInt32Ty(), live_));
    b_.CreateBr(check_[to]);
  } else {
    b_.CreateBr(body_[to]);
  }
}

void Emitter::emit_block(BlockId id) {
  block_ = id;
  scalars_.clear();
  vectors_.clear();
  signed_dots_.clear();
  mask_ = mask_vector_ = nullptr;
  b_.SetInsertPoint(body_[id]);
  if (is_partial(id)) {
    mask_ = b_.CreateLoad(b_.getInt32Ty(), waiting_[id]);
    b_.CreateStore(i32(0), waiting_[id]);
  }
  if (masked_ != nullptr) check_on_entry(id);
  begin_spans();
  begin_windows();
  begin_transposes();
  prefetched_.clear();
  const std::vector<ir::InstructionId>& body = function_.blocks[id].body;
  for (std::size_t n = 0; n < body.size(); ++n) {
    emit_instruction(function_.instructions[body[n]]);
    emit_prefetches(body.size() - n - 1);
  }
  end_prefetches();
  emit_terminator(id);
}

void Emitter::emit_terminator(BlockId id) {
  if (is_partial(id)) {
    leave_partial(id);
  } else {
    leave_whole(id);
  }
}

// The block ran with all live lanes.
void Emitter::leave_whole(BlockId id) {
  const ir::Block& block = function_.blocks[id];
  if (block.terminator == ir::Terminator::kBranch) {
    ++counts_.branches;
    if (!shape(block.condition).is_uniform() && !shapes_.converges[id]) ++counts_.branches_parting;
  }
  if (block.terminator == ir::Terminator::kExit) {
    b_.CreateBr(return_);
    return;
  }
  std::vector<PhiWrite> writes;
  if (block.terminator == ir::Terminator::kJump) {
    collect_phis(id, block.succs[0], nullptr, writes);
    store_phis(writes);
    go(id, block.succs[0]);
    return;
  }
  if (shape(block.condition).is_uniform()) {
    V condition = scalar(block.condition);
    llvm::BasicBlock* edges[2];
    std::vector<PhiWrite> edge_writes[2];
    for (int i = 0; i < 2; ++i) {
      edges[i] = new_block("edge");
      collect_phis(id, block.succs[static_cast<std::size_t>(i)], nullptr, edge_writes[i]);
    }
    b_.CreateCondBr(condition, edges[0], edges[1]);
    for (int i = 0; i < 2; ++i) {
      b_.SetInsertPoint(edges[i]);
      store_phis(edge_writes[i]);
      go(id, block.succs[static_cast<std::size_t>(i)]);
    }
    return;
  }
  if (shapes_.converges[id]) return leave_agreed(id);
  V taken = b_.CreateAnd(bits_of_mask(vector(block.condition)), mask());
  V not_taken = b_.CreateAnd(b_.CreateNot(taken), mask());
  const bool kills[2] = {shapes_.is_kill[block.succs[0]], shapes_.is_kill[block.succs[1]]};
  if (kills[0] && kills[1]) {
    b_.CreateBr(return_);
    return;
  }
  if (kills[0] || kills[1]) {
    V left = kills[0] ? not_taken : taken;
    const BlockId next = block.succs[kills[0] ? 1 : 0];
    b_.CreateStore(left, live_);
    collect_phis(id, next, nullptr, writes);
    store_phis(writes);
    auto* some = new_block("some");
    b_.CreateCondBr(b_.CreateICmpEQ(left, i32(0)), return_, some);
    b_.SetInsertPoint(some);
    go(id, next);
    return;
  }
  collect_phis(id, block.succs[0], taken, writes);
  collect_phis(id, block.succs[1], not_taken, writes);
  store_phis(writes);
  BlockId first = kNoBlock;
  for (std::size_t i = 0; i < 2; ++i) {
    const BlockId succ = block.succs[i];
    add_lanes(succ, i == 0 ? taken : not_taken);
    if (is_partial(succ) && (first == kNoBlock || shapes_.position[succ] < shapes_.position[first]))
      first = succ;
  }
  if (shapes_.position[first] <= shapes_.position[id]) poll_cancel();
  b_.CreateBr(check_[first]);
}

// All live lanes go one way, as a rule.
void Emitter::leave_agreed(BlockId id) {
  const ir::Block& block = function_.blocks[id];
  ++counts_.branches_converging;
  V taken = b_.CreateAnd(bits_of_mask(vector(block.condition)), mask());
  V agreed[2] = {b_.CreateICmpEQ(taken, mask()), b_.CreateICmpEQ(taken, i32(0))};
  std::vector<PhiWrite> writes[2];
  for (std::size_t i = 0; i < 2; ++i) collect_phis(id, block.succs[i], nullptr, writes[i]);
  for (std::size_t i = 0; i < 2; ++i) {
    auto* edge = new_block("agreed");
    auto* other = new_block("other");
    b_.CreateCondBr(agreed[i], edge, other);
    b_.SetInsertPoint(edge);
    store_phis(writes[i]);
    go(id, block.succs[i]);
    b_.SetInsertPoint(other);
  }
  masked_->go_on_from(*this, id);
}

// The block ran under a mask: say where its lanes wait next, then walk on along the chain.
void Emitter::leave_partial(BlockId id) {
  const ir::Block& block = function_.blocks[id];
  std::vector<std::pair<BlockId, V>> edges;
  if (block.terminator == ir::Terminator::kJump) {
    edges.emplace_back(block.succs[0], mask());
  } else if (block.terminator == ir::Terminator::kBranch) {
    ++counts_.branches;
    if (!shape(block.condition).is_uniform()) ++counts_.branches_parting;
    if (shape(block.condition).is_uniform()) {
      V condition = scalar(block.condition);
      edges.emplace_back(block.succs[0], b_.CreateSelect(condition, mask(), i32(0)));
      edges.emplace_back(block.succs[1], b_.CreateSelect(condition, i32(0), mask()));
    } else {
      V taken = b_.CreateAnd(bits_of_mask(vector(block.condition)), mask());
      edges.emplace_back(block.succs[0], taken);
      edges.emplace_back(block.succs[1], b_.CreateXor(taken, mask()));
    }
  }
  std::vector<PhiWrite> writes;
  for (const auto& [succ, lanes] : edges) {
    if (!shapes_.is_kill[succ]) collect_phis(id, succ, lanes, writes);
  }
  store_phis(writes);
  for (const auto& [succ, lanes] : edges) {
    if (!shapes_.is_kill[succ]) add_lanes(succ, lanes);
  }
  b_.CreateBr(after_[id]);
}

// check: skip the block if nobody waits. after: back to the start of a loop that ends here while lanes wait
// there, else on to the next block of the chain.
void Emitter::emit_chain_links(std::size_t index) {
  const auto& chain = shapes_.chains[index];
  const auto pending = [&](BlockId id) {
    return b_.CreateICmpNE(b_.CreateLoad(b_.getInt32Ty(), waiting_[id]), i32(0));
  };
  std::vector<std::vector<BlockId>> restarts(chain.size());
  const auto slot_of = [&](BlockId id) {
    return static_cast<std::size_t>(std::ranges::find(chain, id) - chain.begin());
  };
  for (const BlockId target : chain) {
    std::size_t last = chain.size();
    const auto extend = [&](BlockId block) {
      const std::size_t slot = slot_of(block);
      if (slot < chain.size() && (last == chain.size() || slot > last)) last = slot;
    };
    for (const BlockId pred : function_.blocks[target].preds) {
      if (shapes_.position[pred] >= shapes_.position[target]) extend(pred);
    }
    if (last == chain.size()) continue;
    for (const ir::Loop& loop : shapes_.loops) {
      if (loop.header != target) continue;
      for (const BlockId block : chain) {
        if (loop.contains[block]) extend(block);
      }
    }
    restarts[last].push_back(target);
  }
  for (std::size_t i = 0; i < chain.size(); ++i) {
    const BlockId id = chain[i];
    b_.SetInsertPoint(check_[id]);
    b_.CreateCondBr(pending(id), body_[id], after_[id]);
    b_.SetInsertPoint(after_[id]);
    // Inner loops first.
    std::ranges::sort(restarts[i],
                      [&](BlockId a, BlockId c) { return shapes_.position[a] > shapes_.position[c]; });
    for (const BlockId target : restarts[i]) {
      auto* again = new_block("again");
      auto* on = new_block("on");
      b_.CreateCondBr(pending(target), again, on);
      b_.SetInsertPoint(again);
      poll_cancel();
      b_.CreateBr(body_[target]);
      b_.SetInsertPoint(on);
    }
    if (i + 1 < chain.size()) {
      b_.CreateBr(check_[chain[i + 1]]);
      continue;
    }
    const BlockId exit = shapes_.chain_exit[index];
    if (exit == kNoBlock) {
      b_.CreateBr(return_);
      continue;
    }
    if (!chain_loses_lanes_[index]) {
      b_.CreateStore(i32(0), waiting_[exit]);
    } else {
      V left = b_.CreateLoad(b_.getInt32Ty(), waiting_[exit]);
      b_.CreateStore(left, live_);
      b_.CreateStore(i32(0), waiting_[exit]);
      auto* some = new_block("some");
      b_.CreateCondBr(b_.CreateICmpEQ(left, i32(0)), return_, some);
      b_.SetInsertPoint(some);
    }
    if (shapes_.position[exit] <= shapes_.position[id]) poll_cancel();
    b_.CreateBr(body_[exit]);
  }
}

}  // namespace vgpu::software::jit
