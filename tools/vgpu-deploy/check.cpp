// vgpu-check: the one compiled helper of vgpu-deploy. Needs glibc alone, as the shim libraries do.
//   vgpu-check device LIBCUDA   computes something with that library on the vGPU, and says on what
//   vgpu-check counters         what the device has counted, and which processes hold channels
#include <dlfcn.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "pci/locate.h"
#include "protocol/commands.h"
#include "ring/access.h"
#include "ring/channel.h"
#include "ring/heartbeat.h"
#include "ring/region.h"
#include "ring/wait.h"
#include "shim/cuda/cuda_abi.h"

namespace {

using namespace vgpu;

constexpr int kFailed = 1;
constexpr int kBadUsage = 2;
constexpr uint32_t kValues = 1024;
constexpr const char* kKernel = R"(.version 6.4
.target sm_61
.address_size 64
.visible .entry square(.param .u64 address)
{
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [address];
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  mul.wide.u32 %rd2, %r4, 4;
  add.s64 %rd3, %rd1, %rd2;
  ld.global.u32 %r5, [%rd3];
  mul.lo.u32 %r5, %r5, %r5;
  st.global.u32 [%rd3], %r5;
  ret;
}
)";

// A function of the library under test, by the type of its declaration.
template <typename Function>
bool find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(::dlsym(library, name));
  if (function == nullptr) std::printf("%s is not in the library\n", name);
  return function != nullptr;
}

struct Cuda {
  decltype(cuInit)* init = nullptr;
  decltype(cuGetErrorName)* error_name = nullptr;
  decltype(cuDeviceGetName)* name = nullptr;
  decltype(cuDeviceTotalMem_v2)* total_memory = nullptr;
  decltype(cuDeviceGetAttribute)* attribute = nullptr;
  decltype(cuDevicePrimaryCtxRetain)* retain = nullptr;
  decltype(cuDevicePrimaryCtxRelease_v2)* release = nullptr;
  decltype(cuCtxSetCurrent)* set_current = nullptr;
  decltype(cuModuleLoadData)* load = nullptr;
  decltype(cuModuleGetFunction)* function = nullptr;
  decltype(cuMemAlloc_v2)* allocate = nullptr;
  decltype(cuMemFree_v2)* free = nullptr;
  decltype(cuMemcpyHtoD_v2)* to_device = nullptr;
  decltype(cuMemcpyDtoH_v2)* from_device = nullptr;
  decltype(cuLaunchKernel)* launch = nullptr;

  bool open(const char* path) {
    void* library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      std::printf("%s\n", ::dlerror());
      return false;
    }
    return find(library, "cuInit", init) && find(library, "cuGetErrorName", error_name) &&
           find(library, "cuDeviceGetName", name) && find(library, "cuDeviceTotalMem_v2", total_memory) &&
           find(library, "cuDeviceGetAttribute", attribute) &&
           find(library, "cuDevicePrimaryCtxRetain", retain) &&
           find(library, "cuDevicePrimaryCtxRelease_v2", release) &&
           find(library, "cuCtxSetCurrent", set_current) && find(library, "cuModuleLoadData", load) &&
           find(library, "cuModuleGetFunction", function) && find(library, "cuMemAlloc_v2", allocate) &&
           find(library, "cuMemFree_v2", free) && find(library, "cuMemcpyHtoD_v2", to_device) &&
           find(library, "cuMemcpyDtoH_v2", from_device) && find(library, "cuLaunchKernel", launch);
  }

  bool done(const char* what, CUresult result) const {
    if (result == CUDA_SUCCESS) return true;
    const char* words = nullptr;
    error_name(result, &words);
    std::printf("%s gives %s\n", what, words != nullptr ? words : "an unknown error");
    return false;
  }
};

// Why there is no device, in more words than CUDA has.
void print_reason() {
  const auto places = pci::locate_from_environment();
  if (!places) {
    std::printf("%s\n", places.error().text.c_str());
    return;
  }
  for (const auto& place : *places) {
    const auto bar = pci::open_location(place, pci::Access::kReadOnly);
    if (!bar) {
      std::printf("%s\n", bar.error().text.c_str());
      continue;
    }
    const auto found = ring::check_region(bar->bytes(), protocol::kProtocolVersion, protocol::kProtocolHash);
    if (!found) {
      std::printf("%s\n", found.error().text.c_str());
      continue;
    }
    const ring::RegionView region(bar->bytes(), found->geometry);
    const auto state = ring::load_acquire(region.header().status.device_state);
    std::printf("%s: the device is %s\n", bar->path().c_str(),
                ring::device_state_name(static_cast<ring::DeviceState>(state)));
  }
}

