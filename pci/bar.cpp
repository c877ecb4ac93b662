// Mapping a region: files in shared memory and sysfs resource files.
#include "pci/bar.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "pci/doorbell.h"
#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::pci {
namespace {

using ring::ByteLock;
using ring::UniqueFd;

constexpr uint64_t kPage = 4096;

std::unexpected<Error> fail(ErrorCode code, std::string text) {
  return std::unexpected(Error{code, std::move(text)});
}

bool same_file(int fd, const std::string& path) {
  struct stat here{};
  struct stat there{};
  return ::fstat(fd, &here) == 0 && ::lstat(path.c_str(), &there) == 0 && here.st_dev == there.st_dev &&
         here.st_ino == there.st_ino;
}

// Gives the range memory; file systems without fallocate are left sparse.
int allocate(int fd, uint64_t offset, uint64_t bytes) {
  int result = 0;
  do {
    result = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  return result == 0 || errno == EOPNOTSUPP ? 0 : errno;
}

// Removes the region file a dead device left behind. Holding the device's lock on the very file that stands
// at the path makes two starters agree on who removes what. kBusy: its device lives.
std::expected<void, Error> remove_stale(const std::string& path) {
  UniqueFd old(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!old) {
    if (errno == ENOENT) {
      return {};
    }
    return std::unexpected(ring::system_error("opening the old region file " + path, errno));
  }
  struct stat status{};
  if (::fstat(old.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path + " exists and is not a regular file");
  }
  if (status.st_uid != ::geteuid()) {
    return fail(ErrorCode::kPermission,
                path + " belongs to user " + std::to_string(status.st_uid) + ": not replacing it");
  }
  auto lock = ByteLock::take(std::move(old), ring::kDeviceLockByte);
  if (!lock) {
    if (lock.error().code == ErrorCode::kBusy) {
      return fail(ErrorCode::kBusy, path + " is served by another vgpu-device");
    }
    return std::unexpected(std::move(lock.error()));
  }
  if (same_file(lock->fd(), path) && ::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return std::unexpected(ring::system_error("removing the old region file " + path, errno));
  }
  return {};
}

// A new file at `path` whose device lock is ours.
std::expected<ByteLock, Error> create_locked(const std::string& path) {
  for (int attempt = 0; attempt < 16; ++attempt) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
      if (errno != EEXIST) {
        return std::unexpected(ring::system_error("creating the region file " + path, errno));
      }
      if (auto removed = remove_stale(path); !removed) {
        return std::unexpected(std::move(removed.error()));
      }
      continue;
    }
    auto lock = ByteLock::take(std::move(fd), ring::kDeviceLockByte);
    if (!lock && lock.error().code != ErrorCode::kBusy) {
      ::unlink(path.c_str());
      return std::unexpected(std::move(lock.error()));
    }
    // Between creating and locking, another starter may have taken the file for a stale one.
    if (lock && same_file(lock->fd(), path)) {
      return lock;
    }
  }
  return fail(ErrorCode::kBusy, path + " is being created by several devices at once");
}

// The region file of a VM, there already or made now, with the device's lock taken on it.
std::expected<ByteLock, Error> open_and_lock(const std::string& path, uint64_t bytes) {
  // O_NONBLOCK: a FIFO in its place must not make us wait for its other end.
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
  if (!fd) {
    if (errno == ELOOP) {
      return fail(ErrorCode::kInvalidArgument, path + " is a symbolic link: not following it");
    }
    return std::unexpected(ring::system_error("opening the region file " + path, errno));
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return std::unexpected(ring::system_error("looking at " + path, errno));
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kInvalidArgument, path + " exists and is not a regular file");
  }
  if (status.st_uid != ::geteuid()) {
    return fail(ErrorCode::kPermission,
                path + " belongs to user " + std::to_string(status.st_uid) + ": not using it");
  }
  auto lock = ByteLock::take(std::move(fd), ring::kDeviceLockByte);
  if (!lock) {
    if (lock.error().code == ErrorCode::kBusy) {
      return fail(ErrorCode::kBusy, path + " is served by another vgpu-device");
    }
    return lock;
  }
  // Once more under the lock: another starter may have made it meanwhile.
  if (::fstat(lock->fd(), &status) != 0 || !same_file(lock->fd(), path)) {
    return fail(ErrorCode::kBusy, path + " was replaced while it was opened");
  }
  if (status.st_size == 0) {
    if (::ftruncate(lock->fd(), static_cast<off_t>(bytes)) != 0) {
      return std::unexpected(
          ring::system_error("making " + path + " " + std::to_string(bytes) + " bytes long", errno));
    }
  } else if (static_cast<uint64_t>(status.st_size) != bytes) {
    return fail(ErrorCode::kInvalidArgument,
                path + " has " + std::to_string(status.st_size) + " bytes and not " + std::to_string(bytes) +
                    ": its size cannot change while a VM may have it mapped; ask for its size, or shut the "
                    "VM down and remove the file");
  }
  return lock;
}

