// The state shared by the files of the lowering pass (lower.cpp: functions, control flow, calls;
// lower_memory.cpp: memory and warp operations; lower_alu.cpp: arithmetic; lower_cvt.cpp: conversions).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "device/software/ir/ir.h"
#include "device/software/ir/lower.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::ir {

// One function being lowered: the kernel, or one inlined call.
struct Frame {
  const ptx::Function* function = nullptr;
  const Frame* caller = nullptr;
  bool is_kernel = true;
  std::uint32_t first_register = 0;
  std::uint32_t carry_register = 0;
  std::uint64_t local_base = 0;   // of the function's own .local frame
  std::uint64_t call_base = 0;    // of the frame of its call parameters
  std::uint64_t frame_end = 0;    // frames of calls start here
  std::uint64_t shared_base = 0;  // of the function's own static .shared frame
  // Inlined functions: where parameter and return variables lie in local memory, by variable index.
  std::map<std::uint32_t, std::uint64_t> place;
  std::vector<BlockId> block_at;  // per instruction (and one past): kNone if no block begins there
  BlockId return_block = kNone;
};

class Lowering {
 public:
  Lowering(const ptx::Module& module, const LowerOptions& options)
      : module_(module), null_params_(options.null_params) {
    for (int i = 0; i < 3; ++i) out_.ntid[i] = options.ntid[i];
    out_.indices_fit_31_bits = options.indices_fit_31_bits;
  }
  std::expected<Function, LowerError> run(std::string_view kernel);

 private:
  using Inst = ptx::Instruction;

  // lower.cpp
  const ptx::Function* load(std::uint32_t index);
  bool load_reachable(std::uint32_t root, std::vector<const ptx::Function*>& functions);
  void choose_flush_mode(const std::vector<const ptx::Function*>& functions);
  void lower_body(Frame& frame);
  void lower_guarded(const Inst& inst, std::size_t index);
  void lower_instruction(const Inst& inst, std::size_t index);
  void lower_call(const Inst& inst);
  void lower_return();
  bool fail(const Inst& inst, const std::string& why);
  void fail_at(std::uint32_t line, const std::string& why, LowerErrorKind kind);

  // Building blocks.
  BlockId new_block();
  void start(BlockId block) { block_ = block; }
  void jump(BlockId target);
  void branch(ValueId condition, BlockId yes, BlockId no);
  void exit_block();
  [[nodiscard]] bool is_open() const { return block_ != kNone; }
  Instruction& emit(Op op, Type type, std::vector<ValueId> operands, std::uint32_t results = 1);
  ValueId value(Op op, Type type, std::vector<ValueId> operands, std::int64_t imm = 0);
  ValueId constant(Type type, std::uint64_t bits) { return out_.constant(type, bits); }
  [[nodiscard]] Type type_of(ValueId id) const { return out_.values[id].type; }
  // Same bits, another type; narrower: truncated, wider: zero-extended.
  ValueId as(ValueId id, Type want);
  ValueId extend(ValueId id, Type want, bool is_signed);
  ValueId icmp(Compare compare, ValueId a, ValueId b);
  ValueId select(ValueId condition, ValueId yes, ValueId no) {
    return value(Op::kSelect, type_of(yes), {condition, yes, no});
  }
  ValueId negate(ValueId predicate) {
    return value(Op::kXor, Type::kI1, {predicate, constant(Type::kI1, 1)});
  }

  // Operands and registers.
  [[nodiscard]] std::span<const ptx::Operand> operands(const Inst& inst) const {
    return frame_->function->operands_of(inst);
  }
  ValueId read(ptx::RegisterId reg);
  void write(ptx::RegisterId reg, ValueId value_id);
  void write(const ptx::Operand& destination, ValueId value_id);  // register or sink
  ValueId operand(const Inst& inst, const ptx::Operand& op, Type want);
  ValueId symbol_address(const Inst& inst, ptx::SymbolRef symbol, std::int64_t offset);
  ValueId special(ptx::SpecialRegister reg);

  // lower_memory.cpp
  struct Address {
    ValueId base = kNone;
    std::int64_t offset = 0;
    Space space = Space::kGlobal;
    bool is_constant = false;
  };
  std::optional<Address> address(const Inst& inst, const ptx::Operand& op);
  bool lower_memory(const Inst& inst);  // false: not one of these opcodes
  [[nodiscard]] bool is_null_param(const Inst& inst, const Address& at) const;
  void lower_load(const Inst& inst);
  void lower_store(const Inst& inst);
  void lower_atomic(const Inst& inst);
  void lower_cvta(const Inst& inst);
  void lower_isspacep(const Inst& inst);
  void lower_shfl(const Inst& inst);
  void lower_vote(const Inst& inst);
  void lower_match(const Inst& inst);
  void lower_barrier(const Inst& inst);

  // lower_alu.cpp, lower_cvt.cpp
  bool lower_alu(const Inst& inst);
  bool lower_integer(const Inst& inst);
  bool lower_float(const Inst& inst);
  void lower_mov(const Inst& inst);
  void lower_compare(const Inst& inst);
  void lower_carry(const Inst& inst);
  void lower_mul(const Inst& inst);
  ValueId multiply(const Inst& inst, ValueId a, ValueId b);
  void lower_cvt(const Inst& inst);
  ValueId float_in(const Inst& inst, ValueId v);
  ValueId float_out(const Inst& inst, ValueId v);
  ValueId half_op(const Inst& inst, Op op, const std::vector<ValueId>& halves);
  void lower_half(const Inst& inst);
  void lower_half_compare(const Inst& inst);
  ValueId compare_values(ptx::Compare compare, ptx::Type type, ValueId a, ValueId b);
  ValueId combine(const Inst& inst, ValueId outcome, std::size_t operand_index);

  const ptx::Module& module_;
  const std::uint64_t null_params_;
  Function out_;
  std::optional<LowerError> error_;
  std::map<std::uint32_t, std::unique_ptr<ptx::Function>> loaded_;
  ptx::SharedLayout shared_;
  std::map<const ptx::Function*, std::uint64_t> shared_frames_;
  std::map<std::uint32_t, std::uint64_t> shared_variables_;
  Frame* frame_ = nullptr;
  BlockId block_ = kNone;
  ValueId guard_ = kNone;  // predicated arithmetic: writes become selects
  std::uint32_t line_ = 0;
};

// The form's type of a PTX register or memory type: f16 and f16x2 are carried as bits.
[[nodiscard]] Type type_of_ptx(ptx::Type type);
[[nodiscard]] Rounding rounding_of(ptx::Rounding rounding);

}  // namespace vgpu::software::ir
