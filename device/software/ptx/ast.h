// The PTX front end's contract: what a PTX module is after parsing. Every name is resolved (registers,
// variables, labels, functions are indices) and every modifier is a small enum, so that later stages
// never look at text. A Module is immutable after parse and may be read by any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vgpu::software::ptx {

// ---------------------------------------------------------------- errors

enum class ErrorKind : std::uint8_t {
  kSyntax,              // not PTX, or PTX that breaks a rule of the language
  kUnsupported,         // an opcode, modifier or directive this front end does not know; the message names it
  kUnsupportedVersion,  // the .version is newer than this front end
  kLimit,               // too large: registers, nesting, variables, text
  kNotFound,            // no function of that name, or only a declaration of it
};

struct Error {
  ErrorKind kind = ErrorKind::kSyntax;
  std::string file;
  std::uint32_t line = 0;    // 1-based; 0 where no place applies
  std::uint32_t column = 0;  // 1-based
  std::string message;

  // "file:line:column: message"
  [[nodiscard]] std::string describe() const;
};

// ---------------------------------------------------------------- types and modifiers

enum class Type : std::uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kF32,
  kF64,
};

// Bits a value of the type takes (a predicate: 1, kNone: 0).
[[nodiscard]] constexpr std::uint32_t bits_of(Type type) {
  switch (type) {
    case Type::kNone:
      return 0;
    case Type::kPred:
      return 1;
    case Type::kB8:
    case Type::kU8:
    case Type::kS8:
      return 8;
    case Type::kB16:
    case Type::kU16:
    case Type::kS16:
    case Type::kF16:
      return 16;
    case Type::kB32:
    case Type::kU32:
    case Type::kS32:
    case Type::kF32:
    case Type::kF16x2:
      return 32;
    case Type::kB64:
    case Type::kU64:
    case Type::kS64:
    case Type::kF64:
      return 64;
  }
  return 0;
}
// Bytes in memory (predicates do not live in memory: 0).
[[nodiscard]] constexpr std::uint32_t bytes_of(Type type) {
  return bits_of(type) / 8;
}
[[nodiscard]] constexpr bool is_float(Type type) {
  return type >= Type::kF16;
}
[[nodiscard]] constexpr bool is_signed(Type type) {
  return type >= Type::kS8 && type <= Type::kS64;
}
[[nodiscard]] constexpr bool is_unsigned(Type type) {
  return type >= Type::kU8 && type <= Type::kU64;
}
[[nodiscard]] constexpr bool is_untyped(Type type) {
  return type >= Type::kB8 && type <= Type::kB64;
}

enum class StateSpace : std::uint8_t { kGeneric, kGlobal, kConst, kShared, kLocal, kParam };

// kNone: the instruction carried none. The i-forms round to an integral value (cvt).
enum class Rounding : std::uint8_t { kNone, kRn, kRz, kRm, kRp, kRni, kRzi, kRmi, kRpi };

// Ordered comparisons are false, the …u ones true, if an operand is NaN. kLo…kHs are the unsigned
// spellings of lt/le/gt/ge and are turned into those by the parser; they never appear here.
enum class Compare : std::uint8_t {
  kNone,
  kEq,
  kNe,
  kLt,
  kLe,
  kGt,
  kGe,
  kEqu,
  kNeu,
  kLtu,
  kLeu,
  kGtu,
  kGeu,
  kNum,
  kNan,
};

enum class BoolOp : std::uint8_t { kNone, kAnd, kOr, kXor };  // setp/set with a third operand

enum class MulPart : std::uint8_t { kNone, kLo, kHi, kWide };

enum class CacheOp : std::uint8_t { kNone, kCa, kCg, kCs, kLu, kCv, kWb, kWt };

enum class ShuffleMode : std::uint8_t { kNone, kUp, kDown, kBfly, kIdx };

enum class VoteMode : std::uint8_t { kNone, kAll, kAny, kUni, kBallot };

// bar.red: and/or over predicates, popc counts them. kSync/kArrive are plain barriers.
enum class BarrierOp : std::uint8_t { kNone, kSync, kArrive, kRedAnd, kRedOr, kRedPopc };

