// Memory that a benchmark's processes share: an unnamed file in memory (memfd), mapped by this process and
// inherited by the children it forks later, which is how a guest and a device on one host share the region.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace vgpu::bench {

class SharedMemory {
 public:
  SharedMemory() = default;
  // Zeroed, every page present. Throws std::system_error.
  explicit SharedMemory(std::size_t bytes);
  SharedMemory(SharedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();

  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return bytes_; }
  std::span<std::byte> bytes() const noexcept { return {data_, bytes_}; }
  // A T at `offset`, made by the caller or good as zeroes.
  template <typename T>
  T* at(std::size_t offset = 0) const noexcept {
    return reinterpret_cast<T*>(data_ + offset);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace vgpu::bench
