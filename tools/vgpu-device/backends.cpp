// Backends by name.
#include "tools/vgpu-device/backends.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <string_view>
#include <utility>

#include "device/null/null_backend.h"
#include "device/server/log.h"
#include "device/software/runtime/software_backend.h"
#include "ring/wait.h"

namespace vgpu::tools {
namespace {

using device::Backend;
using device::Result;

constexpr uint64_t kNullMemoryBytes = 4ull << 30;

// What kernels print: into the command's output as a GPU's driver does it, or, where no command runs, into
// the log, where a guest must not flood it.
std::function<void(std::string_view)> printer(bool to_standard_output) {
  if (to_standard_output) {
    return [](std::string_view text) {
      while (!text.empty()) {
        const auto written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(written));
      }
    };
  }
  return [limiter = std::make_shared<device::LogLimiter>()](std::string_view text) {
    uint64_t dropped = 0;
    const bool allowed = limiter->allow(ring::monotonic_ns(), dropped);
    if (dropped > 0) device::log_info("{} more texts of kernels were not logged", dropped);
    if (allowed) device::log_info("a kernel prints: {}", text);
  };
}

}  // namespace

Result<device::BackendFactory> backend_factory(const DeviceOptions& options, bool print_to_standard_output) {
  if (options.backend == "null") {
    return device::BackendFactory(
        [bytes = options.memory_bytes == 0 ? kNullMemoryBytes : options.memory_bytes] {
          return device::make_null_backend(bytes);
        });
  }
  if (options.backend == "software") {
    software::BackendOptions software_options;
    software_options.memory_bytes = options.memory_bytes;
    software_options.threads = options.threads;
    software_options.cache_directory = options.cache_directory;
    software_options.cache_bytes = options.cache_bytes;
    software_options.print = printer(print_to_standard_output);
    return device::BackendFactory([software_options = std::move(software_options)] {
      return software::make_backend(software_options);
    });
  }
  return std::unexpected(
      device::Error{protocol::Status::kInvalidValue,
                    fmt::format("there is no backend '{}': software, null", options.backend)});
}

}  // namespace vgpu::tools
