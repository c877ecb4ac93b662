// Loads and stores. Every address is confined before use: an access may hit the guest's own memory or fault,
// nothing else (device/software/kernel_abi.h). Where lanes differ by constants a load is one wide load if
// they are neighbours, else a gather with constant offsets.
#include <algorithm>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using ir::Space;
using ir::Type;
using llvm::Value;

namespace {

// Added behind the clamp; more is added before it. Far less than kDeviceWindowGuardBytes.
constexpr std::int64_t kMaxFreeOffset = 256 * 1024;
constexpr std::int64_t kMaxTableSpan = 64 * 1024;

std::pair<std::int64_t, std::int64_t> span_of(const ir::LaneTable& table) {
  const auto [low, high] = std::ranges::minmax(table);
  return {low, high};
}

}  // namespace

Value* Emitter::bound(llvm::Intrinsic::ID kind, Value* value, Value* limit) {
  return target_.unconfined ? value : b_.CreateBinaryIntrinsic(kind, value, limit);
}

// Offset of the address in the window, clamped to its end (where nothing is mapped).
Value* Emitter::confine(Value* address) {
  Value* offset = b_.CreateSub(address, same(address, Type::kI64, kDeviceWindowBase));
  return bound(llvm::Intrinsic::umin, offset, same(address, Type::kI64, kDeviceWindowBytes));
}

Emitter::Place Emitter::place_global(const Inst& inst, std::uint32_t bytes) {
  const ValueId address = inst.operands[0];
  const ir::Shape& s = shape(address);
  const bool free = inst.imm >= 0 && inst.imm < kMaxFreeOffset;
  const std::int64_t before = free ? 0 : inst.imm;
  const auto behind = static_cast<std::uint64_t>(free ? inst.imm : 0);
  Value* window = b_.CreateIntToPtr(i64(kDeviceWindowBase + behind), b_.getPtrTy());
  if (!s.is_varying()) {
    std::int64_t low = 0;
    if (!s.is_uniform()) {
      const auto [least, most] = span_of(shapes_.table_of(s));
      if (most - least + bytes > kMaxTableSpan) {
        Value* all =
            b_.CreateAdd(vector(address), constant(Type::kI64, static_cast<std::uint64_t>(before), true));
        return {window, confine(all), nullptr};
      }
      low = least;
    }
    Value* base = b_.CreateAdd(scalar(address), i64(static_cast<std::uint64_t>(before + low)));
    // An integer made a pointer: GEP from a constant would tell LLVM more about provenance than is true.
    Value* absolute = b_.CreateAdd(confine(base), i64(kDeviceWindowBase));
    Value* pointer = b_.CreateIntToPtr(absolute, b_.getPtrTy());
    if (behind != 0 || low != 0) {
      pointer = b_.CreateGEP(b_.getInt8Ty(), pointer, i64(behind - static_cast<std::uint64_t>(low)));
    }
    return {pointer, nullptr, s.is_uniform() ? nullptr : &shapes_.table_of(s)};
  }
  Value* all = vector(address);
  if (before != 0) all = b_.CreateAdd(all, constant(Type::kI64, static_cast<std::uint64_t>(before), true));
  return {window, confine(all), nullptr};
}

