// Where is the vGPU? The shim's answer, with glibc alone: VGPU_DEVICE, else PCI (read from sysfs), else the
// default path. The tools use pci/discover.h, which asks libpci the same question and says more.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "pci/bar.h"
#include "ring/error.h"

namespace vgpu::pci {

inline constexpr uint16_t kIvshmemVendor = 0x1af4;
inline constexpr uint16_t kIvshmemDevice = 0x1110;
inline constexpr uint32_t kRegionBar = 2;  // the BAR that holds the region

// domain:bus:device.function
struct PciAddress {
  uint32_t domain = 0;
  uint32_t bus = 0;
  uint32_t device = 0;
  uint32_t function = 0;

  std::string text() const;  // "0000:00:04.0"
  friend bool operator==(const PciAddress&, const PciAddress&) = default;
};
// "0000:00:04.0" or "00:04.0", hexadecimal; anything else is kInvalidArgument.
std::expected<PciAddress, Error> parse_pci_address(std::string_view text);

enum class FoundBy : uint32_t { kEnvironment, kPci, kDefaultPath };

// A place that may hold a region. Nothing is mapped.
struct Location {
  Carrier carrier = Carrier::kFile;
  FoundBy found_by = FoundBy::kDefaultPath;
  std::string path;    // file: the region file; PCI: the device's sysfs directory
  PciAddress address;  // PCI only
};

struct LocateOptions {
  std::string sysfs_root = "/sys";
  std::string shm_root = "/dev/shm";
  // VGPU_DEVICE's value: a path (begins with '/') or a PCI address; empty: not set. locate_from_environment()
  // fills it in.
  std::string device;
};

// The file of the embedded default: "<shm_root>/vgpu-<uid>" for index 0, "<shm_root>/vgpu-<uid>.<index>" for
// further devices. It depends on nothing but the user, so that a device and a client started from different
// sessions meet.
std::string default_region_path(const LocateOptions& options, uint32_t uid, uint32_t index = 0);

// Every place a region is found at, in CUDA's device order: with options.device that one alone; else all
// PCI devices with ivshmem's ids whose BAR2 holds a region, by address; else this user's default files, then
// root's. Only the magic is looked at: the caller maps and checks the region.
// Errors: kNotFound (nothing anywhere; the text lists what was looked at), kInvalidArgument (options.device
// is neither path nor address), kNotARegion / kPermission / kTruncated when the device asked for by name, or
// the only candidates, cannot be used: the reason is the first one met.
std::expected<std::vector<Location>, Error> locate(const LocateOptions& options);
// The same with VGPU_DEVICE from the environment.
std::expected<std::vector<Location>, Error> locate_from_environment();

// Maps a location read-write.
std::expected<Bar, Error> open_location(const Location& location, Access access = Access::kReadWrite);

}  // namespace vgpu::pci
