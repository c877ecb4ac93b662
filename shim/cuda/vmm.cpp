// Virtual memory management: address ranges, physical memory, mappings, access.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;
using namespace vgpu::protocol;

namespace {

constexpr uint64_t kGranularity = 2u << 20;  // the software backend's and that of NVIDIA's devices

std::mutex vmm_mutex;  // guards reference counts of Physical, and the reservations

struct Reservation {
  uint64_t bytes = 0;
};
std::map<uint64_t, Reservation>& reservations() {
  static auto& table = *std::make_unique<std::map<uint64_t, Reservation>>().release();
  return table;
}

CUresult open_session(Session*& session) {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  Driver& driver = Driver::get();
  if (driver.attribute(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) == 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return driver.open(session);
}

bool aligned(uint64_t value) {
  return value % kGranularity == 0;
}

// The reservation that holds the whole range.
bool reserved(uint64_t address, uint64_t bytes) {
  auto& table = reservations();
  auto it = table.upper_bound(address);
  if (it == table.begin()) {
    return false;
  }
  --it;
  const uint64_t offset = address - it->first;
  return offset < it->second.bytes && bytes <= it->second.bytes - offset;
}

CUresult check_properties(const CUmemAllocationProp* properties) {
  if (properties == nullptr || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED ||
      properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (properties->location.id != 0) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  // Handles for other processes: each has a channel of its own, with memory of its own.
  return properties->requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE ? CUDA_ERROR_NOT_SUPPORTED
                                                                     : CUDA_SUCCESS;
}

// With vmm_mutex held: the memory goes when neither handles nor mappings refer to it.
Status drop_if_unused(Session& session, Physical& physical) {
  if (physical.references != 0 || physical.mappings != 0) {
    return Status::kSuccess;
  }
  PhysicalReleaseReply reply;
  const Status status = session.call(PhysicalReleaseRequest{.physical = physical.id}, reply);
  Driver::get().physicals.destroy(physical.handle);
  return status;
}

}  // namespace

CUresult cuMemGetAllocationGranularity(size_t* granularity, const CUmemAllocationProp* properties,
                                       CUmemAllocationGranularity_flags option) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (granularity == nullptr ||
      (option != CU_MEM_ALLOC_GRANULARITY_MINIMUM && option != CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = check_properties(properties); result != CUDA_SUCCESS) {
    return result;
  }
  *granularity = kGranularity;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemAddressReserve(CUdeviceptr* pointer, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (pointer == nullptr || bytes == 0 || !aligned(bytes) || flags != 0 ||
      (alignment & (alignment - 1)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  AddressReserveReply reply;
  const Status status =
      session->call(AddressReserveRequest{.bytes = bytes, .alignment = alignment, .wanted = wanted}, reply);
  if (status == Status::kSuccess) {
    *pointer = reply.address;
    const std::lock_guard guard(vmm_mutex);
    reservations()[reply.address] = {bytes};
  }
  return to_result(status);
}
VGPU_ABI_EDGE

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t bytes) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  {
    const std::lock_guard guard(vmm_mutex);
    const auto found = reservations().find(pointer);
    if (found == reservations().end() || found->second.bytes != bytes) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    reservations().erase(found);
  }
  AddressFreeReply reply;
  return to_result(session->call(AddressFreeRequest{.address = pointer, .bytes = bytes}, reply));
}
VGPU_ABI_EDGE

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t bytes,
                     const CUmemAllocationProp* properties, unsigned long long flags) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (handle == nullptr || bytes == 0 || !aligned(bytes) || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = check_properties(properties); result != CUDA_SUCCESS) {
    return result;
  }
  Driver& driver = Driver::get();
  Physical* physical = driver.physicals.create();
  if (physical == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  physical->bytes = bytes;
  physical->properties = *properties;
  PhysicalCreateReply reply;
  const Status status = session->call(PhysicalCreateRequest{.bytes = bytes, .physical = physical->id}, reply);
  if (status != Status::kSuccess) {
    driver.physicals.destroy(physical->handle);
    return to_result(status);
  }
  *handle = physical->handle;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(vmm_mutex);
  Physical* physical = Driver::get().physicals.find(handle);
  if (physical == nullptr || physical->references == 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  --physical->references;
  return to_result(drop_if_unused(*session, *physical));
}
VGPU_ABI_EDGE

CUresult cuMemMap(CUdeviceptr pointer, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(vmm_mutex);
  Driver& driver = Driver::get();
  Physical* physical = driver.physicals.find(handle);
  // "offset must be zero": CUDA reserves it.
  if (physical == nullptr || flags != 0 || offset != 0 || bytes == 0 || !aligned(bytes) ||
      !aligned(pointer) || bytes > physical->bytes || !reserved(pointer, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  MapReply reply;
  const Status status = session->call(
      MapRequest{.address = pointer, .bytes = bytes, .offset = offset, .physical = physical->id}, reply);
  if (status == Status::kSuccess) {
    ++physical->mappings;
    driver.allocations.add({.address = pointer,
                            .bytes = bytes,
                            .context = 0,
                            .owner = handle,
                            .offset = offset,
                            .buffer_id = driver.next_id.fetch_add(1),
                            .type = Allocation::Type::kMapped});
  }
  return to_result(status);
}
VGPU_ABI_EDGE

CUresult cuMemUnmap(CUdeviceptr pointer, size_t bytes) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(vmm_mutex);
  Driver& driver = Driver::get();
  // Whole mappings that fill the range.
  const auto inside = [&](const Allocation& a) {
    return a.type == Allocation::Type::kMapped && a.address >= pointer && a.address - pointer < bytes;
  };
  const auto mapped = driver.allocations.select(inside, false);
  uint64_t sum = 0;
  for (const Allocation& allocation : mapped) {
    sum += allocation.bytes;
  }
  if (bytes == 0 || sum != bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  UnmapReply reply;
  Status status = session->call(UnmapRequest{.address = pointer, .bytes = bytes}, reply);
  if (status != Status::kSuccess) {
    return to_result(status);
  }
  driver.allocations.select(inside, true);
  for (const Allocation& allocation : mapped) {
    if (Physical* physical = driver.physicals.find(allocation.owner)) {
      --physical->mappings;
      const Status dropped = drop_if_unused(*session, *physical);
      status = status == Status::kSuccess ? dropped : status;
    }
  }
  return to_result(status);
}
VGPU_ABI_EDGE

CUresult cuMemSetAccess(CUdeviceptr pointer, size_t bytes, const CUmemAccessDesc* descriptors,
                        size_t count) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  if (descriptors == nullptr || count == 0 || bytes == 0 || !aligned(pointer) || !aligned(bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Driver& driver = Driver::get();
  if (!driver.allocations.covers(pointer, bytes)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (size_t i = 0; i < count; ++i) {
    const CUmemAccessDesc& wanted = descriptors[i];
    if (wanted.location.type != CU_MEM_LOCATION_TYPE_DEVICE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (wanted.location.id != 0) {
      return CUDA_ERROR_INVALID_DEVICE;
    }
    if (wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_NONE && wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
        wanted.flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    SetAccessReply reply;
    const Status status = session->call(
        SetAccessRequest{.address = pointer, .bytes = bytes, .access = static_cast<uint32_t>(wanted.flags)},
        reply);
    if (status != Status::kSuccess) {
      return to_result(status);
    }
    driver.allocations.for_range(pointer, bytes, [&](Allocation& a) { a.access = wanted.flags; });
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr pointer) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const auto allocation = Driver::get().allocations.find(pointer);
  if (flags == nullptr || location == nullptr || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
      location->id != 0 || !allocation || allocation->type != Allocation::Type::kMapped) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *flags = static_cast<unsigned long long>(allocation->access);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* properties,
                                                CUmemGenericAllocationHandle handle) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(vmm_mutex);
  const Physical* physical = Driver::get().physicals.find(handle);
  if (properties == nullptr || physical == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *properties = physical->properties;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* address) try {
  Session* session = nullptr;
  if (const CUresult result = open_session(session); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(vmm_mutex);
  Driver& driver = Driver::get();
  const auto allocation = driver.allocations.find(reinterpret_cast<uintptr_t>(address));
  Physical* physical = allocation && allocation->type == Allocation::Type::kMapped
                           ? driver.physicals.find(allocation->owner)
                           : nullptr;
  if (handle == nullptr || physical == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  ++physical->references;
  *handle = physical->handle;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