std::expected<std::byte*, Error> map(int fd, uint64_t bytes, Access access, const std::string& path) {
  const int protection = access == Access::kReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    return std::unexpected(
        ring::system_error("mapping " + std::to_string(bytes) + " bytes of " + path, errno));
  }
  return static_cast<std::byte*>(data);
}

struct OpenFile {
  UniqueFd fd;
  uint64_t bytes = 0;
  bool sysfs = false;
};

std::expected<OpenFile, Error> open_file(const std::string& path, Access access) {
  OpenFile file;
  // Not to wait for a FIFO's other end. EAGAIN: the device is looking this very moment whether anybody has a
  // VM's region open, by a lease that it gives back at once.
  constexpr int kTries = 1000;
  for (int i = 0; i < kTries && !file.fd && (i == 0 || errno == EAGAIN); ++i) {
    if (i != 0) {
      ::sched_yield();
    }
    file.fd.reset(
        ::open(path.c_str(), (access == Access::kReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  }
  if (!file.fd) {
    return std::unexpected(ring::system_error("opening " + path, errno));
  }
  struct stat status{};
  if (::fstat(file.fd.get(), &status) != 0) {
    return std::unexpected(ring::system_error("looking at " + path, errno));
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kNotARegion, path + " is not a regular file");
  }
  file.bytes = static_cast<uint64_t>(status.st_size);
  if (file.bytes < sizeof(ring::RegionHeader)) {
    return fail(ErrorCode::kTruncated,
                path + " has " + std::to_string(file.bytes) + " bytes: too few for a region");
  }
  struct statfs system{};
  file.sysfs = ::fstatfs(file.fd.get(), &system) == 0 && system.f_type == SYSFS_MAGIC;
  return file;
}

}  // namespace

const char* carrier_name(Carrier carrier) noexcept {
  return carrier == Carrier::kFile ? "shared-memory file" : "PCI BAR";
}

const char* mapping_kind_name(MappingKind kind) noexcept {
  switch (kind) {
    case MappingKind::kWriteBack:
      return "write-back";
    case MappingKind::kWriteCombining:
      return "write-combining";
    case MappingKind::kUncached:
      break;
  }
  return "uncached";
}

std::optional<MappingKind> mapping_kind_of_name(std::string_view name) noexcept {
  for (const auto kind : {MappingKind::kWriteBack, MappingKind::kWriteCombining, MappingKind::kUncached}) {
    if (name == mapping_kind_name(kind)) {
      return kind;
    }
  }
  return std::nullopt;
}

// What the wake-up needs to know: a word of the region tells the channel, and so the vector.
struct Bar::Bell {
  Doorbell doorbell;
  uint16_t peer = 0;
  const std::byte* channels = nullptr;
  uint64_t channel_stride = 1;
  ring::WaitOps ops;
};

Bar::Bar() noexcept = default;

Bar::Bar(std::byte* data, std::size_t size, Carrier carrier, std::string path, std::string lock_path) noexcept
    : data_(data), size_(size), carrier_(carrier), path_(std::move(path)), lock_path_(std::move(lock_path)) {}

Bar::Bar(Bar&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      carrier_(other.carrier_),
      write_combining_(other.write_combining_),
      created_(std::exchange(other.created_, false)),
      adopted_(other.adopted_),
      path_(std::move(other.path_)),
      lock_path_(std::move(other.lock_path_)),
      fd_(std::move(other.fd_)),
      device_lock_(std::move(other.device_lock_)),
      bell_(std::move(other.bell_)) {}

Bar& Bar::operator=(Bar&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    carrier_ = other.carrier_;
    write_combining_ = other.write_combining_;
    created_ = std::exchange(other.created_, false);
    adopted_ = other.adopted_;
    path_ = std::move(other.path_);
    lock_path_ = std::move(other.lock_path_);
    fd_ = std::move(other.fd_);
    device_lock_ = std::move(other.device_lock_);
    bell_ = std::move(other.bell_);
  }
  return *this;
}

Bar::~Bar() {
  unmap();
}

void Bar::unmap() noexcept {
  if (data_ != nullptr) {
    ::munmap(data_, size_);
    data_ = nullptr;
    size_ = 0;
  }
}

std::expected<Bar, Error> Bar::create_file(const std::string& path, uint64_t bytes, uint64_t backed_bytes) {
  if (!std::has_single_bit(bytes) || bytes < (1ULL << 20) || backed_bytes > bytes) {
    return fail(ErrorCode::kInvalidArgument, "region file of " + std::to_string(bytes) + " bytes, " +
                                                 std::to_string(backed_bytes) +
                                                 " of them backed: must be a power of two from 1 MiB");
  }
  auto lock = create_locked(path);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  const auto give_up = [&](Error error) {
    ::unlink(path.c_str());
    return std::unexpected(std::move(error));
  };
  const int fd = lock->fd();
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    return give_up(ring::system_error("making " + path + " " + std::to_string(bytes) + " bytes long", errno));
  }
  if (backed_bytes != 0) {
    if (const int error_number = allocate(fd, 0, backed_bytes); error_number != 0) {
      return give_up(ring::system_error(
          "reserving " + std::to_string(backed_bytes) + " bytes of memory for " + path, error_number));
    }
  }
  // Its own open file: locks seen through it include the device's.
  UniqueFd probe(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!probe || !same_file(probe.get(), path) || !same_file(fd, path)) {
    return give_up(ring::system_error("opening " + path, probe ? ESTALE : errno));
  }
  auto data = map(fd, bytes, Access::kReadWrite, path);
  if (!data) {
    return give_up(std::move(data.error()));
  }
  Bar bar(*data, bytes, Carrier::kFile, path, path);
  bar.created_ = true;
  bar.fd_ = std::move(probe);
  bar.device_lock_ = std::move(*lock);
  return bar;
}

