// The oracle: a plain, slow interpreter of the PTX syntax tree, the reference that compiled kernels are
// compared with. It shares nothing with the compiler but the parser. Lanes of a warp run in lock-step, those
// with the deepest call and then the lowest instruction first; blocks run in order. Not for production, not
// thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "device/software/ptx/ast.h"

namespace vgpu::software::oracle {

// Generic addresses the oracle gives to spaces that are not global memory. Memory must not use them.
inline constexpr std::uint64_t kSharedWindow = 0x7000'0000'0000'0000;
inline constexpr std::uint64_t kLocalWindow = 0x7100'0000'0000'0000;
inline constexpr std::uint64_t kParamWindow = 0x7200'0000'0000'0000;
inline constexpr std::uint64_t kWindowBytes = std::uint64_t{1} << 40;
// Address of function n of the module, as a function pointer holds it.
inline constexpr std::uint64_t kFunctionAddress = 0x7300'0000'0000'0000;

// Global (and constant) memory.
class Memory {
 public:
  virtual ~Memory() = default;
  // False: the range is not wholly inside an allocation.
  virtual bool read(std::uint64_t address, std::span<std::byte> out) = 0;
  virtual bool write(std::uint64_t address, std::span<const std::byte> bytes) = 0;
};

// Allocations with gaps between them, so that an access out of bounds never hits another one.
class FlatMemory : public Memory {
 public:
  explicit FlatMemory(std::uint64_t base = 0x2000'0000'0000) : next_(base) {}
  std::uint64_t allocate(std::size_t bytes);
  // The allocation that begins at `address`.
  std::span<std::byte> bytes(std::uint64_t address);
  bool read(std::uint64_t address, std::span<std::byte> out) override;
  bool write(std::uint64_t address, std::span<const std::byte> bytes) override;

 private:
  std::span<std::byte> find(std::uint64_t address, std::size_t size);
  std::uint64_t next_;
  std::map<std::uint64_t, std::vector<std::byte>> allocations_;
};

struct Dim3 {
  std::uint32_t x = 1;
  std::uint32_t y = 1;
  std::uint32_t z = 1;
  [[nodiscard]] std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

struct LaunchConfig {
  Dim3 grid;
  Dim3 block;
  std::uint32_t dynamic_shared_bytes = 0;
  std::uint64_t grid_id = 1;
  std::uint64_t grid_workspace = 0;        // %envreg1 (high) and %envreg2 (low)
  std::span<const std::byte> params;       // the packed parameter block
  std::span<const std::uint64_t> globals;  // address of module variable i; 0 for .shared ones
  std::uint32_t resident_blocks =
      1;  // blocks that take turns; raise it for kernels whose blocks wait for each other
  std::uint64_t max_steps = std::uint64_t{1} << 30;  // warp instructions, then kStepLimit
  // Blocks to run, as numbers in x, y, z order; empty: all. For grids too large to run whole.
  std::span<const std::uint64_t> blocks;
  // vprintf(format, arguments), both generic addresses; `read` reads the calling thread's view of memory.
  // Without it a call of vprintf is kUnsupported.
  using Read = std::function<bool(std::uint64_t address, std::span<std::byte> out)>;
  std::function<std::int32_t(std::uint64_t format, std::uint64_t arguments, const Read& read)> vprintf;
};

enum class Outcome : std::uint8_t {
  kDone,
  kIllegalAddress,
  kMisalignedAddress,
  kTrap,
  kUnsupported,  // a call of an undefined function, or a nonsensical launch
  kStepLimit,
  kDeadlock,    // threads wait at barriers that can never fill
  kInvalidPtx,  // a function does not parse
};

struct Result {
  Outcome outcome = Outcome::kDone;
  std::string message;        // empty if kDone
  std::uint32_t line = 0;     // of the PTX text
  std::uint64_t address = 0;  // kIllegalAddress, kMisalignedAddress
  Dim3 block{0, 0, 0};
  std::uint32_t thread = 0;       // linear in the block
  std::uint64_t steps = 0;        // warp instructions run
  std::uint64_t open_values = 0;  // shuffles of a lane that took no part: PTX leaves open what they give
};

// Runs the blocks of the grid, in order. On a fault the rest of the grid does not run.
[[nodiscard]] Result run_grid(const ptx::Module& module, std::string_view function,
                              const LaunchConfig& config, Memory& memory);

// Allocates the module's .global and .const variables with their initial values; result:
// LaunchConfig::globals.
[[nodiscard]] std::vector<std::uint64_t> place_globals(const ptx::Module& module, FlatMemory& memory);

}  // namespace vgpu::software::oracle
