// The generator's insides. Registers come in pools by what is known of them: %u is equal in all threads of a
// block, %w in all lanes of a warp, the others vary. Each statement computes its addresses itself, in scratch
// registers, so that leaving out any other statement never moves an access.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/device/software/fuzz/dice.h"
#include "tests/device/software/fuzz/fuzz_case.h"
#include "tests/device/software/fuzz/generator.h"
#include "tests/device/software/fuzz/program.h"

namespace vgpu::testing::fuzz {

// Which threads are known to execute a statement together.
enum class Together : std::uint8_t { kBlock, kWarp, kParted };

// A 64-bit address that a loop advances, and how far it may still be from its buffer's start.
struct WalkingPointer {
  std::string reg;
  std::size_t buffer = 0;
  std::uint32_t unit = 1;   // its alignment
  std::uint64_t reach = 0;  // highest value, as an offset in the buffer
};

// A value equal in all lanes, with its largest value.
struct UniformTerm {
  std::string reg;
  std::uint32_t largest = 0;
};

struct Context {
  Together together = Together::kBlock;
  std::string mask = "-1";  // the lanes here, for .sync instructions; empty: not known
  std::uint32_t depth = 0;
  bool in_function = false;
  std::vector<std::string> leave;  // labels of a loop that those here may jump to: its end, its next turn
  std::vector<UniformTerm> terms;
  std::vector<WalkingPointer> pointers;
};

// A 32-bit register with a value that depends on the thread alone, known for each thread of the block.
struct LaneIndex {
  std::vector<std::string> lines;
  std::string reg;
  std::vector<std::uint32_t> values;
  [[nodiscard]] std::uint32_t largest() const;
};

class Builder {
 public:
  explicit Builder(std::uint64_t seed);
  Generated build();

 private:
  enum Pool { kU, kW, kR, kQ, kH, kF, kD, kG, kV, kP };

  // builder.cpp
  void choose_shape();
  std::vector<Statement> statements(const Context& context, std::uint32_t count);
  Statement statement(const Context& context);
  Statement prologue();
  Statement epilogue();
  Statement declarations(bool in_function);
  [[nodiscard]] std::string module_variables() const;
  std::size_t add_buffer(std::uint64_t bytes, Fill fill, Place place);

  // Names. The pools are as large as kPoolSizes says.
  std::string reg(Pool pool);
  std::string label() { return Text{"$L", next_label_++}; }
  // A 32-bit operand no less uniform than asked for.
  std::string uniform();
  std::string warp_uniform();
  std::string varying();
  std::string source(Together level);
  std::string target(const Context& context, Together& level);
  std::string immediate() { return std::to_string(static_cast<std::int32_t>(dice_.word())); }
  std::string predicate() { return Text{dice_.chance(30) ? "!" : "", reg(kP)}; }
  std::string guard();
  // What may not stand in a kernel that may be joined, and what stands there instead.
  [[nodiscard]] const char* unless_joined(const char* given, const char* instead) const {
    return may_be_joined_ ? instead : given;
  }
  [[nodiscard]] bool whole_warps() const { return threads_ % 32 == 0 && !has_exits_; }

  // builder_integer.cpp
  Statement integer_statement(const Context& context);
  std::string integer32(Together level, const std::string& to);
  Statement integer64();
  Statement integer16();
  Statement carry_chain();
  Statement comparison();
  Statement conversion();
  void safe_divisor(Statement& out, bool wide, bool is_signed, const std::string& to);

  // builder_float.cpp
  Statement float_statement();
  std::string float32();
  std::string float64();
  std::string half();
  std::string float_conversion();
  std::string float_comparison();
  Statement to_bits();
  Statement approximate();
  std::string ftz();
  std::string rounding() { return dice_.any({".rn", ".rn", ".rz", ".rm", ".rp"}); }
  // `to` (b32, b64, b16) = bits of the float, every NaN the same.
  void canonical32(Statement& out, const std::string& from, const std::string& to);
  void canonical64(Statement& out, const std::string& from, const std::string& to);
  void canonical16(Statement& out, const std::string& from, const std::string& to);