std::expected<Bar, Error> Bar::adopt_file(const std::string& path, uint64_t bytes,
                                          std::optional<uint32_t> group) {
  if (!std::has_single_bit(bytes) || bytes < (1ULL << 20)) {
    return fail(ErrorCode::kInvalidArgument,
                "region file of " + std::to_string(bytes) + " bytes: must be a power of two from 1 MiB");
  }
  auto lock = open_and_lock(path, bytes);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  const int fd = lock->fd();
  if (group && ::fchown(fd, static_cast<uid_t>(-1), *group) != 0) {
    return std::unexpected(ring::system_error("giving " + path + " to group " + std::to_string(*group) +
                                                  " (only root may give files to a group it is not in)",
                                              errno));
  }
  if (::fchmod(fd, group ? 0660 : 0600) != 0) {
    return std::unexpected(ring::system_error("setting the mode of " + path, errno));
  }
  UniqueFd duplicate(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate) {
    return std::unexpected(ring::system_error("duplicating the descriptor of " + path, errno));
  }
  auto bar = map_adopted(std::move(duplicate), path);
  if (bar) {
    bar->device_lock_ = std::move(*lock);
  }
  return bar;
}

std::expected<Bar, Error> Bar::map_adopted(UniqueFd fd, const std::string& path) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return std::unexpected(ring::system_error("looking at " + path, errno));
  }
  const auto bytes = static_cast<uint64_t>(status.st_size);
  auto data = map(fd.get(), bytes, Access::kReadWrite, path);
  if (!data) {
    return std::unexpected(std::move(data.error()));
  }
  Bar bar(*data, bytes, Carrier::kFile, path, path);
  bar.adopted_ = true;
  bar.fd_ = std::move(fd);
  return bar;
}

