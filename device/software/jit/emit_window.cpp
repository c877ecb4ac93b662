// Window loads as window_plan.h lays them out: 64-byte loads, and permutes of two sources at a time.
#include <llvm/IR/IntrinsicsX86.h>

#include <algorithm>
#include <numeric>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using ir::Type;
using llvm::Value;

namespace {

// Index vector of a shuffle: positions that nobody asked for are undefined.
constexpr int kAny = -1;

std::vector<int> counting(std::size_t count) {
  std::vector<int> index(count);
  std::iota(index.begin(), index.end(), 0);
  return index;
}

}  // namespace

void Emitter::begin_windows() {
  plan_ = passes_.windows && target_.avx512
              ? plan_windows(function_, shapes_, block_, needs_home_, target_.word_permute_cost)
              : WindowPlan{};
  pieces_.clear();
  group_base_.assign(plan_.groups.size(), nullptr);
  group_bounds_.assign(plan_.groups.size(), {});
}

// Where a permute takes its granules from, in memory that LLVM must take to be changeable. Constants it would
// shrink to save bytes, and widen again each time by an instruction that competes with the permutes.
Value* Emitter::permute_table(const std::vector<int>& index, unsigned granule_bits) {
  llvm::GlobalVariable*& table = permute_tables_[{granule_bits, index}];
  auto* element = b_.getIntNTy(granule_bits);
  auto* wide = llvm::FixedVectorType::get(element, static_cast<unsigned>(index.size()));
  if (table == nullptr) {
    std::vector<llvm::Constant*> entries;
    for (const int from : index)
      entries.push_back(llvm::ConstantInt::get(element, static_cast<std::uint64_t>(std::max(from, 0))));
    table = new llvm::GlobalVariable(module_, wide, false, llvm::GlobalValue::ExternalLinkage,
                                     llvm::ConstantVector::get(entries), "vgpu_permute");
    table->setVisibility(llvm::GlobalValue::HiddenVisibility);
    table->setAlignment(llvm::Align(kWindowBytes));
  }
  auto* load = b_.CreateAlignedLoad(wide, table, llvm::Align(kWindowBytes));
  load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
  return load;
}

// Granules of one vector of 64 bytes, or of two.
Value* Emitter::permute_granules(Value* first, Value* second, const std::vector<int>& index,
                                 unsigned granule_bits) {
  if (granule_bits == 8 && !target_.vbmi) {
    return second == nullptr ? b_.CreateShuffleVector(first, index)
                             : b_.CreateShuffleVector(first, second, index);
  }
  namespace intrinsics = llvm::Intrinsic;
  const std::size_t size = granule_bits == 8 ? 0 : granule_bits == 16 ? 1 : granule_bits == 32 ? 2 : 3;
  constexpr llvm::Intrinsic::ID kOfOne[] = {
      intrinsics::x86_avx512_permvar_qi_512, intrinsics::x86_avx512_permvar_hi_512,
      intrinsics::x86_avx512_permvar_si_512, intrinsics::x86_avx512_permvar_di_512};
  constexpr llvm::Intrinsic::ID kOfTwo[] = {
      intrinsics::x86_avx512_vpermi2var_qi_512, intrinsics::x86_avx512_vpermi2var_hi_512,
      intrinsics::x86_avx512_vpermi2var_d_512, intrinsics::x86_avx512_vpermi2var_q_512};
  Value* table = permute_table(index, granule_bits);
  return second == nullptr ? intrinsic(kOfOne[size], {}, {first, table})
                           : intrinsic(kOfTwo[size], {}, {first, table, second});
}

// Address of the group's first wanted byte.
Value* Emitter::group_base(std::size_t index) {
  Value*& base = group_base_[index];
  if (base == nullptr) {
    const WindowGroup& group = plan_.groups[index];
    if (group.space == ir::Space::kShared)
      return base = shared_span(group.root, group.low, group.high, group.of_block);
    Value* low = b_.CreateAdd(scalar(group.root), i64(static_cast<std::uint64_t>(group.low)));
    base = b_.CreateIntToPtr(b_.CreateAdd(confine(low), i64(kDeviceWindowBase)), b_.getPtrTy());
    prefetch(group.root, group.low, base, group.high - group.low);
  }
  return base;
}

// First byte that an active lane wants, and the one behind the last, relative to the group's base.
std::pair<Value*, Value*> Emitter::group_bounds(std::size_t index) {
  auto& bounds = group_bounds_[index];
  if (bounds.first == nullptr) {
    const WindowGroup& group = plan_.groups[index];
    const ir::LaneTable& table = shapes_.tables[group.table];
    Value* offsets = table_constant(Type::kI32, table, -std::ranges::min(table));
    Value* behind = constant(Type::kI32, WindowGroup::kMaxSpan, true);
    Value* none = constant(Type::kI32, 0, true);
    Value* first = b_.CreateIntMinReduce(b_.CreateSelect(mask_vector(), offsets, behind), false);
    Value* last = b_.CreateIntMaxReduce(b_.CreateSelect(mask_vector(), offsets, none), false);
    bounds = {first, b_.CreateAdd(last, i32(static_cast<std::uint64_t>(group.end - group.first)))};
  }
  return bounds;
}

