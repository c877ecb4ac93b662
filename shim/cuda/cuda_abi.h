// The CUDA driver API as libvgpu-cuda.so speaks it: types with the ABI's layout, and the functions it
// implements. For the libraries that stand on top of it (cudart, cublas, nvml) and for tests.
#pragma once

#include "shim/cuda/cuda_functions.h"  // IWYU pragma: export
#include "shim/cuda/cuda_types.h"      // IWYU pragma: export
