// No exception leaves the library: what stands behind every exported function that could meet one. The only
// exception in here is the one of memory that ran out; CUDA has an error for it.
//
//   CUresult cuSomething(int argument) try {
//     ...
//   }
//   VGPU_ABI_EDGE
#pragma once

#include <new>

#include "shim/cuda/cuda_abi.h"

#define VGPU_ABI_EDGE                \
  catch (const std::bad_alloc&) {    \
    return CUDA_ERROR_OUT_OF_MEMORY; \
  }                                  \
  catch (...) {                      \
    return CUDA_ERROR_UNKNOWN;       \
  }