// `size` bytes from `start` on; behind what is wanted they are undefined.
Value* Emitter::piece(std::size_t index, std::int64_t start, std::int64_t size) {
  Value*& loaded = pieces_[{index, start, size}];
  if (loaded != nullptr) return loaded;
  const WindowGroup& group = plan_.groups[index];
  Value* from = b_.CreateConstGEP1_64(b_.getInt8Ty(), group_base(index), static_cast<std::uint64_t>(start));
  const auto count = static_cast<unsigned>(size);
  auto* wide = llvm::FixedVectorType::get(b_.getInt8Ty(), count);
  const std::int64_t bytes = std::min(size, group.high - group.low);
  ++counts_.window_loads;
  if (full_mask() && bytes == size) {
    auto* load = b_.CreateAlignedLoad(wide, from, llvm::Align(1));
    if (group.is_constant)
      load->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return loaded = load;
  }
  std::vector<llvm::Constant*> numbers;
  for (std::int64_t i = 0; i < size; ++i) numbers.push_back(b_.getInt8(static_cast<std::uint8_t>(i)));
  Value* position = llvm::ConstantVector::get(numbers);
  const auto limit = [&](Value* bound) {  // relative to the piece, as far as it reaches
    Value* here = b_.CreateSub(bound, i32(static_cast<std::uint64_t>(start)));
    here = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, here, i32(0));
    here = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, here, i32(static_cast<std::uint64_t>(size)));
    return b_.CreateVectorSplat(count, b_.CreateTrunc(here, b_.getInt8Ty()));
  };
  Value* wanted;
  if (full_mask()) {
    wanted =
        b_.CreateICmpULT(position, b_.CreateVectorSplat(count, b_.getInt8(static_cast<std::uint8_t>(bytes))));
  } else {
    const auto [first, behind] = group_bounds(index);
    wanted =
        b_.CreateAnd(b_.CreateICmpUGE(position, limit(first)), b_.CreateICmpULT(position, limit(behind)));
  }
  return loaded = b_.CreateMaskedLoad(wide, from, llvm::Align(1), wanted, llvm::Constant::getNullValue(wide));
}

// The window with that number of a half of the warp.
Value* Emitter::window(std::size_t index, std::size_t half, std::size_t number) {
  const Windows& windows = plan_.groups[index].windows[half];
  const std::size_t first = number * windows.pieces_of_window();
  std::vector<Value*> parts;
  for (std::size_t n = first; n < first + windows.pieces_of_window(); ++n) {
    parts.push_back(n < windows.pieces.size() ? piece(index, windows.pieces[n], windows.piece_bytes)
                                              : llvm::PoisonValue::get(parts[0]->getType()));
  }
  return concatenate(std::move(parts));
}

// One element of the lanes from `first_lane` on, as many as one permute puts in place.
Value* Emitter::window_lanes(const WindowItem& item, std::int64_t element_offset, std::int64_t bytes,
                             std::uint32_t first_lane) {
  const WindowGroup& group = plan_.groups[item.group];
  const std::size_t half = first_lane / kHalfWarp;
  const Permute permute = plan_permute(
      group.windows[half],
      element_offsets(group, shapes_.tables[group.table], item.offset + element_offset, bytes, first_lane),
      bytes);
  const auto granules = static_cast<std::size_t>(kWindowBytes / permute.granule);
  auto* as_granules = llvm::FixedVectorType::get(b_.getIntNTy(static_cast<unsigned>(8 * permute.granule)),
                                                 static_cast<unsigned>(granules));
  const std::vector<std::size_t>& used = permute.windows;
  const auto loaded = [&](std::size_t w) {
    return b_.CreateBitCast(window(item.group, half, w), as_granules);
  };
  const auto granule_bits = static_cast<unsigned>(8 * permute.granule);
  Value* result = loaded(used[0]);
  std::vector<int> index(granules, kAny);
  if (used.size() == 1) {
    for (std::size_t i = 0; i < permute.source.size(); ++i) index[i] = permute.source[i].second;
    result = permute_granules(result, nullptr, index, granule_bits);
  }
  for (std::size_t k = 1; k < used.size(); ++k) {
    // From the first window as it was loaded, later from where it has been put; and from the next window.
    for (std::size_t i = 0; i < permute.source.size(); ++i) {
      const auto& [from, at] = permute.source[i];
      if (from < used[k]) index[i] = k == 1 ? at : static_cast<int>(i);
      if (from == used[k]) index[i] = static_cast<int>(granules) + at;
    }
    result = permute_granules(result, loaded(used[k]), index, granule_bits);
  }
  if (permute.source.size() != granules)
    result = b_.CreateShuffleVector(result, counting(permute.source.size()));
  return b_.CreateBitCast(result, llvm::FixedVectorType::get(b_.getIntNTy(static_cast<unsigned>(8 * bytes)),
                                                             lanes_of_permute(bytes)));
}

std::vector<Value*> Emitter::load_windows(const Inst& inst, const WindowItem& item) {
  const std::int64_t bytes = ir::bits_of(inst.type) / 8;
  std::vector<Value*> results;
  for (std::int64_t i = 0; i < inst.count; ++i) {
    std::vector<Value*> parts;
    for (std::uint32_t lane = 0; lane < kWarpSize; lane += lanes_of_permute(bytes))
      parts.push_back(window_lanes(item, i * bytes, bytes, lane));
    results.push_back(b_.CreateBitCast(concatenate(std::move(parts)), type(inst.type, true)));
  }
  return results;
}

}  // namespace vgpu::software::jit
