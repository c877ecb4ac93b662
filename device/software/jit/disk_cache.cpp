#include "device/software/jit/disk_cache.h"

#include <fcntl.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

namespace vgpu::software::jit {

namespace {

constexpr std::string_view kMagic = "vgpu-kernel-1\n";
constexpr std::size_t kDigestBytes = 64;

}  // namespace

std::string digest(std::string_view data) {
  llvm::SHA256 hash;
  hash.update(llvm::StringRef(data.data(), data.size()));
  const auto result = hash.final();
  return llvm::toHex(result, true);
}

DiskCache::DiskCache(std::filesystem::path directory, std::uint64_t max_bytes)
    : directory_(std::move(directory)), max_bytes_(max_bytes) {
  if (directory_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
}

std::optional<std::string> DiskCache::load(std::string_view key) const {
  if (directory_.empty()) return std::nullopt;
  const auto path = directory_ / (std::string(key) + ".o");
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream buffer;
  buffer << file.rdbuf();
  std::string content = std::move(buffer).str();
  const std::size_t header = kMagic.size() + kDigestBytes;
  if (content.size() < header || !std::string_view(content).starts_with(kMagic)) return std::nullopt;
  const std::string expected = content.substr(kMagic.size(), kDigestBytes);
  content.erase(0, header);
  // The key is part of what is signed: a renamed entry is no entry.
  if (digest(std::string(key) + content) != expected) return std::nullopt;
  std::error_code error;
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now(), error);
  return content;
}

void DiskCache::store(std::string_view key, std::string_view content) {
  if (directory_.empty()) return;
  static std::atomic<std::uint64_t> counter{0};
  const auto temporary =
      directory_ / (".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1)));
  std::error_code error;
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << kMagic << digest(std::string(key) + std::string(content)) << content;
    file.close();
    if (!file) {
      std::filesystem::remove(temporary, error);
      return;
    }
  }
  std::filesystem::rename(temporary, directory_ / (std::string(key) + ".o"), error);
  if (error) {
    std::filesystem::remove(temporary, error);
    return;
  }
  const std::lock_guard lock(mutex_);
  stored_since_trim_ += content.size();
  // Looking at the whole directory is worth it now and then only.
  if (!trimmed_once_ || stored_since_trim_ > max_bytes_ / 16) {
    trimmed_once_ = true;
    stored_since_trim_ = 0;
    trim();
  }
}

// Removes the entries unused for longest until the rest fits, and temporary files that a crash left behind.
void DiskCache::trim() {
  struct Entry {
    std::filesystem::path path;
    std::filesystem::file_time_type used;
    std::uint64_t bytes;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code error;
  const auto stale = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1);
  for (const auto& item : std::filesystem::directory_iterator(directory_, error)) {
    std::error_code ignored;
    const auto used = item.last_write_time(ignored);
    const auto bytes = item.file_size(ignored);
    if (ignored) continue;
    if (item.path().filename().string().starts_with(".tmp-")) {
      if (used < stale) std::filesystem::remove(item.path(), ignored);
      continue;
    }
    if (item.path().extension() != ".o") continue;
    entries.push_back({item.path(), used, bytes});
    total += bytes;
  }
  std::ranges::sort(entries, {}, &Entry::used);
  for (const Entry& entry : entries) {
    if (total <= max_bytes_) break;
    if (std::filesystem::remove(entry.path, error)) total -= entry.bytes;
  }
}

}  // namespace vgpu::software::jit
