// Devices: there is one, and what is asked of it was told at attach.
#include <cstdio>
#include <cstring>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

namespace {

CUresult check_device(CUdevice device) {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return device >= 0 && device < Driver::get().visible_devices() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

}  // namespace

CUresult cuInit(unsigned int flags) try {
  return flags != 0 ? CUDA_ERROR_INVALID_VALUE : Driver::get().init();
}
VGPU_ABI_EDGE

// May be called before cuInit: the device tells which driver it stands for; without one it is our own
// version.
CUresult cuDriverGetVersion(int* version) try {
  if (version == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Attachment* attachment = nullptr;
  *version = kDriverVersion;
  if (Driver::get().attach(attachment) == CUDA_SUCCESS && attachment->info().driver_version != 0) {
    *version = attachment->info().driver_version;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGet(CUdevice* device, int ordinal) try {
  if (const CUresult result = check_device(ordinal); result != CUDA_SUCCESS) {
    return result;
  }
  if (device == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *device = ordinal;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetCount(int* count) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (count == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *count = Driver::get().visible_devices();
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetName(char* name, int length, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (name == nullptr || length <= 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto& info = Driver::get().info();
  const auto text = vgpu::ring::load_text(info.name, sizeof(info.name));
  std::snprintf(name, static_cast<std::size_t>(length), "%.*s", static_cast<int>(text.size()), text.data());
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (uuid == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::memcpy(uuid->bytes, Driver::get().info().uuid, sizeof(uuid->bytes));
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) try { return cuDeviceGetUuid_v2(uuid, device); }
VGPU_ABI_EDGE

CUresult cuDeviceGetLuid(char* luid, unsigned int* node_mask, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  // LUIDs name adapters to Direct3D; CUDA documents the call for Windows alone.
  return luid == nullptr || node_mask == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_NOT_SUPPORTED;
}
VGPU_ABI_EDGE

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (bytes == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *bytes = Driver::get().info().total_memory_bytes;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

// Attributes this library or its device does not know are 0: a newer client asks for them all, and takes an
// error for a broken device.
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (value == nullptr || attribute <= 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *value = Driver::get().attribute(attribute);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetProperties(CUdevprop* properties, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (properties == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Driver& driver = Driver::get();
  properties->maxThreadsPerBlock = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
  properties->maxThreadsDim[0] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X);
  properties->maxThreadsDim[1] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y);
  properties->maxThreadsDim[2] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z);
  properties->maxGridSize[0] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X);
  properties->maxGridSize[1] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y);
  properties->maxGridSize[2] = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z);
  properties->sharedMemPerBlock = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
  properties->totalConstantMemory = driver.attribute(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
  properties->SIMDWidth = driver.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
  properties->memPitch = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
  properties->regsPerBlock = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
  properties->clockRate = driver.attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  properties->textureAlign = driver.attribute(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (major == nullptr || minor == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *major = Driver::get().info().compute_major;
  *minor = Driver::get().info().compute_minor;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  const auto& info = Driver::get().info();
  char id[32];
  const int bytes = std::snprintf(id, sizeof(id), "%04x:%02x:%02x.%x", info.pci_domain, info.pci_bus,
                                  info.pci_device, info.pci_function);
  if (text == nullptr || length <= bytes) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::memcpy(text, id, static_cast<std::size_t>(bytes) + 1);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* text) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (device == nullptr || text == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // [domain]:[bus]:[device].[function], [domain]:[bus]:[device], or [bus]:[device].[function], hexadecimal.
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  unsigned function = 0;
  if (std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
    domain = 0;
    function = 0;
    if (std::sscanf(text, "%x:%x.%x", &bus, &slot, &function) != 3) {
      return CUDA_ERROR_INVALID_VALUE;
    }
  }
  const auto& info = Driver::get().info();
  if (domain != info.pci_domain || bus != info.pci_bus || slot != info.pci_device ||
      function != info.pci_function) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *device = 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

// There is no second device to reach, and a device is no peer of itself.
CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (const CUresult result = check_device(peer); result != CUDA_SUCCESS) {
    return result;
  }
  if (can == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *can = 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice source,
                                 CUdevice destination) try {
  if (value == nullptr || attribute <= 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = check_device(source); result != CUDA_SUCCESS) {
    return result;
  }
  const CUresult result = check_device(destination);
  // Source and destination must differ; with one device they cannot.
  return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_DEVICE;
}
VGPU_ABI_EDGE

CUresult cuDeviceGetExecAffinitySupport(int* supported, CUexecAffinityType type, CUdevice device) try {
  if (const CUresult result = check_device(device); result != CUDA_SUCCESS) {
    return result;
  }
  if (supported == nullptr || type != CU_EXEC_AFFINITY_TYPE_SM_COUNT) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *supported = 0;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
