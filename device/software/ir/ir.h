// Our SSA form of one kernel, between PTX and LLVM. An instruction says what one thread does; how the lanes
// of a warp relate (uniform, uniform + constant per lane, varying) is worked out on this form
// (lane_shapes.h). Ops are few and without modifiers that a pass would have to remember: flush-to-zero,
// saturation, carries, f16 pairs, predication and calls are spelled out when PTX is lowered. Nothing here is
// undefined behaviour: shifts clamp as in PTX, conversions saturate, division by zero yields an unspecified
// value.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "device/software/kernel_abi.h"

namespace vgpu::software::ir {

enum class Type : std::uint8_t { kVoid, kI1, kI8, kI16, kI32, kI64, kF32, kF64 };

[[nodiscard]] constexpr std::uint32_t bits_of(Type type) {
  constexpr std::uint32_t kBits[] = {0, 1, 8, 16, 32, 64, 32, 64};
  return kBits[static_cast<std::uint8_t>(type)];
}
[[nodiscard]] constexpr bool is_float(Type type) {
  return type >= Type::kF32;
}
[[nodiscard]] constexpr Type int_type(std::uint32_t bits) {
  return bits == 1    ? Type::kI1
         : bits == 8  ? Type::kI8
         : bits == 16 ? Type::kI16
         : bits == 32 ? Type::kI32
                      : Type::kI64;
}

enum class Op : std::uint8_t {
  // Registers before SSA: imm = register.
  kRegRead,
  kRegWrite,
  // SSA joins: one operand per predecessor of the block, in the order of Block::preds.
  kPhi,
  // Integers of any width (result type = operand type).
  kAdd,
  kSub,
  kMul,
  kMulHiS,
  kMulHiU,
  kDivS,
  kDivU,
  kRemS,
  kRemU,
  kMinS,
  kMinU,
  kMaxS,
  kMaxU,
  kAbs,
  kAnd,
  kOr,
  kXor,
  kShl,  // amount: i32, clamped as in PTX
  kLShr,
  kAShr,
  kFunnelL,  // high, low, amount (i32); imm 1: amount wraps, 0: clamps to 32
  kFunnelR,
  kPopc,  // → i32
  kClz,   // → i32
  kBrev,
  kBfeS,  // value, position (i32), length (i32)
  kBfeU,
  kBfi,     // inserted, base, position, length
  kBfindS,  // → i32; imm 1: shift amount
  kBfindU,
  kFns,   // mask, base, offset
  kPrmt,  // a, b, selector; imm: ptx::PrmtMode
  kLop3,  // a, b, c; imm: table
  kDp4a,  // a, b, c; imm bit 0: a signed, bit 1: b signed
  kDp2a,  // as dp4a; imm bit 2: the high half of b
  // Comparisons → i1; imm: Compare below.
  kICmp,
  kFCmp,
  kSelect,  // i1, then, else
  // Conversions; result type is the instruction's type.
  kTrunc,
  kZExt,
  kSExt,
  kBitcast,
  kFToS,  // imm: Rounding
  kFToU,
  kSToF,
  kUToF,
  kFExt,       // f32 → f64
  kFTrunc,     // f64 → f32; imm: Rounding
  kHalfToF32,  // bits of an f16 in i16 → f32
  kF32ToHalf,  // imm: Rounding
  kF64ToHalf,
  kFRound,  // to an integral value; imm: Rounding
  // Floating point; imm: Rounding where it matters.
  kFAdd,
  kFSub,
  kFMul,
  kFFma,
  kFDiv,
  kFSqrt,
  kFNeg,
  kFAbs,
  kFMin,  // imm 1: NaN if an operand is
  kFMax,
  kFlush,     // subnormals to zero of the same sign
  kSaturate,  // to [0, 1], NaN to 0
  kEx2,
  kLg2,
  kSin,
  kCos,
  kTanh,
  kRsqrt,
  kTestP,  // → i1; imm: ptx::TestpOp
  // What a thread knows of itself and its surroundings; imm as given.
  kSpecial,       // imm: ptx::SpecialRegister
  kGlobalAddr,    // address of module variable imm, i64
  kSharedWindow,  // generic address of shared offset 0, i64
  kLocalWindow,   // generic address of this thread's local offset 0, i64
  kSharedEnd,     // size of shared memory, i64
  kLocalEnd,      // generic address of the end of the block's local memory, i64
  kLocalStart,    // … and of its start
  kClock,         // i64, nanoseconds or cycles: only grows
  kActiveMask,    // i32
  // Memory. Operand 0 is the address (i64; shared and local: offset, i32), imm a byte offset added to it.
  kLoad,    // `count` results of type `type`
  kStore,   // operands 1…: values of type `type`
  kAtomic,  // sub: AtomicOp; operands 1, 2: values; one result
  kFence,   // imm: ptx::Scope
  // Across lanes.
  kShfl,     // value, lane, clamp-and-mask; sub: ptx::ShuffleMode; results value, in range
  kVote,     // predicate; sub: ptx::VoteMode; result i1 or i32
  kMatch,    // value; sub 1: any; results mask i32 (, i1 for all)
  kBarrier,  // id, threads, predicate; sub: BarrierKind; result i32
  // The value as it was when each lane last executed this: what uses outside a loop that lanes leave at
  // different times must read. Inserted by keep_live_outs.
  kKeep,
  kTrap,    // imm: TrapReason
  kPrintf,  // format, arguments → i32
};

enum class Compare : std::uint8_t {
  kEq,
  kNe,
  kLtS,
  kLeS,
  kGtS,
  kGeS,
  kLtU,
  kLeU,
  kGtU,
  kGeU,
  // floats: ordered, then unordered
  kOEq,
  kONe,
  kOLt,
  kOLe,
  kOGt,
  kOGe,
  kUEq,
  kUNe,
  kULt,
  kULe,
  kUGt,
  kUGe,
  kOrd,
  kUno,
};

enum class Rounding : std::uint8_t { kNearest, kZero, kDown, kUp };

enum class Space : std::uint8_t { kGlobal, kShared, kLocal, kParam };

enum class AtomicOp : std::uint8_t {
  kAdd,
  kExchange,
  kCompareExchange,
  kMinS,
  kMaxS,
  kMinU,
  kMaxU,
  kAnd,
  kOr,
  kXor,
  kIncrement,
  kDecrement,
  kFAdd,
  kHalf2Add,
};

using ValueId = std::uint32_t;
using InstructionId = std::uint32_t;
using BlockId = std::uint32_t;
inline constexpr std::uint32_t kNone = 0xFFFF'FFFF;

struct Instruction {
  Op op = Op::kAdd;
  Type type = Type::kVoid;  // of results (loads: elements), of values (stores), of operands (comparisons)
  std::uint8_t sub = 0;
  std::uint8_t of_block = 0;  // ctaid.x and shared memory: whose, of joined blocks (coarsen.cpp)
  std::uint8_t count = 0;     // vector elements of a load
  Space space = Space::kGlobal;
  bool is_volatile = false;
  bool is_constant = false;  // a load of memory nobody writes during the launch (ld.nc, const, param)
  std::uint32_t line = 0;    // in the PTX text
  BlockId block = kNone;
  std::int64_t imm = 0;
  std::vector<ValueId> operands;
  std::vector<ValueId> results;
};

// A value is a result of an instruction, or a constant (instruction == kNone).
struct Value {
  Type type = Type::kVoid;
  InstructionId instruction = kNone;
  std::uint32_t result = 0;
  std::uint64_t bits = 0;  // of a constant, zero-extended
  bool is_undef = false;   // a register read before it was written: any value
};

enum class Terminator : std::uint8_t { kJump, kBranch, kExit };

struct Block {
  std::vector<InstructionId> phis;
  std::vector<InstructionId> body;
  Terminator terminator = Terminator::kExit;
  ValueId condition = kNone;  // kBranch: succs[0] if true
  std::vector<BlockId> succs;
  std::vector<BlockId> preds;
  std::uint32_t line = 0;
};

// How f32 subnormals are treated: by the processor's control register for a whole kernel, or by kFlush.
enum class FlushMode : std::uint8_t { kNever, kAlways, kExplicit };

struct Function {
  std::string name;
  std::vector<Instruction> instructions;
  std::vector<Value> values;
  std::vector<Block> blocks;    // blocks[0] is the entry, without predecessors
  std::vector<Type> registers;  // before SSA
  std::uint32_t ntid[3] = {1, 1, 1};
  // More than one: joined by coarsen(); the instructions are those of all of them.
  std::uint32_t blocks_at_a_time = 1;
  std::uint32_t warps_at_a_time = 1;
  [[nodiscard]] std::uint32_t at_a_time() const { return blocks_at_a_time * warps_at_a_time; }
  bool indices_fit_31_bits = false;
  FlushMode flush = FlushMode::kNever;
  bool uses_barriers = false;
  std::uint32_t param_bytes = 0;
  std::uint32_t local_bytes = 0;
  std::uint32_t null_params = 0;  // loads of parameters that LowerOptions::null_params says are 0
  std::uint32_t static_shared_bytes = 0;
  std::uint32_t dynamic_shared_offset = 0;

