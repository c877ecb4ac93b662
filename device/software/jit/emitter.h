// From our form, with its lane shapes, to LLVM IR: one function that runs a warp. Uniform values, and lane 0
// of values that differ by constants, are scalars; varying ones are vectors of 32. Blocks that run with part
// of a warp are walked in linear order under a mask; all others are joined by true branches.
// emit_control.cpp: blocks, masks, phis; emit_ops.cpp, emit_integer.cpp, emit_float.cpp, emit_math.cpp:
// arithmetic; emit_memory.cpp, emit_window.cpp, emit_transpose.cpp, emit_row.cpp, emit_prefetch.cpp: memory;
// emit_warp.cpp: atomics and what lanes do together.
#pragma once

#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"
#include "device/software/ir/liveness.h"
#include "device/software/jit/access_counts.h"
#include "device/software/jit/passes.h"
#include "device/software/jit/resume_points.h"
#include "device/software/jit/transpose_plan.h"
#include "device/software/jit/window_plan.h"

namespace vgpu::software::jit {

// What the target can do that changes the code we write.
struct Target {
  bool avx512 = false;  // F, BW, DQ, VL
  bool vbmi = false;
  bool vnni = false;
  std::size_t word_permute_cost = 1;  // see plan_windows
  bool unconfined = false;            // see Options
};

// A warp's code as made without guarded claims, if any were made.
inline constexpr const char* kPlainSymbol = "vgpu_warp_plain";

class Emitter {
 public:
  Emitter(llvm::Module& module, const ir::Function& function, const ir::LaneShapes& shapes, Target target,
          Passes passes);
  // `masked`: emits the same kernel without converging branches; run() drives it.
  AccessCounts run(const std::string& symbol, Emitter* masked = nullptr);
  // What a warp's frame takes (CompiledKernel::frame_bytes), after run().
  [[nodiscard]] std::uint32_t frame_bytes() const { return frame_bytes_; }

 private:
  using V = llvm::Value*;
  using Inst = ir::Instruction;
  using ValueId = ir::ValueId;
  using BlockId = ir::BlockId;

  // --- emit_control.cpp
  void begin_function(const std::string& symbol);
  void create_blocks();
  void find_lost_lanes();
  void find_homes();
  void find_dependences();
  void declare_homes(const Emitter* sharing);
  void declare_waiting();
  void emit_prologue();
  void emit_body();
  void join(const Emitter& speculating);  // become its masked form: same function, other blocks
  void take_live(Emitter& speculating, const std::vector<ValueId>& live);
  void take(Emitter& speculating, ValueId value);
  void go_on_from(Emitter& speculating, BlockId id);
  void go_on_at(Emitter& speculating, BlockId id);
  void count_masked_warp();
  void check_on_entry(BlockId id);
  void leave_agreed(BlockId id);
  void emit_block(BlockId id);
  void emit_terminator(BlockId id);
  void leave_whole(BlockId id);
  void leave_partial(BlockId id);
  void emit_chain_links(std::size_t chain);
  void go(BlockId from, BlockId to);  // branch to a block that all live lanes enter
  struct PhiWrite {
    ValueId phi;
    V value;
    V edge;  // lanes taking the edge (i32), or null: all of them
  };
  void collect_phis(BlockId from, BlockId to, V edge, std::vector<PhiWrite>& writes);
  void store_phis(const std::vector<PhiWrite>& writes);
  void poll_cancel();
  void add_lanes(BlockId to, V lanes);
  [[nodiscard]] bool is_partial(BlockId id) const { return shapes_.partial[id]; }
  [[nodiscard]] bool full_mask() const;  // the current block runs with all 32 lanes
  V mask();                              // lanes of the current block, i32
  V mask_vector();                       // … as <32 x i1>
  llvm::BasicBlock* new_block(const char* name);

