// See compile_ahead.h.
#include "device/software/runtime/compile_ahead.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "device/software/runtime/fault_guard.h"

namespace vgpu::software {

const KernelCompiler::Outcome& ComingKernel::get() {
  std::call_once(once_, [this] { outcome_ = compiler_.compile(*module_, name_, shape_); });
  return *outcome_;
}

CompileAhead::~CompileAhead() {
  stopping_.store(true, std::memory_order_relaxed);
}

void CompileAhead::start(Kernels kernels) {
  struct Work {
    Kernels kernels;
    std::atomic<std::size_t> next{0};
  };
  threads_.clear();  // they are at their end
  threads_.reserve(most_threads_);
  const auto count = std::min<std::size_t>(most_threads_, kernels.size());
  const auto work = std::make_shared<Work>(std::move(kernels));
  const auto ask = [this, work] {
    block_asynchronous_signals();
    try {
      while (!stopping_.load(std::memory_order_relaxed)) {
        const std::size_t index = work->next.fetch_add(1, std::memory_order_relaxed);
        if (index >= work->kernels.size()) break;
        (void)work->kernels[index]->get();
      }
    } catch (const std::exception&) {  // no memory: whoever needs the kernel compiles it
    }
    busy_.fetch_sub(1, std::memory_order_release);
  };
  for (std::size_t i = 0; i < count; ++i) {
    busy_.fetch_add(1, std::memory_order_relaxed);
    try {
      threads_.emplace_back(ask);
    } catch (const std::system_error&) {  // no thread to be had
      busy_.fetch_sub(1, std::memory_order_relaxed);
      return;
    }
  }
}

}  // namespace vgpu::software
