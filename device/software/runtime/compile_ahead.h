// Compiling kernels before their launches come. A guest does not wait for a launch, so by the time that one
// kernel is compiled many launches behind it stand in the ring (device::UpcomingLaunches), and other threads
// can begin with what they need.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"

namespace vgpu::software {

// A kernel that somebody will want. Whoever asks first compiles it; who asks meanwhile waits for that.
class ComingKernel {
 public:
  // `compiler` outlives it.
  ComingKernel(KernelCompiler& compiler, std::shared_ptr<const ptx::Module> module, std::string name,
               const jit::LaunchShape& shape)
      : compiler_(compiler), module_(std::move(module)), name_(std::move(name)), shape_(shape) {}

  [[nodiscard]] const jit::LaunchShape& shape() const { return shape_; }
  // Any thread. Throws what compiling throws; the next who asks compiles again then.
  const KernelCompiler::Outcome& get();

 private:
  KernelCompiler& compiler_;
  const std::shared_ptr<const ptx::Module> module_;
  const std::string name_;
  const jit::LaunchShape shape_;
  std::once_flag once_;
  std::optional<KernelCompiler::Outcome> outcome_;
};

// The threads that ask for such kernels first. Used by the thread of one context.
class CompileAhead {
 public:
  using Kernels = std::vector<std::shared_ptr<ComingKernel>>;

  // With up to so many threads.
  explicit CompileAhead(uint32_t threads) : most_threads_(threads) {}
  // Waits for what is being compiled, and leaves the rest.
  ~CompileAhead();
  CompileAhead(const CompileAhead&) = delete;
  CompileAhead& operator=(const CompileAhead&) = delete;

  // Whether there are threads, and they are done with what they were given.
  [[nodiscard]] bool available() const {
    return most_threads_ != 0 && busy_.load(std::memory_order_acquire) == 0;
  }
  // While available: asks for all of them, in this order. Without a thread to be had it does nothing.
  void start(Kernels kernels);

 private:
  const uint32_t most_threads_;
  std::atomic<uint32_t> busy_{0};  // threads
  std::atomic<bool> stopping_{false};
  std::vector<std::jthread> threads_;
};

}  // namespace vgpu::software
