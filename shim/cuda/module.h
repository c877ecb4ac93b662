// Loading images and looking up what is in them; shared by modules and libraries.
#pragma once

#include <string_view>

#include "shim/cuda/driver.h"

namespace vgpu::shim {

// The bytes of an image as CUDA's calls are given it, without a size: a fatbin, its wrapper, an ELF cubin, or
// PTX text. Empty if it is none of these.
std::span<const std::byte> image_bytes(const void* image);

// A file's contents. FILE_NOT_FOUND; OUT_OF_MEMORY for more than an image may be.
CUresult read_image_file(const char* path, std::vector<std::byte>& image);

// Sends an image to the device and makes a module of it.
CUresult load_image(Session& session, std::span<const std::byte> image, uint64_t context, Module*& module);
CUresult unload_module(Session& session, Module& module);

// The function of that name: asked of the device once. NOT_FOUND.
CUresult find_function(Session& session, Module& module, std::string_view name, Function*& function);
CUresult find_global(Session& session, Module& module, std::string_view name, Module::Global& global);
// Name of function `index`.
CUresult function_name(Session& session, const Module& module, uint32_t index, std::string& name);

// What a CUfunction stands for; a CUkernel will do. INVALID_HANDLE.
CUresult resolve_function(Session& session, CUfunction handle, Function*& function);
CUresult resolve_kernel(Session& session, Kernel& kernel, Function*& function);
// The library's module, loaded when this is its first use.
CUresult module_of(Session& session, Library& library, Module*& module);

// What cuFuncGetAttribute and cuKernelGetAttribute tell.
CUresult get_function_attribute(const Function& function, CUfunction_attribute attribute, int* value);
CUresult set_function_attribute(Session& session, Function& function, CUfunction_attribute attribute,
                                int value);

// Blocks of the function that one multiprocessor holds.
int active_blocks(const Function& function, int block_threads, size_t dynamic_shared);

}  // namespace vgpu::shim
