// Mapping ivshmem's registers from sysfs.
#include "pci/doorbell.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "ring/access.h"
#include "ring/unique_fd.h"

namespace vgpu::pci {
namespace {

using ring::Error;
using ring::ErrorCode;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kDoorbellRegister = 12;  // in BAR0

// Where BAR0 and BAR1 lie on the bus; 0: there is none.
struct BarAddresses {
  unsigned long long bar0 = 0;
  unsigned long long bar1 = 0;
};

std::expected<BarAddresses, Error> read_addresses(const std::string& directory) {
  const std::string path = directory + "/resource";
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "re"));
  if (!file) {
    return std::unexpected(ring::system_error("opening " + path, errno));
  }
  BarAddresses found;
  if (std::fscanf(file.get(), "%llx %*x %*x %llx", &found.bar0, &found.bar1) != 2) {
    return std::unexpected(Error{ErrorCode::kCorrupt, path + " is not a list of addresses"});
  }
  return found;
}

}  // namespace

Doorbell::Doorbell(Doorbell&& other) noexcept
    : page_(std::exchange(other.page_, nullptr)), register_(std::exchange(other.register_, nullptr)) {}

Doorbell& Doorbell::operator=(Doorbell&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(register_, other.register_);
  return *this;
}

Doorbell::~Doorbell() {
  if (page_ != nullptr) {
    ::munmap(page_, kPage);
  }
}

std::expected<Doorbell, Error> Doorbell::open(const std::string& device_directory) {
  const auto addresses = read_addresses(device_directory);
  if (!addresses) {
    return std::unexpected(addresses.error());
  }
  // BAR1 holds the interrupts' table, which ivshmem-plain lacks.
  if (addresses->bar0 == 0 || addresses->bar1 == 0) {
    return std::unexpected(Error{ErrorCode::kNotFound, device_directory + " is no ivshmem-doorbell"});
  }
  const std::string path = device_directory + "/resource0";
  const ring::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) {
    return std::unexpected(ring::system_error("opening " + path, errno));
  }
  void* page = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) {
    return std::unexpected(ring::system_error("mapping " + path, errno));
  }
  Doorbell doorbell;
  doorbell.page_ = page;
  // A small BAR need not begin where its page does.
  doorbell.register_ = reinterpret_cast<uint32_t*>(static_cast<std::byte*>(page) + addresses->bar0 % kPage +
                                                   kDoorbellRegister);
  return doorbell;
}

void Doorbell::ring(uint16_t peer, uint16_t vector) const noexcept {
  // The region may be mapped write-combining: what was stored there leaves first.
  ring::store_fence();
  ring::store_relaxed(*register_, uint32_t{peer} << 16 | vector);
}

}  // namespace vgpu::pci
