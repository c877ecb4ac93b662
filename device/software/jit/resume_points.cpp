// See resume_points.h. A slot is kept over a point if it is read behind it before it is written, may have
// been written in front of it, and changes after the entry block. It is written to the frame if it is not
// there yet: the frame holds what was taken back from it until the warp leaves again.
#include "device/software/jit/resume_points.h"

#include <llvm/ADT/BitVector.h>
#include <llvm/ADT/DenseMap.h>
#include <llvm/ADT/PostOrderIterator.h>
#include <llvm/IR/CFG.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Instructions.h>

#include <algorithm>
#include <ranges>
#include <utility>
#include <vector>

#include "device/software/kernel_abi.h"

namespace vgpu::software::jit {
namespace {

using Slot = llvm::AllocaInst*;

bool is_lane_mask(llvm::Type* type) {
  return type->isVectorTy() && type->getScalarSizeInBits() == 1;
}

// Slots that are only read and written as a whole, and are written behind the entry block.
std::vector<Slot> changing_slots(llvm::BasicBlock& entry) {
  std::vector<Slot> slots;
  for (llvm::Instruction& instruction : entry) {
    auto* slot = llvm::dyn_cast<llvm::AllocaInst>(&instruction);
    if (slot == nullptr || slot->getAllocatedType()->isArrayTy()) continue;
    const bool changes = std::ranges::any_of(slot->users(), [&](llvm::User* user) {
      const auto* store = llvm::dyn_cast<llvm::StoreInst>(user);
      return store != nullptr && store->getParent() != &entry;
    });
    if (changes) slots.push_back(slot);
  }
  return slots;
}

using SlotNumbers = llvm::DenseMap<const llvm::Value*, unsigned>;
using Blocks = llvm::ReversePostOrderTraversal<llvm::Function*>;
constexpr unsigned kNoSlot = ~0U;

// That the instruction reads or writes.
unsigned slot_of(const SlotNumbers& numbers, const llvm::Value& instruction) {
  const auto found = numbers.find(llvm::getLoadStorePointerOperand(&instruction));
  return found == numbers.end() ? kNoSlot : found->second;
}
// The slot that a store copies; from which load, if any.
const llvm::LoadInst* copied(const llvm::StoreInst& store) {
  return llvm::dyn_cast<llvm::LoadInst>(store.getValueOperand());
}

// Of each block, one bit per slot.
struct Flow {
  llvm::BitVector read, written;  // read: before it is written
  llvm::BitVector wanted;         // where the block begins
  llvm::BitVector held;           // where it ends: may have been written
};

class SlotFlow {
 public:
  SlotFlow(llvm::Function& code, const Blocks& order, const SlotNumbers& numbers) {
    const unsigned count = numbers.size();
    for (llvm::BasicBlock* block : order) {
      Flow& flow = flows_[block];
      flow = {llvm::BitVector(count), llvm::BitVector(count), {}, {}};
      for (const llvm::Instruction& instruction : *block) {
        const unsigned slot = slot_of(numbers, instruction);
        if (slot == kNoSlot) continue;
        if (llvm::isa<llvm::StoreInst>(instruction)) {
          flow.written.set(slot);
        } else if (!flow.written.test(slot)) {
          flow.read.set(slot);
        }
      }
      flow.wanted = flow.read;
      flow.held = flow.written;
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (llvm::BasicBlock* block : llvm::post_order(&code)) {
        Flow& flow = flows_[block];
        llvm::BitVector wanted(count);
        for (llvm::BasicBlock* next : llvm::successors(block)) wanted |= flows_[next].wanted;
        wanted.reset(flow.written);
        wanted |= flow.read;
        changed |= wanted != flow.wanted;
        flow.wanted = std::move(wanted);
      }
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (llvm::BasicBlock* block : order) {
        Flow& flow = flows_[block];
        llvm::BitVector held = flow.written;
        for (llvm::BasicBlock* before : llvm::predecessors(block)) {
          const auto found = flows_.find(before);  // blocks that nobody comes to have none
          if (found != flows_.end()) held |= found->second.held;
        }
        changed |= held != flow.held;
        flow.held = std::move(held);
      }
    }
  }

  // Nobody comes to a block of an empty set.
  [[nodiscard]] llvm::BitVector kept_over(const ResumePoint& point) const {
    const auto from = flows_.find(point.wait);
    if (from == flows_.end()) return {};
    llvm::BitVector kept = flows_.find(point.resume)->second.wanted;
    kept &= from->second.held;
    return kept;
  }

