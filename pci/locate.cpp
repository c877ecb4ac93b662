// Finding the vGPU with system calls alone.
#include "pci/locate.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>

#include "ring/access.h"
#include "ring/region_layout.h"

namespace vgpu::pci {
namespace {

constexpr uint32_t kMaxDefaultFiles = 16;

std::unexpected<Error> fail(ErrorCode code, std::string text) {
  return std::unexpected(Error{code, std::move(text)});
}

struct CloseDirectory {
  void operator()(DIR* directory) const noexcept { ::closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

// A sysfs attribute such as "0x1af4\n".
std::optional<uint64_t> read_hex(const std::string& path) {
  const ring::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return std::nullopt;
  }
  char text[32] = {};
  const ssize_t length = ::read(fd.get(), text, sizeof(text) - 1);
  if (length <= 2 || text[0] != '0' || text[1] != 'x') {
    return std::nullopt;
  }
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text + 2, text + length, value, 16);
  return error == std::errc{} && end != text + 2 ? std::optional(value) : std::nullopt;
}

// Whether the place holds a region: maps it and looks at the magic.
std::expected<void, Error> look(const Location& location) {
  auto bar = open_location(location, Access::kReadOnly);
  if (!bar) {
    return std::unexpected(std::move(bar.error()));
  }
  const auto* header = reinterpret_cast<const ring::RegionHeader*>(bar->bytes().data());
  if (ring::load_acquire(header->magic) != ring::kRegionMagic) {
    return fail(ErrorCode::kNotARegion, bar->path() + " holds no vgpu region");
  }
  return {};
}

// A default path lies where anybody may create files: only the user's own and root's are trusted.
bool trusted_default(const std::string& path) {
  struct stat status{};
  return ::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         (status.st_uid == ::geteuid() || status.st_uid == 0);
}

std::vector<Location> pci_candidates(const std::string& devices) {
  std::vector<Location> found;
  const Directory directory(::opendir(devices.c_str()));
  if (!directory) {
    return found;
  }
  while (const dirent* entry = ::readdir(directory.get())) {
    const auto address = parse_pci_address(entry->d_name);
    if (!address) {
      continue;
    }
    const std::string path = devices + "/" + entry->d_name;
    if (read_hex(path + "/vendor") == kIvshmemVendor && read_hex(path + "/device") == kIvshmemDevice) {
      found.push_back({Carrier::kPciBar, FoundBy::kPci, path, *address});
    }
  }
  std::sort(found.begin(), found.end(), [](const Location& a, const Location& b) {
    const auto key = [](const PciAddress& p) { return std::tuple(p.domain, p.bus, p.device, p.function); };
    return key(a.address) < key(b.address);
  });
  return found;
}

std::expected<std::vector<Location>, Error> locate_named(const LocateOptions& options) {
  Location location;
  location.found_by = FoundBy::kEnvironment;
  if (options.device.front() == '/') {
    location.path = options.device;
  } else {
    auto address = parse_pci_address(options.device);
    if (!address) {
      return fail(ErrorCode::kInvalidArgument,
                  "VGPU_DEVICE is '" + options.device +
                      "': neither an absolute path nor a PCI address such as 0000:00:04.0");
    }
    location.carrier = Carrier::kPciBar;
    location.address = *address;
    location.path = options.sysfs_root + "/bus/pci/devices/" + address->text();
  }
  if (auto ok = look(location); !ok) {
    ok.error().text = "VGPU_DEVICE=" + options.device + ": " + ok.error().text;
    return std::unexpected(std::move(ok.error()));
  }
  return std::vector{location};
}

}  // namespace

std::string PciAddress::text() const {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%04x:%02x:%02x.%x", domain, bus, device, function);
  return buffer;
}

std::expected<PciAddress, Error> parse_pci_address(std::string_view text) {
  std::string_view rest = text;
  // Takes hexadecimal digits up to `end`, which must be there (0: the text's end), and not above `limit`.
  const auto take = [&rest](char end, uint32_t limit) -> std::optional<uint32_t> {
    const std::size_t length = end == 0 ? rest.size() : rest.find(end);
    if (length == std::string_view::npos || length == 0 || length > 8) {
      return std::nullopt;
    }
    uint32_t value = 0;
    const char* stop = rest.data() + length;
    const auto [parsed, error] = std::from_chars(rest.data(), stop, value, 16);
    if (error != std::errc{} || parsed != stop || value > limit) {
      return std::nullopt;
    }
    rest.remove_prefix(end == 0 ? length : length + 1);
    return value;
  };
  std::optional<uint32_t> domain = 0;
  if (std::count(text.begin(), text.end(), ':') == 2) {
    domain = take(':', 0xffff'ffff);
  }
  const auto bus = domain ? take(':', 0xff) : std::nullopt;
  const auto device = bus ? take('.', 0x1f) : std::nullopt;
  const auto function = device ? take(0, 7) : std::nullopt;
  if (!function) {
    return fail(ErrorCode::kInvalidArgument,
                "'" + std::string(text) + "' is no PCI address such as 0000:00:04.0");
  }
  return PciAddress{*domain, *bus, *device, *function};
}

std::string default_region_path(const LocateOptions& options, uint32_t uid, uint32_t index) {
  std::string path = options.shm_root + "/vgpu-" + std::to_string(uid);
  if (index != 0) {
    path += "." + std::to_string(index);
  }
  return path;
}

std::expected<std::vector<Location>, Error> locate(const LocateOptions& options) {
  if (!options.device.empty()) {
    return locate_named(options);
  }
  std::vector<Location> found;
  std::optional<Error> first_error;
  const auto consider = [&](const Location& candidate) {
    if (auto ok = look(candidate); ok) {
      found.push_back(candidate);
    } else if (!first_error) {
      first_error = std::move(ok.error());
    }
  };
  const std::string devices = options.sysfs_root + "/bus/pci/devices";
  for (const Location& candidate : pci_candidates(devices)) {
    consider(candidate);
  }
  const auto uid = static_cast<uint32_t>(::geteuid());
  const auto consider_defaults_of = [&](uint32_t owner) {
    for (uint32_t index = 0; index < kMaxDefaultFiles; ++index) {
      if (const std::string path = default_region_path(options, owner, index); trusted_default(path)) {
        consider({Carrier::kFile, FoundBy::kDefaultPath, path, {}});
      }
    }
  };
  if (found.empty()) {
    consider_defaults_of(uid);
  }
  if (found.empty() && uid != 0) {
    consider_defaults_of(0);
  }
  if (!found.empty()) {
    return found;
  }
  if (first_error) {
    return std::unexpected(std::move(*first_error));
  }
  return fail(ErrorCode::kNotFound, "no vGPU: VGPU_DEVICE is not set, no PCI device 1af4:1110 in " + devices +
                                        ", no " + default_region_path(options, uid) +
                                        (uid == 0 ? "" : " or " + default_region_path(options, 0)));
}

std::expected<std::vector<Location>, Error> locate_from_environment() {
  LocateOptions options;
  // A program that runs with more rights than its caller must not be led to the caller's file.
  if (const char* device = ::secure_getenv("VGPU_DEVICE"); device != nullptr) {
    options.device = device;
  }
  return locate(options);
}

std::expected<Bar, Error> open_location(const Location& location, Access access) {
  return location.carrier == Carrier::kPciBar ? Bar::open_pci(location.path, kRegionBar, access)
                                              : Bar::open_path(location.path, access);
}

}  // namespace vgpu::pci
