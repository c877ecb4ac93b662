// NVML for one vGPU: what the device tells about itself, and its memory as the last heartbeat counted it.
// Reads the region through libcuda.so.1's private entry and takes no channel, so that monitoring costs no
// guest anything.
#include "shim/nvml/nvml_abi.h"

#include <dlfcn.h>
#include <strings.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "shim/cuda/private_api.h"

namespace vgpu::shim::nvml {
namespace {

constinit std::mutex g_mutex;  // guards the rest
constinit unsigned g_users = 0;
constinit const VgpuPrivateTable* g_table = nullptr;
constinit const ring::DeviceInfo* g_info = nullptr;
constinit char g_device_tag = 0;  // its address is the device's handle

nvmlReturn_t to_nvml(CUresult result) noexcept {
  switch (result) {
    case CUDA_SUCCESS:
      return NVML_SUCCESS;
    case CUDA_ERROR_NO_DEVICE:
      return NVML_ERROR_DRIVER_NOT_LOADED;
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
      return NVML_ERROR_LIB_RM_VERSION_MISMATCH;
    case CUDA_ERROR_OUT_OF_MEMORY:
      return NVML_ERROR_MEMORY;
    case CUDA_ERROR_OPERATING_SYSTEM:
      return NVML_ERROR_OPERATING_SYSTEM;
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
      return NVML_ERROR_GPU_IS_LOST;
    default:
      return NVML_ERROR_UNKNOWN;
  }
}

const VgpuPrivateTable* open_table() noexcept {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  const auto get = reinterpret_cast<VgpuGetPrivateTableFn>(dlsym(library, kVgpuPrivateTableSymbol));
  return get == nullptr ? nullptr : get(kVgpuPrivateVersion);
}

nvmlReturn_t initialise() noexcept {
  const std::scoped_lock lock(g_mutex);
  if (g_table == nullptr) g_table = open_table();
  if (g_table == nullptr) return NVML_ERROR_LIBRARY_NOT_FOUND;
  if (g_info == nullptr) {
    const CUresult result = g_table->device_info(&g_info);
    if (result != CUDA_SUCCESS) {
      g_info = nullptr;
      return to_nvml(result);
    }
  }
  ++g_users;
  return NVML_SUCCESS;
}

// The device's description while somebody has NVML initialised, else null. Constant once there.
const ring::DeviceInfo* info() noexcept {
  const std::scoped_lock lock(g_mutex);
  return g_users == 0 ? nullptr : g_info;
}

nvmlDevice_t device_handle() noexcept {
  return reinterpret_cast<nvmlDevice_t>(&g_device_tag);
}

// Runs the body with the device's description if NVML is initialised, and the handle is the device's.
template <typename Body>
nvmlReturn_t with_info(Body&& body) noexcept {
  const ring::DeviceInfo* present = info();
  return present == nullptr ? NVML_ERROR_UNINITIALIZED : body(*present);
}
template <typename Body>
nvmlReturn_t with_device(nvmlDevice_t device, Body&& body) noexcept {
  return with_info([&](const ring::DeviceInfo& present) {
    return device == device_handle() ? body(present) : NVML_ERROR_INVALID_ARGUMENT;
  });
}

nvmlReturn_t put_text(char* out, unsigned length, const char* text) noexcept {
  if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
  const std::size_t bytes = std::strlen(text) + 1;
  if (bytes > length) return NVML_ERROR_INSUFFICIENT_SIZE;
  std::memcpy(out, text, bytes);
  return NVML_SUCCESS;
}

struct UuidText {
  char text[48];
};
UuidText uuid_text(const ring::DeviceInfo& present) noexcept {
  UuidText out{};
  char* at = out.text + std::snprintf(out.text, sizeof out.text, "GPU-");
  for (int i = 0; i < 16; ++i) {
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    at += std::snprintf(at, 4, dash ? "-%02x" : "%02x", present.uuid[i]);
  }
  return out;
}

struct Memory {
  uint64_t total;
  uint64_t used;
};
nvmlReturn_t memory(const ring::DeviceInfo& present, Memory* out) noexcept {
  VgpuDeviceStatus status{};
  const CUresult result = g_table->device_status(&status);
  if (result != CUDA_SUCCESS) return to_nvml(result);
  const auto state = static_cast<ring::DeviceState>(status.device_state);
  if (state == ring::DeviceState::kDead || state == ring::DeviceState::kStopped)
    return NVML_ERROR_GPU_IS_LOST;
  out->total = present.total_memory_bytes;
  out->used = status.memory_in_use_bytes < out->total ? status.memory_in_use_bytes : out->total;
  return NVML_SUCCESS;
}

int attribute(const ring::DeviceInfo& present, CUdevice_attribute which) noexcept {
  return present.attributes[static_cast<unsigned>(which)];
}

nvmlPciInfo_t pci_info(const ring::DeviceInfo& present) noexcept {
  nvmlPciInfo_t out{};
  std::snprintf(out.busIdLegacy, sizeof out.busIdLegacy, "%04X:%02X:%02X.%u", present.pci_domain & 0xffffu,
                present.pci_bus & 0xffu, present.pci_device & 0x1fu, present.pci_function & 7u);
  std::snprintf(out.busId, sizeof out.busId, "%08X:%02X:%02X.%u", present.pci_domain, present.pci_bus & 0xffu,
                present.pci_device & 0x1fu, present.pci_function & 7u);
  out.domain = present.pci_domain;
  out.bus = present.pci_bus;
  out.device = present.pci_device;
  out.pciDeviceId = static_cast<unsigned>(attribute(present, CU_DEVICE_ATTRIBUTE_GPU_PCI_DEVICE_ID));
  out.pciSubSystemId = static_cast<unsigned>(attribute(present, CU_DEVICE_ATTRIBUTE_GPU_PCI_SUBSYSTEM_ID));
  return out;
}

bool is_bus_id(const ring::DeviceInfo& present, const char* text) noexcept {
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned device = 0;
  unsigned function = 0;
  if (std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &device, &function) < 3) {
    domain = 0;
    function = 0;
    if (std::sscanf(text, "%x:%x.%x", &bus, &device, &function) < 2) return false;
  }
  return domain == present.pci_domain && bus == present.pci_bus && device == present.pci_device &&
         function == present.pci_function;
}

// nvmlDeviceArchitecture_t by compute capability.
unsigned architecture(int major, int minor) noexcept {
  switch (major) {
    case 5:
      return 3;  // Maxwell
    case 6:
      return 4;  // Pascal
    case 7:
      return minor < 5 ? 5 : 6;  // Volta, Turing
    case 8:
      return minor < 9 ? 7 : 8;  // Ampere, Ada
    case 9:
      return 9;  // Hopper
    case 10:
    case 12:
      return 10;  // Blackwell
    default:
      return 0xffffffffu;
  }
}

nvmlReturn_t unsupported(const char* name) noexcept {
  const std::scoped_lock lock(g_mutex);
  if (g_users == 0) return NVML_ERROR_UNINITIALIZED;
  g_table->note_unimplemented(name);
  return NVML_ERROR_NOT_SUPPORTED;
}

}  // namespace
}  // namespace vgpu::shim::nvml

