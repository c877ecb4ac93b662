// Looking for vGPUs.
#include "tools/vgpu-probe/places.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace vgpu::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRegionSuffix = ".bar";
constexpr const char* kHint =
    "Start one with `vgpu-device`, run a program on a private one with `vgpu-device run -- PROGRAM`, or, in "
    "a "
    "virtual machine, give it an ivshmem device whose memory vgpu-device serves on the host (docs/vm.md). "
    "Elsewhere? Name it: a path or a PCI address, here or in VGPU_DEVICE.";

std::string environment_device() {
  const char* named = std::getenv("VGPU_DEVICE");
  return named == nullptr ? "" : named;
}

Place file_place(const std::string& path, pci::FoundBy found_by, const std::string& guests_directory) {
  Place place;
  place.location.carrier = pci::Carrier::kFile;
  place.location.found_by = found_by;
  place.location.path = path;
  const fs::path file(path);
  if (file.parent_path() == fs::path(guests_directory) && file.extension() == kRegionSuffix) {
    place.guest = file.stem().string();
  }
  return place;
}

Place function_place(pci::DiscoveredDevice function, pci::FoundBy found_by) {
  Place place;
  place.location.carrier = pci::Carrier::kPciBar;
  place.location.found_by = found_by;
  place.location.path = function.sysfs_directory;
  place.location.address = function.address;
  place.function = std::move(function);
  return place;
}

std::vector<std::string> guest_files(const std::string& directory) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() == kRegionSuffix) files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  return files;
}

std::expected<Place, std::string> named_place(const std::string& device, const std::string& guests_directory,
                                              pci::FoundBy found_by) {
  std::error_code error;
  if (const auto address = pci::parse_pci_address(device)) {
    if (auto functions = pci::discover()) {
      for (auto& function : *functions) {
        if (function.address == *address) return function_place(std::move(function), found_by);
      }
    }
    return std::unexpected(fmt::format(
        "no PCI device {} with the ids of ivshmem (1af4:1110): `vgpu-probe list` shows what there is, `lspci "
        "-nn` everything else",
        address->text()));
  }
  if (device.find('/') == std::string::npos) {
    const std::string path = fmt::format("{}/{}{}", guests_directory, device, kRegionSuffix);
    if (fs::exists(path, error)) return file_place(path, found_by, guests_directory);
    if (!fs::exists(device, error)) {
      return std::unexpected(fmt::format(
          "no vGPU '{}': neither a file, nor a PCI address such as 0000:00:04.0, nor a guest in {}. "
          "`vgpu-probe list` shows what there is",
          device, guests_directory));
    }
  }
  const std::string path = fs::absolute(device, error).lexically_normal().string();
  // A device's directory in sysfs is as good as its address.
  if (fs::is_directory(path, error)) {
    if (const auto address = pci::parse_pci_address(fs::path(path).filename().string())) {
      return named_place(address->text(), guests_directory, found_by);
    }
  }
  if (!fs::exists(path, error)) {
    return std::unexpected(fmt::format("there is no {}. {}", path, kHint));
  }
  return file_place(path, found_by, guests_directory);
}

}  // namespace

std::vector<Place> all_places(const std::string& guests_directory) {
  std::vector<Place> places;
  const pci::LocateOptions options;
  const auto add = [&places](Place place) {
    const auto same = [&](const Place& other) { return other.location.path == place.location.path; };
    if (std::ranges::none_of(places, same)) places.push_back(std::move(place));
  };
  if (const std::string named = environment_device(); !named.empty()) {
    if (auto place = named_place(named, guests_directory, pci::FoundBy::kEnvironment)) add(std::move(*place));
  }
  if (auto functions = pci::discover(options.sysfs_root)) {
    for (auto& function : *functions) add(function_place(std::move(function), pci::FoundBy::kPci));
  }
  // The users' default files and the private ones of runs, by name.
  std::vector<std::string> files;
  const std::string own = pci::default_region_path(options, ::geteuid());
  const std::string roots = pci::default_region_path(options, 0);
  const std::string runs = options.shm_root + "/vgpu-run-";
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(options.shm_root, error)) {
    const std::string path = entry.path().string();
    if (path == own || path == roots || path.starts_with(own + ".") || path.starts_with(roots + ".") ||
        path.starts_with(runs)) {
      files.push_back(path);
    }
  }
  std::ranges::sort(files);
  for (auto& file : guest_files(guests_directory)) files.push_back(std::move(file));
  for (const auto& path : files) add(file_place(path, pci::FoundBy::kDefaultPath, guests_directory));
  return places;
}

std::expected<Place, std::string> choose_place(const std::string& device, const std::string& guests_directory,
                                               Use use) {
  if (!device.empty()) return named_place(device, guests_directory, pci::FoundBy::kDefaultPath);
  if (const std::string named = environment_device(); !named.empty()) {
    auto place = named_place(named, guests_directory, pci::FoundBy::kEnvironment);
    if (!place) return std::unexpected(fmt::format("VGPU_DEVICE={}: {}", named, place.error()));
    return place;
  }
  const auto found = pci::locate({});
  if (found) {
    const auto& location = found->front();
    if (location.carrier == pci::Carrier::kPciBar) {
      return named_place(location.address.text(), guests_directory, location.found_by);
    }
    return file_place(location.path, location.found_by, guests_directory);
  }
  if (use == Use::kLook) {
    if (auto places = all_places(guests_directory); !places.empty()) return std::move(places.front());
  }
  if (found.error().code != ring::ErrorCode::kNotFound) return std::unexpected(found.error().text);
  constexpr std::string_view kPrefix = "no vGPU: ";
  std::string_view why = found.error().text;
  if (why.starts_with(kPrefix)) why.remove_prefix(kPrefix.size());
  return std::unexpected(fmt::format("no vGPU found: {}. {}", why, kHint));
}

}  // namespace vgpu::tools
