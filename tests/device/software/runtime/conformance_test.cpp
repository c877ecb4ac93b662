// The software backend under the suite that every backend must pass, with kernels written by hand.
#include "device/software/runtime/software_backend.h"
#include "tests/device/backend_conformance.h"
#include "tests/device/software/runtime/hand_kernels.h"

namespace vgpu::device {

INSTANTIATE_TEST_SUITE_P(HandWritten, BackendConformance,
                         testing::Values(ConformanceTarget{
                             "hand-written kernels", [] {
                               return software::make_backend(
                                   {.memory_bytes = uint64_t{256} << 20, .threads = 3},
                                   std::make_unique<software::testing::HandCompiler>());
                             }}));

}  // namespace vgpu::device