// Offsets clamp to the first page boundary behind the block's shared memory, where a guard begins. A negative
// base with only its higher lanes active is legal, hence the lower bound: the page before is a guard too.
Emitter::Place Emitter::place_shared(const Inst& inst, std::uint32_t bytes) {
  const ValueId address = inst.operands[0];
  const ir::Shape& s = shape(address);
  Value* base = b_.CreateIntToPtr(shared_base_, b_.getPtrTy());
  if (inst.of_block != 0) base = b_.CreateGEP(b_.getInt8Ty(), base, i64(inst.of_block * kSharedDistance));
  const auto offset = static_cast<std::uint64_t>(inst.imm);
  if (!s.is_varying()) {
    const ir::LaneTable* table = s.is_uniform() ? nullptr : &shapes_.table_of(s);
    const auto [low, high] = table == nullptr ? std::pair<std::int64_t, std::int64_t>{0, 0} : span_of(*table);
    if (s.known && s.base + low + inst.imm >= 0 &&
        s.base + high + inst.imm + bytes <= function_.static_shared_bytes) {
      Value* pointer = b_.CreateGEP(b_.getInt8Ty(), base, i64(static_cast<std::uint64_t>(s.base) + offset));
      return {pointer, nullptr, table};
    }
    if (table == nullptr) {
      if (Value* pointer = uniform_place(inst)) return {pointer, nullptr, nullptr};
    }
    if (high - low + bytes <= 4096) {
      Value* at = b_.CreateAdd(scalar(address), i32(offset + static_cast<std::uint64_t>(low)));
      at = bound(llvm::Intrinsic::smin, at, shared_limit_);
      at = bound(llvm::Intrinsic::smax, at, i32(table == nullptr ? 0 : ~std::uint64_t{4095}));
      Value* wide = b_.CreateSub(b_.CreateSExt(at, b_.getInt64Ty()), i64(static_cast<std::uint64_t>(low)));
      return {b_.CreateGEP(b_.getInt8Ty(), base, wide), nullptr, table};
    }
  }
  Value* all = b_.CreateAdd(vector(address), constant(Type::kI32, offset, true));
  all = bound(llvm::Intrinsic::umin, all, splat(shared_limit_));
  return {base, all, nullptr};
}

// Where byte `low` behind root lies, when lanes want bytes from there to `high`. As above: if it lies so far
// before the block's shared memory that no lane reaches it, or behind its end, it and all bytes to `high` are
// in the guards, which are wide enough for that.
Value* Emitter::shared_span(ValueId root, std::int64_t low, std::int64_t high, std::uint8_t of_block) {
  const ir::Shape& s = shape(root);
  Value* base = b_.CreateIntToPtr(shared_base_, b_.getPtrTy());
  if (of_block != 0) base = b_.CreateGEP(b_.getInt8Ty(), base, i64(of_block * kSharedDistance));
  if (s.known && s.base + low >= 0 && s.base + high <= function_.static_shared_bytes)
    return b_.CreateGEP(b_.getInt8Ty(), base, i64(static_cast<std::uint64_t>(s.base + low)));
  constexpr std::int64_t kPage = 4096;
  const std::int64_t before = (high - low + kPage - 1) / kPage * kPage;
  Value* at = b_.CreateAdd(scalar(root), i32(static_cast<std::uint64_t>(low)));
  at = bound(llvm::Intrinsic::smin, at, shared_limit_);
  at = bound(llvm::Intrinsic::smax, at, i32(static_cast<std::uint64_t>(-before)));
  return b_.CreateGEP(b_.getInt8Ty(), base, b_.CreateSExt(at, b_.getInt64Ty()));
}

// The block's places in shared memory that all lanes go to at once.
void Emitter::begin_spans() {
  spans_.clear();
  for (const ir::InstructionId id : function_.blocks[block_].body) {
    const Inst& inst = function_.instructions[id];
    if ((inst.op != ir::Op::kLoad && inst.op != ir::Op::kStore) || inst.space != Space::kShared) continue;
    const ir::Shape& s = shape(inst.operands[0]);
    if (!s.is_uniform() || s.known) continue;
    const auto [root, constant] = root_of(function_, shapes_, block_, needs_home_, inst.operands[0]);
    const std::size_t count = inst.op == ir::Op::kLoad ? inst.count : inst.operands.size() - 1;
    const std::int64_t first = inst.imm + constant;
    Span& span = spans_[{root, inst.of_block}];
    span.low = std::min(span.low, first);
    span.high = std::max(span.high, first + static_cast<std::int64_t>(ir::bits_of(inst.type) / 8 * count));
  }
}

