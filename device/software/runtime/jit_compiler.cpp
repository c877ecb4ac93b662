// The runtime's way to the JIT, and the backend that uses it.
#include <cstdlib>

#include "device/software/jit/jit.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"

namespace vgpu::software {
namespace {

class JitCompiler final : public KernelCompiler {
 public:
  explicit JitCompiler(jit::Options options) : jit_(std::move(options)) {}

  Outcome compile(const ptx::Module& module, std::string_view kernel,
                  const jit::LaunchShape& shape) override {
    return jit_.compile(module, kernel, shape);
  }
  [[nodiscard]] jit::Counters counters() const override { return jit_.counters(); }

 private:
  jit::Jit jit_;
};

}  // namespace

std::unique_ptr<KernelCompiler> make_jit_compiler(jit::Options options) {
  return std::make_unique<JitCompiler>(std::move(options));
}

device::Result<std::unique_ptr<device::Backend>> make_backend(BackendOptions options) {
  jit::Options jit_options;
  jit_options.cache_directory = options.cache_directory;
  jit_options.cache_bytes = options.cache_bytes;
  jit_options.opt_level = options.opt_level;
  if (const char* off = std::getenv("VGPU_JIT_WITHOUT")) jit_options.passes = jit::passes_without(off);
  return make_backend(std::move(options), make_jit_compiler(std::move(jit_options)));
}

}  // namespace vgpu::software
