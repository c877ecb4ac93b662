// Modules: images go to the device in chunks, functions and variables are looked up once each.
#include "shim/cuda/module.h"
#include "shim/cuda/abi_edge.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "ring/unique_fd.h"

namespace vgpu::shim {

using protocol::Status;

namespace {

constexpr uint32_t kWrapperMagic = 0x466243b1;
constexpr uint32_t kFatbinMagic = 0xba55ed50;

// A module in the form compilers embed: magic, version, pointer to the fatbin.
struct FatbinWrapper {
  uint32_t magic;
  uint32_t version;
  const void* data;
  const void* list;
};
// What a fatbin begins with.
struct FatbinHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t header_bytes;
  uint64_t payload_bytes;
};

template <typename T>
T read_as(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

std::size_t elf_bytes(const void* image) {
  const auto header = read_as<Elf64_Ehdr>(image);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 ||
      (header.e_shnum != 0 && header.e_shentsize != sizeof(Elf64_Shdr)) ||
      (header.e_phnum != 0 && header.e_phentsize != sizeof(Elf64_Phdr))) {
    return 0;
  }
  std::size_t end = sizeof(Elf64_Ehdr);
  end = std::max<std::size_t>(end, header.e_shoff + std::size_t{header.e_shnum} * sizeof(Elf64_Shdr));
  end = std::max<std::size_t>(end, header.e_phoff + std::size_t{header.e_phnum} * sizeof(Elf64_Phdr));
  const auto* bytes = static_cast<const std::byte*>(image);
  for (uint32_t i = 0; i < header.e_shnum; ++i) {
    const auto section = read_as<Elf64_Shdr>(bytes + header.e_shoff + i * sizeof(Elf64_Shdr));
    if (section.sh_type != SHT_NOBITS) {
      end = std::max<std::size_t>(end, section.sh_offset + section.sh_size);
    }
  }
  return end;
}

}  // namespace

std::span<const std::byte> image_bytes(const void* image) {
  if (image == nullptr) {
    return {};
  }
  const auto magic = read_as<uint32_t>(image);
  if (magic == kWrapperMagic) {
    const auto wrapper = read_as<FatbinWrapper>(image);
    return wrapper.data != nullptr && read_as<uint32_t>(wrapper.data) == kFatbinMagic
               ? image_bytes(wrapper.data)
               : std::span<const std::byte>{};
  }
  const auto* bytes = static_cast<const std::byte*>(image);
  if (magic == kFatbinMagic) {
    const auto header = read_as<FatbinHeader>(image);
    return {bytes, header.header_bytes + header.payload_bytes};
  }
  if (std::memcmp(image, ELFMAG, SELFMAG) == 0) {
    return {bytes, elf_bytes(image)};
  }
  return {bytes, std::strlen(static_cast<const char*>(image))};  // PTX text ends with a NUL
}

CUresult read_image_file(const char* path, std::vector<std::byte>& image) {
  const ring::UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  struct stat info{};
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return CUDA_ERROR_FILE_NOT_FOUND;
  }
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes > protocol::Limits{}.max_image_bytes) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  image.resize(bytes);
  for (std::size_t done = 0; done < image.size();) {
    const ssize_t got = ::read(file.get(), image.data() + done, image.size() - done);
    if (got <= 0) {
      return CUDA_ERROR_FILE_NOT_FOUND;
    }
    done += static_cast<std::size_t>(got);
  }
  return CUDA_SUCCESS;
}

