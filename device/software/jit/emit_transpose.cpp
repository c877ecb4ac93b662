// Transposed loads as transpose_plan.h lays them out: a wide load for each lane, and shuffles that put the
// lanes' words side by side.
#include <algorithm>
#include <numeric>

#include "device/software/jit/emitter.h"

namespace vgpu::software::jit {

using ir::Type;
using llvm::Value;

namespace {

constexpr std::size_t kWordsOfPart = 4;  // 128 bits: shuffles within them are the cheap ones

}  // namespace

void Emitter::begin_transposes() {
  transposes_ = passes_.transposes && full_mask()
                    ? plan_transposes(function_, shapes_, block_, needs_home_, plan_)
                    : TransposePlan{};
  transpose_base_.assign(transposes_.groups.size(), nullptr);
  transposed_.assign(transposes_.chunks.size(), {});
}

// Where the first byte lies that any lane wants.
Value* Emitter::transpose_base(std::size_t index) {
  Value*& base = transpose_base_[index];
  if (base != nullptr) return base;
  const TransposeGroup& group = transposes_.groups[index];
  const ir::Shape& s = shape(group.root);
  const auto [least, most] = std::ranges::minmax(shapes_.table_of(s));
  const std::int64_t low = group.low + least;
  if (group.space == ir::Space::kShared)
    return base = shared_span(group.root, low, group.end + most, group.of_block);
  Value* first = b_.CreateAdd(scalar(group.root), i64(static_cast<std::uint64_t>(low)));
  return base = b_.CreateIntToPtr(b_.CreateAdd(confine(first), i64(kDeviceWindowBase)), b_.getPtrTy());
}

// Vectors one behind the other.
Value* Emitter::concatenate(std::vector<Value*> parts) {
  while (parts.size() > 1) {
    auto* part = llvm::cast<llvm::FixedVectorType>(parts[0]->getType());
    std::vector<int> index(std::size_t{2} * part->getNumElements());
    std::iota(index.begin(), index.end(), 0);
    std::vector<Value*> joined;
    for (std::size_t i = 0; i < parts.size(); i += 2)
      joined.push_back(b_.CreateShuffleVector(parts[i], parts[i + 1], index));
    parts = std::move(joined);
  }
  return parts[0];
}

// A chunk's words, each a vector of all lanes.
const std::vector<Value*>& Emitter::transposed(std::size_t index) {
  std::vector<Value*>& words = transposed_[index];
  if (!words.empty()) return words;
  const TransposeChunk& chunk = transposes_.chunks[index];
  const TransposeGroup& group = transposes_.groups[chunk.group];
  const ir::LaneTable& table = shapes_.table_of(shape(group.root));
  const std::int64_t least = std::ranges::min(table);
  Value* base = transpose_base(chunk.group);
  auto* row = llvm::FixedVectorType::get(b_.getInt32Ty(), chunk.words);
  const auto load = [&](std::size_t lane) -> Value* {
    const auto at = static_cast<std::uint64_t>(chunk.offset - group.low + table[lane] - least);
    auto* loaded = b_.CreateAlignedLoad(row, b_.CreateConstGEP1_64(b_.getInt8Ty(), base, at), llvm::Align(1));
    if (group.is_constant)
      loaded->setMetadata(llvm::LLVMContext::MD_invariant_load, llvm::MDNode::get(context_, {}));
    return loaded;
  };
  // Of each four numbers: those of one source, then those of the other, in every part of 128 bits.
  const auto shuffle = [&](Value* a, Value* b, std::initializer_list<int> of_a,
                           std::initializer_list<int> of_b, bool interleaved) {
    std::vector<int> at;
    for (int part = 0; part < static_cast<int>(kHalfWarp); part += static_cast<int>(kWordsOfPart)) {
      for (std::size_t i = 0; i < 2; ++i) {
        const int first = part + of_a.begin()[i];
        const int second = part + static_cast<int>(kHalfWarp) + of_b.begin()[i];
        if (interleaved)
          at.insert(at.end(), {first, second});
        else
          at.push_back(first);
      }
      if (!interleaved)
        for (const int i : of_b) at.push_back(part + static_cast<int>(kHalfWarp) + i);
    }
    return b_.CreateShuffleVector(a, b, at);
  };
  std::vector<std::vector<Value*>> halves(chunk.words);
  for (std::size_t first = 0; first < kWarpSize; first += kHalfWarp) {
    if (chunk.words == 1) {
      std::vector<Value*> parts;
      for (std::size_t lane = first; lane < first + kHalfWarp; ++lane) parts.push_back(load(lane));
      halves[0].push_back(concatenate(parts));
      continue;
    }
    if (chunk.words == 2) {
      // Parts of two lanes each; lanes 0 and 1, 4 and 5, …, then those between.
      std::vector<Value*> low, high;
      for (std::size_t lane = first; lane < first + kHalfWarp; lane += 4) {
        low.push_back(concatenate({load(lane), load(lane + 1)}));
        high.push_back(concatenate({load(lane + 2), load(lane + 3)}));
      }
      Value* a = concatenate(low);
      Value* b = concatenate(high);
      halves[0].push_back(shuffle(a, b, {0, 2}, {0, 2}, false));
      halves[1].push_back(shuffle(a, b, {1, 3}, {1, 3}, false));
      continue;
    }
    // Four vectors, lane 0, 4, 8, 12 of the half in the first: four lanes of each part are turned about.
    Value* rows[kWordsOfPart];
    for (std::size_t j = 0; j < kWordsOfPart; ++j) {
      std::vector<Value*> parts;
      for (std::size_t lane = first + j; lane < first + kHalfWarp; lane += kWordsOfPart)
        parts.push_back(load(lane));
      rows[j] = concatenate(parts);
    }
    for (std::size_t pair = 0; pair < 2; ++pair) {
      const int word = static_cast<int>(2 * pair);
      Value* low = shuffle(rows[0], rows[1], {word, word + 1}, {word, word + 1}, true);
      Value* high = shuffle(rows[2], rows[3], {word, word + 1}, {word, word + 1}, true);
      halves[2 * pair].push_back(shuffle(low, high, {0, 1}, {0, 1}, false));
      halves[2 * pair + 1].push_back(shuffle(low, high, {2, 3}, {2, 3}, false));
    }
  }
  for (std::vector<Value*>& half : halves) words.push_back(concatenate(half));
  return words;
}

std::vector<Value*> Emitter::load_transposed(const Inst& inst, const std::vector<TransposeWord>& places) {
  const auto word = [&](std::size_t i) { return transposed(places[i].chunk)[places[i].word]; };
  std::vector<Value*> results;
  for (std::size_t i = 0; i < inst.count; ++i) {
    Value* value;
    if (ir::bits_of(inst.type) == 32) {
      value = word(i);
    } else {
      std::vector<int> index;
      for (int lane = 0; lane < static_cast<int>(kWarpSize); ++lane)
        index.insert(index.end(), {lane, static_cast<int>(kWarpSize) + lane});
      value = b_.CreateShuffleVector(word(2 * i), word(2 * i + 1), index);
    }
    results.push_back(b_.CreateBitCast(value, type(inst.type, true)));
  }
  return results;
}

}  // namespace vgpu::software::jit
