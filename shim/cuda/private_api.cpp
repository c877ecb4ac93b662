// The private table: how cublas and nvml reach the session.
#include "shim/cuda/private_api.h"

#include "ring/access.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

// What a command of cublas is called in a graph.
constexpr CUgraphNodeType kNodeType = CU_GRAPH_NODE_TYPE_KERNEL;

CUresult submit(CUstream handle, uint16_t opcode, const void* body, uint32_t body_bytes) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, handle, NullStream::kLegacy, stream);
      result != CUDA_SUCCESS) {
    return result;
  }
  const uint32_t index = vgpu::protocol::command_index(opcode);
  if (index == vgpu::protocol::kCommandCount || body == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const vgpu::protocol::CommandInfo& command = vgpu::protocol::kCommands[index];
  if (command.mode != vgpu::protocol::Mode::kAsync || body_bytes < command.request_bytes ||
      body_bytes > command.request_bytes + command.max_tail_bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(body), body_bytes);
  if (stream->capturing.load(std::memory_order_acquire)) {
    GraphStep step;
    step.node_type = kNodeType;
    step.opcode = opcode;
    step.body.assign(bytes.begin(), bytes.end());
    return capture_step(*stream, std::move(step));
  }
  const Submitted record = entry.session->submit_encoded(opcode, stream->device_id, bytes);
  stream->advance(record.end);
  return to_result(record.status);
}

CUresult check_context(CUcontext* context) {
  const Entry entry = enter();
  if (entry && context != nullptr) {
    *context = as_handle<CUcontext>(entry.context->handle);
  }
  return entry.result;
}

CUresult check_stream(CUstream handle) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  return resolve_stream(entry, handle, NullStream::kLegacy, stream);
}

CUresult device_info(const vgpu::ring::DeviceInfo** info) {
  if (info == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Attachment* attachment = nullptr;
  const CUresult result = Driver::get().attach(attachment);
  if (result == CUDA_SUCCESS) {
    *info = &attachment->info();
  }
  return result;
}

CUresult device_status(VgpuDeviceStatus* status) {
  if (status == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Attachment* attachment = nullptr;
  if (const CUresult result = Driver::get().attach(attachment); result != CUDA_SUCCESS) {
    return result;
  }
  if (!attachment->serving()) {
    return CUDA_ERROR_DEVICE_UNAVAILABLE;
  }
  const vgpu::ring::DeviceStatus& now = attachment->region().header().status;
  *status = {.device_state = vgpu::ring::load_relaxed(now.device_state),
             .channels_served = vgpu::ring::load_relaxed(now.channels_served),
             .memory_in_use_bytes = vgpu::ring::load_relaxed(now.memory_in_use_bytes)};
  return CUDA_SUCCESS;
}

void note(const char* name) {
  note_unimplemented(name);
}
void log(const char* line) {
  log_line("%s", line);
}
int is_log_enabled() {
  return log_enabled() ? 1 : 0;
}

constexpr VgpuPrivateTable kTable{.version = kVgpuPrivateVersion,
                                  .bytes = sizeof(VgpuPrivateTable),
                                  .submit = submit,
                                  .check_context = check_context,
                                  .check_stream = check_stream,
                                  .device_info = device_info,
                                  .device_status = device_status,
                                  .note_unimplemented = note,
                                  .log = log,
                                  .log_enabled = is_log_enabled};

}  // namespace

const VgpuPrivateTable* vgpuGetPrivateTable(uint32_t version) {
  return version == kVgpuPrivateVersion ? &kTable : nullptr;
}