using namespace vgpu::shim::nvml;
using vgpu::ring::DeviceInfo;

// Every other call of NVML that clients are known to make.
#define EXPORT(name)                                                              \
  extern "C" __attribute__((visibility("default"))) nvmlReturn_t name() noexcept; \
  nvmlReturn_t name() noexcept {                                                  \
    return unsupported(#name);                                                    \
  }
#include "shim/nvml/unsupported.def"

VGPU_NVML_API nvmlReturn_t nvmlInit_v2() noexcept {
  return initialise();
}
VGPU_NVML_API nvmlReturn_t nvmlInit() noexcept {
  return initialise();
}
VGPU_NVML_API nvmlReturn_t nvmlInitWithFlags(unsigned /*flags*/) noexcept {
  return initialise();
}
VGPU_NVML_API nvmlReturn_t nvmlShutdown() noexcept {
  const std::scoped_lock lock(g_mutex);
  if (g_users == 0) return NVML_ERROR_UNINITIALIZED;
  --g_users;
  return NVML_SUCCESS;
}

VGPU_NVML_API nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned length) noexcept {
  return with_info(
      [&](const DeviceInfo& present) { return put_text(version, length, present.driver_version_text); });
}
VGPU_NVML_API nvmlReturn_t nvmlSystemGetNVMLVersion(char* version, unsigned length) noexcept {
  return with_info([&](const DeviceInfo& present) {
    char text[96];
    std::snprintf(text, sizeof text, "%d.%s", present.driver_version / 1000, present.driver_version_text);
    return put_text(version, length, text);
  });
}
VGPU_NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int* version) noexcept {
  return with_info([&](const DeviceInfo& present) {
    if (version == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *version = present.driver_version;
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int* version) noexcept {
  return nvmlSystemGetCudaDriverVersion_v2(version);
}

VGPU_NVML_API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned* count) noexcept {
  return with_info([&](const DeviceInfo&) {
    if (count == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *count = 1;
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetCount(unsigned* count) noexcept {
  return nvmlDeviceGetCount_v2(count);
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t* device) noexcept {
  return with_info([&](const DeviceInfo&) {
    if (device == nullptr || index != 0) return NVML_ERROR_INVALID_ARGUMENT;
    *device = device_handle();
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t* device) noexcept {
  return nvmlDeviceGetHandleByIndex_v2(index, device);
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device) noexcept {
  return with_info([&](const DeviceInfo& present) {
    if (uuid == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    if (strcasecmp(uuid, uuid_text(present).text) != 0) return NVML_ERROR_NOT_FOUND;
    *device = device_handle();
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id,
                                                            nvmlDevice_t* device) noexcept {
  return with_info([&](const DeviceInfo& present) {
    if (bus_id == nullptr || device == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    if (!is_bus_id(present, bus_id)) return NVML_ERROR_NOT_FOUND;
    *device = device_handle();
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char* bus_id, nvmlDevice_t* device) noexcept {
  return nvmlDeviceGetHandleByPciBusId_v2(bus_id, device);
}

VGPU_NVML_API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned length) noexcept {
  return with_device(device, [&](const DeviceInfo& present) { return put_text(name, length, present.name); });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned length) noexcept {
  return with_device(
      device, [&](const DeviceInfo& present) { return put_text(uuid, length, uuid_text(present).text); });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned* index) noexcept {
  return with_device(device, [&](const DeviceInfo&) {
    if (index == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *index = 0;
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned* minor) noexcept {
  return nvmlDeviceGetIndex(device, minor);
}

VGPU_NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* out) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    Memory now{};
    const nvmlReturn_t result = memory(present, &now);
    if (result == NVML_SUCCESS) *out = {now.total, now.total - now.used, now.used};
    return result;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* out) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != kNvmlMemoryV2) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    Memory now{};
    const nvmlReturn_t result = memory(present, &now);
    if (result == NVML_SUCCESS) *out = {kNvmlMemoryV2, now.total, 0, now.total - now.used, now.used};
    return result;
  });
}

VGPU_NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t* out) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *out = pci_info(present);
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, void* out) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    const nvmlPciInfo_t filled = pci_info(present);
    std::memcpy(out, &filled, kNvmlPciInfoOldBytes);
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, void* out) noexcept {
  return nvmlDeviceGetPciInfo_v2(device, out);
}

VGPU_NVML_API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int* major,
                                                              int* minor) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (major == nullptr || minor == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *major = present.compute_major;
    *minor = present.compute_minor;
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned* out) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (out == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *out = architecture(present.compute_major, present.compute_minor);
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, int* mode) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (mode == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *mode = attribute(present, CU_DEVICE_ATTRIBUTE_COMPUTE_MODE);
    return NVML_SUCCESS;
  });
}
VGPU_NVML_API nvmlReturn_t nvmlDeviceGetMemoryBusWidth(nvmlDevice_t device, unsigned* bits) noexcept {
  return with_device(device, [&](const DeviceInfo& present) {
    if (bits == nullptr) return NVML_ERROR_INVALID_ARGUMENT;
    *bits = static_cast<unsigned>(attribute(present, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH));
    return NVML_SUCCESS;
  });
}

VGPU_NVML_API const char* nvmlErrorString(nvmlReturn_t result) noexcept {
  switch (result) {
    case NVML_SUCCESS:
      return "Success";
    case NVML_ERROR_UNINITIALIZED:
      return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT:
      return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED:
      return "Not Supported";
    case NVML_ERROR_NO_PERMISSION:
      return "Insufficient Permissions";
    case NVML_ERROR_ALREADY_INITIALIZED:
      return "Already Initialized";
    case NVML_ERROR_NOT_FOUND:
      return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE:
      return "Insufficient Size";
    case NVML_ERROR_INSUFFICIENT_POWER:
      return "Insufficient External Power";
    case NVML_ERROR_DRIVER_NOT_LOADED:
      return "Driver Not Loaded";
    case NVML_ERROR_TIMEOUT:
      return "Timeout";
    case NVML_ERROR_IRQ_ISSUE:
      return "Interrupt Request Issue";
    case NVML_ERROR_LIBRARY_NOT_FOUND:
      return "NVML Shared Library Not Found";
    case NVML_ERROR_FUNCTION_NOT_FOUND:
      return "Function Not Found";
    case NVML_ERROR_CORRUPTED_INFOROM:
      return "Corrupted infoROM";
    case NVML_ERROR_GPU_IS_LOST:
      return "GPU is lost";
    case NVML_ERROR_RESET_REQUIRED:
      return "GPU requires reset";
    case NVML_ERROR_OPERATING_SYSTEM:
      return "GPU access blocked by the operating system";
    case NVML_ERROR_LIB_RM_VERSION_MISMATCH:
      return "Driver/library version mismatch";
    case NVML_ERROR_IN_USE:
      return "In use by another client";
    case NVML_ERROR_MEMORY:
      return "Insufficient Memory";
    case NVML_ERROR_NO_DATA:
      return "No data";
    case NVML_ERROR_VGPU_ECC_NOT_SUPPORTED:
      return "vGPU ECC not supported";
    case NVML_ERROR_INSUFFICIENT_RESOURCES:
      return "Insufficient resources";
    case NVML_ERROR_FREQ_NOT_SUPPORTED:
      return "Frequency not supported";
    case NVML_ERROR_ARGUMENT_VERSION_MISMATCH:
      return "Argument version mismatch";
    case NVML_ERROR_DEPRECATED:
      return "Deprecated";
    case NVML_ERROR_NOT_READY:
      return "Not Ready";
    case NVML_ERROR_GPU_NOT_FOUND:
      return "GPU Not Found";
    case NVML_ERROR_INVALID_STATE:
      return "Invalid State";
    case NVML_ERROR_UNKNOWN:
      break;
  }
  return "Unknown Error";
}
