// Finds the fatbins inside an ELF file's .nv_fatbin section: what the tests on real CUDA libraries read.
#pragma once

#include <cstddef>
#include <expected>
#include <span>
#include <string>
#include <vector>

namespace vgpu::testing {

// A file mapped read-only for as long as the object lives.
class MappedFile {
 public:
  static std::expected<MappedFile, std::string> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// One span per container, in file order. A file that is itself a fatbin gives itself.
std::expected<std::vector<std::span<const std::byte>>, std::string> find_fatbins(
    std::span<const std::byte> file);

}  // namespace vgpu::testing