  // --- values
  [[nodiscard]] const ir::Shape& shape(ValueId id) const { return shapes_.of[id]; }
  [[nodiscard]] llvm::Type* type(ir::Type t) const;
  [[nodiscard]] llvm::Type* type(ir::Type t, bool vector) const;
  [[nodiscard]] llvm::Constant* constant(ir::Type t, std::uint64_t bits) const;
  [[nodiscard]] llvm::Constant* constant(ir::Type t, std::uint64_t bits, bool vector) const;
  [[nodiscard]] llvm::Constant* table_constant(ir::Type t, const ir::LaneTable& table,
                                               std::int64_t base) const;
  [[nodiscard]] llvm::Constant* i32(std::uint64_t bits) const { return constant(ir::Type::kI32, bits); }
  [[nodiscard]] llvm::Constant* i64(std::uint64_t bits) const { return constant(ir::Type::kI64, bits); }
  V scalar(ValueId id);  // uniform: the value; offsets: lane 0's
  V vector(ValueId id);
  V get(ValueId id, bool as_vector) { return as_vector ? vector(id) : scalar(id); }
  void define(ValueId id, V value);
  V splat(V value) { return b_.CreateVectorSplat(kWarpSize, value); }
  V bits_of_mask(V lanes) { return b_.CreateBitCast(lanes, b_.getInt32Ty()); }
  V as_mask(V bits);
  V intrinsic(llvm::Intrinsic::ID id, std::initializer_list<llvm::Type*> types,
              std::initializer_list<V> args);
  [[nodiscard]] static bool is_vector(V value) { return value->getType()->isVectorTy(); }
  // A constant of the shape (scalar or vector) of `like`, with elements of type `t`.
  [[nodiscard]] llvm::Constant* same(V like, ir::Type t, std::uint64_t bits) const;
  [[nodiscard]] llvm::Type* same_type(V like, ir::Type t) const { return type(t, is_vector(like)); }

  // --- emit_ops.cpp
  void emit_instruction(const Inst& inst);
  V emit_pure(const Inst& inst, bool as_vector);
  V compare(const Inst& inst, V a, V b);
  [[nodiscard]] bool is_guarded(const Inst& inst) const;
  V fits_unwrapped(const Inst& inst);
  void guard_wrap(const Inst& inst);
  void compute_early(ValueId value);
  V special(const Inst& inst, bool as_vector);
  V thread_index(int dimension, bool as_vector);

  // --- emit_integer.cpp
  V shift(ir::Op op, V value, V amount);
  V shift_amount(V amount, V like);
  V divide(const Inst& inst, V a, V b);
  V divide32(V a, V b, bool is_signed, bool remainder);
  V multiply_high(V a, V b, bool is_signed);
  V funnel(const Inst& inst, V high, V low, V amount);
  V field_extract(V value, V position, V length, bool is_signed);
  V field_insert(V inserted, V base, V position, V length);
  V find_first(V value, bool is_signed, bool shift_amount);
  V find_nth_set(V mask_value, V base, V offset);
  V permute_bytes(const Inst& inst, V a, V b, V selector);
  V logic3(V a, V b, V c, std::uint32_t table);
  V dot4(const Inst& inst, V a, V b, V c);
  V dot2(const Inst& inst, V a, V b, V c);
  [[nodiscard]] bool bytes_non_negative(ValueId id, int depth = 0) const;

  // --- emit_float.cpp, emit_math.cpp
  V emit_float(const Inst& inst, bool as_vector);
  V directed(const Inst& inst, std::vector<V> args);
  V directed_sum(const Inst& inst, V a, V b);
  V round_to_odd(V sum, V error);
  V narrow(V wide, ir::Rounding rounding);
  V narrow_to_odd(V wide);
  V rounded_by_helper(const Inst& inst, const std::vector<V>& args, ir::Type result);
  V to_integer(const Inst& inst, V value);
  V from_integer(const Inst& inst, V value);
  V round_integral(V value, ir::Rounding rounding);
  V min_max(const Inst& inst, V a, V b);
  V flush(V value);
  V saturate(V value);
  V test(const Inst& inst, V value);
  V half_to_float(V bits);
  V float_to_half(V value);
  V fma(V a, V b, V c);
  V float_constant(V like, double value);
  V exp2(V x);
  V log2(V x);
  V sin_cos(V x, bool cosine);
  V tanh(V x);
  V int_bits(V value);
  V float_bits(V value);

