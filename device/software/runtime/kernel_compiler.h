// What turns a kernel into code, as the runtime sees it: the JIT, or in tests kernels written by hand.
#pragma once

#include <expected>
#include <memory>
#include <string_view>

#include "device/software/jit/jit.h"
#include "device/software/ptx/ast.h"

namespace vgpu::software {

class KernelCompiler {
 public:
  using Outcome = std::expected<std::shared_ptr<const jit::CompiledKernel>, jit::Error>;

  virtual ~KernelCompiler() = default;
  // Thread-safe.
  virtual Outcome compile(const ptx::Module& module, std::string_view kernel,
                          const jit::LaunchShape& shape) = 0;
  [[nodiscard]] virtual jit::Counters counters() const = 0;
};

[[nodiscard]] std::unique_ptr<KernelCompiler> make_jit_compiler(jit::Options options);

}  // namespace vgpu::software
