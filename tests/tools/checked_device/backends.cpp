// The backend of checked_device, which is vgpu-device otherwise: every check is a JSON line on standard
// error, behind the word "checked:". The environment says what to check; see checked_backend.h for the
// meanings: VGPU_CHECK_PER_SHAPE, VGPU_CHECK_EVERY, VGPU_CHECK_MAX_STEPS, VGPU_CHECK_MAX_SECONDS.
#include "tools/vgpu-device/backends.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "device/software/runtime/software_backend.h"
#include "tests/device/software/checked/checked_backend.h"

namespace vgpu::tools {
namespace {

using device::Backend;
using device::Result;
namespace checked = software::checked;

template <typename T>
void from_environment(const char* name, T& value) {
  if (const char* text = std::getenv(name); text != nullptr)
    value = static_cast<T>(std::strtod(text, nullptr));
}

void write_line(const checked::Check& check) {
  const nlohmann::json json = {{"verdict", checked::name_of(check.verdict)},
                               {"kernel", check.kernel},
                               {"grid", check.grid},
                               {"block", check.block},
                               {"launch", check.launch},
                               {"blocks_checked", check.blocks_checked},
                               {"steps", check.steps},
                               {"approximate", check.approximate},
                               {"bytes_stored", check.bytes_stored},
                               {"differing_values", check.differing_values},
                               {"differing_strays", check.differing_strays},
                               {"max_ulp", check.max_ulp},
                               {"max_relative", check.max_relative},
                               {"max_scaled_relative", check.max_scaled_relative},
                               {"detail", check.detail}};
  const auto line = fmt::format("checked: {}\n", json.dump());
  // One write a line: others write there too.
  static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
}

}  // namespace

Result<device::BackendFactory> backend_factory(const DeviceOptions& options, bool) {
  software::BackendOptions software_options;
  software_options.memory_bytes = options.memory_bytes;
  software_options.threads = options.threads;
  software_options.cache_directory = options.cache_directory;
  checked::Options check_options;
  from_environment("VGPU_CHECK_PER_SHAPE", check_options.per_shape);
  from_environment("VGPU_CHECK_EVERY", check_options.every);
  from_environment("VGPU_CHECK_MAX_STEPS", check_options.max_steps);
  from_environment("VGPU_CHECK_MAX_SECONDS", check_options.max_seconds);
  check_options.report = write_line;
  return device::BackendFactory([software_options, check_options]() -> Result<std::unique_ptr<Backend>> {
    auto backend = software::make_backend(software_options);
    if (!backend) return backend;
    return checked::check_backend(std::move(*backend), check_options);
  });
}

}  // namespace vgpu::tools
