// Occupancy, from the device's limits and what the function needs.
#include <algorithm>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/module.h"

namespace vgpu::shim {

namespace {
constexpr int kRegisterUnit = 256;  // registers are handed out to warps in units of so many
constexpr int kSharedUnit = 256;

int round_up(int value, int unit) {
  return (value + unit - 1) / unit * unit;
}
}  // namespace

int active_blocks(const Function& function, int block_threads, size_t dynamic_shared) {
  const Driver& driver = Driver::get();
  const int warp = std::max(1, driver.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE));
  const int warps = (block_threads + warp - 1) / warp;
  const int most_threads = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR);
  if (block_threads <= 0 || block_threads > static_cast<int>(function.info.max_threads_per_block) ||
      dynamic_shared > function.max_dynamic_shared) {
    return 0;
  }
  int blocks = most_threads / (warps * warp);
  if (const int most = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR); most != 0) {
    blocks = std::min(blocks, most);
  }
  const int registers = round_up(static_cast<int>(function.info.registers) * warp, kRegisterUnit) * warps;
  if (const int most = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR);
      most != 0 && registers != 0) {
    blocks = std::min(blocks, most / registers);
  }
  const int shared =
      round_up(static_cast<int>(function.info.static_shared_bytes + dynamic_shared), kSharedUnit);
  if (const int most = driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
      most != 0 && shared != 0) {
    blocks = std::min(blocks, most / shared);
  }
  return blocks;
}

}  // namespace vgpu::shim

using namespace vgpu::shim;

namespace {

constexpr unsigned kKnownFlags = CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE;

CUresult enter_function(CUfunction handle, Function*& function) {
  const Entry entry = enter();
  return entry ? resolve_function(*entry.session, handle, function) : entry.result;
}

}  // namespace

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction handle,
                                                              int block_threads, size_t dynamic_shared,
                                                              unsigned int flags) try {
  Function* function = nullptr;
  if (const CUresult result = enter_function(handle, function); result != CUDA_SUCCESS) {
    return result;
  }
  if (blocks == nullptr || block_threads <= 0 || (flags & ~kKnownFlags) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *blocks = active_blocks(*function, block_threads, dynamic_shared);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int block_threads,
                                                     size_t dynamic_shared) try {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block_threads, dynamic_shared,
                                                              0);
}
VGPU_ABI_EDGE

// The largest block of those that keep the most threads of a multiprocessor busy.
CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int* grid, int* block, CUfunction handle,
                                                   CUoccupancyB2DSize shared_of_block, size_t dynamic_shared,
                                                   int limit, unsigned int flags) try {
  Function* function = nullptr;
  if (const CUresult result = enter_function(handle, function); result != CUDA_SUCCESS) {
    return result;
  }
  if (grid == nullptr || block == nullptr || (flags & ~kKnownFlags) != 0 || limit < 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Driver& driver = Driver::get();
  const int warp = std::max(1, driver.attribute(CU_DEVICE_ATTRIBUTE_WARP_SIZE));
  int most = static_cast<int>(function->info.max_threads_per_block);
  most = limit != 0 ? std::min(most, limit) : most;
  int best_threads = 0;
  int best_block = 0;
  int best_count = 0;
  for (int threads = (most + warp - 1) / warp * warp; threads > 0; threads -= warp) {
    const int size = std::min(threads, most);
    const size_t shared = shared_of_block != nullptr ? shared_of_block(size) : dynamic_shared;
    const int count = active_blocks(*function, size, shared);
    if (count * size > best_threads) {
      best_threads = count * size;
      best_block = size;
      best_count = count;
    }
  }
  *block = best_block;
  *grid = best_count * driver.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction function,
                                          CUoccupancyB2DSize shared_of_block, size_t dynamic_shared,
                                          int limit) try {
  return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of_block, dynamic_shared,
                                                   limit, 0);
}
VGPU_ABI_EDGE

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction handle, int blocks,
                                                 int block_threads) try {
  Function* function = nullptr;
  if (const CUresult result = enter_function(handle, function); result != CUDA_SUCCESS) {
    return result;
  }
  if (bytes == nullptr || blocks <= 0 || block_threads <= 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (active_blocks(*function, block_threads, 0) < blocks) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const auto most = static_cast<uint32_t>(
      Driver::get().attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR) / blocks /
      kSharedUnit * kSharedUnit);
  const uint32_t fixed = function->info.static_shared_bytes;
  *bytes = std::min(most > fixed ? most - fixed : 0, function->max_dynamic_shared.load());
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
