// Initialisation, fork and exit, and the checks every call begins with.
#include "shim/cuda/driver.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace vgpu::shim {

using protocol::Status;

std::atomic<int32_t> Driver::state_{CUDA_ERROR_NOT_INITIALIZED};

namespace {

// The child of a fork: CUDA says that it gets CUDA_ERROR_NOT_INITIALIZED, from cuInit too.
std::atomic<bool> forked{false};

std::string uuid_text(const ring::DeviceInfo& info) {
  char text[48];
  const uint8_t* u = info.uuid;
  std::snprintf(text, sizeof(text),
                "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2],
                u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
  return text;
}

}  // namespace

Driver& Driver::get() {
  static Driver& driver = *std::make_unique<Driver>().release();
  return driver;
}

// CUDA_VISIBLE_DEVICES names devices by index or by a prefix of "GPU-<uuid>"; the first entry that names none
// ends the list.
bool Driver::device_visible(const ring::DeviceInfo& info) const {
  const char* setting = std::getenv("CUDA_VISIBLE_DEVICES");
  if (setting == nullptr) {
    return true;
  }
  const std::string text(setting);
  const std::string first = text.substr(0, text.find(','));
  std::size_t begin = first.find_first_not_of(" \t");
  if (begin == std::string::npos) {
    return false;
  }
  std::string name = first.substr(begin, first.find_last_not_of(" \t") + 1 - begin);
  if (name.starts_with("GPU-")) {
    for (char& c : name.replace(0, 4, "")) {
      c = static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    }
    return !name.empty() && uuid_text(info).substr(4).starts_with(name);
  }
  return name.find_first_not_of('0') == std::string::npos;
}

CUresult Driver::attach(const Attachment*& attachment) {
  if (forked.load(std::memory_order_acquire)) {
    return CUDA_ERROR_NOT_INITIALIZED;
  }
  attachment = attachment_.load(std::memory_order_acquire);
  if (attachment != nullptr) {
    return CUDA_SUCCESS;
  }
  const std::lock_guard guard(mutex_);
  attachment = attachment_.load(std::memory_order_relaxed);
  if (attachment != nullptr) {
    return CUDA_SUCCESS;
  }
  auto found = Attachment::open();
  if (!found) {
    log_line("no device: %s", found.error().text.c_str());
    return to_result(found.error().status);
  }
  attachment = found->release();  // for as long as the process lives
  attachment_.store(attachment, std::memory_order_release);
  return CUDA_SUCCESS;
}

CUresult Driver::init() {
  if (ready() == CUDA_SUCCESS) {
    return CUDA_SUCCESS;
  }
  if (ready() == CUDA_ERROR_DEINITIALIZED) {
    return CUDA_ERROR_DEINITIALIZED;
  }
  const Attachment* attachment = nullptr;
  if (const CUresult result = attach(attachment); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(mutex_);
  visible_devices_ = device_visible(attachment->info()) ? 1 : 0;
  if (visible_devices_ == 0) {
    log_line("CUDA_VISIBLE_DEVICES hides the device %s", uuid_text(attachment->info()).c_str());
    return CUDA_ERROR_NO_DEVICE;
  }
  register_process_hooks();
  int32_t expected = CUDA_ERROR_NOT_INITIALIZED;
  state_.compare_exchange_strong(expected, CUDA_SUCCESS, std::memory_order_release);
  return ready();
}

CUresult Driver::open(Session*& session) {
  session = session_.load(std::memory_order_acquire);
  if (session != nullptr) {
    return to_result(session->status());
  }
  const Attachment* attachment = nullptr;
  if (const CUresult result = attach(attachment); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(mutex_);
  session = session_.load(std::memory_order_relaxed);
  if (session != nullptr) {
    return to_result(session->status());
  }
  auto opened = Session::open(*attachment);
  if (!opened) {
    log_line("no channel: %s", opened.error().text.c_str());
    return to_result(opened.error().status);
  }
  session = opened->release();
  session_.store(session, std::memory_order_release);
  return CUDA_SUCCESS;
}

void Driver::register_process_hooks() {
  if (!hooks_registered_) {
    hooks_registered_ = true;
    ::pthread_atfork(nullptr, nullptr, &Driver::after_fork_in_child);
    std::atexit(&Driver::at_exit);
  }
}

// The child shares the mapping and, for a moment, the descriptor that holds the channel's lock. It must touch
// neither ring nor locks (another thread may have held them): it closes its copy of the descriptor, so that
// the channel dies with the parent, and answers every call with NOT_INITIALIZED.
void Driver::after_fork_in_child() noexcept {
  forked.store(true);
  state_.store(CUDA_ERROR_NOT_INITIALIZED);
  if (Session* session = get().session_.exchange(nullptr)) {
    session->abandon_after_fork();
  }
}

// A guest in a VM has to say that it leaves: the device cannot see its lock. Other threads may be inside a
// call.
void Driver::at_exit() noexcept {
  int32_t expected = CUDA_SUCCESS;
  if (state_.compare_exchange_strong(expected, CUDA_ERROR_DEINITIALIZED)) {
    if (Session* session = get().session_.load()) {
      session->close_at_exit();
    }
  }
}

int32_t Driver::attribute(CUdevice_attribute attribute) const noexcept {
  const auto number = static_cast<uint32_t>(attribute);
  return number < ring::kAttributeCount ? info().attributes[number] : 0;
}

CUresult Driver::make_context(bool is_primary, uint32_t flags, Context*& context) {
  Session* session = nullptr;
  if (const CUresult result = open(session); result != CUDA_SUCCESS) {
    return result;
  }
  context = contexts.create();
  Stream* legacy = context != nullptr ? streams.create() : nullptr;
  if (legacy == nullptr) {
    if (context != nullptr) {
      contexts.destroy(context->handle);
    }
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  legacy->context = context->handle;
  legacy->legacy = true;
  legacy->unique_id = next_id.fetch_add(1);
  context->primary = is_primary;
  context->flags = flags;
  context->legacy_stream = legacy->handle;
  context->unique_id = next_id.fetch_add(1);
  context->limits[CU_LIMIT_STACK_SIZE] = 1024;
  context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
  context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
  context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
  context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
  context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
  return CUDA_SUCCESS;
}

void Driver::clear_context(Context& context) {
  Session* session = session_if_open();
  if (session == nullptr) {
    return;
  }
  // What is in flight may use what is freed now; the device executes in order, but host memory is ours.
  session->wait_completed(session->submitted());
  const uint64_t handle = context.handle;
  for (const Allocation& allocation : allocations.select(
           [&](const Allocation& a) { return a.context == handle && a.type != Allocation::Type::kMapped; },
           true)) {
    if (allocation.type == Allocation::Type::kDevice) {
      session->submit(protocol::MemFreeRequest{.address = allocation.address}, 0);
    }
  }
  for (const HostRange& range : host_memory.take([&](const HostRange& r) { return r.context == handle; })) {
    void* address = reinterpret_cast<void*>(static_cast<uintptr_t>(range.address));
    if (range.type == HostRange::Type::kBulk) {
      session->bulk().free(address);
    } else if (range.type == HostRange::Type::kOrdinary) {
      std::free(address);
    }
  }
  streams.for_each([&](Stream& stream) {
    if (stream.context == handle && !stream.legacy) {
      session->submit(protocol::StreamDestroyRequest{.stream = stream.device_id}, 0);
      streams.destroy(stream.handle);
    }
  });
  events.for_each([&](Event& event) {
    if (event.context == handle) {
      if (event.known_to_device) {
        session->submit(protocol::EventDestroyRequest{.event = event.id}, 0);
      }
      events.destroy(event.handle);
    }
  });
  modules.for_each([&](Module& module) {
    if (module.context == handle && module.library == 0) {
      session->submit(protocol::ModuleUnloadRequest{.module = module.id}, 0);
      for (const auto& [name, function] : module.functions) {
        functions.destroy(function);
      }
      modules.destroy(module.handle);
    }
  });
}

ThreadState& this_thread() noexcept {
  static thread_local ThreadState state;
  return state;
}

uint64_t this_thread_id() noexcept {
  ThreadState& thread = this_thread();
  if (thread.id == 0) {
    thread.id = Driver::get().next_id.fetch_add(1);
  }
  return thread.id;
}

Context* current_context() noexcept {
  const ThreadState& thread = this_thread();
  return thread.depth == 0 ? nullptr : Driver::get().contexts.find(thread.stack[thread.depth - 1]);
}

Entry enter() {
  Entry entry;
  if (entry.result = Driver::ready(); entry.result != CUDA_SUCCESS) {
    return entry;
  }
  const ThreadState& thread = this_thread();
  const uint64_t handle = thread.depth == 0 ? 0 : thread.stack[thread.depth - 1];
  if (handle == 0) {
    entry.result = CUDA_ERROR_INVALID_CONTEXT;
    return entry;
  }
  Driver& driver = Driver::get();
  entry.context = driver.contexts.find(handle);
  if (entry.context == nullptr || !entry.context->active.load(std::memory_order_acquire)) {
    entry.result = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return entry;
  }
  entry.session = driver.session_if_open();
  entry.result = entry.session == nullptr ? CUDA_ERROR_NOT_INITIALIZED : to_result(entry.session->status());
  return entry;
}

Entry enter_unsafe() {
  Entry entry = enter();
  if (entry) {
    entry.result = check_capture_allows_unsafe_call();
  }
  return entry;
}

CUresult synchronize(Session& session, uint64_t position) {
  if (const Status waited = session.wait_completed(position); waited != Status::kSuccess) {
    return to_result(waited);
  }
  return to_result(session.take_error());
}

}  // namespace vgpu::shim