// Where one of them is. Those that differ by constants are confined together; null: alone.
Value* Emitter::uniform_place(const Inst& inst) {
  const auto [root, constant] = root_of(function_, shapes_, block_, needs_home_, inst.operands[0]);
  const auto found = spans_.find({root, inst.of_block});
  if (found == spans_.end()) return nullptr;
  Span& span = found->second;
  if (span.high - span.low > std::int64_t{kSharedGuardBytes}) return nullptr;
  if (span.base == nullptr) span.base = shared_span(root, span.low, span.high, inst.of_block);
  return b_.CreateConstGEP1_64(b_.getInt8Ty(), span.base,
                               static_cast<std::uint64_t>(inst.imm + constant - span.low));
}

// Offsets clamp to the thread's own frame.
Emitter::Place Emitter::place_local(const Inst& inst, std::uint32_t bytes) {
  const ValueId address = inst.operands[0];
  const auto offset = static_cast<std::uint64_t>(inst.imm);
  const std::uint64_t last = function_.local_bytes > bytes ? function_.local_bytes - bytes : 0;
  Value* window = b_.CreateIntToPtr(i64(kDeviceWindowBase), b_.getPtrTy());
  const auto clamp = [&](Value* at) {
    at = b_.CreateAdd(at, same(at, Type::kI32, offset));
    at = bound(llvm::Intrinsic::umin, at, same(at, Type::kI32, last));
    return b_.CreateZExt(at, same_type(at, Type::kI64));
  };
  Value* at = shape(address).is_uniform() ? splat(clamp(scalar(address))) : clamp(vector(address));
  if (function_.local_bytes == 0) {
    // No frame at all: the access is illegal, wherever it points.
    at = constant(Type::kI64, kDeviceWindowBytes, true);
    return {window, at, nullptr};
  }
  return {window, b_.CreateAdd(local_offsets_, at), nullptr};
}

// The parameter block is readable for 64 bytes beyond its end.
Emitter::Place Emitter::place_param(const Inst& inst, std::uint32_t) {
  const ValueId address = inst.operands[0];
  const auto offset = static_cast<std::uint64_t>(inst.imm);
  const auto clamp = [&](Value* at) {
    at = b_.CreateAdd(at, same(at, Type::kI64, offset));
    return bound(llvm::Intrinsic::umin, at, same(at, Type::kI64, function_.param_bytes));
  };
  if (shape(address).is_uniform())
    return {b_.CreateGEP(b_.getInt8Ty(), params_, clamp(scalar(address))), nullptr, nullptr};
  return {params_, clamp(vector(address)), nullptr};
}

Emitter::Place Emitter::place(const Inst& inst, std::uint32_t bytes) {
  switch (inst.space) {
    case Space::kShared:
      return place_shared(inst, bytes);
    case Space::kLocal:
      return place_local(inst, bytes);
    case Space::kParam:
      return place_param(inst, bytes);
    default:
      return place_global(inst, bytes);
  }
}

Value* Emitter::lane_offsets(const Place& place) {
  return place.offsets != nullptr ? place.offsets
         : place.table != nullptr ? static_cast<Value*>(table_constant(Type::kI32, *place.table, 0))
                                  : constant(Type::kI32, 0, true);
}

Value* Emitter::pointers(const Place& place) {
  return b_.CreateGEP(b_.getInt8Ty(), place.pointer, lane_offsets(place));
}

bool Emitter::is_contiguous(const Place& place, std::uint32_t bytes) {
  if (place.table == nullptr) return false;
  for (std::size_t i = 0; i < kWarpSize; ++i) {
    if ((*place.table)[i] != static_cast<std::int64_t>(i * bytes)) return false;
  }
  return true;
}

