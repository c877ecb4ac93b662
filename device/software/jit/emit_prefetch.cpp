// Prefetching for the blocks behind. What the next blocks of the grid will read mostly lies behind what this
// one reads. Nothing is known of it, and nothing need be: a prefetch has no effect but time, wherever it
// points.
#include <algorithm>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using llvm::Value;

namespace {

// More than the rows of blocks that run together.
constexpr std::int64_t kAhead = 64 << 10;
constexpr std::int64_t kLine = 64;

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

}  // namespace

// `pointer` is where `address` plus `offset` points, confined. Lines that other loads of the IR block fetch
// are left out.
void Emitter::prefetch(ValueId address, std::int64_t offset, Value* pointer, std::int64_t bytes) {
  if (!passes_.prefetch || !depends_on_block_[address]) return;
  ++counts_.prefetches;
  const Sum sum = sum_of(function_, shapes_, address);
  std::vector<std::uint64_t>& fetched = prefetched_[sum.terms];
  for (std::int64_t at = 0; at < bytes; at += kLine) {
    const std::uint64_t line =
        sum.constant + static_cast<std::uint64_t>(offset) + static_cast<std::uint64_t>(at);
    const auto is_near = [&](std::uint64_t other) { return line - other + kLine - 1 < 2 * kLine - 1; };
    if (std::ranges::any_of(fetched, is_near)) continue;
    fetched.push_back(line);
    prefetches_.emplace_back(pointer, kAhead + at);
  }
}

// Only so many lines can be on their way at a time, and what comes then waits, loads from the caches too. So
// prefetches are spread over the instructions that follow in the block. They go to the second-level cache,
// which waits for more lines than the first.
void Emitter::emit_prefetches(std::size_t instructions_left) {
  const std::size_t places = instructions_left + 1;
  for (std::size_t n = (prefetches_.size() + places - 1) / places; n > 0; --n) {
    const auto [pointer, distance] = prefetches_.front();
    prefetches_.pop_front();
    Value* ahead = b_.CreateConstGEP1_64(b_.getInt8Ty(), pointer, static_cast<std::uint64_t>(distance));
    intrinsic(llvm::Intrinsic::prefetch, {b_.getPtrTy()},
              {ahead, i32(0), i32(2), i32(1)});  // to read, into L2
  }
}

}  // namespace vgpu::software::jit
