// Rows that were not foreseen. Where lanes go is often not known to be a row, since an index may wrap around,
// or was divided; yet a row it is. So where addresses vary, and not by what lanes loaded, the code looks
// whether lanes lie side by side, and goes lane by lane only if they do not.
#include <llvm/IR/MDBuilder.h>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using llvm::Value;

bool Emitter::may_be_row(const Inst& inst, const Place& at) const {
  return passes_.rows && inst.space == ir::Space::kGlobal && at.offsets != nullptr && !inst.is_volatile &&
         full_mask() && !varies_by_data_[inst.operands[0]];
}

// `row` emits the access for a row that begins at the place it is given, `any` for lanes anywhere. The
// results are those of the one that runs. Each lane accesses `bytes`.
std::vector<Value*> Emitter::row_or(const Place& at, std::uint32_t bytes,
                                    const std::function<std::vector<Value*>(const Place&)>& row,
                                    const std::function<std::vector<Value*>()>& any) {
  ++counts_.rows_checked;
  mask_vector();  // what both use is not to be made by one of them
  ir::LaneTable steps{};
  for (std::size_t lane = 0; lane < kWarpSize; ++lane) steps[lane] = static_cast<std::int64_t>(lane * bytes);
  Value* first = b_.CreateExtractElement(at.offsets, std::uint64_t{0});
  Value* side_by_side = b_.CreateAdd(splat(first), table_constant(ir::Type::kI64, steps, 0));
  Value* are_there = bits_of_mask(b_.CreateICmpEQ(at.offsets, side_by_side));
  auto* of_row = new_block("row");
  auto* of_any = new_block("no_row");
  auto* next = new_block("next");
  b_.CreateCondBr(b_.CreateICmpEQ(are_there, i32(~std::uint64_t{0})), of_row, of_any,
                  llvm::MDBuilder(context_).createLikelyBranchWeights());

  b_.SetInsertPoint(of_row);
  const std::vector<Value*> results =
      row({b_.CreateGEP(b_.getInt8Ty(), at.pointer, first), nullptr, nullptr});
  of_row = b_.GetInsertBlock();
  b_.CreateBr(next);
  b_.SetInsertPoint(of_any);
  const std::vector<Value*> others = any();
  of_any = b_.GetInsertBlock();
  b_.CreateBr(next);

  b_.SetInsertPoint(next);
  std::vector<Value*> merged;
  for (std::size_t i = 0; i < results.size(); ++i) {
    auto* phi = b_.CreatePHI(results[i]->getType(), 2);
    phi->addIncoming(results[i], of_row);
    phi->addIncoming(others[i], of_any);
    merged.push_back(phi);
  }
  return merged;
}

}  // namespace vgpu::software::jit