  // --- emit_memory.cpp
  struct Place {  // where an access goes: pointer + per-lane offsets (null: all lanes the same place)
    V pointer = nullptr;
    V offsets = nullptr;                   // vector of i32 or i64
    const ir::LaneTable* table = nullptr;  // constant offsets instead
  };
  void emit_load(const Inst& inst);
  void emit_store(const Inst& inst);
  Place place(const Inst& inst, std::uint32_t bytes);
  Place place_global(const Inst& inst, std::uint32_t bytes);
  Place place_shared(const Inst& inst, std::uint32_t bytes);
  Place place_local(const Inst& inst, std::uint32_t bytes);
  Place place_param(const Inst& inst, std::uint32_t bytes);
  V confine(V address);                                 // scalar or vector: offset in the window, clamped
  V bound(llvm::Intrinsic::ID kind, V value, V limit);  // every clamp of an address goes through here
  V shared_span(ValueId root, std::int64_t low, std::int64_t high, std::uint8_t of_block);
  void begin_spans();
  V uniform_place(const Inst& inst);
  V lane_offsets(const Place& place);
  V pointers(const Place& place);
  [[nodiscard]] static bool is_contiguous(const Place& place, std::uint32_t bytes);
  std::vector<V> load_contiguous(const Inst& inst, const Place& place);
  std::vector<V> load_gather(const Inst& inst, const Place& place);
  std::vector<V> load_lane_by_lane(const Inst& inst, const Place& place);
  void store_contiguous(const Inst& inst, const Place& place);
  void store_anywhere(const Inst& inst, const Place& place);
  void store_scatter(const Inst& inst, const Place& place);
  void store_lane_by_lane(const Inst& inst, const Place& place);
  V gather(V pointers_value, ir::Type element);
  V repeat_mask(std::uint32_t count);

  // --- emit_row.cpp
  [[nodiscard]] bool may_be_row(const Inst& inst, const Place& at) const;
  std::vector<V> row_or(const Place& at, std::uint32_t bytes,
                        const std::function<std::vector<V>(const Place&)>& row,
                        const std::function<std::vector<V>()>& any);

  // --- emit_prefetch.cpp
  void prefetch(ValueId address, std::int64_t offset, V pointer, std::int64_t bytes);
  void emit_prefetches(std::size_t instructions_left);
  void emit_prefetch(std::uint32_t number);
  void end_prefetches();
  V prefetch_place(std::uint32_t number);

  // --- emit_window.cpp
  void begin_windows();
  V group_base(std::size_t group);
  std::pair<V, V> group_bounds(std::size_t group);
  V piece(std::size_t group, std::int64_t start, std::int64_t size);
  V window(std::size_t group, std::size_t half, std::size_t number);
  V window_lanes(const WindowItem& item, std::int64_t element_offset, std::int64_t bytes,
                 std::uint32_t first_lane);
  V permute_table(const std::vector<int>& index, unsigned granule_bits);
  V permute_granules(V first, V second, const std::vector<int>& index, unsigned granule_bits);
  std::vector<V> load_windows(const Inst& inst, const WindowItem& item);

  // --- emit_transpose.cpp
  void begin_transposes();
  V transpose_base(std::size_t group);
  V concatenate(std::vector<V> parts);
  const std::vector<V>& transposed(std::size_t chunk);
  std::vector<V> load_transposed(const Inst& inst, const std::vector<TransposeWord>& places);

  // --- emit_warp.cpp
  void emit_atomic(const Inst& inst);
  void emit_shfl(const Inst& inst);
  void emit_barrier(const Inst& inst);
  [[nodiscard]] bool passes_at_once(const Inst& barrier) const;
  void pass_barrier(const Inst& inst);
  V describe_barrier(const Inst& inst);
  void wait(V stop);
  V permute(V value, V lanes);
  V match(V value);
  V first_lane(ValueId id);  // of the active lanes
  void emit_fence(const Inst& inst);
  V hook(std::size_t offset);
  void emit_trap(V reason, std::uint32_t line);
  V print(const Inst& inst);
  // Runs `body` once per lane in `lanes`, lowest first.
  void for_each_lane(V lanes, const std::function<void(V lane)>& body);
  // Memory for one vector between a lane loop and the code around it; `slot` keeps several apart.
  V scratch(llvm::Type* element, unsigned slot);
  V spill(V value, unsigned slot);
  V element(V spilled, llvm::Type* element_type, V lane);
  V reload(V spilled, llvm::Type* element_type);

