// See software_backend.h.
#include "device/software/runtime/software_backend.h"

#include <fmt/format.h>

#include <thread>

#include "device/software/runtime/blas.h"
#include "device/software/runtime/device_attributes.h"
#include "device/software/runtime/fault_guard.h"
#include "device/software/runtime/software_context.h"
#include "device/software/runtime/software_device.h"

namespace vgpu::software {
namespace {

class SoftwareBackend final : public device::Backend {
 public:
  explicit SoftwareBackend(std::unique_ptr<SoftwareDevice> device) : device_(std::move(device)) {}

  const device::DeviceProperties& properties() const override { return device_->properties; }

  Result<std::unique_ptr<device::Context>> create_context(const device::Quota& quota) override {
    return std::make_unique<SoftwareContext>(*device_, quota);
  }

  std::string statistics() const override {
    const auto counters = device_->compiler->counters();
    return fmt::format(
        "launches {}, blocks {}, gemms {}; kernels compiled {} in {:.2f} s, from the cache {}, failed {}; "
        "device "
        "memory {} of {} bytes",
        device_->launches.load(), device_->blocks.load(), device_->gemms.load(), counters.compiled,
        counters.compile_seconds, counters.cache_hits, counters.failures, device_->memory.used(),
        device_->memory.total());
  }
  std::string kernels() const override { return device_->kernels.table(); }
  device::BackendCounts counts() const override {
    const auto counters = device_->compiler->counters();
    return {.kernels_compiled = counters.compiled,
            .kernels_from_cache = counters.cache_hits,
            .compile_ns = static_cast<uint64_t>(counters.compile_seconds * 1e9)};
  }

 private:
  std::unique_ptr<SoftwareDevice> device_;
};

}  // namespace

device::Result<std::unique_ptr<device::Backend>> make_backend(BackendOptions options,
                                                              std::unique_ptr<KernelCompiler> compiler) {
  const uint64_t memory = options.memory_bytes != 0 ? options.memory_bytes : default_memory_bytes();
  const uint32_t threads =
      options.threads != 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  auto device = std::make_unique<SoftwareDevice>(memory);
  auto window = DeviceWindow::reserve();
  if (!window) return std::unexpected(window.error());
  device->window = std::move(*window);
  auto store = PhysicalStore::create();
  if (!store) return std::unexpected(store.error());
  device->store = std::move(*store);
  if (const auto installed = install_fault_handlers(); !installed) return std::unexpected(installed.error());
  device->compiler = std::move(compiler);
  device->always_coarsen = options.always_coarsen;
  try {
    device->launcher = std::make_unique<Launcher>(*device->window, threads);
  } catch (const std::exception& error) {
    return std::unexpected(
        Error{Status::kOperatingSystem, fmt::format("start {} worker threads: {}", threads, error.what())});
  }
  set_blas_threads(threads);

  DeviceDescription description;
  description.name = options.name;
  description.uuid = options.uuid ? *options.uuid : stable_uuid(options.device_index);
  description.total_memory_bytes = memory;
  description.multiprocessors = threads;
  description.pci_domain = options.pci_domain;
  description.pci_bus = options.pci_bus;
  description.pci_device = options.pci_device;
  device->properties = describe_device(description);
  if (options.print) {
    device->print = [shared = device.get(), print = std::move(options.print)](std::string_view text) {
      const std::lock_guard lock(shared->print_mutex);
      print(text);
    };
  }
  return std::make_unique<SoftwareBackend>(std::move(device));
}

}  // namespace vgpu::software
