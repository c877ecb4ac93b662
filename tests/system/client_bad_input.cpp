// One program for each kind of bad input: what CUDA answers, and that the process works on where CUDA says it
// does.
#include <sys/mman.h>

#include <map>

#include "tests/system/client.h"

namespace {
bool g_no_memory = false;
}

// The shim library finds no memory while the flag stands. Exceptions come from calloc.
extern "C" void* __libc_malloc(size_t);
extern "C" void* malloc(size_t bytes) {
  return g_no_memory ? nullptr : __libc_malloc(bytes);
}

namespace vgpu::system_tests {
namespace {

CUresult load(const void* image) {
  CUmodule module = nullptr;
  return cuModuleLoadData(&module, image);
}

// With lazy loading a kernel's body may be looked at when the kernel is asked for.
CUresult load_and_get(const std::string& text, const char* name) {
  CUmodule module = nullptr;
  if (const CUresult loaded = cuModuleLoadData(&module, text.c_str()); loaded != CUDA_SUCCESS) return loaded;
  CUfunction function = nullptr;
  return cuModuleGetFunction(&function, module, name);
}

void no_image() {
  MUST_GIVE(CUDA_ERROR_INVALID_IMAGE, load("This is neither PTX nor anything else that a GPU would run."));
}
void damaged_fatbin() {
  auto image = fatbin(good_ptx(), 61);
  image[20] = 7;  // the entry's header would be shorter than its fields
  MUST_GIVE(CUDA_ERROR_INVALID_IMAGE, load(image.data()));
}
void truncated_fatbin() {
  auto image = fatbin(good_ptx(), 61);
  const uint64_t half = image.size() / 2;
  std::memcpy(image.data() + 8, &half, sizeof half);
  MUST_GIVE(CUDA_ERROR_INVALID_IMAGE, load(image.data()));
}
void truncated_fatbin_file() {
  const auto image = fatbin(good_ptx(), 61);
  const int file = ::memfd_create("image", 0);
  MUST_BE(::write(file, image.data(), image.size() - 50) == static_cast<ssize_t>(image.size() - 50));
  CUmodule module = nullptr;
  MUST_GIVE(CUDA_ERROR_INVALID_IMAGE,
            cuModuleLoad(&module, ("/proc/self/fd/" + std::to_string(file)).c_str()));
}
void damaged_compression() {
  auto image = fatbin(good_ptx(), 61);
  const uint64_t lz4 = 0x2000;
  const uint64_t size = good_ptx().size();
  std::memcpy(image.data() + 16 + 40, &lz4, sizeof lz4);
  std::memcpy(image.data() + 16 + 56, &size, sizeof size);
  MUST_GIVE(CUDA_ERROR_INVALID_IMAGE, load(image.data()));
}
void damaged_ptx() {
  MUST_GIVE(CUDA_ERROR_INVALID_PTX, load_and_get(ptx(R"(.visible .entry k()
{
  .reg .b32 %r<3>;
  add.s32 %r1, %r2 %r1;
  ret;
}
)"),
                                                 "k"));
}
void truncated_ptx() {
  const std::string text = good_ptx();
  MUST_GIVE(CUDA_ERROR_INVALID_PTX, load_and_get(text.substr(0, text.size() - 100), "add_one"));
}
void unknown_opcode() {
  MUST_GIVE(CUDA_ERROR_INVALID_PTX, load_and_get(ptx(R"(.visible .entry k()
{
  .reg .b32 %r<3>;
  frobnicate.s32 %r1, %r2;
  ret;
}
)"),
                                                 "k"));
}
void newer_ptx_version() {
  MUST_GIVE(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, load(".version 99.0\n.target sm_61\n.address_size 64\n"));
}
void no_ptx_for_the_capability() {
  MUST_GIVE(CUDA_ERROR_NO_BINARY_FOR_GPU, load(fatbin(ptx("", "sm_90"), 90).data()));
}
void ptx_text_for_another_capability() {
  MUST_GIVE(CUDA_ERROR_INVALID_PTX, load(ptx("", "sm_90").c_str()));
}
void no_such_kernel() {
  MUST_GIVE(CUDA_ERROR_NOT_FOUND, load_and_get(good_ptx(), "nobody"));
}
void out_of_memory() {
  size_t free_bytes = 0;
  size_t total = 0;
  MUST(cuMemGetInfo_v2(&free_bytes, &total));
  CUdeviceptr memory = 0;
  MUST_GIVE(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&memory, total + 1));
  MUST_GIVE(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&memory, SIZE_MAX / 2));
}
void too_many_threads() {
  CUdeviceptr memory = allocate(4096);
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, launch(function("add_one"), {&memory}, 1025));
}
void more_threads_than_the_kernel_allows() {
  CUmodule module = nullptr;
  CUfunction kernel = nullptr;
  MUST(cuModuleLoadData(&module, ptx(".visible .entry k()\n.maxntid 64, 1, 1\n{\n  ret;\n}\n").c_str()));
  MUST(cuModuleGetFunction(&kernel, module, "k"));
  MUST(launch(kernel, {}, 64));
  MUST_GIVE(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, launch(kernel, {}, 65));
}
void too_much_shared_memory() {
  CUdeviceptr memory = allocate(4096);
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, launch(function("add_one"), {&memory}, 1, 48 * 1024 + 1));
}
void no_parameters() {
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE,
            cuLaunchKernel(function("add_one"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
}
void copy_to_null() {
  uint32_t word = 0;
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0, &word, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(&word, 0, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(0, 1, 4));
}
void copy_to_foreign() {
  uint32_t word = 0;
  uint32_t other = 0;
  const auto ours = static_cast<CUdeviceptr>(reinterpret_cast<uintptr_t>(&other));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(ours, &word, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD_v2(allocate(16), ours, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemsetD8_v2(ours, 1, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(0xdead000, &word, 4));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(&word, 0xdead000, 4));
}
void copy_past_the_end() {
  const CUdeviceptr memory = allocate(4096);
  std::vector<char> bytes(1 << 20);
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(memory, bytes.data(), bytes.size()));
}
void free_foreign() {
  CUdeviceptr memory = allocate(4096);
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(memory + 4));
  MUST(cuMemFree_v2(memory));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(memory));
  MUST_GIVE(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(0xdead000));
}