  // builder_memory.cpp
  struct Access {  // `count` elements of one load or store
    std::string type;
    std::uint32_t bytes = 4;  // of one element
    std::uint32_t count = 1;
    [[nodiscard]] std::uint32_t size() const { return bytes * count; }
    [[nodiscard]] std::string suffix() const {
      return Text{count > 1 ? Text{".v", count} : "", ".", type, " "};
    }
  };
  Statement memory_statement(const Context& context);
  Statement load_table(const Context& context);
  Statement load_guarded(const Context& context);
  Statement load_gather();
  Statement load_walking(const Context& context);
  Statement own_slot();
  Statement block_cell();
  Statement local_access();
  Statement constant_access();
  Statement param_access();
  Statement atomic_shared_between_threads();
  Statement atomic_on_own_cell();
  Access access(std::uint32_t most_bytes);
  std::string registers(const Access& what);
  std::string load(const Access& what, const std::string& opcode, const std::string& address);
  void store(Statement& out, const Access& what, const std::string& opcode, const std::string& address);
  std::uint32_t own_address(Statement& out);  // in %y4; bytes that the thread has there
  void reach(std::size_t buffer, std::uint64_t end);

  // builder_shared.cpp
  Statement shared_statement(const Context& context);
  Statement shared_phase(const Context& context);
  Statement warp_phase();
  Statement own_shared();
  Statement shared_atomic();

  // builder_index.cpp: the shapes that addresses have across lanes
  LaneIndex lane_index(std::uint32_t limit);
  LaneIndex one_to_one();  // below threads_, different for every thread of the block
  // %x6 = a lane index plus multiples of terms; result: its largest value.
  std::uint32_t table_index(Statement& out, const Context& context, bool same_for_all);
  // %x6 = something below `count` that depends on data.
  void data_index(Statement& out, std::uint32_t count);
  // `to` = address of the buffer + index * unit.
  void global_address(Statement& out, std::size_t buffer, const std::string& index, std::uint32_t unit,
                      const std::string& to);

  // builder_warp.cpp
  Statement warp_statement(const Context& context);
  Statement shuffle(const Context& context);
  Statement vote(const Context& context);
  Statement legacy_shuffle();
  Statement block_reduction();
  Statement some_warps_barrier();

  // builder_control.cpp
  Statement control_statement(const Context& context);
  Statement condition(const Context& context);
  Statement loop(const Context& context);
  Statement soup();
  Context inside(const Context& context, Together together, std::string mask) const;
  std::string extra(const char* prefix, const char* type);  // a register of its own, declared with the kernel
  Statement table_branch(const Context& context);
  Statement call();
  Statement leave(const Context& context);
  Statement function(std::uint32_t index);

  std::uint64_t seed_;
  Dice dice_;
  FuzzCase case_;
  std::uint32_t threads_ = 1;
  std::uint32_t blocks_ = 1;
  bool has_exits_ = false;
  bool may_be_joined_ = false;  // has nothing that keeps blocks or warps from running several at a time
  std::uint32_t flush_ = 0;     // percent of the f32 instructions that are .ftz
  std::uint32_t next_label_ = 0;
  std::uint32_t next_counter_ = 0;
  std::uint32_t functions_ = 0;        // that may be called here
  std::vector<bool> by_register_;      // how function n takes its arguments
  std::uint32_t budget_ = 0;           // statements that may still be made
  std::vector<std::string> counters_;  // extra registers: declarations

  std::vector<std::string> buffer_params_;
  std::size_t init_ = 0, out_ = 0, own_rows_ = 0, own_columns_ = 0, gather_ = 0, cells_ = 0, block_cells_ = 0;
  std::vector<std::size_t> tables_;
  std::vector<LaneIndex>
      own_maps_;  // of own_rows_, then of each column: fixed, for slots must not change hands
  std::uint32_t out_stride_ = 0;
};

inline constexpr std::uint32_t kOwnRowBytes = 64;    // per thread, in rows
inline constexpr std::uint32_t kOwnColumns = 4;      // of 16 bytes per thread
inline constexpr std::uint32_t kGatherBytes = 4080;  // no power of two
inline constexpr std::uint32_t kLocalBytes = 96;
inline constexpr std::uint32_t kConstBytes = 256;
inline constexpr std::uint32_t kBlobBytes = 64;
inline constexpr std::uint32_t kCells = 14;          // 8 bytes each; operation by number modulo 7
inline constexpr std::uint32_t kOwnSharedBytes = 8;  // per thread

}  // namespace vgpu::testing::fuzz
