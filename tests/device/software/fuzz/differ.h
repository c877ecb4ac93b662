// Runs one case on the oracle and on the compiler, from the same memory, and compares all of it afterwards.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "device/backend.h"
#include "tests/device/software/fuzz/fuzz_case.h"

namespace vgpu::testing::fuzz {

enum class Verdict : std::uint8_t {
  kSame,
  kInvalid,  // the oracle refuses or faults: a mistake of the generator, or of the oracle
  kRefused,  // only the compiler refuses or faults
  kDiffers,
};

struct Comparison {
  Verdict verdict = Verdict::kSame;
  std::string what;  // empty if kSame
  std::uint64_t oracle_steps = 0;
};

// One at a time in a process: the device's memory has a fixed place.
class Differ {
 public:
  Differ();
  ~Differ();
  Differ(const Differ&) = delete;
  Differ& operator=(const Differ&) = delete;

  // Why nothing can run here; empty if all is well.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] Comparison compare(const FuzzCase& test);

 private:
  class Compiler;
  std::string problem_;
  Compiler* compiler_ = nullptr;  // the backend's
  std::unique_ptr<device::Backend> backend_;
};

}  // namespace vgpu::testing::fuzz
