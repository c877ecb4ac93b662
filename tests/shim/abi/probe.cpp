// Prints size, offset and value of everything in layout.def, built once against NVIDIA's headers
// (VGPU_PROBE_NVIDIA) and once against ours: the two outputs must be the same, line by line.
#include <cstddef>
#include <cstdio>

#ifdef VGPU_PROBE_NVIDIA
#include <cuda_runtime_api.h>
#else
#define VGPU_CUDART_GENERATION GENERATION
#include "shim/cudart/cudart_abi.h"
#endif

int main() {
#define SIZE(type) std::printf("sizeof " #type " %zu\n", sizeof(type));
#define FIELD(type, field) std::printf("offsetof " #type "." #field " %zu\n", offsetof(type, field));
#define VALUE(name) std::printf("value " #name " %lld\n", static_cast<long long>(name));
#include "tests/shim/abi/layout.def"
#define CUDART_ERROR(number, name, text) VALUE(name)
#if GENERATION < 13
#define CUDART_ERROR_13(number, name, text)
#endif
#include "shim/cudart/errors.def"
}
