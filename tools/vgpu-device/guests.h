// The files of guests that are VMs: where they lie, who may open them, and how QEMU is told of them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "tools/vgpu-device/options.h"

namespace vgpu::tools {

inline constexpr std::size_t kLongestGuestName = 64;

// Empty, or what is wrong with it: letters, digits, '_', '.' and '-' alone, no dot in front, at most 64.
std::string guest_name_problem(const std::string& name);

struct GuestFiles {
  std::string region;  // DIR/NAME.bar
  std::string socket;  // DIR/NAME.sock
};
GuestFiles guest_files(const DeviceOptions& options, const std::string& name);

// Makes the directory, mode 0755, or checks that nobody but this user and root can replace files there. The
// error is a line for the user.
std::expected<void, std::string> prepare_guests_directory(const std::string& directory);
// The id of --guest-group, none if none is named.
std::expected<std::optional<gid_t>, std::string> guest_group(const DeviceOptions& options);

// What to give QEMU, for a device without and with a doorbell.
std::string plain_qemu_options(const DeviceOptions& options, const std::string& name);
std::string doorbell_qemu_options(const DeviceOptions& options, const std::string& name);

}  // namespace vgpu::tools
