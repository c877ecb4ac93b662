// The backend of unconfined_device, which is vgpu-device otherwise: kernels whose addresses are not confined.
// It shows what confinement costs, and must never serve a guest that is not trusted: nothing installs it.
#include <memory>

#include "device/software/jit/jit.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tools/vgpu-device/backends.h"

namespace vgpu::tools {

device::Result<device::BackendFactory> backend_factory(const DeviceOptions& options, bool) {
  software::BackendOptions software_options;
  software_options.memory_bytes = options.memory_bytes;
  software_options.threads = options.threads;
  return device::BackendFactory([software_options]() -> device::Result<std::unique_ptr<device::Backend>> {
    software::jit::Options compiler;
    compiler.opt_level = software_options.opt_level;
    compiler.unconfined = true;
    return software::make_backend(software_options, software::make_jit_compiler(std::move(compiler)));
  });
}

}  // namespace vgpu::tools
