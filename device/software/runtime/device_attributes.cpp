// See device_attributes.h.
#include "device/software/runtime/device_attributes.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <limits>
#include <string>

#include "device/software/kernel_abi.h"
#include "device/software/runtime/block_runner.h"
#include "device/software/runtime/device_window.h"

namespace vgpu::software {
namespace {

constexpr uint64_t kMebi = uint64_t{1} << 20;

int32_t as_value(uint64_t value) {
  return static_cast<int32_t>(std::min<uint64_t>(value, std::numeric_limits<int32_t>::max()));
}

// "key   : value unit" lines of a file in /proc; 0 if there is none.
double proc_number(const char* file, std::string_view key) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto digits = line.find_first_of("0123456789", key.size());
    if (digits != std::string::npos) return std::atof(line.c_str() + digits);
  }
  return 0;
}

uint64_t clock_khz() {
  const double mhz = proc_number("/proc/cpuinfo", "cpu MHz");
  return mhz > 0 ? static_cast<uint64_t>(mhz * 1000) : 1'000'000;
}

uint64_t last_level_cache_bytes() {
  const long bytes = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : 2 * kMebi;
}

struct AttributeValue {
  uint32_t number;
  int32_t value;
};

// FNV-1a with another start for each half of the UUID.
uint64_t hash(std::string_view text, uint64_t state) {
  for (const char c : text) state = (state ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return state;
}

}  // namespace