void Emitter::emit_load(const Inst& inst) {
  const std::uint32_t element_bytes = ir::bits_of(inst.type) / 8;
  const std::uint32_t bytes = element_bytes * inst.count;
  const auto planned = plan_.items.find(function_.values[inst.results[0]].instruction);
  if (planned != plan_.items.end()) {
    ++counts_.loads_windowed;
    const std::vector<Value*> loaded = load_windows(inst, planned->second);
    for (std::uint32_t i = 0; i < inst.count; ++i) define(inst.results[i], loaded[i]);
    return;
  }
  const auto turned = transposes_.items.find(function_.values[inst.results[0]].instruction);
  if (turned != transposes_.items.end()) {
    ++counts_.loads_transposed;
    const std::vector<Value*> loaded = load_transposed(inst, turned->second);
    for (std::uint32_t i = 0; i < inst.count; ++i) define(inst.results[i], loaded[i]);
    return;
  }
  const Place at = place(inst, bytes);
  if (at.offsets == nullptr && at.table == nullptr) {
    ++counts_.loads_uniform;
    for (std::uint32_t i = 0; i < inst.count; ++i) {
      Value* pointer = b_.CreateConstGEP1_64(b_.getInt8Ty(), at.pointer, std::uint64_t{i} * element_bytes);
      auto* load = b_.CreateAlignedLoad(type(inst.type), pointer, llvm::Align(1), inst.is_volatile);
      if (inst.is_constant)
        load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
      define(inst.results[i], load);
    }
    return;
  }
  std::vector<Value*> results;
  if (inst.is_volatile) {
    ++counts_.loads_gathered;
    results = load_lane_by_lane(inst, at);
  } else if (is_contiguous(at, bytes)) {
    ++counts_.loads_contiguous;
    if (inst.space == Space::kGlobal) prefetch(inst.operands[0], inst.imm, at.pointer, kWarpSize * bytes);
    results = load_contiguous(inst, at);
  } else {
    ++counts_.loads_gathered;
    results = may_be_row(inst, at)
                  ? row_or(
                        at, bytes, [&](const Place& row) { return load_contiguous(inst, row); },
                        [&] { return load_gather(inst, at); })
                  : load_gather(inst, at);
  }
  for (std::uint32_t i = 0; i < inst.count; ++i) define(inst.results[i], results[i]);
}

// The lane mask with every lane repeated `count` times.
Value* Emitter::repeat_mask(std::uint32_t count) {
  if (count == 1) return mask_vector();
  std::vector<int> index;
  for (int lane = 0; lane < static_cast<int>(kWarpSize); ++lane) index.insert(index.end(), count, lane);
  return b_.CreateShuffleVector(mask_vector(), index);
}

std::vector<Value*> Emitter::load_contiguous(const Inst& inst, const Place& at) {
  const std::uint32_t count = inst.count;
  auto* wide = llvm::FixedVectorType::get(type(inst.type), kWarpSize * count);
  Value* loaded;
  if (full_mask()) {
    auto* load = b_.CreateAlignedLoad(wide, at.pointer, llvm::Align(1));
    if (inst.is_constant)
      load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    loaded = load;
  } else {
    loaded = b_.CreateMaskedLoad(wide, at.pointer, llvm::Align(1), repeat_mask(count),
                                 llvm::Constant::getNullValue(wide));
  }
  if (count == 1) return {loaded};
  std::vector<Value*> results;
  for (std::uint32_t i = 0; i < count; ++i) {
    std::vector<int> index;
    for (std::uint32_t lane = 0; lane < kWarpSize; ++lane)
      index.push_back(static_cast<int>(lane * count + i));
    results.push_back(b_.CreateShuffleVector(loaded, index));
  }
  return results;
}

Value* Emitter::gather(Value* addresses, Type element) {
  llvm::Type* wide = type(element, true);
  return b_.CreateMaskedGather(wide, addresses, llvm::Align(1), mask_vector(),
                               llvm::Constant::getNullValue(wide));
}