std::expected<Bar, Error> Bar::open_path(const std::string& path, Access access) {
  auto file = open_file(path, access);
  if (!file) {
    return std::unexpected(std::move(file.error()));
  }
  auto data = map(file->fd.get(), file->bytes, access, path);
  if (!data) {
    return std::unexpected(std::move(data.error()));
  }
  // Locks on a BAR are always taken on the plain resource file, whichever file is mapped.
  std::string lock_path = path;
  bool write_combining = false;
  if (file->sysfs && path.ends_with("_wc")) {
    lock_path.resize(path.size() - 3);
    write_combining = true;
  }
  Bar bar(*data, file->bytes, file->sysfs ? Carrier::kPciBar : Carrier::kFile, path, lock_path);
  bar.write_combining_ = write_combining;
  if (lock_path == path) {
    bar.fd_ = std::move(file->fd);
  } else {
    bar.fd_.reset(::open(lock_path.c_str(), O_RDONLY | O_CLOEXEC));
  }
  return bar;
}

std::expected<Bar, Error> Bar::open_pci(const std::string& device_directory, uint32_t bar_index,
                                        Access access) {
  const std::string plain = device_directory + "/resource" + std::to_string(bar_index);
  const std::string combining = plain + "_wc";
  const bool write_combining =
      ::access(combining.c_str(), access == Access::kReadOnly ? R_OK : R_OK | W_OK) == 0;
  const std::string& path = write_combining ? combining : plain;
  auto file = open_file(path, access);
  if (!file) {
    if (file.error().code == ErrorCode::kPermission) {
      file.error().text += " (a udev rule can give access to " + plain + ")";
    }
    return std::unexpected(std::move(file.error()));
  }
  auto data = map(file->fd.get(), file->bytes, access, path);
  if (!data) {
    return std::unexpected(std::move(data.error()));
  }
  Bar bar(*data, file->bytes, Carrier::kPciBar, path, plain);
  bar.write_combining_ = write_combining;
  if (write_combining) {
    bar.fd_.reset(::open(plain.c_str(), O_RDONLY | O_CLOEXEC));
  } else {
    bar.fd_ = std::move(file->fd);
  }
  return bar;
}

std::expected<UniqueFd, Error> Bar::open_lock_fd() const {
  if (adopted_) {
    UniqueFd duplicate(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
    if (!duplicate) {
      return std::unexpected(ring::system_error("duplicating the descriptor of " + lock_path_, errno));
    }
    return duplicate;
  }
  UniqueFd fd(::open(lock_path_.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    return std::unexpected(ring::system_error("opening " + lock_path_ + " to lock a channel", errno));
  }
  struct stat ours{};
  struct stat now{};
  if (fd_ && (::fstat(fd_.get(), &ours) != 0 || ::fstat(fd.get(), &now) != 0 || ours.st_dev != now.st_dev ||
              ours.st_ino != now.st_ino)) {
    return fail(ErrorCode::kDeviceLost, lock_path_ + " was replaced: the device was started anew");
  }
  return fd;
}

std::expected<void, Error> Bar::ensure_backed(uint64_t offset, uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) {
    return fail(ErrorCode::kInvalidArgument, std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                                 " lie beyond the region's " + std::to_string(size_));
  }
  if (carrier_ != Carrier::kFile || bytes == 0) {
    return {};
  }
  const uint64_t start = offset & ~(kPage - 1);
  const uint64_t end = (offset + bytes + kPage - 1) & ~(kPage - 1);
  if (const int error_number = allocate(fd_.get(), start, end - start); error_number != 0) {
    return std::unexpected(ring::system_error(
        "reserving " + std::to_string(bytes) + " bytes of memory behind " + path_, error_number));
  }
  return {};
}

std::expected<void, Error> Bar::discard(uint64_t offset, uint64_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) {
    return fail(ErrorCode::kInvalidArgument, std::to_string(bytes) + " bytes at " + std::to_string(offset) +
                                                 " lie beyond the region's " + std::to_string(size_));
  }
  const uint64_t start = (offset + kPage - 1) & ~(kPage - 1);
  const uint64_t end = (offset + bytes) & ~(kPage - 1);
  if (end <= start) {
    return {};
  }
  if (carrier_ == Carrier::kFile) {
    if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(start),
                    static_cast<off_t>(end - start)) == 0) {
      return {};
    }
    if (errno != EOPNOTSUPP) {
      return std::unexpected(
          ring::system_error("giving back " + std::to_string(end - start) + " bytes of " + path_, errno));
    }
  }
  std::memset(data_ + start, 0, end - start);
  return {};
}