device::DeviceProperties describe_device(const DeviceDescription& description) {
  device::DeviceProperties properties;
  properties.name = description.name;
  properties.uuid = description.uuid;
  properties.compute_major = kComputeMajor;
  properties.compute_minor = kComputeMinor;
  properties.total_memory_bytes = description.total_memory_bytes;
  properties.window_base = kDeviceWindowBase;
  properties.window_bytes = kDeviceWindowBytes;

  // Every number CUDA 13 knows, named as CU_DEVICE_ATTRIBUTE_... without the prefix. There are no textures
  // and no surfaces, so their limits are 0.
  // clang-format off
  const AttributeValue values[] = {
      {1, 1024},  // MAX_THREADS_PER_BLOCK
      {2, 1024},  // MAX_BLOCK_DIM_X
      {3, 1024},  // MAX_BLOCK_DIM_Y
      {4, 64},  // MAX_BLOCK_DIM_Z
      {5, 0x7fffffff},  // MAX_GRID_DIM_X
      {6, 65535},  // MAX_GRID_DIM_Y
      {7, 65535},  // MAX_GRID_DIM_Z
      {8, as_value(kMaxSharedBytes)},  // MAX_SHARED_MEMORY_PER_BLOCK
      {9, as_value(64 * 1024)},  // TOTAL_CONSTANT_MEMORY
      {10, as_value(kWarpSize)},  // WARP_SIZE
      {11, 0x7fffffff},  // MAX_PITCH
      {12, as_value(64 * 1024)},  // MAX_REGISTERS_PER_BLOCK
      {13, as_value(clock_khz())},  // CLOCK_RATE: the host's, as the kernel reports it
      {14, 512},  // TEXTURE_ALIGNMENT
      {15, 1},  // GPU_OVERLAP
      {16, as_value(description.multiprocessors)},  // MULTIPROCESSOR_COUNT: threads that run blocks
      {17, 0},  // KERNEL_EXEC_TIMEOUT
      {18, 0},  // INTEGRATED
      {19, 1},  // CAN_MAP_HOST_MEMORY
      {20, 0},  // COMPUTE_MODE: CU_COMPUTEMODE_DEFAULT
      {21, 0},  // MAXIMUM_TEXTURE1D_WIDTH
      {22, 0},  // MAXIMUM_TEXTURE2D_WIDTH
      {23, 0},  // MAXIMUM_TEXTURE2D_HEIGHT
      {24, 0},  // MAXIMUM_TEXTURE3D_WIDTH
      {25, 0},  // MAXIMUM_TEXTURE3D_HEIGHT
      {26, 0},  // MAXIMUM_TEXTURE3D_DEPTH
      {27, 0},  // MAXIMUM_TEXTURE2D_LAYERED_WIDTH
      {28, 0},  // MAXIMUM_TEXTURE2D_LAYERED_HEIGHT
      {29, 0},  // MAXIMUM_TEXTURE2D_LAYERED_LAYERS
      {30, 512},  // SURFACE_ALIGNMENT
      {31, 1},  // CONCURRENT_KERNELS
      {32, 0},  // ECC_ENABLED: the host decides, and does not tell
      {33, as_value(description.pci_bus)},  // PCI_BUS_ID
      {34, as_value(description.pci_device)},  // PCI_DEVICE_ID
      {35, 0},  // TCC_DRIVER
      {36, 1'000'000},  // MEMORY_CLOCK_RATE: nominal: no CUDA program sizes work by it
      {37, 64},  // GLOBAL_MEMORY_BUS_WIDTH: nominal
      {38, as_value(last_level_cache_bytes())},  // L2_CACHE_SIZE: the host's last-level cache
      {39, as_value(kThreadsPerMultiprocessor)},  // MAX_THREADS_PER_MULTIPROCESSOR
      {40, 1},  // ASYNC_ENGINE_COUNT
      {41, 1},  // UNIFIED_ADDRESSING
      {42, 0},  // MAXIMUM_TEXTURE1D_LAYERED_WIDTH
      {43, 0},  // MAXIMUM_TEXTURE1D_LAYERED_LAYERS
      {44, 0},  // CAN_TEX2D_GATHER
      {45, 0},  // MAXIMUM_TEXTURE2D_GATHER_WIDTH
      {46, 0},  // MAXIMUM_TEXTURE2D_GATHER_HEIGHT
      {47, 0},  // MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE
      {48, 0},  // MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE
      {49, 0},  // MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE
      {50, as_value(description.pci_domain)},  // PCI_DOMAIN_ID
      {51, 32},  // TEXTURE_PITCH_ALIGNMENT
      {52, 0},  // MAXIMUM_TEXTURECUBEMAP_WIDTH
      {53, 0},  // MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH
      {54, 0},  // MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS
      {55, 0},  // MAXIMUM_SURFACE1D_WIDTH
      {56, 0},  // MAXIMUM_SURFACE2D_WIDTH
      {57, 0},  // MAXIMUM_SURFACE2D_HEIGHT
      {58, 0},  // MAXIMUM_SURFACE3D_WIDTH
      {59, 0},  // MAXIMUM_SURFACE3D_HEIGHT
      {60, 0},  // MAXIMUM_SURFACE3D_DEPTH
      {61, 0},  // MAXIMUM_SURFACE1D_LAYERED_WIDTH
      {62, 0},  // MAXIMUM_SURFACE1D_LAYERED_LAYERS
      {63, 0},  // MAXIMUM_SURFACE2D_LAYERED_WIDTH
      {64, 0},  // MAXIMUM_SURFACE2D_LAYERED_HEIGHT
      {65, 0},  // MAXIMUM_SURFACE2D_LAYERED_LAYERS
      {66, 0},  // MAXIMUM_SURFACECUBEMAP_WIDTH
      {67, 0},  // MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH
      {68, 0},  // MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS
      {69, 0},  // MAXIMUM_TEXTURE1D_LINEAR_WIDTH
      {70, 0},  // MAXIMUM_TEXTURE2D_LINEAR_WIDTH
      {71, 0},  // MAXIMUM_TEXTURE2D_LINEAR_HEIGHT
      {72, 0},  // MAXIMUM_TEXTURE2D_LINEAR_PITCH
      {73, 0},  // MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH
      {74, 0},  // MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT
      {75, as_value(kComputeMajor)},  // COMPUTE_CAPABILITY_MAJOR
      {76, as_value(kComputeMinor)},  // COMPUTE_CAPABILITY_MINOR
      {77, 0},  // MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH
      {78, 1},  // STREAM_PRIORITIES_SUPPORTED: accepted; one order for all
      {79, 1},  // GLOBAL_L1_CACHE_SUPPORTED
      {80, 1},  // LOCAL_L1_CACHE_SUPPORTED
      {81, as_value(kSharedPerMultiprocessor)},  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
      {82, as_value(kRegistersPerMultiprocessor)},  // MAX_REGISTERS_PER_MULTIPROCESSOR
      {83, 0},  // MANAGED_MEMORY
      {84, 0},  // MULTI_GPU_BOARD
      {85, 0},  // MULTI_GPU_BOARD_GROUP_ID
      {86, 1},  // HOST_NATIVE_ATOMIC_SUPPORTED: host and device are the same cores
      {87, 2},  // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO: vector units do half as many double operations
      {88, 0},  // PAGEABLE_MEMORY_ACCESS
      {89, 0},  // CONCURRENT_MANAGED_ACCESS
      {90, 0},  // COMPUTE_PREEMPTION_SUPPORTED
      {91, 0},  // CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
      {92, 0},  // CAN_USE_STREAM_MEM_OPS_V1
      {93, 0},  // CAN_USE_64_BIT_STREAM_MEM_OPS_V1
      {94, 0},  // CAN_USE_STREAM_WAIT_VALUE_NOR_V1
      {95, 1},  // COOPERATIVE_LAUNCH
      {96, 0},  // COOPERATIVE_MULTI_DEVICE_LAUNCH
      {97, as_value(kMaxSharedBytes)},  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
      {98, 0},  // CAN_FLUSH_REMOTE_WRITES
      {99, 0},  // HOST_REGISTER_SUPPORTED
      {100, 0},  // PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES
      {101, 0},  // DIRECT_MANAGED_MEM_ACCESS_FROM_HOST
      {102, 1},  // VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED: cuMemAddressReserve, cuMemCreate, cuMemMap
      {103, 0},  // HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED
      {104, 0},  // HANDLE_TYPE_WIN32_HANDLE_SUPPORTED
      {105, 0},  // HANDLE_TYPE_WIN32_KMT_HANDLE_SUPPORTED
      {106, as_value(kBlocksPerMultiprocessor)},  // MAX_BLOCKS_PER_MULTIPROCESSOR
      {107, 0},  // GENERIC_COMPRESSION_SUPPORTED
      {108, 0},  // MAX_PERSISTING_L2_CACHE_SIZE
      {109, 0},  // MAX_ACCESS_POLICY_WINDOW_SIZE
      {110, 0},  // GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED
      {111, 0},  // RESERVED_SHARED_MEMORY_PER_BLOCK
      {112, 0},  // SPARSE_CUDA_ARRAY_SUPPORTED
      {113, 0},  // READ_ONLY_HOST_REGISTER_SUPPORTED
      {114, 0},  // TIMELINE_SEMAPHORE_INTEROP_SUPPORTED
      {115, 0},  // MEMORY_POOLS_SUPPORTED
      {116, 0},  // GPU_DIRECT_RDMA_SUPPORTED
      {117, 0},  // GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS
      {118, 0},  // GPU_DIRECT_RDMA_WRITES_ORDERING
      {119, 0},  // MEMPOOL_SUPPORTED_HANDLE_TYPES
      {120, 0},  // CLUSTER_LAUNCH
      {121, 0},  // DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED
      {122, 0},  // CAN_USE_64_BIT_STREAM_MEM_OPS
      {123, 0},  // CAN_USE_STREAM_WAIT_VALUE_NOR
      {124, 0},  // DMA_BUF_SUPPORTED
      {125, 0},  // IPC_EVENT_SUPPORTED
      {126, 0},  // MEM_SYNC_DOMAIN_COUNT
      {127, 0},  // TENSOR_MAP_ACCESS_SUPPORTED
      {128, 0},  // HANDLE_TYPE_FABRIC_SUPPORTED
      {129, 0},  // UNIFIED_FUNCTION_POINTERS
      {130, 0},  // NUMA_CONFIG
      {131, -1},  // NUMA_ID
      {132, 0},  // MULTICAST_SUPPORTED
      {133, 0},  // MPS_ENABLED
      {134, -1},  // HOST_NUMA_ID
      {135, 0},  // D3D12_CIG_SUPPORTED
      {136, 0},  // MEM_DECOMPRESS_ALGORITHM_MASK
      {137, 0},  // MEM_DECOMPRESS_MAXIMUM_LENGTH
      {138, 0},  // VULKAN_CIG_SUPPORTED
      {139, 0},  // GPU_PCI_DEVICE_ID
      {140, 0},  // GPU_PCI_SUBSYSTEM_ID
      {141, 0},  // HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
      {142, 0},  // HOST_NUMA_MEMORY_POOLS_SUPPORTED
      {143, 0},  // HOST_NUMA_MULTINODE_IPC_SUPPORTED
      {144, 0},  // HOST_MEMORY_POOLS_SUPPORTED
      {145, 0},  // HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
      {146, 0},  // HOST_ALLOC_DMA_BUF_SUPPORTED
      {147, 0},  // ONLY_PARTIAL_HOST_NATIVE_ATOMIC_SUPPORTED
      {148, 0},  // ATOMIC_REDUCTION_SUPPORTED
      {149, 0},  // LOCALITY_DOMAIN_COUNT
      {150, 0},  // MAX_OVERSIZED_SHARED_MEMORY_PER_BLOCK
      {151, 0},  // D3D12_CIG_STREAMS_SUPPORTED
      {152, 0},  // DMA_BUF_MMAP_SUPPORTED
      {153, 0},  // LOGICAL_ENDPOINT_UNICAST_SUPPORTED
      {154, 0},  // LOGICAL_ENDPOINT_MULTICAST_SUPPORTED
      {155, 0},  // LOGICAL_ENDPOINT_COUNTED_OPS_SUPPORTED
      {156, 0},  // LOGICAL_ENDPOINT_UNICAST_ACCESS_ON_OWNER_DEVICE_SUPPORTED
      {157, 0},  // LOCALITY_DOMAIN_MULTIPROCESSOR_COUNT
      {158, 0},  // LOGICAL_ENDPOINT_SUPPORTED_HANDLE_TYPES
      {159, 0},  // VULKAN_CIG_STREAMS_SUPPORTED
      {160, 0},  // TENSOR_MAP_LARGE_TENSOR_MIN_SIZE
      {161, 0},  // GPU_DIRECT_RDMA_WITH_LOCALIZED_MEMORY_SUPPORTED
  };
  // clang-format on
  for (const auto& [number, value] : values) properties.attributes[number] = value;
  return properties;
}

