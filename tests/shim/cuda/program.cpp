// Small whole programs over the driver library, one for each way a process may live and end. The first
// argument names it; exit status 0 when everything was as it must be, otherwise the line that was not.
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "shim/cuda/cuda_abi.h"

namespace {

#define MUST(condition)                                                            \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                               \
    }                                                                              \
  } while (false)

void start() {
  CUcontext context = nullptr;
  MUST(cuInit(0) == CUDA_SUCCESS);
  MUST(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
  MUST(cuCtxSetCurrent(context) == CUDA_SUCCESS);
}

CUfunction kernel(const char* name) {
  CUmodule module = nullptr;
  CUfunction function = nullptr;
  MUST(cuModuleLoadData(&module, "// kernels") == CUDA_SUCCESS);
  MUST(cuModuleGetFunction(&function, module, name) == CUDA_SUCCESS);
  return function;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// cuInit's answer, as its exit status says: for devices that are missing or wrong.
int init() {
  const auto begin = std::chrono::steady_clock::now();
  const CUresult result = cuInit(0);
  MUST(seconds_since(begin) < 3);
  std::printf("%d\n", static_cast<int>(result));
  int count = 0;
  const CUresult counted = cuDeviceGetCount(&count);
  MUST(result == CUDA_SUCCESS ? counted == CUDA_SUCCESS && count == 1
                              : counted == CUDA_ERROR_NOT_INITIALIZED);
  return 0;
}

// The child of a fork may not use CUDA; the parent goes on; the child's end does not free the parent's
// channel.
int fork_child() {
  start();
  CUdeviceptr memory = 0;
  MUST(cuMemAlloc_v2(&memory, 4096) == CUDA_SUCCESS);
  const pid_t child = ::fork();
  if (child == 0) {
    CUdeviceptr mine = 0;
    MUST(cuMemAlloc_v2(&mine, 16) == CUDA_ERROR_NOT_INITIALIZED);
    MUST(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
    MUST(cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED);
    MUST(cuMemFree_v2(memory) == CUDA_ERROR_NOT_INITIALIZED);
    std::exit(0);  // with every exit handler
  }
  int status = 0;
  MUST(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  MUST(cuMemsetD8_v2(memory, 1, 4096) == CUDA_SUCCESS);
  MUST(cuCtxSynchronize() == CUDA_SUCCESS);
  return 0;
}

// The parent dies while its child of a fork lives: the channel must be free all the same. The child says its
// pid.
int fork_orphan() {
  start();
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(STDOUT_FILENO);
    char byte = 0;
    [[maybe_unused]] const auto got = ::read(STDIN_FILENO, &byte, 1);  // until the test ends
    ::_exit(0);
  }
  std::printf("%d\n", static_cast<int>(child));
  std::fflush(stdout);
  ::kill(::getpid(), SIGKILL);
  return 0;
}

// exit() while other threads are inside calls, and late destructors that still call.
struct Late {
  CUdeviceptr memory = 0;
  ~Late() {
    if (memory == 0) return;
    const CUresult result = cuMemFree_v2(memory);
    MUST(result == CUDA_SUCCESS || result == CUDA_ERROR_DEINITIALIZED);
  }
};
Late late;

int exit_busy() {
  start();
  MUST(cuMemAlloc_v2(&late.memory, 4096) == CUDA_SUCCESS);
  for (int t = 0; t < 3; ++t) {
    std::thread([] {
      CUcontext context = nullptr;
      cuDevicePrimaryCtxRetain(&context, 0);
      cuCtxSetCurrent(context);
      std::vector<char> data(1 << 20);
      for (;;) {
        cuMemcpyHtoD_v2(late.memory, data.data(), 4096);
        cuCtxSynchronize();
      }
    }).detach();
  }
  for (int i = 0; i < 100; ++i) MUST(cuCtxSynchronize() == CUDA_SUCCESS);
  std::exit(0);
}

// The library is unloaded while its threads' destructors are still to come.
int unload(const char* library) {
  std::thread([library] {
    void* handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
    MUST(handle != nullptr);
    const auto init = reinterpret_cast<CUresult (*)(unsigned)>(::dlsym(handle, "cuInit"));
    MUST(init(0) == CUDA_SUCCESS);
    MUST(::dlclose(handle) == 0);
    MUST(init(0) == CUDA_SUCCESS);
  }).join();
  return 0;
}

// Works, says "working", and waits for the device to be killed: then every call fails in time and for good.
int lose_device() {
  start();
  CUdeviceptr memory = 0;
  CUstream stream = nullptr;
  MUST(cuMemAlloc_v2(&memory, 1 << 20) == CUDA_SUCCESS);
  MUST(cuStreamCreate(&stream, 0) == CUDA_SUCCESS);
  uint32_t* word = nullptr;
  CUdeviceptr address = 0;
  MUST(cuMemHostAlloc(reinterpret_cast<void**>(&word), 4, 0) == CUDA_SUCCESS);
  *word = 0;
  MUST(cuMemHostGetDevicePointer_v2(&address, word, 0) == CUDA_SUCCESS);
  void* parameters[] = {&address};
  MUST(cuLaunchKernel(kernel("gate"), 1, 1, 1, 1, 1, 1, 0, stream, parameters, nullptr) == CUDA_SUCCESS);
  std::puts("working");
  std::fflush(stdout);
  const auto begin = std::chrono::steady_clock::now();
  const CUresult result = cuStreamSynchronize(stream);  // inside it when the device dies
  std::printf("%d %.1f\n", static_cast<int>(result), seconds_since(begin));
  const auto after = std::chrono::steady_clock::now();
  MUST(result == CUDA_ERROR_DEVICE_UNAVAILABLE);
  MUST(cuMemAlloc_v2(&memory, 16) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  MUST(cuMemcpyHtoD_v2(memory, &address, 8) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  MUST(cuCtxSynchronize() == CUDA_ERROR_DEVICE_UNAVAILABLE);
  MUST(cuStreamDestroy_v2(stream) == CUDA_ERROR_DEVICE_UNAVAILABLE);
  int count = 0;
  MUST(cuDeviceGetCount(&count) == CUDA_SUCCESS && count == 1);
  MUST(seconds_since(after) < 1);
  return 0;
}

// An illegal address poisons this process's context for good.
int illegal() {
  start();
  CUdeviceptr memory = 0;
  MUST(cuMemAlloc_v2(&memory, 16) == CUDA_SUCCESS);
  MUST(cuLaunchKernel(kernel("illegal"), 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr) == CUDA_SUCCESS);
  MUST(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  MUST(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS);
  MUST(cuMemAlloc_v2(&memory, 16) == CUDA_ERROR_ILLEGAL_ADDRESS);
  MUST(cuMemcpyHtoD_v2(memory, &memory, 8) == CUDA_ERROR_ILLEGAL_ADDRESS);
  int count = 0;
  MUST(cuDeviceGetCount(&count) == CUDA_SUCCESS);
  return 0;
}

// Holds memory, says "holding", and ends when its input does.
int hold() {
  start();
  CUdeviceptr memory = 0;
  MUST(cuMemAlloc_v2(&memory, 64 << 20) == CUDA_SUCCESS);
  std::puts("holding");
  std::fflush(stdout);
  for (int i = 0;; ++i) {
    MUST(cuMemsetD8Async(memory, static_cast<unsigned char>(i), 4096, nullptr) == CUDA_SUCCESS);
    MUST(cuCtxSynchronize() == CUDA_SUCCESS);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "init") return init();
  if (what == "fork_child") return fork_child();
  if (what == "fork_orphan") return fork_orphan();
  if (what == "exit_busy") return exit_busy();
  if (what == "unload" && argc > 2) return unload(argv[2]);
  if (what == "lose_device") return lose_device();
  if (what == "illegal") return illegal();
  if (what == "hold") return hold();
  return 2;
}
