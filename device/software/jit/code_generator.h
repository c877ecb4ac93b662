// LLVM behind a small wall: the form with its lane shapes to an object file, and an object file to running
// code.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "device/software/ir/ir.h"
#include "device/software/ir/lane_shapes.h"
#include "device/software/jit/access_counts.h"
#include "device/software/jit/passes.h"

namespace vgpu::software::jit {

class GenericCopy;

// Code in memory; unloaded with the object.
class LoadedCode {
 public:
  virtual ~LoadedCode() = default;
  [[nodiscard]] virtual std::uint64_t address() const = 0;
};

// Thread-safe after construction.
class CodeGenerator {
 public:
  // `unconfined`: see Options.
  CodeGenerator(const std::string& cpu, const std::string& features, int opt_level, bool unconfined = false);
  ~CodeGenerator();

  // Why nothing can be compiled here (a processor without AVX2, say); empty if all is well.
  [[nodiscard]] const std::string& problem() const;
  // Processor, features, LLVM, and this generator's own sources: part of every cache key.
  [[nodiscard]] const std::string& fingerprint() const;

  struct Generated {
    std::string object;
    AccessCounts accesses;
    std::uint32_t frame_bytes = 0;  // CompiledKernel::frame_bytes
  };
  struct Form {
    const ir::Function& function;
    const ir::LaneShapes& shapes;
    // Without LaneShapes::converges, refined by `shapes`: where the warp goes on when its lanes do not agree.
    // Null if `shapes` takes nothing to converge.
    const ir::LaneShapes* masked = nullptr;
  };
  // Where `form` has guarded shapes the code asks for its GenericCopy. `quick`: code that is hardly ever run,
  // made in little time.
  [[nodiscard]] std::expected<Generated, std::string> generate(
      const Form& form, bool quick, const Passes& passes, bool verify,
      const std::function<void(std::string_view, const std::string&)>& dump) const;
  // `copy` stands behind the code's guards, and outlives it; needed where the object asks for one.
  [[nodiscard]] std::expected<std::unique_ptr<LoadedCode>, std::string> link(const std::string& object,
                                                                             GenericCopy* copy) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vgpu::software::jit
