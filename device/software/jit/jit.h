// Kernels to machine code: PTX function → our SSA form → LLVM → one function that runs a warp.
// Compiling is lazy, per kernel and block shape; object code is kept on disk between runs. What compiled code
// expects of its surroundings is device/software/kernel_abi.h. docs/software-backend.md tells the whole way.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "device/software/jit/access_counts.h"
#include "device/software/jit/passes.h"
#include "device/software/kernel_abi.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software::jit {

enum class ErrorKind : std::uint8_t {
  kNotFound,     // no such entry in the module
  kParse,        // the body is not valid PTX; the message names file, line and opcode
  kUnsupported,  // valid PTX that this compiler refuses: recursion, an opcode it does not know
  kLaunchShape,  // zero or too many threads, or not what .reqntid / .maxntid allow
  kInternal,     // LLVM refused our code: a defect of this compiler
};

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
};

// What a compiled kernel is specialised on. Two launches with equal shapes share code.
struct LaunchShape {
  std::uint32_t ntid[3] = {1, 1, 1};
  // nctaid[i] * ntid[i] <= 2^31 for every i: thread indices fit in 31 bits, so that address arithmetic on
  // them is known not to wrap. False is always right, and slower.
  bool indices_fit_31_bits = false;
  // How many blocks, or warps of a block, the code runs at a time, 1 to kMostAtATime; which of the two is the
  // compiler's choice. Not every kernel can be compiled for more than one (ir::coarsen).
  std::uint32_t at_a_time = 1;
  // Words of the parameters that are 0 (ptx/null_tests.h). Of the others nothing is said.
  std::uint64_t null_params = 0;

  [[nodiscard]] static LaunchShape of(const std::uint32_t (&ntid)[3], const std::uint32_t (&nctaid)[3]) {
    LaunchShape shape;
    shape.indices_fit_31_bits = true;
    for (int i = 0; i < 3; ++i) {
      shape.ntid[i] = ntid[i];
      if (std::uint64_t{ntid[i]} * nctaid[i] > std::uint64_t{1} << 31) shape.indices_fit_31_bits = false;
    }
    return shape;
  }
  friend bool operator==(const LaunchShape&, const LaunchShape&) = default;
};

// Machine code of one kernel for one launch shape. Immutable; the code lives as long as this object.
class CompiledKernel {
 public:
  virtual ~CompiledKernel() = default;
  CompiledKernel(const CompiledKernel&) = delete;
  CompiledKernel& operator=(const CompiledKernel&) = delete;

  WarpFunction entry = nullptr;
  // Of a warp's frame, at most (generic_copy.h may ask for more); 0: warps never wait, and need none.
  std::uint32_t frame_bytes = 0;
  std::uint32_t static_shared_bytes = 0;  // as ptx::layout_shared places it; dynamic shared memory follows at
  std::uint32_t dynamic_shared_offset = 0;  // this offset: BlockState::shared_bytes = offset + dynamic bytes
  std::uint32_t local_bytes = 0;            // per thread
  std::uint32_t param_bytes = 0;
  std::uint32_t blocks_at_a_time = 1;  // that a call of `entry` runs
  std::uint32_t warps_at_a_time = 1;   // likewise, of each block: its `warp` is the number of such a group
  std::uint32_t mxcsr = 0x1F80;        // to be set around `entry`
  bool from_cache = false;             // the code came from disk
  double compile_seconds = 0;          // what compile() took, parsing included
  std::uint32_t code_bytes = 0;        // size of the object file
  AccessCounts accesses;
  // How many warps ran by the copy that is there for when a check fails (generic_copy.h). Any thread.
  [[nodiscard]] virtual std::uint64_t generic_warps() const { return 0; }

 protected:
  CompiledKernel() = default;
};

struct Options {
  std::filesystem::path cache_directory = {};          // empty: no disk cache
  std::uint64_t cache_bytes = std::uint64_t{1} << 30;  // 0: likewise none
  int opt_level = 2;                                   // 0, 1, 2; large kernels are taken one level down
  std::string cpu = {};                                // empty: the host's; a name LLVM knows otherwise
  std::string features = {};                           // with `cpu`: LLVM feature string
  Passes passes = {};
  // Without the confinement of addresses: a kernel can reach all memory of this process. Only for measuring
  // what confinement costs, with kernels that are trusted; such code is never kept on disk. No option of a
  // program sets it.
  bool unconfined = false;
  bool verify = false;  // run the verifiers of both forms after every pass
  // Called with the text of each stage ("ir", "shapes", "llvm", "llvm-optimised"); for tests and inspection.
  std::function<void(std::string_view stage, const std::string& text)> dump = {};
};

struct Counters {
  std::uint64_t compiled = 0;    // by LLVM
  std::uint64_t cache_hits = 0;  // taken from disk
  std::uint64_t failures = 0;
  double compile_seconds = 0;
};

// Thread-safe. Several kernels may be compiled at the same time; the caller keeps what it got (compile() does
// not remember it), and lets go of it before the Jit ends.
class Jit {
 public:
  explicit Jit(Options options = {});
  ~Jit();
  Jit(const Jit&) = delete;
  Jit& operator=(const Jit&) = delete;

  [[nodiscard]] std::expected<std::shared_ptr<const CompiledKernel>, Error> compile(const ptx::Module& module,
                                                                                    std::string_view kernel,
                                                                                    const LaunchShape& shape);
  [[nodiscard]] Counters counters() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vgpu::software::jit
