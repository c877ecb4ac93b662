// A memfd and its mapping.
#include "bench/harness/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace vgpu::bench {

SharedMemory::SharedMemory(std::size_t bytes) {
  const int fd = ::memfd_create("vgpu-bench", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    const int error = errno;
    if (fd >= 0) {
      ::close(fd);
    }
    throw std::system_error(error, std::generic_category(), "memfd of " + std::to_string(bytes) + " bytes");
  }
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  const int error = errno;
  ::close(fd);
  if (data == MAP_FAILED) {
    throw std::system_error(error, std::generic_category(), "mmap of " + std::to_string(bytes) + " bytes");
  }
  data_ = static_cast<std::byte*>(data);
  bytes_ = bytes;
}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) {
    ::munmap(data_, bytes_);
  }
}

}  // namespace vgpu::bench
