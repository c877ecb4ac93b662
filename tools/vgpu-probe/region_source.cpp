// Reading files and BARs.
#include "tools/vgpu-probe/region_source.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ring/access.h"
#include "ring/wait.h"

namespace vgpu::tools {
namespace {

// Words are copied whole: the other side may store to them at any moment.
void copy_words(std::byte* to, const std::byte* from, std::size_t bytes) {
  while (bytes != 0 &&
         (reinterpret_cast<uintptr_t>(from) % sizeof(uint64_t) != 0 || bytes < sizeof(uint64_t))) {
    *to++ = *reinterpret_cast<const volatile std::byte*>(from++);
    --bytes;
  }
  for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t)) {
    const uint64_t word = ring::load_relaxed(*reinterpret_cast<const uint64_t*>(from));
    std::memcpy(to, &word, sizeof word);
    to += sizeof word;
    from += sizeof word;
  }
  while (bytes-- != 0) *to++ = *reinterpret_cast<const volatile std::byte*>(from++);
}

// Never waits. EAGAIN: vgpu-device is looking this very moment whether anybody has a VM's region open.
ring::UniqueFd open_to_look(const std::string& path) {
  constexpr int kTries = 1000;
  ring::UniqueFd file;
  for (int i = 0; i < kTries && !file && (i == 0 || errno == EAGAIN); ++i) {
    if (i != 0) ::sched_yield();
    file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  }
  return file;
}

bool in_sysfs(int fd) {
  struct statfs system{};
  return ::fstatfs(fd, &system) == 0 && system.f_type == SYSFS_MAGIC;
}

uint64_t time_loads(std::span<const std::byte> page) {
  constexpr uint64_t kLoads = 512;
  constexpr int kRounds = 5;
  const auto* words = reinterpret_cast<const uint64_t*>(page.data());
  const std::size_t count = std::min<std::size_t>(page.size(), 4096) / sizeof(uint64_t);
  uint64_t best = ~uint64_t{0};
  for (int round = 0; count != 0 && round < kRounds; ++round) {
    const uint64_t start = ring::monotonic_ns();
    for (uint64_t i = 0; i < kLoads; ++i) (void)ring::load_acquire(words[(i * 8) % count]);
    best = std::min(best, ring::monotonic_ns() - start);
  }
  return count == 0 ? 0 : best * 1000 / kLoads;
}

}  // namespace

std::expected<RegionSource, ring::Error> RegionSource::open(const pci::Location& location) {
  RegionSource source;
  source.carrier_ = location.carrier;
  const auto map = [&](std::expected<pci::Bar, ring::Error> bar) -> std::expected<RegionSource, ring::Error> {
    if (!bar) return std::unexpected(std::move(bar.error()));
    source.carrier_ = pci::Carrier::kPciBar;
    source.path_ = bar->path();
    source.bytes_ = source.backed_bytes_ = bar->bytes().size();
    source.memory_ = bar->bytes();
    source.bar_ = std::move(*bar);
    return std::move(source);
  };
  if (location.carrier == pci::Carrier::kPciBar) {
    return map(pci::Bar::open_pci(location.path, pci::kRegionBar, pci::Access::kReadOnly));
  }
  source.path_ = location.path;
  source.fd_ = open_to_look(location.path);
  if (!source.fd_) return std::unexpected(ring::system_error("opening " + location.path, errno));
  struct stat status{};
  if (::fstat(source.fd_.get(), &status) != 0) {
    return std::unexpected(ring::system_error("looking at " + location.path, errno));
  }
  if (!S_ISREG(status.st_mode)) {
    return std::unexpected(
        ring::Error{ring::ErrorCode::kNotARegion, location.path + " is not a regular file"});
  }
  if (in_sysfs(source.fd_.get())) {
    source.fd_.reset();
    return map(pci::Bar::open_path(location.path, pci::Access::kReadOnly));
  }
  source.bytes_ = static_cast<uint64_t>(status.st_size);
  source.backed_bytes_ = static_cast<uint64_t>(status.st_blocks) * 512;
  return source;
}

RegionSource RegionSource::over(std::span<const std::byte> bytes) {
  RegionSource source;
  source.path_ = "memory";
  source.bytes_ = source.backed_bytes_ = bytes.size();
  source.memory_ = bytes;
  return source;
}

bool RegionSource::read(uint64_t offset, std::span<std::byte> to) const {
  if (memory_.data() != nullptr) {
    if (offset > memory_.size() || to.size() > memory_.size() - offset) return false;
    copy_words(to.data(), memory_.data() + offset, to.size());
    return true;
  }
  if (fd_) return read_from(fd_.get(), offset, to);
  const auto file = open_to_look(path_);
  return file && read_from(file.get(), offset, to);
}

bool RegionSource::read_from(int fd, uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t got = ::pread(fd, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    offset += static_cast<uint64_t>(got);
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

std::optional<uint64_t> RegionSource::read_word(uint64_t offset) const {
  uint64_t word = 0;
  if (!read(offset, std::as_writable_bytes(std::span(&word, 1)))) return std::nullopt;
  return word;
}

ring::LockState RegionSource::lock(uint64_t offset) const {
  const int fd = fd_ ? fd_.get() : bar_ ? bar_->probe_fd() : -1;
  return fd < 0 ? ring::LockState::kUnknown : ring::probe_byte_lock(fd, offset);
}

std::vector<MappingReport> measure_mappings(const std::string& device_directory) {
  std::vector<MappingReport> reports;
  for (const char* name : {"resource2", "resource2_wc"}) {
    const std::string path = device_directory + "/" + name;
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) continue;
    MappingReport report{path, "", "", 0};
    if (auto bar = pci::Bar::open_path(path, pci::Access::kReadOnly)) {
      report.kind =
          pci::mapping_kind_name(pci::measure_mapping(bar->bytes(), std::string_view(name).ends_with("_wc")));
      report.load_picoseconds = time_loads(bar->bytes());
    } else {
      report.problem = bar.error().text;
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace vgpu::tools