  llvm::Module& module_;
  llvm::LLVMContext& context_;
  const ir::Function& function_;
  const ir::LaneShapes& shapes_;
  Target target_;
  Passes passes_;
  AccessCounts counts_;
  llvm::IRBuilder<> b_;
  llvm::Function* code_ = nullptr;
  llvm::BasicBlock* entry_ = nullptr;
  llvm::BasicBlock* return_ = nullptr;
  llvm::BasicBlock* restart_ = nullptr;  // a guard failed
  Emitter* masked_ = nullptr;            // where lanes that do not agree go on
  ir::LiveValues live_values_;           // of the masked form

  std::vector<bool> depends_on_block_;  // by value: on ctaid.x
  std::vector<bool> varies_by_data_;    // by value: from lane to lane, by what lanes loaded or were told
  std::vector<bool> needs_home_;
  std::vector<llvm::AllocaInst*> homes_;                 // by value
  std::vector<llvm::BasicBlock*> body_, check_, after_;  // by block
  std::vector<llvm::AllocaInst*> waiting_;               // by block: lanes waiting to enter it
  llvm::AllocaInst* live_ = nullptr;
  std::vector<bool> all_lanes_;  // by block: none has stopped before
  std::vector<bool> chain_loses_lanes_;

  // Of the block being emitted.
  BlockId block_ = 0;
  std::unordered_map<ValueId, V> scalars_, vectors_;
  V mask_ = nullptr;
  V mask_vector_ = nullptr;
  std::unordered_map<V, std::pair<V, V>> signed_dots_;  // what dot4 gave: which difference it is
  struct Span {                                         // of places that differ by constants
    std::int64_t low = INT64_MAX, high = INT64_MIN;
    V base = nullptr;  // where `low` is
  };
  std::map<std::pair<ValueId, std::uint8_t>, Span> spans_;  // by root and of_block
  WindowPlan plan_;
  std::map<std::tuple<std::size_t, std::int64_t, std::int64_t>, V> pieces_;  // by group, start and size
  std::map<std::pair<unsigned, std::vector<int>>, llvm::GlobalVariable*> permute_tables_;
  std::vector<V> group_base_;
  std::vector<std::pair<V, V>> group_bounds_;
  // By what an address is the sum of: the bytes whose lines are prefetched, as the starts and ends of ranges.
  std::map<std::vector<ValueId>, std::map<std::int64_t, std::int64_t>> prefetched_;
  struct Sequence {
    V pointer = nullptr;      // what the first load reads
    V next = nullptr;         // the first line to fetch
    std::uint64_t lines = 0;  // fetched
    std::int64_t bytes = 0;   // read, for which no line is to be fetched yet; negative: too many are
  };
  std::map<std::uint32_t, Sequence> sequences_;
  std::deque<std::uint32_t> prefetches_;  // to be emitted: the next line of which sequence
  std::map<std::vector<ValueId>, std::uint32_t> sequence_of_;  // by what addresses have in common
  TransposePlan transposes_;
  std::vector<V> transpose_base_;           // by group
  std::vector<std::vector<V>> transposed_;  // by chunk

  std::vector<ResumePoint> resume_points_;
  std::uint32_t frame_bytes_ = 0;

  // Read once in the prologue.
  V state_ = nullptr, warp_ = nullptr, frame_ = nullptr, hooks_ = nullptr, params_ = nullptr,
    globals_ = nullptr, cancel_ = nullptr;
  V shared_base_ = nullptr, shared_limit_ = nullptr, shared_bytes_ = nullptr, local_base_ = nullptr;
  V local_stride_ = nullptr, local_offsets_ = nullptr, threads_ = nullptr;
  std::map<std::pair<llvm::Type*, unsigned>, V> scratch_;
};

}  // namespace vgpu::software::jit