enum class AtomicOp : std::uint8_t { kNone, kAdd, kExch, kCas, kMin, kMax, kAnd, kOr, kXor, kInc, kDec };

enum class Scope : std::uint8_t { kNone, kCta, kGpu, kSys };  // membar's .gl is kGpu

enum class MemoryOrder : std::uint8_t { kNone, kWeak, kRelaxed, kAcquire, kRelease, kAcqRel, kSc };

enum class PrmtMode : std::uint8_t { kNone, kF4e, kB4e, kRc8, kEcl, kEcr, kRc16 };

enum class TestpOp : std::uint8_t { kNone, kFinite, kInfinite, kNumber, kNotANumber, kNormal, kSubnormal };

// Bits of Instruction::flags.
enum Flag : std::uint16_t {
  kFlagFtz = 1 << 0,
  kFlagSat = 1 << 1,
  kFlagApprox = 1 << 2,        // .approx
  kFlagFull = 1 << 3,          // div.full
  kFlagUni = 1 << 4,           // bra.uni, call.uni: all active threads take it together
  kFlagVolatile = 1 << 5,      // ld/st.volatile
  kFlagNc = 1 << 6,            // ld.global.nc
  kFlagSync = 1 << 7,          // shfl.sync, vote.sync, match.sync: last source is the member mask
  kFlagAligned = 1 << 8,       // barrier…aligned; every bar.* has it
  kFlagCarryOut = 1 << 9,      // .cc: writes the carry flag (addc, subc, madc always read it)
  kFlagWrap = 1 << 10,         // shf.wrap (absent: clamp)
  kFlagRight = 1 << 11,        // shf.r (absent: left)
  kFlagToSpace = 1 << 12,      // cvta.to.space: generic → space (absent: space → generic)
  kFlagShiftAmount = 1 << 13,  // bfind.shiftamt
  kFlagNan = 1 << 14,          // min/max.NaN: NaN if an operand is
  kFlagMatchAny = 1 << 15,     // match.any (absent: match.all)
};

// Sources in the order written; destinations come first (Instruction::destination_count of them).
enum class Opcode : std::uint8_t {
  kAbs,
  kActivemask,
  kAdd,
  kAddc,
  kAnd,
  kAtom,
  kBarrier,      // bar and barrier: operands: [dst pred|u32 for red] id [thread count] [pred for red]
  kBarWarpSync,  // bar.warp.sync mask
  kBfe,
  kBfi,
  kBfind,
  kBra,
  kBrev,
  kBrxIdx,
  kCall,  // [returns…] target [arguments…]; see Instruction::destination_count
  kClz,
  kCnot,
  kCopysign,
  kCos,
  kCvt,
  kCvta,  // space is the named space; kFlagToSpace gives the direction
  kDiv,
  kDp2a,
  kDp4a,
  kEx2,
  kExit,
  kFence,
  kFma,
  kFns,
  kIsspacep,
  kLd,
  kLg2,
  kLop3,
  kMad,
  kMad24,
  kMadc,
  kMatch,
  kMax,
  kMembar,
  kMin,
  kMov,
  kMul,
  kMul24,
  kNanosleep,
  kNeg,
  kNot,
  kOr,
  kPopc,
  kPrefetch,
  kPrmt,
  kRcp,
  kRed,  // atomic without result; sources [address] b (c)
  kRem,
  kRet,
  kRsqrt,
  kSad,
  kSelp,
  kSet,
  kSetp,
  kShf,
  kShfl,
  kShl,
  kShr,
  kSin,
  kSlct,
  kSqrt,
  kSt,
  kSub,
  kSubc,
  kTanh,
  kTestp,
  kTrap,
  kVote,
  kXor,
};