 private:
  llvm::DenseMap<const llvm::BasicBlock*, Flow> flows_;
};

std::uint32_t bytes_of(const llvm::DataLayout& layout, llvm::Type* type) {
  if (is_lane_mask(type)) return kWarpSize / 8;
  return static_cast<std::uint32_t>(layout.getTypeAllocSize(type));
}

// A slot has one place, so that what did not change between two points need not be written again. Slots that
// are never kept together may share theirs, and those that are copied to each other do: so a value that only
// changes its slot (a loop's, before and after) stays where it is.
class FrameLayout {
 public:
  FrameLayout(const llvm::DataLayout& layout, const std::vector<Slot>& slots, const SlotNumbers& numbers,
              const std::vector<llvm::BitVector>& kept)
      : places_of_(slots.size(), kNowhere) {
    std::vector<unsigned> by_size(slots.size());
    std::ranges::copy(std::views::iota(0U, static_cast<unsigned>(slots.size())), by_size.begin());
    const auto bytes = [&](unsigned i) { return bytes_of(layout, slots[i]->getAllocatedType()); };
    // The largest first, so each lies aligned.
    std::ranges::sort(by_size, {}, [&](unsigned i) { return std::pair(~bytes(i), i); });
    const std::vector<std::vector<unsigned>> copies = copies_of(slots, numbers);
    for (const unsigned slot : by_size) {
      llvm::BitVector points(static_cast<unsigned>(kept.size()));
      for (unsigned point = 0; point < points.size(); ++point) {
        if (slot < kept[point].size() && kept[point].test(slot)) points.set(point);
      }
      if (points.none()) continue;
      std::size_t at = places_.size();
      const auto consider = [&](std::size_t place) {
        if (at == places_.size() && place < places_.size() && places_[place].bytes == bytes(slot) &&
            !places_[place].points.anyCommon(points))
          at = place;
      };
      for (const unsigned other : copies[slot]) consider(places_of_[other]);
      for (std::size_t place = 0; place < places_.size(); ++place) consider(place);
      if (at == places_.size()) {
        places_.push_back({size_, bytes(slot), llvm::BitVector(points.size())});
        size_ += bytes(slot);
      }
      places_[at].points |= points;
      places_of_[slot] = at;
    }
  }
  [[nodiscard]] std::uint32_t size() const { return size_; }
  [[nodiscard]] std::uint32_t offset(unsigned slot) const { return places_[places_of_[slot]].offset; }
  [[nodiscard]] bool share(unsigned a, unsigned b) const {
    return places_of_[a] == places_of_[b] && places_of_[a] != kNowhere;
  }

 private:
  static constexpr std::size_t kNowhere = ~std::size_t{0};
  struct Place {
    std::uint32_t offset, bytes;
    llvm::BitVector points;
  };

  static std::vector<std::vector<unsigned>> copies_of(const std::vector<Slot>& slots,
                                                      const SlotNumbers& numbers) {
    std::vector<std::vector<unsigned>> copies(slots.size());
    for (unsigned slot = 0; slot < slots.size(); ++slot) {
      for (const llvm::User* user : slots[slot]->users()) {
        const auto* store = llvm::dyn_cast<llvm::StoreInst>(user);
        const auto* load = store == nullptr ? nullptr : copied(*store);
        const unsigned from = load == nullptr ? kNoSlot : slot_of(numbers, *load);
        if (from == kNoSlot || from == slot) continue;
        copies[slot].push_back(from);
        copies[from].push_back(slot);
      }
    }
    return copies;
  }

  std::uint32_t size_ = sizeof(WarpFrame);
  std::vector<Place> places_;
  std::vector<std::size_t> places_of_;
};

// Slots whose value lies in their place of the frame, where each point's block ends: it was taken back from
// there, perhaps to another slot of the same place, and has not changed.
std::vector<llvm::BitVector> still_in_frame(const Blocks& order, const SlotNumbers& numbers,
                                            const FrameLayout& layout, std::span<const ResumePoint> points,
                                            const std::vector<llvm::BitVector>& kept) {
  const unsigned count = numbers.size();
  llvm::DenseMap<const llvm::BasicBlock*, llvm::BitVector> at_end;
  llvm::DenseMap<const llvm::BasicBlock*, const llvm::BitVector*> taken_back;
  for (std::size_t i = 0; i < points.size(); ++i) taken_back[points[i].resume] = &kept[i];
  llvm::DenseMap<const llvm::Value*, bool> is_from_frame;  // loads
  for (llvm::BasicBlock* block : order) at_end[block] = llvm::BitVector(count, true);
  const auto at_begin = [&](const llvm::BasicBlock* block) {
    if (const auto found = taken_back.find(block); found != taken_back.end()) return *found->second;
    llvm::BitVector in_frame(count, !block->isEntryBlock());
    for (const llvm::BasicBlock* before : llvm::predecessors(block)) {
      if (const auto found = at_end.find(before); found != at_end.end()) in_frame &= found->second;
    }
    return in_frame;
  };
  for (bool changed = true; changed;) {
    changed = false;
    for (llvm::BasicBlock* block : order) {
      llvm::BitVector in_frame = at_begin(block);
      for (const llvm::Instruction& instruction : *block) {
        const unsigned slot = slot_of(numbers, instruction);
        if (slot == kNoSlot) continue;
        if (llvm::isa<llvm::LoadInst>(instruction)) {
          is_from_frame[&instruction] = in_frame.test(slot);
          continue;
        }
        const llvm::LoadInst* load = copied(llvm::cast<llvm::StoreInst>(instruction));
        const unsigned from = load == nullptr ? kNoSlot : slot_of(numbers, *load);
        in_frame[slot] = from != kNoSlot && layout.share(from, slot) && is_from_frame.lookup(load);
      }
      changed |= in_frame != at_end[block];
      at_end[block] = std::move(in_frame);
    }
  }
  std::vector<llvm::BitVector> in_frame;
  for (const ResumePoint& point : points) in_frame.push_back(at_end.lookup(point.wait));
  return in_frame;
}

class Frame {
 public:
  Frame(llvm::IRBuilder<>& builder, llvm::Value* frame) : b_(builder), frame_(frame) {}

