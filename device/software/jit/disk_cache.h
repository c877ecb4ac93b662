// Object files of compiled kernels on disk, by key. Entries carry a checksum: one that is damaged or cut
// short is a miss. Written to a temporary file and renamed, so that readers in other processes see all or
// nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace vgpu::software::jit {

// Thread-safe. Every failure of the file system is a miss, or an entry not stored: never an error.
class DiskCache {
 public:
  // An empty directory name makes a cache that holds nothing.
  DiskCache(std::filesystem::path directory, std::uint64_t max_bytes);

  [[nodiscard]] std::optional<std::string> load(std::string_view key) const;
  void store(std::string_view key, std::string_view content);

 private:
  void trim();

  std::filesystem::path directory_;
  std::uint64_t max_bytes_;
  std::mutex mutex_;
  std::uint64_t stored_since_trim_ = 0;
  bool trimmed_once_ = false;
};

// Hexadecimal SHA-256.
[[nodiscard]] std::string digest(std::string_view data);

}  // namespace vgpu::software::jit
