// What differs between two runs of a launch, measured by what the kernel stores.
#pragma once

#include "device/software/ptx/ast.h"
#include "tests/device/software/checked/checked_backend.h"
#include "tests/device/software/checked/memory_image.h"

namespace vgpu::software::checked {

// What a kernel and everything it calls says of its results.
struct KernelTraits {
  bool approximate = false;    // it has instructions whose last places PTX leaves open
  bool stores_half[17] = {};   // by size of the whole store: 16-bit elements,
  bool stores_float[17] = {};  // 32-bit elements
};
device::Result<KernelTraits> traits_of(const ptx::Module& module, std::string_view kernel);

// Fills in the verdict and the figures of `check`. `whole`: the oracle ran the whole grid, so that no other
// byte may have changed either.
device::Result<void> compare(device::Context& context, MemoryImage& image, const KernelTraits& traits,
                             bool whole, Check& check);

}  // namespace vgpu::software::checked