CUresult load_image(Session& session, std::span<const std::byte> image, uint64_t context, Module*& module) {
  if (image.empty()) {
    return CUDA_ERROR_INVALID_IMAGE;
  }
  Driver& driver = Driver::get();
  module = driver.modules.create();
  if (module == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  module->context = context;
  Status status = Status::kSuccess;
  BulkHeap& bulk = session.bulk();
  for (uint64_t offset = 0; offset < image.size() && status == Status::kSuccess;
       offset += bulk.slot_bytes()) {
    const auto slot = bulk.take_slot();
    if (!slot) {
      status = Status::kOutOfMemory;
      break;
    }
    const uint64_t bytes = std::min<uint64_t>(bulk.slot_bytes(), image.size() - offset);
    Submitted record;
    record.status = session.wait_completed(bulk.position(*slot));
    if (record.status == Status::kSuccess) {
      bulk.copy().store(bulk.data(*slot), image.data() + offset, bytes);
      record = session.submit(protocol::ModuleDataRequest{.offset = offset,
                                                          .total = image.size(),
                                                          .bulk_offset = bulk.offset(*slot),
                                                          .bytes = bytes,
                                                          .module = module->id},
                              0);
    }
    bulk.give_back(*slot, record.end);
    status = record.status;
  }
  protocol::ModuleLoadReply reply;
  if (status == Status::kSuccess) {
    status = session.call(protocol::ModuleLoadRequest{.module = module->id}, reply);
  }
  if (status != Status::kSuccess) {
    if (log_enabled()) {
      log_line("a module of %zu bytes was refused with error %d: %s", image.size(), static_cast<int>(status),
               session.last_error_text().c_str());
    }
    driver.modules.destroy(module->handle);
    module = nullptr;
    return to_result(status);
  }
  module->function_count = reply.function_count;
  return CUDA_SUCCESS;
}

CUresult unload_module(Session& session, Module& module) {
  Driver& driver = Driver::get();
  const uint64_t handle = module.handle;
  driver.allocations.select(
      [handle](const Allocation& a) { return a.type == Allocation::Type::kGlobal && a.owner == handle; },
      true);
  {
    const std::lock_guard guard(module.mutex);
    for (const auto& [name, function] : module.functions) {
      driver.functions.destroy(function);
    }
  }
  const Submitted record = session.submit(protocol::ModuleUnloadRequest{.module = module.id}, 0);
  driver.modules.destroy(handle);
  return to_result(record.status);
}

CUresult find_function(Session& session, Module& module, std::string_view name, Function*& function) {
  Driver& driver = Driver::get();
  if (name.empty() || name.size() > protocol::kMaxNameBytes) {
    return CUDA_ERROR_NOT_FOUND;
  }
  const std::lock_guard guard(module.mutex);
  if (const auto known = module.functions.find(name); known != module.functions.end()) {
    function = driver.functions.find(known->second);
    return function != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  }
  function = driver.functions.create();
  if (function == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  std::array<protocol::ParameterLayout, protocol::kMaxParameterBytes> layouts;
  std::size_t layout_bytes = 0;
  const Status status = session.call(
      protocol::FunctionGetRequest{.module = module.id, .function = function->id}, function->info,
      std::as_bytes(std::span(name)), std::as_writable_bytes(std::span(layouts)), &layout_bytes);
  const protocol::FunctionGetReply& info = function->info;
  bool sound = status == Status::kSuccess && info.parameter_bytes <= protocol::kMaxParameterBytes &&
               layout_bytes == info.parameter_count * sizeof(protocol::ParameterLayout);
  for (uint32_t i = 0; sound && i < info.parameter_count; ++i) {
    sound = uint32_t{layouts[i].offset} + layouts[i].bytes <= info.parameter_bytes;
  }
  if (!sound) {
    if (status == Status::kSuccess) {
      log_line("the parameter layout of %.*s makes no sense", static_cast<int>(name.size()), name.data());
    }
    driver.functions.destroy(function->handle);
    return status == Status::kSuccess ? CUDA_ERROR_UNKNOWN : to_result(status);
  }
  function->module = module.handle;
  function->context = module.context;
  function->name = name;
  function->parameters.assign(layouts.begin(), layouts.begin() + info.parameter_count);
  const auto limit = static_cast<uint32_t>(driver.attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK));
  function->max_dynamic_shared = limit > info.static_shared_bytes ? limit - info.static_shared_bytes : 0;
  module.functions.emplace(name, function->handle);
  return CUDA_SUCCESS;
}

CUresult find_global(Session& session, Module& module, std::string_view name, Module::Global& global) {
  if (name.empty() || name.size() > protocol::kMaxNameBytes) {
    return CUDA_ERROR_NOT_FOUND;
  }
  const std::lock_guard guard(module.mutex);
  if (const auto known = module.globals.find(name); known != module.globals.end()) {
    global = known->second;
    return CUDA_SUCCESS;
  }
  protocol::GlobalGetReply reply;
  const Status status =
      session.call(protocol::GlobalGetRequest{.module = module.id}, reply, std::as_bytes(std::span(name)));
  if (status != Status::kSuccess) {
    return to_result(status);
  }
  global = {reply.address, reply.bytes};
  module.globals.emplace(name, global);
  if (reply.bytes != 0) {
    Driver& driver = Driver::get();
    driver.allocations.add({.address = reply.address,
                            .bytes = reply.bytes,
                            .context = module.context,
                            .owner = module.handle,
                            .buffer_id = driver.next_id.fetch_add(1),
                            .type = Allocation::Type::kGlobal});
  }
  return CUDA_SUCCESS;
}

CUresult function_name(Session& session, const Module& module, uint32_t index, std::string& name) {
  std::array<char, 1024> text;
  std::size_t bytes = 0;
  protocol::FunctionNameReply reply;
  const Status status = session.call(protocol::FunctionNameRequest{.module = module.id, .index = index},
                                     reply, {}, std::as_writable_bytes(std::span(text)), &bytes);
  if (status == Status::kSuccess) {
    name.assign(text.data(), std::min<std::size_t>(bytes, reply.name_bytes));
  }
  return to_result(status);
}

}  // namespace vgpu::shim

using namespace vgpu::shim;

