// What the software device says about itself: the properties of a compute-6.1 GPU (GTX 10 series) as far as
// CUDA programs size their work by them, and 0 for every feature that is not there.
#pragma once

#include <cstdint>
#include <string>

#include "device/backend.h"

namespace vgpu::software {

struct DeviceDescription {
  std::string name;
  std::array<std::byte, 16> uuid{};
  uint64_t total_memory_bytes = 0;
  // Multiprocessors as CUDA programs see them: the threads that run blocks. Programs choose grids to fill
  // them, and more blocks than threads that run them only cost.
  uint32_t multiprocessors = 1;
  uint32_t pci_bus = 0;
  uint32_t pci_device = 0;
  uint32_t pci_domain = 0;
};

inline constexpr uint32_t kComputeMajor = 6;
inline constexpr uint32_t kComputeMinor = 1;
inline constexpr uint32_t kCapability = kComputeMajor * 10 + kComputeMinor;

inline constexpr uint32_t kThreadsPerMultiprocessor = 2048;
inline constexpr uint32_t kBlocksPerMultiprocessor = 32;
inline constexpr uint32_t kSharedPerMultiprocessor = 96 * 1024;
inline constexpr uint32_t kRegistersPerMultiprocessor = 64 * 1024;
inline constexpr uint32_t kSharedAllocationUnit = 256;

device::DeviceProperties describe_device(const DeviceDescription& description);

// Blocks of this kind that are resident on one multiprocessor at the same time: the limit that
// cuOccupancyMaxActiveBlocksPerMultiprocessor reports from the same attributes.
uint32_t resident_blocks(uint32_t threads_per_block, uint32_t shared_bytes_per_block);

// The same for a machine and an index as long as the machine keeps its identity.
std::array<std::byte, 16> stable_uuid(uint32_t device_index);

// Three quarters of the memory that is available now, at most 64 GiB, at least 256 MiB, in whole MiB.
uint64_t default_memory_bytes();

}  // namespace vgpu::software