// What a kernel does to an address that is not its own ends the context, and every call says so.
void kernel_stores_at(CUdeviceptr address) {
  CUfunction store = function("store");
  CUdeviceptr mine = allocate(16);
  uint32_t value = 7;
  MUST(launch(store, {&mine, &value}));
  MUST(cuCtxSynchronize());
  MUST(launch(store, {&address, &value}));
  MUST_GIVE(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
  MUST_GIVE(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemAlloc_v2(&mine, 16));
  MUST_GIVE(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemcpyDtoH_v2(&value, mine, 4));
}
void kernel_stores_to_null() {
  kernel_stores_at(0);
}
void kernel_stores_to_foreign() {
  kernel_stores_at(0xdead000);
}
void kernel_stores_past_the_end() {
  kernel_stores_at(allocate(4096) + (256u << 20));
}
void kernel_stores_to_freed() {
  const CUdeviceptr memory = allocate(8 << 20);
  MUST(cuMemFree_v2(memory));
  kernel_stores_at(memory + (4 << 20));
}
void kernel_stores_to_a_host_pointer() {
  // The device's address of pinned memory is another one than the host's, and the device says so.
  int same = 1;
  MUST(cuDeviceGetAttribute(&same, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 0));
  MUST_BE(same == 0);
  uint32_t* word = nullptr;
  CUdeviceptr address = 0;
  MUST(cuMemHostAlloc(reinterpret_cast<void**>(&word), 4, kMemHostAllocDeviceMap));
  MUST(cuMemHostGetDevicePointer_v2(&address, word, 0));
  uint32_t value = 11;
  MUST(launch(function("store"), {&address, &value}));
  MUST(cuCtxSynchronize());
  MUST_BE(*word == 11);
  kernel_stores_at(reinterpret_cast<uintptr_t>(word));
}
void kernel_traps() {
  CUmodule module = nullptr;
  CUfunction kernel = nullptr;
  MUST(cuModuleLoadData(&module, ptx(".visible .entry k()\n{\n  trap;\n}\n").c_str()));
  MUST(cuModuleGetFunction(&kernel, module, "k"));
  MUST(launch(kernel, {}));
  MUST_GIVE(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
  MUST_GIVE(CUDA_ERROR_LAUNCH_FAILED, cuCtxSynchronize());
}

// The library's own memory runs out in the middle of its calls.
void no_host_memory() {
  const std::string text = good_ptx();
  CUstream stream = nullptr;
  CUmodule module = nullptr;
  CUgraph graph = nullptr;
  CUresult results[4];
  const CUdeviceptr memory = allocate(16);
  CUdeviceptr more[64] = {};
  g_no_memory = true;
  results[0] = cuModuleLoadData(&module, text.c_str());
  results[1] = cuModuleLoad(&module, "/proc/self/exe");
  results[2] = cuGraphCreate(&graph, 0);
  results[3] = CUDA_SUCCESS;
  for (CUdeviceptr& address : more) {
    if (const CUresult result = cuMemAlloc_v2(&address, 16); result != CUDA_SUCCESS) results[3] = result;
  }
  const CUresult synchronised = cuCtxSynchronize();
  g_no_memory = false;
  for (const CUresult result : results) MUST_BE(result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY);
  MUST_GIVE(CUDA_ERROR_OUT_OF_MEMORY, results[1]);  // reads the file into memory
  MUST(synchronised);
  MUST(cuMemFree_v2(memory));
  MUST(cuStreamCreate(&stream, 0));
}

struct Case {
  void (*run)();
  bool works_on;  // the context is usable afterwards
};
const std::map<std::string, Case> kCases = {
    {"no_image", {no_image, true}},
    {"damaged_fatbin", {damaged_fatbin, true}},
    {"truncated_fatbin", {truncated_fatbin, true}},
    {"truncated_fatbin_file", {truncated_fatbin_file, true}},
    {"damaged_compression", {damaged_compression, true}},
    {"damaged_ptx", {damaged_ptx, true}},
    {"truncated_ptx", {truncated_ptx, true}},
    {"unknown_opcode", {unknown_opcode, true}},
    {"newer_ptx_version", {newer_ptx_version, true}},
    {"no_ptx_for_the_capability", {no_ptx_for_the_capability, true}},
    {"ptx_text_for_another_capability", {ptx_text_for_another_capability, true}},
    {"no_such_kernel", {no_such_kernel, true}},
    {"out_of_memory", {out_of_memory, true}},
    {"too_many_threads", {too_many_threads, true}},
    {"more_threads_than_the_kernel_allows", {more_threads_than_the_kernel_allows, true}},
    {"too_much_shared_memory", {too_much_shared_memory, true}},
    {"no_parameters", {no_parameters, true}},
    {"copy_to_null", {copy_to_null, true}},
    {"copy_to_foreign", {copy_to_foreign, true}},
    {"copy_past_the_end", {copy_past_the_end, true}},
    {"free_foreign", {free_foreign, true}},
    {"kernel_stores_to_null", {kernel_stores_to_null, false}},
    {"kernel_stores_to_foreign", {kernel_stores_to_foreign, false}},
    {"kernel_stores_past_the_end", {kernel_stores_past_the_end, false}},
    {"kernel_stores_to_freed", {kernel_stores_to_freed, false}},
    {"kernel_stores_to_a_host_pointer", {kernel_stores_to_a_host_pointer, false}},
    {"kernel_traps", {kernel_traps, false}},
    {"no_host_memory", {no_host_memory, true}},
};

}  // namespace

int bad_input(const std::string& what) {
  const auto found = kCases.find(what);
  if (found == kCases.end()) return 2;
  start();
  found->second.run();
  if (found->second.works_on) works();
  say("done");
  wait_for_test();  // lives on until the device was looked at
  return 0;
}

}  // namespace vgpu::system_tests