void Bar::unlink_file() noexcept {
  if (created_ && fd_ && same_file(fd_.get(), path_)) {
    ::unlink(path_.c_str());
  }
  created_ = false;
}

bool Bar::connect_doorbell(const ring::FoundRegion& region, std::string* why_not) {
  const auto no = [why_not](std::string reason) {
    if (why_not != nullptr) {
      *why_not = std::move(reason);
    }
    return false;
  };
  if (carrier_ != Carrier::kPciBar) {
    return no("not a PCI BAR");
  }
  if ((region.feature_bits & ring::kFeatureIvshmemDoorbell) == 0) {
    return no("the device listens to no doorbell");
  }
  auto doorbell = Doorbell::open(path_.substr(0, path_.rfind('/')));
  if (!doorbell) {
    return no(std::move(doorbell.error().text));
  }
  auto bell = std::make_unique<Bell>();
  bell->doorbell = std::move(*doorbell);
  bell->peer = static_cast<uint16_t>(region.doorbell_peer);
  bell->channels = data_ + region.geometry.channels_offset;
  bell->channel_stride = region.geometry.channel_stride;
  bell->ops = ring::polling_wait_ops();
  bell->ops.context = bell.get();
  bell->ops.wake = [](void* context, const uint32_t* word) {
    const auto& self = *static_cast<const Bell*>(context);
    const auto offset = reinterpret_cast<const std::byte*>(word) - self.channels;
    self.doorbell.ring(self.peer, static_cast<uint16_t>(static_cast<uint64_t>(offset) / self.channel_stride));
  };
  bell_ = std::move(bell);
  return true;
}

const ring::WaitOps& Bar::wait_ops() const noexcept {
  if (bell_) {
    return bell_->ops;
  }
  return carrier_ == Carrier::kFile ? ring::futex_wait_ops() : ring::polling_wait_ops();
}

MappingKind measure_mapping(std::span<const std::byte> sample, bool write_combining_file) noexcept {
  constexpr uint64_t kLoads = 1024;
  constexpr uint64_t kUncachedNsPerLoad = 20;
  const std::size_t words = std::min<std::size_t>(sample.size(), kPage) / sizeof(uint64_t);
  if (words == 0) {
    return MappingKind::kWriteBack;
  }
  const auto* data = reinterpret_cast<const uint64_t*>(sample.data());
  uint64_t best = ~uint64_t{0};
  for (int pass = 0; pass < 4; ++pass) {  // the first warms the cache; the best ignores interruptions
    const uint64_t start = ring::monotonic_ns();
    for (uint64_t i = 0; i < kLoads; ++i) {
      (void)ring::load_acquire(data[(i * 8) % words]);
    }
    best = std::min(best, ring::monotonic_ns() - start);
    if (best < kLoads * kUncachedNsPerLoad) {
      return MappingKind::kWriteBack;
    }
  }
  return write_combining_file ? MappingKind::kWriteCombining : MappingKind::kUncached;
}

}  // namespace vgpu::pci
