// A load that both the vGPU and a plain C++ loop can do.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/harness/suite.h"
#include "bench/kernels/reference.h"
#include "bench/transport/cuda.h"

namespace vgpu::bench {

// The benchmark's kernels, loaded once.
class Kernels {
 public:
  Kernels();
  ~Kernels() { cuModuleUnload(module_); }
  Kernels(const Kernels&) = delete;
  Kernels& operator=(const Kernels&) = delete;
  CUfunction get(const char* name) const;

 private:
  CUmodule module_ = nullptr;
};

class Workload {
 public:
  virtual ~Workload() = default;
  // Submits the kernels; the caller waits.
  virtual void launch(CUstream stream) = 0;
  virtual void run_on_host(reference::Share share) = 0;
  // After one launch and one run on the host, with whole shares: what differs, or nothing.
  virtual std::string compare() = 0;
};

struct WorkloadKind {
  std::string name;
  std::vector<std::pair<std::string, Parameter>> parameters;
  std::function<std::unique_ptr<Workload>(const Kernels&)> make;
};
std::vector<WorkloadKind> all_workloads();

}  // namespace vgpu::bench
