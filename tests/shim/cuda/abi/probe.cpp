// Prints layouts, values and function types, built once against NVIDIA's headers and once against ours: the
// outputs must be the same, line by line. names.inc is made by `compare`.
#include <cstddef>
#include <cstdio>
#include <typeinfo>

#ifdef VGPU_PROBE_NVIDIA
#include <cuda.h>
#else
#include "shim/cuda/cuda_abi.h"
#endif

int main() {
#define SIZE(type) std::printf("sizeof " #type " %zu\n", sizeof(type));
#define FIELD(type, field) std::printf("offsetof " #type "." #field " %zu\n", offsetof(type, field));
#define VALUE(name) std::printf("value " #name " %lld\n", static_cast<long long>(name));
#define FUNCTION(symbol) std::printf("function " #symbol " %s\n", typeid(symbol).name());
#include "names.inc"
#include "tests/shim/cuda/abi/layout.def"
}
