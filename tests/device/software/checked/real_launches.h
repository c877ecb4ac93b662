// Launches of real kernels, checked: as described_launches.h has them, else for kernels whose meaning nobody
// told. Their parameters, memory and shapes are guessed from the PTX until the oracle runs a launch to its
// end that changes memory. The same launch is then checked against the compiler.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "tests/device/software/checked/checked_backend.h"
#include "tests/device/software/jit/real_kernels.h"

namespace vgpu::testing {

// What one kernel reads of its parameter block, and how.
struct ParameterField {
  std::uint32_t offset = 0;
  std::uint32_t bytes = 0;
  bool is_pointer = false;
  bool is_float = false;
  bool is_member = false;  // of a structure
  // Of three words together, as llama.cpp passes divisors to divide by multiplication: 0, 1, 2; else -1.
  int divisor_part = -1;
};
[[nodiscard]] std::vector<ParameterField> parameter_fields(const software::ptx::Module& module,
                                                           const software::ptx::Function& function);

struct RealCheck {
  enum class Result : std::uint8_t {
    kAgrees,
    kDiffers,
    kCompilerFails,  // the oracle runs it, the compiler does not
    kNoLaunch,       // none was run to its end by the oracle, or none changed memory
  } result = Result::kNoLaunch;
  std::string what;
};

class RealLaunches {
 public:
  // The compilers under test; a device takes each in turn. Throws where there is no memory for a device.
  explicit RealLaunches(std::vector<std::unique_ptr<software::KernelCompiler>> compilers);
  ~RealLaunches();
  RealLaunches(const RealLaunches&) = delete;
  RealLaunches& operator=(const RealLaunches&) = delete;

  // By the compilers with the numbers `which`, in their order. The same `seed` gives the same launch, and
  // compilers with which it proves something share it.
  [[nodiscard]] std::vector<RealCheck> check(const RealKernel& kernel, std::uint64_t seed,
                                             std::span<const std::size_t> which);

 private:
  class Turns;
  Turns* turns_ = nullptr;  // the device's
  std::unique_ptr<device::Backend> backend_;
  software::checked::Check last_;  // what the latest launch showed
};

}  // namespace vgpu::testing
