// Memory for C++ exceptions, straight from malloc. libstdc++'s own version, linked in statically, would
// allocate an emergency pool when the library is loaded; a shim library allocates nothing before its first
// call. Linked into each shim library ahead of libstdc++, these four take the place of its eh_alloc.
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace {
// The Itanium C++ ABI keeps a header in front of the thrown object; libstdc++'s takes 128 bytes on 64-bit
// machines (__cxa_refcounted_exception), its header of dependent exceptions 112.
constexpr std::size_t kExceptionHeader = 128;
constexpr std::size_t kDependentException = 112;

void* zeroed(std::size_t bytes) noexcept {
  void* memory = std::calloc(1, bytes);
  if (memory == nullptr) {
    std::abort();  // out of memory while reporting an error: the ABI allows nothing else
  }
  return memory;
}
}  // namespace

extern "C" {
[[gnu::visibility("hidden")]] void* __cxa_allocate_exception(std::size_t bytes) noexcept {
  return static_cast<char*>(zeroed(kExceptionHeader + bytes)) + kExceptionHeader;
}
[[gnu::visibility("hidden")]] void __cxa_free_exception(void* exception) noexcept {
  std::free(static_cast<char*>(exception) - kExceptionHeader);
}
[[gnu::visibility("hidden")]] void* __cxa_allocate_dependent_exception() noexcept {
  return zeroed(kDependentException);
}
[[gnu::visibility("hidden")]] void __cxa_free_dependent_exception(void* exception) noexcept {
  std::free(exception);
}
}
