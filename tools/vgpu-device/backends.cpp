// Backends by name.
#include "tools/vgpu-device/backends.h"

#include <fmt/format.h>

#include "device/null/null_backend.h"

namespace vgpu::tools {

device::Result<device::BackendFactory> backend_factory(const DeviceOptions& options) {
  if (options.backend == "null") {
    return device::BackendFactory(
        [bytes = options.memory_bytes]() -> device::Result<std::unique_ptr<device::Backend>> {
          return device::make_null_backend(bytes);
        });
  }
  return std::unexpected(
      device::Error{protocol::Status::kInvalidValue,
                    fmt::format("there is no backend '{}': software, null", options.backend)});
}

}  // namespace vgpu::tools