  llvm::Value* at(std::size_t offset) {
    return b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), frame_, offset);
  }
  void keep(Slot slot, std::uint32_t offset) {
    llvm::Value* value = b_.CreateLoad(slot->getAllocatedType(), slot);
    if (is_lane_mask(value->getType())) value = b_.CreateBitCast(value, b_.getInt32Ty());
    b_.CreateAlignedStore(value, at(offset), alignment(offset));
  }
  void take_back(Slot slot, std::uint32_t offset) {
    llvm::Type* type = slot->getAllocatedType();
    llvm::Type* held = is_lane_mask(type) ? b_.getInt32Ty() : type;
    llvm::Value* value = b_.CreateAlignedLoad(held, at(offset), alignment(offset));
    b_.CreateStore(is_lane_mask(type) ? lanes(value) : value, slot);
  }

 private:
  static llvm::Align alignment(std::uint32_t offset) {
    return llvm::commonAlignment(llvm::Align(alignof(WarpFrame)), offset);
  }
  // Not by a bitcast: see Emitter::as_mask.
  llvm::Value* lanes(llvm::Value* bits) {
    std::vector<llvm::Constant*> own;
    for (std::uint32_t lane = 0; lane < kWarpSize; ++lane)
      own.push_back(b_.getInt32(std::uint32_t{1} << lane));
    llvm::Value* set = b_.CreateAnd(b_.CreateVectorSplat(kWarpSize, bits), llvm::ConstantVector::get(own));
    return b_.CreateICmpNE(set, llvm::Constant::getNullValue(set->getType()));
  }

  llvm::IRBuilder<>& b_;
  llvm::Value* frame_;
};

}  // namespace

std::uint32_t leave_and_resume(llvm::Function& code, std::span<const ResumePoint> points) {
  if (points.empty()) return 0;
  llvm::BasicBlock& entry = code.getEntryBlock();
  const std::vector<Slot> slots = changing_slots(entry);
  SlotNumbers numbers;
  for (unsigned i = 0; i < slots.size(); ++i) numbers[slots[i]] = i;
  const Blocks order(&code);
  std::vector<llvm::BitVector> kept;
  {
    const SlotFlow flow(code, order, numbers);
    for (const ResumePoint& point : points) kept.push_back(flow.kept_over(point));
  }
  const FrameLayout layout(code.getDataLayout(), slots, numbers, kept);
  const std::vector<llvm::BitVector> in_frame = still_in_frame(order, numbers, layout, points, kept);

  llvm::IRBuilder<> builder(entry.getTerminator());
  Frame frame(builder, code.getArg(2));
  llvm::Value* point = builder.CreateLoad(builder.getInt32Ty(), frame.at(offsetof(WarpFrame, point)));
  auto* go_on = builder.CreateSwitch(point, entry.getTerminator()->getSuccessor(0),
                                     static_cast<unsigned>(points.size()));
  entry.getTerminator()->eraseFromParent();
  for (std::size_t i = 0; i < points.size(); ++i) {
    llvm::ConstantInt* number = builder.getInt32(static_cast<std::uint32_t>(i) + 1);
    llvm::Instruction* jump = points[i].wait->getTerminator();
    builder.SetInsertPoint(jump);
    for (const unsigned slot : kept[i].set_bits()) {
      if (!in_frame[i].test(slot)) frame.keep(slots[slot], layout.offset(slot));
    }
    builder.CreateStore(number, frame.at(offsetof(WarpFrame, point)));
    builder.CreateRet(points[i].stop);
    jump->eraseFromParent();
    builder.SetInsertPoint(points[i].resume, points[i].resume->begin());
    for (const unsigned slot : kept[i].set_bits()) frame.take_back(slots[slot], layout.offset(slot));
    go_on->addCase(number, points[i].resume);
  }
  return layout.size();
}

}  // namespace vgpu::software::jit
