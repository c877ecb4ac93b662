// A context that passes every call on to another one: what a decorator of a backend derives from.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "device/backend.h"

namespace vgpu::device {

class ForwardingContext : public Context {
 public:
  explicit ForwardingContext(std::unique_ptr<Context> inner) : inner_(std::move(inner)) {}

  Result<uint64_t> allocate(uint64_t bytes) override { return inner_->allocate(bytes); }
  Result<void> free(uint64_t address) override { return inner_->free(address); }
  Result<MemoryInfo> memory_info() override { return inner_->memory_info(); }
  Result<void> copy_to_device(uint64_t destination, uint64_t destination_pitch,
                              std::span<const std::byte> bulk, uint64_t bulk_pitch, Rows rows) override {
    return inner_->copy_to_device(destination, destination_pitch, bulk, bulk_pitch, rows);
  }
  Result<void> copy_from_device(std::span<std::byte> bulk, uint64_t bulk_pitch, uint64_t source,
                                uint64_t source_pitch, Rows rows) override {
    return inner_->copy_from_device(bulk, bulk_pitch, source, source_pitch, rows);
  }
  Result<void> copy_on_device(uint64_t destination, uint64_t destination_pitch, uint64_t source,
                              uint64_t source_pitch, Rows rows) override {
    return inner_->copy_on_device(destination, destination_pitch, source, source_pitch, rows);
  }
  Result<void> memset(const protocol::MemsetRequest& request) override { return inner_->memset(request); }
  Result<void> write_value(const protocol::WriteValueRequest& request) override {
    return inner_->write_value(request);
  }
  Result<uint64_t> map_bulk(std::span<std::byte> bulk, int file, uint64_t file_offset) override {
    return inner_->map_bulk(bulk, file, file_offset);
  }

  Result<uint64_t> reserve_address(uint64_t bytes, uint64_t alignment, uint64_t wanted) override {
    return inner_->reserve_address(bytes, alignment, wanted);
  }
  Result<void> free_address(uint64_t address, uint64_t bytes) override {
    return inner_->free_address(address, bytes);
  }
  Result<void> create_physical(uint32_t physical, uint64_t bytes) override {
    return inner_->create_physical(physical, bytes);
  }
  Result<void> release_physical(uint32_t physical) override { return inner_->release_physical(physical); }
  Result<void> map(const protocol::MapRequest& request) override { return inner_->map(request); }
  Result<void> unmap(uint64_t address, uint64_t bytes) override { return inner_->unmap(address, bytes); }
  Result<void> set_access(const protocol::SetAccessRequest& request) override {
    return inner_->set_access(request);
  }

  Result<protocol::ModuleLoadReply> load_module(uint32_t module, std::vector<std::byte> image) override {
    return inner_->load_module(module, std::move(image));
  }
  Result<void> unload_module(uint32_t module) override { return inner_->unload_module(module); }
  Result<FunctionInfo> get_function(uint32_t module, uint32_t function, std::string_view name) override {
    return inner_->get_function(module, function, name);
  }
  Result<std::string> function_name(uint32_t module, uint32_t index) override {
    return inner_->function_name(module, index);
  }
  Result<GlobalInfo> get_global(uint32_t module, std::string_view name) override {
    return inner_->get_global(module, name);
  }
  Result<void> set_max_dynamic_shared(uint32_t function, uint32_t bytes) override {
    return inner_->set_max_dynamic_shared(function, bytes);
  }

  Result<void> launch(uint32_t stream, const protocol::LaunchRequest& request,
                      std::span<const std::byte> parameters) override {
    return inner_->launch(stream, request, parameters);
  }
  void set_upcoming(UpcomingLaunches upcoming) override { inner_->set_upcoming(std::move(upcoming)); }
  Result<void> gemm(uint32_t stream, const protocol::GemmRequest& request) override {
    return inner_->gemm(stream, request);
  }
  Result<void> trsm_batched(uint32_t stream, const protocol::TrsmBatchedRequest& request) override {
    return inner_->trsm_batched(stream, request);
  }

  Result<void> create_stream(const protocol::StreamCreateRequest& request) override {
    return inner_->create_stream(request);
  }
  Result<void> destroy_stream(uint32_t stream) override { return inner_->destroy_stream(stream); }
  Result<void> record_event(uint32_t stream, uint32_t event) override {
    return inner_->record_event(stream, event);
  }
  Result<void> wait_event(uint32_t stream, uint32_t event) override {
    return inner_->wait_event(stream, event);
  }
  Result<void> destroy_event(uint32_t event) override { return inner_->destroy_event(event); }
  Result<uint64_t> event_time(uint32_t event) override { return inner_->event_time(event); }

  Result<KernelReport> kernel_figures(uint32_t index) override { return inner_->kernel_figures(index); }

  Result<void> wait_idle() override { return inner_->wait_idle(); }
  void cancel() override { inner_->cancel(); }
  uint64_t memory_in_use() const override { return inner_->memory_in_use(); }

 protected:
  [[nodiscard]] Context& inner() { return *inner_; }

 private:
  std::unique_ptr<Context> inner_;
};

}  // namespace vgpu::device