bool compute(const Cuda& cuda) {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction square = nullptr;
  CUdeviceptr memory = 0;
  std::vector<uint32_t> values(kValues);
  for (uint32_t i = 0; i < kValues; ++i) values[i] = i + 1;
  void* parameters[] = {&memory};
  const std::size_t bytes = kValues * sizeof(uint32_t);
  if (!cuda.done("cuDevicePrimaryCtxRetain", cuda.retain(&context, 0)) ||
      !cuda.done("cuCtxSetCurrent", cuda.set_current(context)) ||
      !cuda.done("cuModuleLoadData", cuda.load(&module, kKernel)) ||
      !cuda.done("cuModuleGetFunction", cuda.function(&square, module, "square")) ||
      !cuda.done("cuMemAlloc", cuda.allocate(&memory, bytes)) ||
      !cuda.done("cuMemcpyHtoD", cuda.to_device(memory, values.data(), bytes)) ||
      !cuda.done("cuLaunchKernel",
                 cuda.launch(square, kValues / 128, 1, 1, 128, 1, 1, 0, nullptr, parameters, nullptr)) ||
      !cuda.done("cuMemcpyDtoH", cuda.from_device(values.data(), memory, bytes)) ||
      !cuda.done("cuMemFree", cuda.free(memory)) ||
      !cuda.done("cuDevicePrimaryCtxRelease", cuda.release(0))) {
    return false;
  }
  for (uint32_t i = 0; i < kValues; ++i) {
    if (values[i] != (i + 1) * (i + 1)) {
      std::printf("the device computes wrongly: the square of %u came back as %u\n", i + 1, values[i]);
      return false;
    }
  }
  return true;
}

int check_device(const char* path) {
  Cuda cuda;
  if (!cuda.open(path)) return kFailed;
  if (!cuda.done("cuInit", cuda.init(0))) {
    print_reason();
    return kFailed;
  }
  char name[256] = {};
  std::size_t memory = 0;
  int major = 0;
  int minor = 0;
  if (!cuda.done("cuDeviceGetName", cuda.name(name, sizeof name, 0)) ||
      !cuda.done("cuDeviceTotalMem", cuda.total_memory(&memory, 0)) ||
      !cuda.done("cuDeviceGetAttribute",
                 cuda.attribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0)) ||
      !cuda.done("cuDeviceGetAttribute",
                 cuda.attribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0)) ||
      !compute(cuda)) {
    return kFailed;
  }
  std::printf("%s, compute capability %d.%d, %zu MiB; a kernel gave the right answers\n", name, major, minor,
              memory >> 20);
  return 0;
}

int print_counters() {
  const auto places = pci::locate_from_environment();
  if (!places) {
    std::printf("%s\n", places.error().text.c_str());
    return kFailed;
  }
  const auto bar = pci::open_location(places->front(), pci::Access::kReadOnly);
  if (!bar) {
    std::printf("%s\n", bar.error().text.c_str());
    return kFailed;
  }
  const auto found = ring::check_region(bar->bytes(), 0, 0);
  if (!found) {
    std::printf("%s\n", found.error().text.c_str());
    return kFailed;
  }
  const ring::RegionView region(bar->bytes(), found->geometry);
  const auto& header = region.header();
  std::printf("state %s\n", ring::device_state_name(static_cast<ring::DeviceState>(
                                ring::load_acquire(header.status.device_state))));
  std::printf("generation %016" PRIx64 "\n", found->generation);
  std::printf("commands %" PRIu64 "\n", ring::load_relaxed(header.totals.commands));
  std::printf("launches %" PRIu64 "\n", ring::load_relaxed(header.totals.launches));
  for (uint32_t i = 0; i < found->geometry.channel_count; ++i) {
    const auto owner = ring::read_owner(*region.channel(i).control);
    if (owner.nonce != 0) std::printf("owner %u %s\n", owner.pid, owner.process_name);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "device" && argc == 3) return check_device(argv[2]);
  if (command == "counters" && argc == 2) return print_counters();
  std::fputs("usage: vgpu-check device LIBCUDA | counters\n", stderr);
  return kBadUsage;
}
