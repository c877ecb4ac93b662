// Names and texts of results, the profiler's switches, and the refusal of private tables.
#include "shim/cuda/abi_edge.h"
#include "shim/cuda/driver.h"

using namespace vgpu::shim;

CUresult cuGetErrorName(CUresult error, const char** text) try {
  if (text == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (error) {
#define VGPU_RESULT(name, number, words) \
  case name:                             \
    *text = #name;                       \
    return CUDA_SUCCESS;
#include "shim/cuda/cuda_results.def"
#undef VGPU_RESULT
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
VGPU_ABI_EDGE

CUresult cuGetErrorString(CUresult error, const char** text) try {
  if (text == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  switch (error) {
#define VGPU_RESULT(name, number, words) \
  case name:                             \
    *text = words;                       \
    return CUDA_SUCCESS;
#include "shim/cuda/cuda_results.def"
#undef VGPU_RESULT
  }
  *text = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
VGPU_ABI_EDGE

// No profiler is attached: there is nothing to start or to stop, which is what these calls do then.
CUresult cuProfilerStart() try {
  const Entry entry = enter();
  return entry.result;
}
VGPU_ABI_EDGE
CUresult cuProfilerStop() try {
  const Entry entry = enter();
  return entry.result;
}
VGPU_ABI_EDGE

// NVIDIA's private tables are between NVIDIA's own libraries. We do not forge them.
CUresult cuGetExportTable(const void** table, const CUuuid* id) try {
  if (table == nullptr || id == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *table = nullptr;
  static std::atomic<bool> said{false};
  if (log_enabled() && !said.exchange(true)) {
    log_line(
        "cuGetExportTable: a private table of NVIDIA's was asked for and refused. A program with cudart "
        "linked in "
        "statically must be linked with -cudart shared to run here");
  }
  return CUDA_ERROR_NOT_FOUND;
}
VGPU_ABI_EDGE
