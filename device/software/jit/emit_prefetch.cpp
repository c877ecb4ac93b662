// Prefetching for the blocks behind. What the next blocks of the grid will read mostly lies behind what this
// one reads. Nothing is known of it, and nothing need be: a prefetch has no effect but time, wherever it
// points.
//
// Rows and warps take turns in reading, but lines come fastest in the order in which they lie in memory. So
// all loads of a matrix move one sequence on, by as many lines as they read, and it is the sequence's next
// lines that are fetched, not those behind each load.
#include <algorithm>
#include <set>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using llvm::Value;

namespace {

// More than the rows of blocks that mostly run together. Lines are fetched twice: to the second-level cache,
// which waits for more lines than the first; and to the first when their turn is near, as the loads of one
// row wait for those of the row before.
constexpr std::uint64_t kFar = 32 << 10;
constexpr std::uint64_t kNear = 8 << 10;
// How far a sequence may get from where its loads would have it begin.
constexpr std::uint64_t kAstray = kFar;
constexpr std::uint64_t kLine = 64;

// Lane 0's value of an address, as far as additions show.
struct Sum {
  std::vector<ir::ValueId> terms;  // ascending
  std::uint64_t constant = 0;
};

Sum sum_of(const ir::Function& function, const ir::LaneShapes& shapes, ir::ValueId address) {
  constexpr std::size_t kMostTerms = 8;
  Sum sum;
  std::vector<ir::ValueId> open{address};
  while (!open.empty()) {
    const ir::ValueId value = open.back();
    open.pop_back();
    const ir::Instruction* inst = function.definition(value);
    if (function.is_constant(value)) {
      sum.constant += function.values[value].bits;
    } else if (shapes.of[value].known) {
      sum.constant += static_cast<std::uint64_t>(shapes.of[value].base);
    } else if (inst != nullptr && inst->op == ir::Op::kAdd && open.size() + sum.terms.size() < kMostTerms) {
      open.insert(open.end(), inst->operands.begin(), inst->operands.end());
    } else {
      sum.terms.push_back(value);
    }
  }
  std::ranges::sort(sum.terms);
  return sum;
}

// What addresses of the same matrix have in common, whichever blocks, lanes and turns of a loop they are of.
std::vector<ir::ValueId> common_terms(const ir::Function& function, const ir::LaneShapes& shapes,
                                      const std::vector<bool>& depends_on_block, ir::ValueId address) {
  constexpr std::size_t kMostSeen = 32;
  std::vector<ir::ValueId> terms;
  std::set<ir::ValueId> seen;
  std::vector<ir::ValueId> open{address};
  while (!open.empty() && seen.size() < kMostSeen) {
    const ir::ValueId value = open.back();
    open.pop_back();
    if (!seen.insert(value).second || function.is_constant(value) || shapes.of[value].known) continue;
    const ir::Instruction* inst = function.definition(value);
    if (!depends_on_block[value] && shapes.of[value].is_uniform()) {
      terms.push_back(value);
    } else if (inst != nullptr && (inst->op == ir::Op::kAdd || inst->op == ir::Op::kPhi)) {
      open.insert(open.end(), inst->operands.begin(), inst->operands.end());
    }
  }
  std::ranges::sort(terms);
  return terms;
}

// Adds a range of bytes to others, which are apart from each other, and says how many of them are new.
std::int64_t cover(std::map<std::int64_t, std::int64_t>& ranges, std::int64_t low, std::int64_t high) {
  std::int64_t fresh = high - low;
  auto other = ranges.upper_bound(low);
  if (other != ranges.begin() && std::prev(other)->second >= low) --other;
  auto start = low;
  auto end = high;
  while (other != ranges.end() && other->first <= high) {
    fresh -= std::min(high, other->second) - std::max(low, other->first);
    start = std::min(start, other->first);
    end = std::max(end, other->second);
    other = ranges.erase(other);
  }
  ranges.emplace(start, end);
  return fresh;
}

}  // namespace

// `pointer` is where `address` plus `offset` points, confined. Bytes that other loads of the IR block read
// are left out.
void Emitter::prefetch(ValueId address, std::int64_t offset, Value* pointer, std::int64_t bytes) {
  if (!passes_.prefetch || !depends_on_block_[address]) return;
  ++counts_.prefetches;
  const auto next_number = static_cast<std::uint32_t>(sequence_of_.size() % kPrefetchSequences);
  const std::uint32_t number =
      sequence_of_.try_emplace(common_terms(function_, shapes_, depends_on_block_, address), next_number)
          .first->second;
  Sequence& sequence = sequences_[number];
  if (sequence.pointer == nullptr) sequence.pointer = pointer;
  const Sum sum = sum_of(function_, shapes_, address);
  // As addresses have fewer bits, two are kept clear for sums.
  const std::int64_t low =
      static_cast<std::int64_t>((sum.constant + static_cast<std::uint64_t>(offset)) << 2) >> 2;
  sequence.bytes += cover(prefetched_[sum.terms], low, low + bytes);
  for (; sequence.bytes > 0; sequence.bytes -= std::int64_t{kLine}) prefetches_.push_back(number);
}

// Only so many lines can be on their way at a time, and what comes then waits, loads from the caches too. So
// prefetches are spread over the instructions that follow in the block.
void Emitter::emit_prefetches(std::size_t instructions_left) {
  const std::size_t places = instructions_left + 1;
  for (std::size_t n = (prefetches_.size() + places - 1) / places; n > 0; --n) {
    emit_prefetch(prefetches_.front());
    prefetches_.pop_front();
  }
}

void Emitter::emit_prefetch(std::uint32_t number) {
  Sequence& sequence = sequences_[number];
  if (sequence.next == nullptr) {
    // It goes on where it was left, unless that is far from here: these are other rows, or another matrix.
    Value* last = b_.CreateLoad(b_.getInt64Ty(), prefetch_place(number));
    Value* here = b_.CreateAnd(b_.CreatePtrToInt(sequence.pointer, b_.getInt64Ty()), i64(~(kLine - 1)));
    Value* ahead = b_.CreateSub(last, here);
    Value* astray = b_.CreateICmpUGT(b_.CreateSub(ahead, i64(kFar - kAstray)), i64(2 * kAstray));
    sequence.next = b_.CreateSelect(astray, b_.CreateAdd(here, i64(kFar)), last);
  }
  const std::uint64_t line = kLine * sequence.lines++;
  for (const auto& [at, locality] : {std::pair{line, 2U}, std::pair{line - kFar + kNear, 3U}}) {
    Value* pointer = b_.CreateIntToPtr(b_.CreateAdd(sequence.next, i64(at)), b_.getPtrTy());
    intrinsic(llvm::Intrinsic::prefetch, {b_.getPtrTy()}, {pointer, i32(0), i32(locality), i32(1)});
  }
}

void Emitter::end_prefetches() {
  emit_prefetches(0);
  for (const auto& [number, sequence] : sequences_) {
    if (sequence.next == nullptr) continue;
    b_.CreateStore(b_.CreateAdd(sequence.next, i64(kLine * sequence.lines)), prefetch_place(number));
  }
  sequences_.clear();
}

Value* Emitter::prefetch_place(std::uint32_t number) {
  const std::size_t offset =
      offsetof(BlockState, prefetch_next) + sizeof(BlockState::prefetch_next[0]) * number;
  return b_.CreateConstGEP1_64(b_.getInt8Ty(), state_, offset);
}

}  // namespace vgpu::software::jit