std::vector<Value*> Emitter::load_gather(const Inst& inst, const Place& at) {
  const std::uint32_t width = ir::bits_of(inst.type);
  const std::uint32_t bits = width * inst.count;
  std::vector<Value*> words;  // of 32 or 64 bits, in order
  std::uint32_t word_bits = 32;
  if (bits < 32) {
    // x86 gathers 32 bits at least. Accesses are aligned, so the word around one lies in the same page.
    Value* offsets = lane_offsets(at);
    llvm::Type* lane = offsets->getType();
    Value* absolute = b_.CreatePtrToInt(pointers(at), type(Type::kI64, true));
    Value* within =
        b_.CreateTrunc(b_.CreateAnd(absolute, constant(Type::kI64, 3, true)), type(Type::kI32, true));
    Value* back = b_.CreateNeg(b_.CreateZExtOrTrunc(within, lane));
    Value* aligned = b_.CreateGEP(b_.getInt8Ty(), at.pointer, b_.CreateAdd(offsets, back));
    Value* word = gather(aligned, Type::kI32);
    words.push_back(b_.CreateLShr(word, b_.CreateShl(within, constant(Type::kI32, 3, true))));
  } else {
    word_bits = bits == 32 ? 32 : 64;
    Value* addresses = pointers(at);
    for (std::uint32_t i = 0; i < bits / word_bits; ++i) {
      Value* here = i == 0 ? addresses : b_.CreateGEP(b_.getInt8Ty(), addresses, i64(std::uint64_t{i} * 8));
      words.push_back(gather(here, word_bits == 32 ? Type::kI32 : Type::kI64));
    }
  }
  std::vector<Value*> results;
  for (std::uint32_t i = 0; i < inst.count; ++i) {
    Value* word = words[i * width / word_bits];
    const std::uint32_t shift_by = i * width % word_bits;
    if (shift_by != 0) word = b_.CreateLShr(word, llvm::ConstantInt::get(word->getType(), shift_by));
    Value* part = b_.CreateTrunc(word, type(ir::int_type(width), true));
    results.push_back(b_.CreateBitCast(part, type(inst.type, true)));
  }
  return results;
}

std::vector<Value*> Emitter::load_lane_by_lane(const Inst& inst, const Place& at) {
  llvm::Type* element_type = type(inst.type);
  llvm::Type* offset_type = b_.getInt64Ty();
  Value* addresses = spill(b_.CreatePtrToInt(pointers(at), type(Type::kI64, true)), 0);
  std::vector<Value*> outs;
  for (std::uint32_t i = 0; i < inst.count; ++i) outs.push_back(scratch(element_type, 1 + i));
  for_each_lane(mask(), [&](Value* lane) {
    Value* pointer = b_.CreateIntToPtr(element(addresses, offset_type, lane), b_.getPtrTy());
    for (std::uint32_t i = 0; i < inst.count; ++i) {
      Value* here = b_.CreateConstGEP1_64(element_type, pointer, i);
      Value* loaded = b_.CreateAlignedLoad(element_type, here, llvm::Align(1), inst.is_volatile);
      b_.CreateStore(loaded, b_.CreateGEP(element_type, outs[i], lane));
    }
  });
  std::vector<Value*> results;
  for (Value* out : outs) results.push_back(reload(out, element_type));
  return results;
}

void Emitter::emit_store(const Inst& inst) {
  const std::uint32_t element_bytes = ir::bits_of(inst.type) / 8;
  const auto count = static_cast<std::uint32_t>(inst.operands.size() - 1);
  const std::uint32_t bytes = element_bytes * count;
  const Place at = place(inst, bytes);
  if (at.offsets == nullptr && at.table == nullptr) {
    // All lanes store to one place: PTX leaves open which wins; here it is the first.
    ++counts_.stores_contiguous;
    for (std::uint32_t i = 0; i < count; ++i) {
      Value* pointer = b_.CreateConstGEP1_64(b_.getInt8Ty(), at.pointer, std::uint64_t{i} * element_bytes);
      b_.CreateAlignedStore(first_lane(inst.operands[i + 1]), pointer, llvm::Align(1), inst.is_volatile);
    }
    return;
  }
  if (!inst.is_volatile && is_contiguous(at, bytes)) {
    ++counts_.stores_contiguous;
    return store_contiguous(inst, at);
  }
  ++counts_.stores_scattered;
  if (!may_be_row(inst, at)) return store_anywhere(inst, at);
  const std::vector<Value*> nothing;
  for (std::size_t i = 1; i < inst.operands.size(); ++i) vector(inst.operands[i]);  // for both ways
  row_or(
      at, bytes, [&](const Place& row) { return store_contiguous(inst, row), nothing; },
      [&] { return store_anywhere(inst, at), nothing; });
}

