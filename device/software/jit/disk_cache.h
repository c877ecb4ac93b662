// Object files of compiled kernels on disk, by key, shared by any number of processes. Entries carry a
// checksum: one that is damaged or cut short is a miss, and is removed. An entry is written to a temporary
// file and renamed, so that readers see all of it or nothing; whoever trims removes the temporary files of
// writers that died.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace vgpu::software::jit {

// Thread-safe. Every failure of the file system (full, read-only, out of handles) is a miss, or an entry not
// stored: never an error.
class DiskCache {
 public:
  // Together the entries take at most `max_bytes`, as long as no more than 8 processes store at the same
  // time; those used longest ago go first. An empty directory name, or 0 bytes, makes a cache that holds
  // nothing.
  DiskCache(std::filesystem::path directory, std::uint64_t max_bytes);

  [[nodiscard]] std::optional<std::string> load(std::string_view key) const;
  void store(std::string_view key, std::string_view content);

 private:
  [[nodiscard]] std::filesystem::path entry(std::string_view key) const;
  void trim() const;

  std::filesystem::path directory_;
  std::uint64_t max_bytes_;
  std::mutex mutex_;
  std::uint64_t stored_since_trim_ = 0;
  bool trimmed_once_ = false;
};

// Hexadecimal SHA-256.
[[nodiscard]] std::string digest(std::string_view data);

}  // namespace vgpu::software::jit
