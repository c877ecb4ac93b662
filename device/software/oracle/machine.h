// The oracle's insides: the program, a block, its warps and their lanes. Methods that return bool say false
// after they recorded a fault, which ends the grid.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/software/oracle/oracle.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::oracle {

inline constexpr std::uint32_t kWarpLanes = 32;
inline constexpr std::uint32_t kBarriers = 16;
inline constexpr std::size_t kMaxCallDepth = 1024;
inline constexpr std::uint64_t kMaxLocalBytes = 512 * 1024;
inline constexpr std::uint64_t kMaxSharedBytes = 1024 * 1024;
// Where returns and call parameters lie in the .param space of a frame; parameters begin at 0.
inline constexpr std::uint64_t kReturnParams = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kCallParams = std::uint64_t{2} << 32;

using LaneMask = std::uint32_t;

struct Frame {
  const ptx::Function* function = nullptr;
  std::uint32_t pc = 0;
  std::uint64_t local_base = 0;
  std::vector<std::uint64_t> registers;
  std::vector<std::byte> params;
  std::vector<std::byte> returns;
  std::vector<std::byte> call_params;
};

struct Lane {
  enum class State : std::uint8_t { kRunning, kAtBarrier, kExited };
  State state = State::kExited;
  bool deferred = false;  // waits at a .sync instruction for lanes of its member mask
  bool carry = false;
  std::uint32_t thread = 0;  // linear in the block
  Dim3 tid{0, 0, 0};
  std::vector<Frame> frames;
  std::vector<std::byte> local;

  [[nodiscard]] Frame& frame() { return frames.back(); }
};

// What all blocks share.
class Machine {
 public:
  Machine(const ptx::Module& its_module, const LaunchConfig& its_config, Memory& its_memory)
      : module(its_module), config(its_config), memory(its_memory) {}

  bool prepare(std::string_view kernel);
  bool fault(Outcome outcome, std::string message);
  [[nodiscard]] const ptx::Function* find(std::uint32_t index) const;
  [[nodiscard]] std::uint64_t shared_offset(std::uint32_t module_variable) const;

  const ptx::Module& module;
  const LaunchConfig& config;
  Memory& memory;
  const ptx::Function* kernel = nullptr;
  std::map<std::uint32_t, ptx::Function> functions;        // by index in the module
  std::map<std::uint32_t, std::uint64_t> function_shared;  // base of each function's own shared frame
  std::map<std::uint32_t, std::uint64_t> module_shared;    // offset of each module-scope shared variable
  std::uint64_t shared_bytes = 0;                          // static and dynamic
  Result result;

 private:
  bool load(std::uint32_t index);
};

class Warp;

struct Barrier {
  std::uint32_t arrived = 0;
  std::uint32_t absent =
      0;  // lanes of the arriving warps that do not exist or exited: a thread count includes them
  std::vector<const Warp*> warps;
  std::uint32_t expected = 0;  // 0: every thread of the block that has not exited
  bool all = true;
  bool any = false;
  std::uint32_t count = 0;
  std::vector<std::pair<Warp*, std::uint32_t>> waiting;
};

class Block {
 public:
  Block(Machine& machine, Dim3 index);

  // Lets every warp run for up to `budget` instructions. `progress` tells whether any ran.
  bool run(std::uint64_t budget, bool& progress);
  [[nodiscard]] bool finished() const { return live_threads == 0; }
  void thread_exited();
  void complete_barriers();

  Machine& machine;
  Dim3 index;
  std::vector<std::byte> shared;
  std::vector<std::unique_ptr<Warp>> warps;
  std::array<Barrier, kBarriers> barriers;
  std::uint32_t live_threads = 0;
};

class Warp {
 public:
  Warp(Block& block, std::uint32_t index);

  bool run(std::uint64_t budget, std::uint64_t& ran);
  // A barrier this lane waited at is complete.
  void release(std::uint32_t lane, const Barrier& barrier);

  std::array<Lane, kWarpLanes> lanes;

 private:
  using Sources = std::array<std::uint64_t, 8>;

  // Scheduling (warp.cpp).
  LaneMask pick(bool deferred_too) const;
  bool step(LaneMask group, bool forced);
  bool execute(const ptx::Instruction& i, LaneMask active);
  LaneMask live() const;
  bool fault(Lane& lane, Outcome outcome, std::string message);

  // Registers and operands (warp.cpp).
  [[nodiscard]] std::uint64_t read(Lane& lane, const ptx::Operand& operand, std::uint32_t bits);
  [[nodiscard]] std::uint64_t symbol_address(Lane& lane, ptx::SymbolRef symbol);
  [[nodiscard]] std::uint64_t special(const Lane& lane, ptx::SpecialRegister which) const;
  void write(Lane& lane, const ptx::Operand& operand, std::uint64_t value);
  void write_extended(Lane& lane, const ptx::Operand& operand, std::uint64_t value, ptx::Type type);

  // Memory (warp_memory.cpp).
  bool access(Lane& lane, ptx::StateSpace space, std::uint64_t address, std::span<std::byte> data,
              bool store);
  [[nodiscard]] std::uint64_t memory_address(Lane& lane, const ptx::Operand& operand);
  [[nodiscard]] static ptx::StateSpace effective_space(ptx::StateSpace space, std::uint64_t& address);
  bool load_store(Lane& lane, const ptx::Instruction& i);
  bool atomic(Lane& lane, const ptx::Instruction& i);
  bool convert_address(Lane& lane, const ptx::Instruction& i);
  void move(Lane& lane, const ptx::Instruction& i);

  // Control flow and what lanes do together (warp_operations.cpp).
  bool call(Lane& lane, const ptx::Instruction& i);
  bool call_printf(Lane& lane, const ptx::Instruction& i);
  void return_from(Lane& lane);
  void exit_lane(Lane& lane);
  bool barrier(const ptx::Instruction& i, LaneMask active);
  bool shuffle(const ptx::Instruction& i, LaneMask active);
  bool vote(const ptx::Instruction& i, LaneMask active);
  bool match(const ptx::Instruction& i, LaneMask active);
  [[nodiscard]] bool enter(Lane& lane, const ptx::Function& function);
  [[nodiscard]] std::optional<LaneMask> member_mask(const ptx::Instruction& i, LaneMask active);

  Block& block_;
  Machine& machine_;
  std::uint32_t index_;
};

}  // namespace vgpu::software::oracle
