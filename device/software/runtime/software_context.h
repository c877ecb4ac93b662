// A guest process's state on the software device. In its first form every call is complete when it returns:
// streams only have to exist, since one order for all keeps every order a guest may ask for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "device/backend.h"
#include "device/software/runtime/block_runner.h"
#include "device/software/runtime/device_memory.h"
#include "device/software/runtime/module.h"
#include "device/software/runtime/range_table.h"
#include "device/software/runtime/software_device.h"
#include "device/software/runtime/virtual_memory.h"

namespace vgpu::software {

class SoftwareContext final : public device::Context {
 public:
  SoftwareContext(SoftwareDevice& device, const device::Quota& quota);
  ~SoftwareContext() override;

  Result<uint64_t> allocate(uint64_t bytes) override;
  Result<void> free(uint64_t address) override;
  Result<MemoryInfo> memory_info() override;
  Result<void> copy_to_device(uint64_t destination, uint64_t destination_pitch,
                              std::span<const std::byte> bulk, uint64_t bulk_pitch,
                              device::Rows rows) override;
  Result<void> copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch, uint64_t source,
                                uint64_t source_pitch, device::Rows rows) override;
  Result<void> copy_on_device(uint64_t destination, uint64_t destination_pitch, uint64_t source,
                              uint64_t source_pitch, device::Rows rows) override;
  Result<void> memset(const protocol::MemsetRequest& request) override;
  Result<void> write_value(const protocol::WriteValueRequest& request) override;
  Result<uint64_t> map_bulk(std::span<std::byte> bulk, int file, uint64_t file_offset) override;

  Result<uint64_t> reserve_address(uint64_t bytes, uint64_t alignment, uint64_t wanted) override;
  Result<void> free_address(uint64_t address, uint64_t bytes) override;
  Result<void> create_physical(uint32_t physical, uint64_t bytes) override;
  Result<void> release_physical(uint32_t physical) override;
  Result<void> map(const protocol::MapRequest& request) override;
  Result<void> unmap(uint64_t address, uint64_t bytes) override;
  Result<void> set_access(const protocol::SetAccessRequest& request) override;

  Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) override;
  Result<void> unload_module(uint32_t module) override;
  Result<device::FunctionInfo> get_function(uint32_t module, uint32_t function,
                                            std::string_view name) override;
  Result<std::string> function_name(uint32_t module, uint32_t index) override;
  Result<device::GlobalInfo> get_global(uint32_t module, std::string_view name) override;
  Result<void> set_max_dynamic_shared(uint32_t function, uint32_t bytes) override;

  Result<void> launch(uint32_t stream, const protocol::LaunchRequest& request,
                      std::span<const std::byte> parameters) override;
  void set_upcoming(device::UpcomingLaunches upcoming) override { upcoming_ = std::move(upcoming); }
  Result<device::KernelReport> kernel_figures(uint32_t index) override {
    return device_.kernels.report(index);
  }
  Result<void> gemm(uint32_t stream, const protocol::GemmRequest& request) override;
  Result<void> trsm_batched(uint32_t stream, const protocol::TrsmBatchedRequest& request) override;

  Result<void> create_stream(const protocol::StreamCreateRequest& request) override;
  Result<void> destroy_stream(uint32_t stream) override;
  Result<void> record_event(uint32_t stream, uint32_t event) override;
  Result<void> wait_event(uint32_t stream, uint32_t event) override;
  Result<void> destroy_event(uint32_t event) override;
  Result<uint64_t> event_time(uint32_t event) override;

  Result<void> wait_idle() override;
  void cancel() override;
  uint64_t memory_in_use() const override { return budget_.used(); }

 private:
  // Every call begins with this: what made the context unusable, or that it was cancelled.
  Result<void> usable() const;
  Result<void> usable(uint32_t stream) const;
  // Keeps a sticky error.
  template <typename T>
  Result<T> keep(Result<T> result);
  Result<LoadedModule*> module(uint32_t handle) const;
  Result<LoadedFunction*> function(uint32_t handle) const;
  Result<void> check_launch(const LoadedFunction& function, const protocol::LaunchRequest& request,
                            std::size_t parameter_bytes) const;
  Result<void> coarsen_if_worth_it(const LoadedFunction& kernel, LoadedFunction::Code& code,
                                   bool has_several);
  // Has kernels compiled that the launches behind the one that needs this code are going to need.
  void compile_ahead(LoadedFunction& needed, const jit::LaunchShape& needed_shape);
  // The block that grid-wide barriers of a cooperative launch meet at, ready for use.
  Result<uint64_t> grid_workspace();

  SoftwareDevice& device_;
  const device::Quota quota_;
  const uint64_t id_;
  std::atomic<uint32_t> stop_{kRunning};
  std::optional<Error> dead_;

  ContextBudget budget_;
  RangeTable ranges_;
  DeviceMemory memory_;
  VirtualMemory virtual_;
  WindowRange bulk_;
  BlockRunner runner_;
  uint64_t grid_workspace_ = 0;
  device::UpcomingLaunches upcoming_;
  CompileAhead ahead_;
  uint64_t launches_ = 0;
  // A launch's parameter block, with the readable bytes behind it that compiled code may touch.
  alignas(64) std::array<std::byte, protocol::kMaxParameterBytes + 64> parameters_{};

  std::unordered_map<uint32_t, std::shared_ptr<LoadedModule>> modules_;
  std::unordered_map<uint32_t, std::unique_ptr<LoadedFunction>> functions_;
  std::unordered_set<uint32_t> streams_;
  std::shared_ptr<KernelRecord> gemm_record_, trsm_record_;  // set by the first call
  std::unordered_map<uint32_t, uint64_t> events_;            // -> time of the last record
};

}  // namespace vgpu::software