namespace {

// The options of a load that give something back: the compiler's words.
void fill_logs(Session& session, unsigned count, CUjit_option* options, void** values, CUresult result) {
  char* buffer[2] = {};  // information, errors
  uintptr_t* size[2] = {};
  std::size_t room[2] = {};
  if (options == nullptr || values == nullptr) {
    return;
  }
  for (unsigned i = 0; i < count; ++i) {
    switch (options[i]) {
      case CU_JIT_INFO_LOG_BUFFER:
        buffer[0] = static_cast<char*>(values[i]);
        break;
      case CU_JIT_ERROR_LOG_BUFFER:
        buffer[1] = static_cast<char*>(values[i]);
        break;
      case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
        room[0] = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(values[i]));
        size[0] = reinterpret_cast<uintptr_t*>(&values[i]);
        break;
      case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
        room[1] = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(values[i]));
        size[1] = reinterpret_cast<uintptr_t*>(&values[i]);
        break;
      default:
        break;  // how to optimise is the device's business
    }
  }
  const std::string text[2] = {"", result == CUDA_SUCCESS ? std::string() : session.last_error_text()};
  for (int i = 0; i < 2; ++i) {
    std::size_t written = 0;
    if (buffer[i] != nullptr && room[i] != 0) {
      written = std::min(text[i].size(), room[i] - 1);
      std::memcpy(buffer[i], text[i].data(), written);
      buffer[i][written] = '\0';
    }
    if (size[i] != nullptr) {
      *size[i] = written;
    }
  }
}

CUresult load(CUmodule* result, std::span<const std::byte> image, unsigned count = 0,
              CUjit_option* options = nullptr, void** values = nullptr) {
  const Entry entry = enter_unsafe();
  if (!entry) {
    return entry.result;
  }
  if (result == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Module* module = nullptr;
  const CUresult loaded = load_image(*entry.session, image, entry.context->handle, module);
  fill_logs(*entry.session, count, options, values, loaded);
  if (loaded == CUDA_SUCCESS) {
    *result = as_handle<CUmodule>(module->handle);
  }
  return loaded;
}

CUresult enter_with_module(CUmodule handle, Entry& entry, Module*& module) {
  entry = enter();
  if (!entry) {
    return entry.result;
  }
  module = Driver::get().modules.find(handle);
  return module != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* module, const void* image) try {
  return image == nullptr ? CUDA_ERROR_INVALID_VALUE : load(module, image_bytes(image));
}
VGPU_ABI_EDGE
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count, CUjit_option* options,
                            void** values) try {
  return image == nullptr ? CUDA_ERROR_INVALID_VALUE
                          : load(module, image_bytes(image), count, options, values);
}
VGPU_ABI_EDGE
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) try {
  return cuModuleLoadData(module, image);
}
VGPU_ABI_EDGE

CUresult cuModuleLoad(CUmodule* module, const char* path) try {
  if (module == nullptr || path == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::vector<std::byte> image;
  const CUresult read = read_image_file(path, image);
  return read != CUDA_SUCCESS ? read : load(module, image);
}
VGPU_ABI_EDGE

CUresult cuModuleUnload(CUmodule handle) try {
  Entry entry;
  Module* module = nullptr;
  if (const CUresult result = enter_with_module(handle, entry, module); result != CUDA_SUCCESS) {
    return result;
  }
  return module->library != 0 ? CUDA_ERROR_INVALID_HANDLE : unload_module(*entry.session, *module);
}
VGPU_ABI_EDGE

// Kernels are compiled when they are first launched: lazy, as NVIDIA's drivers say by default.
CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
  if (mode == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *mode = CU_MODULE_LAZY_LOADING;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* result, CUmodule handle, const char* name) try {
  Entry entry;
  Module* module = nullptr;
  if (const CUresult found = enter_with_module(handle, entry, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (result == nullptr || name == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Function* function = nullptr;
  const CUresult found = find_function(*entry.session, *module, name, function);
  if (found == CUDA_SUCCESS) {
    *result = as_handle<CUfunction>(function->handle);
  }
  return found;
}
VGPU_ABI_EDGE

CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule handle) try {
  Entry entry;
  Module* module = nullptr;
  if (const CUresult found = enter_with_module(handle, entry, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (count == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *count = module->function_count;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuModuleEnumerateFunctions(CUfunction* functions, unsigned int count, CUmodule handle) try {
  Entry entry;
  Module* module = nullptr;
  if (const CUresult found = enter_with_module(handle, entry, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (functions == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (unsigned i = 0; i < count && i < module->function_count; ++i) {
    std::string name;
    Function* function = nullptr;
    if (const CUresult named = function_name(*entry.session, *module, i, name); named != CUDA_SUCCESS) {
      return named;
    }
    if (const CUresult found = find_function(*entry.session, *module, name, function);
        found != CUDA_SUCCESS) {
      return found;
    }
    functions[i] = as_handle<CUfunction>(function->handle);
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuModuleGetGlobal_v2(CUdeviceptr* pointer, size_t* bytes, CUmodule handle, const char* name) try {
  Entry entry;
  Module* module = nullptr;
  if (const CUresult found = enter_with_module(handle, entry, module); found != CUDA_SUCCESS) {
    return found;
  }
  if (name == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Module::Global global;
  if (const CUresult found = find_global(*entry.session, *module, name, global); found != CUDA_SUCCESS) {
    return found;
  }
  if (pointer != nullptr) {
    *pointer = global.address;
  }
  if (bytes != nullptr) {
    *bytes = global.bytes;
  }
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
