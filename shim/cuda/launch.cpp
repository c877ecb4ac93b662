// Launches: one record each, the parameters packed straight into the ring as the device laid them out. No
// reply.
#include <cstring>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/module.h"

using namespace vgpu::shim;
using vgpu::protocol::LaunchRequest;
using vgpu::protocol::Status;

namespace {

struct Dim {
  unsigned x, y, z;
};

// Where the parameters come from: one pointer each, or a block that is packed already.
struct Parameters {
  void** pointers = nullptr;
  const void* block = nullptr;
  std::size_t block_bytes = 0;
};

// `extra`: key, value, ..., end. False if it makes no sense.
bool read_extra(void** extra, Parameters& parameters) {
  for (std::size_t i = 0;; i += 2) {
    switch (reinterpret_cast<uintptr_t>(extra[i])) {
      case kLaunchParamEnd:
        return true;
      case kLaunchParamBufferPointer:
        parameters.block = extra[i + 1];
        break;
      case kLaunchParamBufferSize:
        if (extra[i + 1] == nullptr) {
          return false;
        }
        parameters.block_bytes = *static_cast<std::size_t*>(extra[i + 1]);
        break;
      default:
        return false;
    }
  }
}

void pack(const Function& function, const Parameters& parameters, std::byte* to) {
  if (parameters.block != nullptr) {
    std::memcpy(to, parameters.block, parameters.block_bytes);
    std::memset(to + parameters.block_bytes, 0, function.info.parameter_bytes - parameters.block_bytes);
    return;
  }
  uint32_t filled = 0;
  for (std::size_t i = 0; i < function.parameters.size(); ++i) {
    const auto layout = function.parameters[i];
    if (layout.offset > filled) {  // what lies between parameters must not carry an older record's bytes
      std::memset(to + filled, 0, layout.offset - filled);
    }
    std::memcpy(to + layout.offset, parameters.pointers[i], layout.bytes);
    filled = uint32_t{layout.offset} + layout.bytes;
  }
  if (filled < function.info.parameter_bytes) {
    std::memset(to + filled, 0, function.info.parameter_bytes - filled);
  }
}

CUresult check(Session& session, const Function& function, Dim grid, Dim block, unsigned shared,
               bool cooperative, const Parameters& parameters) {
  const Driver& driver = Driver::get();
  const char* name = function.name.c_str();
  const auto refuse = [&session](Status status, const char* format, auto... arguments) {
    return to_result(session.refuse(status, LaunchRequest::kOpcode, format, arguments...));
  };
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    return refuse(Status::kInvalidValue, "launch of %.200s: grid (%u, %u, %u), block (%u, %u, %u)", name,
                  grid.x, grid.y, grid.z, block.x, block.y, block.z);
  }
  const auto most = static_cast<unsigned>(driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
  const uint64_t threads =
      block.x > 1024 || block.y > 1024 ? UINT64_MAX : uint64_t{block.x} * block.y * block.z;
  if (threads > most || block.z > 64) {
    return refuse(Status::kInvalidValue,
                  "launch of %.200s: a block of (%u, %u, %u) threads; at most %u, and 64 in z", name, block.x,
                  block.y, block.z, most);
  }
  if (threads > function.info.max_threads_per_block) {
    return refuse(Status::kLaunchOutOfResources,
                  "launch of %.200s: %u threads per block; compiled for at most %u", name,
                  static_cast<unsigned>(threads), unsigned{function.info.max_threads_per_block});
  }
  if (const unsigned limit = function.max_dynamic_shared.load(std::memory_order_relaxed); shared > limit) {
    return refuse(Status::kInvalidValue,
                  "launch of %.200s: %u bytes of dynamic shared memory beside %u static ones; at most %u",
                  name, shared, unsigned{function.info.static_shared_bytes}, limit);
  }
  if (parameters.block != nullptr) {
    if (parameters.block_bytes > function.info.parameter_bytes) {
      return refuse(Status::kInvalidValue, "launch of %.200s: %zu bytes of parameters; the kernel has %u",
                    name, parameters.block_bytes, unsigned{function.info.parameter_bytes});
    }
  } else if (parameters.pointers == nullptr && !function.parameters.empty()) {
    return refuse(Status::kInvalidValue, "launch of %.200s: no parameters; the kernel has %zu", name,
                  function.parameters.size());
  }
  if (cooperative) {
    if (driver.attribute(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH) == 0) {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    const auto resident =
        uint64_t{static_cast<unsigned>(active_blocks(function, static_cast<int>(threads), shared))} *
        static_cast<unsigned>(driver.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
    if (const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z; blocks > resident) {
      return refuse(Status::kCooperativeLaunchTooLarge,
                    "launch of %.200s: %llu blocks at the same time; at most %llu", name,
                    static_cast<unsigned long long>(blocks), static_cast<unsigned long long>(resident));
    }
  }
  return CUDA_SUCCESS;
}

CUresult launch(CUfunction handle, Dim grid, Dim block, unsigned shared, CUstream stream_handle,
                NullStream meaning, void** pointers, void** extra, bool cooperative) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Function* function = nullptr;
  if (const CUresult result = resolve_function(*entry.session, handle, function); result != CUDA_SUCCESS) {
    return result;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, stream_handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  Parameters parameters{.pointers = pointers};
  // "kernelParams and extra must not both be given."
  if (extra != nullptr && (pointers != nullptr || !read_extra(extra, parameters))) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const CUresult result = check(*entry.session, *function, grid, block, shared, cooperative, parameters);
      result != CUDA_SUCCESS) {
    return result;
  }
  const LaunchRequest request{.function = function->id,
                              .grid_x = grid.x,
                              .grid_y = grid.y,
                              .grid_z = grid.z,
                              .block_x = static_cast<uint16_t>(block.x),
                              .block_y = static_cast<uint16_t>(block.y),
                              .block_z = static_cast<uint16_t>(block.z),
                              .flags = cooperative ? vgpu::protocol::kLaunchCooperative : uint16_t{0},
                              .shared_bytes = shared};
  if (stream->capturing.load(std::memory_order_acquire)) [[unlikely]] {
    GraphStep step;
    step.node_type = CU_GRAPH_NODE_TYPE_KERNEL;
    step.opcode = static_cast<uint16_t>(LaunchRequest::kOpcode);
    step.body.resize(sizeof(request) + function->info.parameter_bytes);
    std::memcpy(step.body.data(), &request, sizeof(request));
    pack(*function, parameters, step.body.data() + sizeof(request));
    step.function = function->handle;
    return capture_step(*stream, std::move(step));
  }
  const Submitted record =
      entry.session->submit_in_place(request, stream->order(), function->info.parameter_bytes,
                                     [&](std::byte* to) { pack(*function, parameters, to); });
  return to_result(record.status);
}

// Attributes that change what is computed are done or refused; the others are about scheduling and caches,
// where CUDA promises nothing.
CUresult launch_ex(const CUlaunchConfig* config, CUfunction function, void** pointers, void** extra,
                   NullStream meaning) {
  if (config == nullptr || (config->numAttrs != 0 && config->attrs == nullptr)) {
    const Entry entry = enter();
    return entry ? CUDA_ERROR_INVALID_VALUE : entry.result;
  }
  bool cooperative = false;
  for (unsigned i = 0; i < config->numAttrs; ++i) {
    const CUlaunchAttribute& attribute = config->attrs[i];
    switch (attribute.id) {
      case CU_LAUNCH_ATTRIBUTE_IGNORE:
      case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
      case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
      case CU_LAUNCH_ATTRIBUTE_PRIORITY:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      // Permission to start before the kernel in front has ended; "does not guarantee" that it happens.
      case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
      case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        break;
      case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
        cooperative = attribute.value.cooperative != 0;
        break;
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        // One block is a cluster of its own.
        if (attribute.value.clusterDim.x != 1 || attribute.value.clusterDim.y != 1 ||
            attribute.value.clusterDim.z != 1) {
          return CUDA_ERROR_INVALID_CLUSTER_SIZE;
        }
        break;
      default:
        note_unimplemented("a launch attribute of cuLaunchKernelEx");
        return CUDA_ERROR_NOT_SUPPORTED;
    }
  }
  return launch(function, {config->gridDimX, config->gridDimY, config->gridDimZ},
                {config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes,
                config->hStream, meaning, pointers, extra, cooperative);
}

constexpr NullStream kLegacy = NullStream::kLegacy;
constexpr NullStream kPerThread = NullStream::kPerThread;

}  // namespace

CUresult cuLaunchKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
                        unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                        CUstream stream, void** parameters, void** extra) try {
  return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, kLegacy, parameters, extra, false);
}
VGPU_ABI_EDGE
CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
                             unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                             CUstream stream, void** parameters, void** extra) try {
  return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, kPerThread, parameters, extra, false);
}
VGPU_ABI_EDGE
CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
                                   unsigned int bx, unsigned int by, unsigned int bz, unsigned int shared,
                                   CUstream stream, void** parameters) try {
  return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, kLegacy, parameters, nullptr, true);
}
VGPU_ABI_EDGE
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned int gx, unsigned int gy,
                                        unsigned int gz, unsigned int bx, unsigned int by, unsigned int bz,
                                        unsigned int shared, CUstream stream, void** parameters) try {
  return launch(function, {gx, gy, gz}, {bx, by, bz}, shared, stream, kPerThread, parameters, nullptr, true);
}
VGPU_ABI_EDGE
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters,
                          void** extra) try {
  return launch_ex(config, function, parameters, extra, kLegacy);
}
VGPU_ABI_EDGE
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig* config, CUfunction function, void** parameters,
                               void** extra) try {
  return launch_ex(config, function, parameters, extra, kPerThread);
}
VGPU_ABI_EDGE