enum class SpecialRegister : std::uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kGridid,
  kLanemaskEq,
  kLanemaskLe,
  kLanemaskLt,
  kLanemaskGe,
  kLanemaskGt,
  kClock,
  kClockHi,
  kClock64,
  kGlobaltimer,
  kGlobaltimerLo,
  kGlobaltimerHi,
  kDynamicSmemSize,
  kTotalSmemSize,
  kEnvreg0,  // kEnvreg0 + n is %envreg<n>, n < 32
  kEnvreg31 = kEnvreg0 + 31,
};

// ---------------------------------------------------------------- operands and instructions

using RegisterId = std::uint32_t;  // index into Function::registers
inline constexpr RegisterId kNoRegister = 0xFFFF'FFFF;

// A variable: of the function (Function::variables) or of the module (Module::variables()).
struct SymbolRef {
  std::uint32_t index = 0;
  bool in_module = false;
  friend bool operator==(const SymbolRef&, const SymbolRef&) = default;
};

enum class OperandKind : std::uint8_t {
  kRegister,   // index = RegisterId
  kImmediate,  // value = raw bits: integers sign-extended to 64 bits, floats as bits of the instruction's
               // operand type
  kSpecial,    // index = SpecialRegister
  kSymbol,  // address of a variable, in the variable's own state space: index, in_module, value = byte offset
  kFunction,   // index into Module::functions(): call target, or its address in mov
  kMemory,     // [base + value]: base by memory_base; index = register or variable (in_module)
  kVector,     // {a, b, …}: index = first element in Function::operands, count elements (register, immediate,
               // sink)
  kSink,       // `_`: a destination nobody reads, or an unused vector element
  kLabel,      // index = instruction index in Function::instructions, always below their number
  kLabelList,  // brx.idx: index = first in Function::operands (all kLabel), count elements
  kPrototype,  // indirect call: index into Function::prototypes; last operand of kCall
};

enum class MemoryBase : std::uint8_t { kNone, kRegister, kSymbol, kAbsolute };

struct Operand {
  OperandKind kind = OperandKind::kSink;
  MemoryBase memory_base = MemoryBase::kNone;
  bool negated = false;    // `!p` of a predicate source
  bool in_module = false;  // kSymbol, kMemory with symbol base
  std::uint32_t index = 0;
  std::uint32_t count = 0;
  std::int64_t value = 0;

  [[nodiscard]] SymbolRef symbol() const { return {index, in_module}; }
  [[nodiscard]] SpecialRegister special() const { return static_cast<SpecialRegister>(index); }
};

struct Guard {
  RegisterId predicate = kNoRegister;  // kNoRegister: always executed
  bool negated = false;
};

// One PTX instruction. Register widths have been checked by the parser against the type: equal, or for
// ld, st and cvt at least as wide (a load extends by the sign of the type, a store truncates).
struct Instruction {
  Opcode opcode = Opcode::kRet;
  Type type = Type::kNone;  // cvt: destination type; setp: the operands' type; set: destination type;
                            // mul.wide, mad.wide: the factors' type, destination and addend are twice as wide
  Type source_type = Type::kNone;  // cvt, set, slct (selector), dp4a/dp2a (b's type; type is a's); else kNone
  StateSpace space = StateSpace::kGeneric;
  Rounding rounding = Rounding::kNone;
  Compare compare = Compare::kNone;
  BoolOp bool_op = BoolOp::kNone;
  MulPart mul_part = MulPart::kNone;  // dp2a: kLo, kHi
  CacheOp cache = CacheOp::kNone;
  ShuffleMode shuffle = ShuffleMode::kNone;
  VoteMode vote = VoteMode::kNone;
  BarrierOp barrier = BarrierOp::kNone;
  AtomicOp atomic = AtomicOp::kNone;
  Scope scope = Scope::kNone;
  MemoryOrder order = MemoryOrder::kNone;
  PrmtMode prmt = PrmtMode::kNone;
  TestpOp testp = TestpOp::kNone;
  std::uint8_t vector = 1;             // ld/st: elements (1, 2, 4); the value operand is then kVector
  std::uint8_t destination_count = 0;  // leading operands that are written (setp p|q: 2; shfl d|p: 2)
  std::uint8_t lop3_table = 0;         // lop3's immediate LUT (also its last source operand)
  std::uint16_t flags = 0;             // Flag bits
  std::uint16_t operand_count = 0;     // vector elements not counted
  Guard guard;
  std::uint32_t first_operand = 0;  // in Function::operands
  std::uint32_t line = 0;           // in the PTX text

