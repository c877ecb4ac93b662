// See disk_cache.h.
#include "device/software/jit/disk_cache.h"

#include <fcntl.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <vector>

namespace vgpu::software::jit {

namespace {

constexpr std::string_view kMagic = "vgpu-kernel-1\n";
constexpr std::string_view kTemporary = ".tmp-";
constexpr std::string_view kExtension = ".o";
constexpr std::size_t kDigestBytes = 64;
constexpr std::size_t kHeaderBytes = kMagic.size() + kDigestBytes;
// A process looks at the whole directory when it has stored 1/32 of the limit since it last did, and then
// makes room for what 8 processes may store before they look: 8/32.
constexpr std::uint64_t kLookEvery = 32;
constexpr std::uint64_t kRoomParts = 4;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

bool write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t written = ::write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

// False: the file could not be read, which says nothing about what is in it.
bool read_all(int fd, std::string& content) {
  struct stat status{};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  content.resize(static_cast<std::size_t>(status.st_size));
  std::size_t at = 0;
  while (at < content.size()) {
    const ssize_t got = ::read(fd, content.data() + at, content.size() - at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;  // it was cut meanwhile: its checksum tells
    at += static_cast<std::size_t>(got);
  }
  content.resize(at);
  return true;
}

// The key is part of what is signed: a renamed entry is no entry.
std::string signature(std::string_view key, std::string_view content) {
  return digest(std::string(key).append(content));
}

bool is_whole(std::string_view key, std::string_view file) {
  if (file.size() < kHeaderBytes || !file.starts_with(kMagic)) return false;
  return signature(key, file.substr(kHeaderBytes)) == file.substr(kMagic.size(), kDigestBytes);
}

// Locked by its writer as long as that lives, so that others can tell. Removed unless it was renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& directory)
      : path_(directory / name()),
        file_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)) {}
  ~TemporaryFile() {
    if (file_) ::unlink(path_.c_str());  // of another name by now, if it was renamed
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  // False: the file is not complete, and must not be renamed.
  [[nodiscard]] bool write(std::string_view header, std::string_view sum, std::string_view content) const {
    return file_ && ::flock(file_.get(), LOCK_EX | LOCK_NB) == 0 && write_all(file_.get(), header) &&
           write_all(file_.get(), sum) && write_all(file_.get(), content);
  }
  void rename(const std::filesystem::path& to) const { ::rename(path_.c_str(), to.c_str()); }

 private:
  // Workers in namespaces of their own have equal process ids: the clock tells them apart, and O_EXCL the
  // rest.
  static std::string name() {
    static std::atomic<std::uint64_t> counter{0};
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    return std::string(kTemporary) + std::to_string(::getpid()) + "-" + std::to_string(now) + "-" +
           std::to_string(counter.fetch_add(1));
  }
  std::filesystem::path path_;
  Descriptor file_;
};

void remove_if_writer_died(const std::filesystem::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
}

}  // namespace

std::string digest(std::string_view data) {
  llvm::SHA256 hash;
  hash.update(llvm::StringRef(data.data(), data.size()));
  const auto result = hash.final();
  return llvm::toHex(result, true);
}

DiskCache::DiskCache(std::filesystem::path directory, std::uint64_t max_bytes)
    : directory_(std::move(directory)), max_bytes_(max_bytes) {
  if (max_bytes_ == 0) directory_.clear();
  if (directory_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(directory_, error);
}

std::filesystem::path DiskCache::entry(std::string_view key) const {
  return directory_ / std::string(key).append(kExtension);
}

std::optional<std::string> DiskCache::load(std::string_view key) const {
  if (directory_.empty()) return std::nullopt;
  const auto path = entry(key);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file) return std::nullopt;
  ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW);  // used now: it goes last
  std::string content;
  if (!read_all(file.get(), content)) return std::nullopt;
  if (!is_whole(key, content)) {
    // Another process may have put a good one there meanwhile; then that is compiled once more, no worse.
    ::unlink(path.c_str());
    return std::nullopt;
  }
  content.erase(0, kHeaderBytes);
  return content;
}

void DiskCache::store(std::string_view key, std::string_view content) {
  if (directory_.empty() || content.size() + kHeaderBytes > max_bytes_ - max_bytes_ / kRoomParts) return;
  const std::lock_guard lock(mutex_);
  // Looking at the whole directory is worth it now and then only; before, not after, so that there is room.
  stored_since_trim_ += content.size() + kHeaderBytes;
  if (!trimmed_once_ || stored_since_trim_ > max_bytes_ / kLookEvery) {
    trimmed_once_ = true;
    stored_since_trim_ = content.size() + kHeaderBytes;
    trim();
  }
  const TemporaryFile file(directory_);
  if (file.write(kMagic, signature(key, content), content)) file.rename(entry(key));
}

// Removes temporary files of dead writers and the entries unused for longest, until there is room.
void DiskCache::trim() const {
  struct Entry {
    std::filesystem::path path;
    std::filesystem::file_time_type used;
    std::uint64_t bytes;
  };
  std::vector<Entry> entries;
  std::uint64_t total = 0;
  std::error_code error;
  std::filesystem::directory_iterator item(directory_, error);
  for (const std::filesystem::directory_iterator end; !error && item != end; item.increment(error)) {
    std::error_code gone;
    if (item->path().filename().string().starts_with(kTemporary)) {
      remove_if_writer_died(item->path());
      continue;
    }
    if (item->path().extension() != kExtension) continue;
    const auto used = item->last_write_time(gone);
    const auto bytes = item->file_size(gone);
    if (gone) continue;
    entries.push_back({item->path(), used, bytes});
    total += bytes;
  }
  std::ranges::sort(entries, {}, &Entry::used);
  const std::uint64_t allowed = max_bytes_ - max_bytes_ / kRoomParts;
  for (const Entry& each : entries) {
    if (total <= allowed) break;
    // One that another process removed meanwhile takes no room any more either.
    std::filesystem::remove(each.path, error);
    if (!error) total -= each.bytes;
  }
}

}  // namespace vgpu::software::jit
