// Files of VM guests.
#include "tools/vgpu-device/guests.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "ring/unique_fd.h"

namespace vgpu::tools {
namespace {

// QEMU takes a doubled comma for one that belongs to the value.
std::string qemu_value(std::string_view text) {
  std::string value;
  for (const char c : text) {
    value += c;
    if (c == ',') value += c;
  }
  return value;
}

}  // namespace

std::string guest_name_problem(const std::string& name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  if (name.empty()) return "a guest needs a name";
  if (name.size() > kLongestGuestName) {
    return fmt::format("the guest's name {} has {} characters: at most {}", name, name.size(),
                       kLongestGuestName);
  }
  if (name.front() == '.') return fmt::format("the guest's name {} begins with a dot", name);
  if (name.find_first_not_of(kAllowed) != std::string::npos) {
    return fmt::format("the guest's name {} may hold letters, digits, '_', '.' and '-' alone", name);
  }
  return {};
}

GuestFiles guest_files(const DeviceOptions& options, const std::string& name) {
  const std::string start = options.guests_directory + "/" + name;
  return {.region = start + ".bar", .socket = start + ".sock"};
}

std::expected<void, std::string> prepare_guests_directory(const std::string& directory) {
  constexpr mode_t kMode = 0755;
  const bool made = ::mkdir(directory.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) {
    return std::unexpected(
        fmt::format("cannot make the guests' directory {}: {}", directory, std::strerror(errno)));
  }
  const ring::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    return std::unexpected(
        fmt::format("the guests' directory {} cannot be opened: {}", directory, std::strerror(errno)));
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) {
    return std::unexpected(fmt::format("looking at {}: {}", directory, std::strerror(errno)));
  }
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return std::unexpected(
        fmt::format("the guests' directory {} belongs to user {}: name another one with "
                    "--guests-dir",
                    directory, status.st_uid));
  }
  if (made) {
    if (::fchmod(fd.get(), kMode) != 0) {
      return std::unexpected(fmt::format("setting the mode of {}: {}", directory, std::strerror(errno)));
    }
  } else if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (status.st_mode & S_ISVTX) == 0) {
    // With the sticky bit others may put files there, but none in the place of ours.
    return std::unexpected(
        fmt::format("others may replace files in the guests' directory {} (mode {:o}): make it {:o}, or name "
                    "another one with "
                    "--guests-dir",
                    directory, status.st_mode & 07777, kMode));
  }
  return {};
}

std::expected<std::optional<gid_t>, std::string> guest_group(const DeviceOptions& options) {
  if (options.guest_group.empty()) return std::nullopt;
  errno = 0;
  const group* found = ::getgrnam(options.guest_group.c_str());
  if (found != nullptr) return found->gr_gid;
  return std::unexpected(
      fmt::format("there is no group {} on this machine: make it with \"groupadd {}\", or "
                  "name the group QEMU runs in with --guest-group",
                  options.guest_group, options.guest_group));
}

std::string plain_qemu_options(const DeviceOptions& options, const std::string& name) {
  return fmt::format(
      "-object memory-backend-file,id=vgpu,share=on,mem-path={},size={} -device ivshmem-plain,memdev=vgpu",
      qemu_value(guest_files(options, name).region), options.region_bytes);
}

std::string doorbell_qemu_options(const DeviceOptions& options, const std::string& name) {
  return fmt::format("-chardev socket,id=vgpu,path={} -device ivshmem-doorbell,chardev=vgpu,vectors={}",
                     qemu_value(guest_files(options, name).socket), options.channels);
}

}  // namespace vgpu::tools
