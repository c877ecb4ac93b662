// The memory that carries a region: a file in shared memory (one host, the embedded default) or BAR2 of a PCI
// device from sysfs. One interface for both; it needs glibc alone, since the shim libraries use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ring/channel_lock.h"
#include "ring/error.h"
#include "ring/region.h"
#include "ring/unique_fd.h"
#include "ring/wait.h"

namespace vgpu::pci {

using ring::Error;
using ring::ErrorCode;

enum class Carrier : uint32_t {
  kFile,    // regular file: both sides share a kernel, futexes and locks work across them
  kPciBar,  // sysfs resourceN: the other side is another kernel
};

// How the processor treats the mapping; decides how bulk data is copied.
enum class MappingKind : uint32_t { kWriteBack, kWriteCombining, kUncached };

enum class Access : uint32_t { kReadOnly, kReadWrite };

const char* carrier_name(Carrier carrier) noexcept;
const char* mapping_kind_name(MappingKind kind) noexcept;
std::optional<MappingKind> mapping_kind_of_name(std::string_view name) noexcept;

// A mapping, owned. Movable. Const members are safe from any thread.
class Bar {
 public:
  Bar() noexcept;
  Bar(Bar&& other) noexcept;
  Bar& operator=(Bar&& other) noexcept;
  ~Bar();

  // Device: makes a region file of `bytes` (a power of two, at least 1 MiB) at `path`, mode 0600, holding the
  // device's lock for as long as the returned Bar lives. Never follows a symbolic link. A file that a dead
  // device left is replaced; one that a living device holds is kBusy. The file is sparse: `backed_bytes` from
  // its start get memory at once (kNoSpace if there is none), the rest when it is touched: back it first
  // (ensure_backed) where running out of memory must not be a SIGBUS.
  static std::expected<Bar, Error> create_file(const std::string& path, uint64_t bytes,
                                               uint64_t backed_bytes);

  // Device of a VM: takes up the region file of `bytes` at `path`, or makes it, and holds the device's lock
  // for as long as this Bar or one of the same open file lives. The file is never truncated, replaced or
  // removed, since a VM may have it mapped: its contents are as they were. Mode 0600; with `group`, 0660 and
  // that group's. Never follows a symbolic link. Nothing is backed. There is one open file only, so that one
  // that is not ours can be told (open_lock_fd() duplicates it). Errors: kBusy (a living device holds it),
  // kInvalidArgument (no regular file, another size), kPermission (another user's, or not to be given to the
  // group).
  static std::expected<Bar, Error> adopt_file(const std::string& path, uint64_t bytes,
                                              std::optional<uint32_t> group);
  // The same open file again, mapped anew: `fd` is one that adopt_file() opened, inherited by a worker.
  // `path` is for messages.
  static std::expected<Bar, Error> map_adopted(ring::UniqueFd fd, const std::string& path);

  // Opens and maps a whole region file (kFile), or a sysfs resource file given by its path (kPciBar). The
  // mapping may be shorter than the region in it claims to be:
  // ring::check_region finds that.
  static std::expected<Bar, Error> open_path(const std::string& path, Access access);

  // Maps BAR `bar` of the device in `device_directory` ("/sys/bus/pci/devices/0000:00:04.0"): write-combining
  // if the kernel offers that file, which is never worse than uncached and the same where the hypervisor maps
  // write-back. Locks are always taken on the plain resource file.
  static std::expected<Bar, Error> open_pci(const std::string& device_directory, uint32_t bar, Access access);

  std::span<std::byte> bytes() const noexcept { return {data_, size_}; }
  Carrier carrier() const noexcept { return carrier_; }
  const std::string& path() const noexcept { return path_; }            // the mapped file
  const std::string& lock_path() const noexcept { return lock_path_; }  // the file that locks are taken on
  bool write_combining_file() const noexcept { return write_combining_; }

  // A new open file on lock_path(), for a lock of its own. O_CLOEXEC. Of an adopted file: a duplicate.
  std::expected<ring::UniqueFd, Error> open_lock_fd() const;
  // Descriptor for probe_*_lock(); belongs to the Bar. -1 if it is not open.
  int probe_fd() const noexcept { return fd_.get(); }

  // Gives [offset, offset + bytes) memory now, so that touching it cannot fault: kNoSpace instead of SIGBUS.
  // A PCI BAR is always backed. Rounded out to pages.
  std::expected<void, Error> ensure_backed(uint64_t offset, uint64_t bytes) const;
  // Zeroes the whole pages in [offset, offset + bytes) and gives their memory back to the system (file), or
  // clears them (BAR).
  std::expected<void, Error> discard(uint64_t offset, uint64_t bytes) const;

  // Device: removes the file from its directory, if it is still ours. The mapping stays.
  void unlink_file() noexcept;

  // How a parked side sleeps over this carrier: futexes over a file, a timed back-off over a PCI BAR. Stays
  // where it is for as long as the Bar or the one it was moved to lives.
  const ring::WaitOps& wait_ops() const noexcept;
  // Guest: lets wait_ops() ring ivshmem's doorbell, if this is a PCI function with interrupts whose device
  // listens to them (kFeatureIvshmemDoorbell); `region` is what was found in this mapping. Whether it does: a
  // device that is not rung wakes up by itself, later. `why_not` (may be nullptr) gets the reason. Before
  // wait_ops() is used.
  bool connect_doorbell(const ring::FoundRegion& region, std::string* why_not = nullptr);

 private:
  struct Bell;
  Bar(std::byte* data, std::size_t size, Carrier carrier, std::string path, std::string lock_path) noexcept;
  void unmap() noexcept;

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  Carrier carrier_ = Carrier::kFile;
  bool write_combining_ = false;
  bool created_ = false;
  bool adopted_ = false;
  std::string path_;
  std::string lock_path_;
  ring::UniqueFd fd_;           // for probing locks, ensure_backed and discard
  ring::ByteLock device_lock_;  // create_file and adopt_file only
  std::unique_ptr<Bell> bell_;  // connect_doorbell only
};

// Times about a thousand loads from `sample` (at least 4 KiB of the mapping, left unchanged): tens of
// nanoseconds and more a load means that nothing is cached. Takes well under a millisecond.
MappingKind measure_mapping(std::span<const std::byte> sample, bool write_combining_file) noexcept;

}  // namespace vgpu::pci
