// Errors: their names and texts, and the last one of each thread.
#include "shim/cudart/runtime.h"

namespace vgpu::shim::cudart {
namespace {

// After these the context is unusable until the process ends or the device is reset: reading the error does
// not clear it.
bool is_sticky(cudaError_t error) noexcept {
  switch (error) {
    case cudaErrorDevicesUnavailable:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace vgpu::shim::cudart

using vgpu::shim::cudart::t_state;

VGPU_CUDART_API cudaError_t cudaGetLastError() noexcept {
  const cudaError_t error = t_state.last_error;
  if (!vgpu::shim::cudart::is_sticky(error)) t_state.last_error = cudaSuccess;
  return error;
}

VGPU_CUDART_API cudaError_t cudaPeekAtLastError() noexcept {
  return t_state.last_error;
}

VGPU_CUDART_API const char* cudaGetErrorName(cudaError_t error) noexcept {
  switch (error) {
#define CUDART_ERROR(number, name, text) \
  case name:                             \
    return #name;
#include "shim/cudart/errors.def"
#undef CUDART_ERROR
  }
  return "unrecognized error code";
}

VGPU_CUDART_API const char* cudaGetErrorString(cudaError_t error) noexcept {
  switch (error) {
#define CUDART_ERROR(number, name, text) \
  case name:                             \
    return text;
#include "shim/cudart/errors.def"
#undef CUDART_ERROR
  }
  return "unrecognized error code";
}
