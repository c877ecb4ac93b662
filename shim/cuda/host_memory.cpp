// Pinned host memory: in the channel's bulk heap, where the device reaches it, or in ordinary memory when
// that is full. Registering the program's own memory keeps books; the device cannot map it.
#include <cstdlib>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/host_memory.h"

using namespace vgpu::shim;
using vgpu::protocol::Status;

namespace {

const void* at(uint64_t address) noexcept {
  return reinterpret_cast<const void*>(static_cast<uintptr_t>(address));
}

CUresult allocate(void** pointer, size_t bytes, unsigned flags) {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  constexpr unsigned kKnown = kMemHostAllocPortable | kMemHostAllocDeviceMap | kMemHostAllocWriteCombined;
  if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  HostRange range{.bytes = bytes,
                  .context = entry.context->handle,
                  .buffer_id = Driver::get().next_id.fetch_add(1),
                  .flags = flags,
                  .type = HostRange::Type::kBulk};
  void* memory = entry.session->bulk().allocate(bytes);
  if (memory == nullptr) {
    range.type = HostRange::Type::kOrdinary;
    constexpr size_t kPage = BulkHeap::kPinnedAlignment;
    memory =
        bytes > SIZE_MAX - kPage ? nullptr : std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
    if (memory == nullptr) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
  range.address = reinterpret_cast<uintptr_t>(memory);
  Driver::get().host_memory.add(range);
  *pointer = memory;
  return CUDA_SUCCESS;
}

// Where the bulk heap lies for the device; asked once.
CUresult bulk_address(Session& session, uint64_t& address) {
  static std::atomic<uint64_t> known{0};
  address = known.load(std::memory_order_acquire);
  if (address != 0) {
    return CUDA_SUCCESS;
  }
  vgpu::protocol::BulkAddressReply reply;
  const Status status = session.call(vgpu::protocol::BulkAddressRequest{}, reply);
  if (status == Status::kSuccess) {
    address = reply.address;
    known.store(address, std::memory_order_release);
  }
  return to_result(status);
}

}  // namespace

namespace vgpu::shim {

// The range is entered among the device's allocations the first time somebody asks for its address there:
// copies and fills then take that address like any other of the device's.
CUresult device_address_of(Session& session, const void* pointer, uint64_t& address) {
  Driver& driver = Driver::get();
  const auto range = driver.host_memory.find(pointer);
  if (!range) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (range->type != HostRange::Type::kBulk) {
    return CUDA_ERROR_NOT_SUPPORTED;  // in ordinary memory, which the device cannot reach
  }
  uint64_t base = 0;
  if (const CUresult result = bulk_address(session, base); result != CUDA_SUCCESS) {
    return result;
  }
  const uint64_t start = base + session.bulk().offset_of(at(range->address));
  address = start + (reinterpret_cast<uintptr_t>(pointer) - range->address);
  if (!driver.allocations.find(start)) {
    driver.allocations.add({.address = start,
                            .bytes = range->bytes,
                            .context = range->context,
                            .owner = range->address,
                            .buffer_id = range->buffer_id,
                            .type = Allocation::Type::kPinned});
  }
  return CUDA_SUCCESS;
}

}  // namespace vgpu::shim

CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned int flags) try {
  return allocate(pointer, bytes, flags);
}
VGPU_ABI_EDGE
CUresult cuMemAllocHost_v2(void** pointer, size_t bytes) try { return allocate(pointer, bytes, 0); }
VGPU_ABI_EDGE

// Waits for the device first: it may be reading or writing the memory.
CUresult cuMemFreeHost(void* pointer) try {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  const auto range = Driver::get().host_memory.remove(pointer, false);
  if (!range) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Status waited = entry.session->wait_completed(entry.session->submitted());
  if (range->type == HostRange::Type::kBulk) {
    Driver::get().allocations.select(
        [&](const Allocation& a) { return a.type == Allocation::Type::kPinned && a.owner == range->address; },
        true);
    entry.session->bulk().free(pointer);
  } else {
    std::free(pointer);
  }
  return to_result(waited);
}
VGPU_ABI_EDGE

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* result, void* pointer, unsigned int flags) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (result == nullptr || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  uint64_t address = 0;
  const CUresult found = device_address_of(*entry.session, pointer, address);
  if (found == CUDA_SUCCESS) {
    *result = address;
  }
  return found;
}
VGPU_ABI_EDGE

CUresult cuMemHostGetFlags(unsigned int* flags, void* pointer) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  const auto range = Driver::get().host_memory.find(pointer);
  if (flags == nullptr || !range) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *flags = range->flags;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned int flags) try {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  constexpr unsigned kKnown = kMemHostRegisterPortable | kMemHostRegisterDeviceMap |
                              kMemHostRegisterIoMemory | kMemHostRegisterReadOnly;
  if (pointer == nullptr || bytes == 0 || (flags & ~kKnown) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // The program's memory cannot be made the device's.
  if ((flags & (kMemHostRegisterDeviceMap | kMemHostRegisterIoMemory)) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  Driver& driver = Driver::get();
  return driver.host_memory.add({.address = reinterpret_cast<uintptr_t>(pointer),
                                 .bytes = bytes,
                                 .context = entry.context->handle,
                                 .buffer_id = driver.next_id.fetch_add(1),
                                 .flags = flags,
                                 .type = HostRange::Type::kRegistered})
             ? CUDA_SUCCESS
             : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}
VGPU_ABI_EDGE

CUresult cuMemHostUnregister(void* pointer) try {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  if (pointer == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  return Driver::get().host_memory.remove(pointer, true) ? CUDA_SUCCESS
                                                         : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}
VGPU_ABI_EDGE