  [[nodiscard]] std::uint32_t threads() const { return ntid[0] * ntid[1] * ntid[2]; }
  [[nodiscard]] const Instruction* definition(ValueId value) const {
    return values[value].instruction == kNone ? nullptr : &instructions[values[value].instruction];
  }
  [[nodiscard]] bool is_constant(ValueId value) const {
    return values[value].instruction == kNone && !values[value].is_undef;
  }
  ValueId constant(Type type, std::uint64_t bits);
  ValueId undef(Type type);
  // Appends to no block: the caller places it.
  InstructionId create(Instruction instruction, std::uint32_t result_count);

 private:
  struct Key {
    Type type;
    std::uint64_t bits;
    friend bool operator==(const Key&, const Key&) = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::uint64_t>()(key.bits * 31 + static_cast<std::uint64_t>(key.type));
    }
  };
  std::unordered_map<Key, ValueId, KeyHash> constants_;
  ValueId undefs_[8] = {kNone, kNone, kNone, kNone, kNone, kNone, kNone, kNone};
};

// Type of result `index` of an instruction (most have one, of Instruction::type).
[[nodiscard]] Type result_type(const Instruction& instruction, std::uint32_t index);
// Has an effect besides its results, or a result that depends on when it is executed.
[[nodiscard]] bool has_effect(const Instruction& instruction);
// A barrier of the whole block, without a reduction: kernel_abi.h's kWarpAtSync, if its number is known.
[[nodiscard]] bool waits_for_all(const Function& function, const Instruction& barrier);

[[nodiscard]] std::string print(const Function& function);
[[nodiscard]] const char* name_of(Op op);
// Empty if the form obeys its rules; otherwise what is broken, for tests and Options::verify.
[[nodiscard]] std::string verify(const Function& function);

}  // namespace vgpu::software::ir