void Emitter::store_anywhere(const Inst& inst, const Place& at) {
  const std::uint64_t bits = std::uint64_t{ir::bits_of(inst.type)} * (inst.operands.size() - 1);
  if (!inst.is_volatile && target_.avx512 && bits >= 32) return store_scatter(inst, at);
  store_lane_by_lane(inst, at);
}

void Emitter::store_contiguous(const Inst& inst, const Place& at) {
  const auto count = static_cast<std::uint32_t>(inst.operands.size() - 1);
  Value* all = vector(inst.operands[1]);
  if (count == 2) {
    std::vector<int> index;
    for (int lane = 0; lane < 32; ++lane) index.insert(index.end(), {lane, 32 + lane});
    all = b_.CreateShuffleVector(all, vector(inst.operands[2]), index);
  } else if (count == 4) {
    std::vector<int> join(64);
    for (int i = 0; i < 64; ++i) join[static_cast<std::size_t>(i)] = i;
    Value* low = b_.CreateShuffleVector(all, vector(inst.operands[2]), join);
    Value* high = b_.CreateShuffleVector(vector(inst.operands[3]), vector(inst.operands[4]), join);
    std::vector<int> index;
    for (int lane = 0; lane < 32; ++lane) index.insert(index.end(), {lane, 32 + lane, 64 + lane, 96 + lane});
    all = b_.CreateShuffleVector(low, high, index);
  }
  if (full_mask()) {
    b_.CreateAlignedStore(all, at.pointer, llvm::Align(1));
  } else {
    b_.CreateMaskedStore(all, at.pointer, llvm::Align(1), repeat_mask(count));
  }
}

void Emitter::store_scatter(const Inst& inst, const Place& at) {
  const std::uint32_t width = ir::bits_of(inst.type);
  const auto count = static_cast<std::uint32_t>(inst.operands.size() - 1);
  const std::uint32_t bits = width * count;
  const std::uint32_t word_bits = bits == 32 ? 32 : 64;
  llvm::Type* word_type = type(ir::int_type(word_bits), true);
  Value* addresses = pointers(at);
  for (std::uint32_t first = 0; first < count;) {
    Value* word = nullptr;
    const std::uint32_t start = first * width;
    for (std::uint32_t filled = 0; filled < word_bits; filled += width, ++first) {
      Value* part = b_.CreateBitCast(vector(inst.operands[first + 1]), type(ir::int_type(width), true));
      part = b_.CreateZExt(part, word_type);
      if (filled != 0) part = b_.CreateShl(part, llvm::ConstantInt::get(word_type, filled));
      word = word == nullptr ? part : b_.CreateOr(word, part);
    }
    Value* here = start == 0 ? addresses : b_.CreateGEP(b_.getInt8Ty(), addresses, i64(start / 8));
    b_.CreateMaskedScatter(word, here, llvm::Align(1), mask_vector());
  }
}

void Emitter::store_lane_by_lane(const Inst& inst, const Place& at) {
  llvm::Type* element_type = type(inst.type);
  const auto count = static_cast<std::uint32_t>(inst.operands.size() - 1);
  Value* addresses = spill(b_.CreatePtrToInt(pointers(at), type(Type::kI64, true)), 0);
  std::vector<Value*> values;
  for (std::uint32_t i = 0; i < count; ++i) values.push_back(spill(vector(inst.operands[i + 1]), 1 + i));
  for_each_lane(mask(), [&](Value* lane) {
    Value* pointer = b_.CreateIntToPtr(element(addresses, b_.getInt64Ty(), lane), b_.getPtrTy());
    for (std::uint32_t i = 0; i < count; ++i) {
      b_.CreateAlignedStore(element(values[i], element_type, lane),
                            b_.CreateConstGEP1_64(element_type, pointer, i), llvm::Align(1),
                            inst.is_volatile);
    }
  });
}

}  // namespace vgpu::software::jit
