// What is known of an address.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/host_memory.h"

using namespace vgpu::shim;

namespace {

template <typename T>
CUresult give(void* data, T value) {
  std::memcpy(data, &value, sizeof(value));
  return CUDA_SUCCESS;
}

CUresult pointer_attribute(const Entry& entry, void* data, CUpointer_attribute attribute, uint64_t address) {
  const Driver& driver = Driver::get();
  auto allocation = driver.allocations.find(address);
  if (allocation && allocation->type == Allocation::Type::kPinned) {
    address = allocation->owner + (address - allocation->address);  // host memory, whichever name it goes by
    allocation.reset();
  }
  const void* pointer = reinterpret_cast<const void*>(static_cast<uintptr_t>(address));
  const auto host = allocation ? std::nullopt : driver.host_memory.find(pointer);
  const bool known = allocation || host;
  // "INVALID_VALUE: the pointer was not allocated by, mapped by, or registered with CUDA", for every
  // attribute but those that ask just that.
  if (attribute == CU_POINTER_ATTRIBUTE_MAPPED) {
    return give(data, known ? 1 : 0);
  }
  if (!known) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT: {
      const uint64_t context = allocation ? allocation->context : host->context;
      return give(data, as_handle<CUcontext>(context));
    }
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give(data, static_cast<unsigned>(allocation ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST));
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: {
      uint64_t device = address;
      if (host && device_address_of(*entry.session, pointer, device) != CUDA_SUCCESS) {
        return CUDA_ERROR_INVALID_VALUE;
      }
      return give(data, CUdeviceptr{device});
    }
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      return host ? give(data, pointer) : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return give(data, 0);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return give(data, allocation ? allocation->buffer_id : host->buffer_id);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give(data, 0);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return give(data, CUdeviceptr{allocation ? allocation->address : host->address});
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return give(data, size_t{allocation ? allocation->bytes : host->bytes});
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return give(data, uint64_t{0});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return give(data, 3u);  // CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return give(data, static_cast<void*>(nullptr));
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return allocation ? give(data, size_t{allocation->bytes}) : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return allocation ? give(data, CUdeviceptr{allocation->address}) : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return allocation ? give(data, allocation->buffer_id) : CUDA_ERROR_INVALID_VALUE;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// What cuPointerGetAttributes stores for an attribute that does not apply.
void clear_attribute(void* data, CUpointer_attribute attribute) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      give(data, 0);
      break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      give(data, int{kInvalidDeviceOrdinal});
      break;
    default:
      give(data, uint64_t{0});
      break;
  }
}

}  // namespace

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  return data == nullptr ? CUDA_ERROR_INVALID_VALUE : pointer_attribute(entry, data, attribute, pointer);
}
VGPU_ABI_EDGE

// "Unlike cuPointerGetAttribute, this will not return an error when the pointer is not known to CUDA."
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr pointer) try {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  if (count == 0 || attributes == nullptr || data == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < count; ++i) {
    if (data[i] == nullptr) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    if (pointer_attribute(entry, data[i], attributes[i], pointer) != CUDA_SUCCESS) {
      clear_attribute(data[i], attributes[i]);
    }
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