uint32_t resident_blocks(uint32_t threads_per_block, uint32_t shared_bytes_per_block) {
  const auto threads = static_cast<uint32_t>(round_up(threads_per_block, kWarpSize));
  uint32_t blocks = std::min(kBlocksPerMultiprocessor, kThreadsPerMultiprocessor / threads);
  const auto shared = static_cast<uint32_t>(round_up(shared_bytes_per_block, kSharedAllocationUnit));
  if (shared > 0) blocks = std::min(blocks, kSharedPerMultiprocessor / shared);
  return blocks;
}

std::array<std::byte, 16> stable_uuid(uint32_t device_index) {
  std::string identity;
  std::ifstream("/etc/machine-id") >> identity;
  if (identity.empty()) {
    char host[256] = {};
    ::gethostname(host, sizeof host - 1);
    identity = host;
  }
  identity += fmt::format("/vgpu/software/{}", device_index);
  const uint64_t halves[2] = {hash(identity, 0xcbf29ce484222325u), hash(identity, 0x9e3779b97f4a7c15u)};
  std::array<std::byte, 16> uuid;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    uuid[i] = static_cast<std::byte>(halves[i / 8] >> (i % 8 * 8));
  }
  // RFC 9562: version 8 (of the vendor's making), variant 2.
  uuid[6] = (uuid[6] & std::byte{0x0f}) | std::byte{0x80};
  uuid[8] = (uuid[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

uint64_t default_memory_bytes() {
  const auto available = static_cast<uint64_t>(proc_number("/proc/meminfo", "MemAvailable:")) * 1024;
  const uint64_t share = std::clamp<uint64_t>(available / 4 * 3, 256 * kMebi, 64 * 1024 * kMebi);
  return share / kMebi * kMebi;
}

}  // namespace vgpu::software