  [[nodiscard]] bool has(Flag flag) const { return (flags & flag) != 0; }
};

// ---------------------------------------------------------------- variables and functions

enum class Linkage : std::uint8_t { kNone, kVisible, kExtern, kWeak, kCommon };

// An initial value that is an address, filled in when the module is placed in memory.
struct Relocation {
  std::uint64_t offset = 0;  // in the variable
  std::uint32_t size = 8;    // bytes written: 4 or 8
  bool generic = false;      // generic(symbol): the generic address (differs for .shared/.local/.const)
  bool is_function = false;  // index is in Module::functions(); else in Module::variables()
  std::uint32_t index = 0;
  std::int64_t addend = 0;
};

struct Variable {
  std::string name;
  StateSpace space = StateSpace::kGlobal;
  Type type = Type::kB8;  // element type
  Linkage linkage = Linkage::kNone;
  std::uint32_t align = 1;
  std::uint64_t size = 0;  // bytes; 0 for an unsized .extern array
  std::uint64_t offset =
      0;  // function scope: in the parameter block / return block / own .local frame / own static
          // .shared frame / call-parameter frame, by space and `role`; module scope: 0
  enum class Role : std::uint8_t { kPlain, kParameter, kReturn, kCallParameter } role = Role::kPlain;
  std::uint32_t line = 0;
  std::vector<std::uint8_t> initial;  // module scope; shorter than size: the rest is zero
  std::vector<Relocation> relocations;
};

// One formal parameter, in order. `offset` is in the packed parameter block of a launch.
struct Parameter {
  std::string name;
  Type type = Type::kB8;
  std::uint32_t align = 1;
  std::uint32_t size = 0;  // bytes
  std::uint32_t offset = 0;
  bool is_register = false;  // .func with `.reg` parameters
};

struct LaunchBounds {
  std::uint32_t max_threads[3] = {0, 0, 0};       // .maxntid; 0: not given
  std::uint32_t required_threads[3] = {0, 0, 0};  // .reqntid; 0: not given
  std::uint32_t min_blocks = 0;                   // .minnctapersm
  std::uint32_t max_registers = 0;                // .maxnreg
};

// What the cheap scan of a module finds about a function.
struct FunctionDecl {
  std::string name;
  bool is_entry = false;    // .entry (a kernel) or .func
  bool is_defined = false;  // has a body in this module
  bool no_return = false;
  Linkage linkage = Linkage::kNone;
  LaunchBounds bounds;
  std::vector<Parameter> returns;
  std::vector<Parameter> parameters;
  std::uint32_t parameter_bytes = 0;  // size of the parameter block
  std::uint32_t return_bytes = 0;
  std::size_t body_begin = 0;  // span of the body in the text, braces included
  std::size_t body_end = 0;
  std::uint32_t body_line = 0;
  std::uint32_t line = 0;
};

// A run of registers declared together, kept to give registers their names back.
struct RegisterRange {
  std::string name;  // whole name, or the prefix of a parameterised `%r<n>`
  RegisterId first = 0;
  std::uint32_t count = 1;
  bool numbered = false;    // `%r<n>`: names are prefix0 … prefix(n-1)
  std::uint32_t scope = 0;  // 0: the outermost scope; inner ones may declare the name again
};

