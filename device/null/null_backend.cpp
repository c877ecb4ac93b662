// The backend that executes nothing.
#include "device/null/null_backend.h"

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "device/forwarding_context.h"
#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"

namespace vgpu::device {
namespace {

class NullContext final : public ForwardingContext {
 public:
  using ForwardingContext::ForwardingContext;

  Result<void> launch(uint32_t, const protocol::LaunchRequest&, std::span<const std::byte>) override {
    return {};
  }
  Result<void> gemm(uint32_t, const protocol::GemmRequest&) override { return {}; }
  Result<void> trsm_batched(uint32_t, const protocol::TrsmBatchedRequest&) override { return {}; }
};

class NullBackend final : public Backend {
 public:
  explicit NullBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}

  const DeviceProperties& properties() const override { return inner_->properties(); }
  Result<std::unique_ptr<Context>> create_context(const Quota& quota) override {
    auto context = inner_->create_context(quota);
    if (!context) return context;
    return std::make_unique<NullContext>(std::move(*context));
  }
  std::string statistics() const override { return "nothing is executed"; }

 private:
  std::unique_ptr<Backend> inner_;
};

// Nothing is launched, so nothing is compiled.
class NoCompiler final : public software::KernelCompiler {
 public:
  Outcome compile(const software::ptx::Module&, std::string_view kernel,
                  const software::jit::LaunchShape&) override {
    return std::unexpected(
        software::jit::Error{.message = "the null device compiles no kernel: " + std::string(kernel)});
  }
  [[nodiscard]] software::jit::Counters counters() const override { return {}; }
};

constexpr std::string_view kUuid = "vgpu-null-device";

}  // namespace

Result<std::unique_ptr<Backend>> make_null_backend(uint64_t memory_bytes) {
  software::BackendOptions options;
  options.name = "vGPU without execution";
  std::array<std::byte, 16> uuid;
  static_assert(kUuid.size() == uuid.size());
  std::memcpy(uuid.data(), kUuid.data(), uuid.size());
  options.uuid = uuid;
  options.memory_bytes = memory_bytes;
  options.threads = 1;  // the channel's own: nothing runs on others
  auto inner = software::make_backend(std::move(options), std::make_unique<NoCompiler>());
  if (!inner) return inner;
  return std::make_unique<NullBackend>(std::move(*inner));
}

}  // namespace vgpu::device