// A parsed function: flat, all scopes resolved.
struct Function {
  std::uint32_t index = 0;  // in Module::functions()
  std::vector<Type> registers;
  std::vector<RegisterRange> register_ranges;
  // Parameters first (in order, role kParameter), then returns, then everything declared in the body.
  std::vector<Variable> variables;
  std::vector<Instruction> instructions;
  std::vector<Operand> operands;
  std::vector<FunctionDecl> prototypes;         // .callprototype
  std::vector<std::uint32_t> module_variables;  // module variables the body names, ascending, each once
  std::vector<std::uint32_t> called_functions;  // functions the body names, ascending, each once
  std::vector<RegisterId> parameter_registers;  // .func with .reg parameters: per parameter, else kNoRegister
  std::vector<RegisterId> return_registers;
  std::uint64_t local_bytes = 0;       // own .local frame
  std::uint64_t shared_bytes = 0;      // own static .shared frame (module-scope variables not counted)
  std::uint64_t call_param_bytes = 0;  // frame of the .param variables declared in the body
  std::uint32_t shared_align = 1;
  std::uint32_t local_align = 1;

  [[nodiscard]] std::span<const Operand> operands_of(const Instruction& instruction) const {
    return std::span(operands).subspan(instruction.first_operand, instruction.operand_count);
  }
  [[nodiscard]] std::span<const Operand> elements_of(const Operand& vector_or_list) const {
    return std::span(operands).subspan(vector_or_list.index, vector_or_list.count);
  }
  [[nodiscard]] std::string register_name(RegisterId id) const;
};

// ---------------------------------------------------------------- the module

class Module {
 public:
  // Scans `text` (copied): directives, module variables and the index of functions. Bodies are only skipped
  // over. `file` names the text in errors.
  [[nodiscard]] static std::expected<Module, Error> parse(std::string_view text, std::string file);

  [[nodiscard]] std::uint32_t version_major() const { return version_major_; }
  [[nodiscard]] std::uint32_t version_minor() const { return version_minor_; }
  [[nodiscard]] std::uint32_t target() const { return target_; }              // 61 for sm_61
  [[nodiscard]] std::uint32_t address_size() const { return address_size_; }  // 64 (32 is refused)
  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] std::string_view text() const { return *text_; }
  [[nodiscard]] std::span<const Variable> variables() const { return variables_; }
  [[nodiscard]] std::span<const FunctionDecl> functions() const { return functions_; }

  [[nodiscard]] const FunctionDecl* find_function(std::string_view name) const;
  [[nodiscard]] std::optional<std::uint32_t> function_index(std::string_view name) const;
  [[nodiscard]] std::optional<std::uint32_t> variable_index(std::string_view name) const;

  // Parses one body. Thread-safe, keeps nothing: the caller caches.
  [[nodiscard]] std::expected<Function, Error> parse_function(std::string_view name) const;
  [[nodiscard]] std::expected<Function, Error> parse_function(std::uint32_t index) const;

 private:
  friend class ModuleParser;
  std::string file_;
  std::shared_ptr<const std::string> text_;
  std::uint32_t version_major_ = 0;
  std::uint32_t version_minor_ = 0;
  std::uint32_t target_ = 0;
  std::uint32_t address_size_ = 64;
  std::vector<Variable> variables_;
  std::vector<FunctionDecl> functions_;
  std::unordered_map<std::string, std::uint32_t> function_index_;
  std::unordered_map<std::string, std::uint32_t> variable_index_;
};

// Where a launch's shared memory lies: module-scope .shared variables that the functions name, then each
// function's own frame, then dynamic shared memory, which every .extern .shared variable stands for.
struct SharedLayout {
  std::vector<std::pair<std::uint32_t, std::uint64_t>>
      module_offsets;                           // variable index → offset, ascending index
  std::vector<std::uint64_t> function_offsets;  // per function given: base of its own frame
  std::uint64_t static_bytes = 0;               // end of static shared memory
  std::uint64_t dynamic_offset = 0;             // base of dynamic shared memory (aligned)
};
// `functions`: the kernel and everything it can call.
[[nodiscard]] SharedLayout layout_shared(const Module& module, std::span<const Function* const> functions);

// Text of an instruction or a whole function, for diagnostics: canonical PTX with register names.
[[nodiscard]] std::string print(const Module& module, const Function& function,
                                const Instruction& instruction);
[[nodiscard]] std::string print(const Module& module, const Function& function);
[[nodiscard]] std::string_view name_of(Opcode opcode);
[[nodiscard]] std::string_view name_of(Type type);

}  // namespace vgpu::software::ptx
