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

constexpr const char* kHint =
    "start one with `vgpu-device`, run a program with `vgpu-device run -- PROGRAM`, or name a device: "
    "VGPU_DEVICE=/path or a PCI address";

void add_file(std::vector<Place>& places, const std::string& path, pci::FoundBy found_by) {
  const auto same = [&](const Place& place) { return place.location.path == path; };
  if (std::ranges::any_of(places, same)) return;
  Place place;
  place.location.carrier = pci::Carrier::kFile;
  place.location.found_by = found_by;
  place.location.path = path;
  places.push_back(std::move(place));
}

}  // namespace

std::vector<Place> all_places() {
  std::vector<Place> places;
  const pci::LocateOptions options;
  if (const char* named = std::getenv("VGPU_DEVICE"); named != nullptr && named[0] == '/') {
    add_file(places, named, pci::FoundBy::kEnvironment);
  }
  if (auto functions = pci::discover(options.sysfs_root)) {
    for (auto& function : *functions) {
      Place place;
      place.location.carrier = pci::Carrier::kPciBar;
      place.location.found_by = pci::FoundBy::kPci;
      place.location.path = function.sysfs_directory;
      place.location.address = function.address;
      place.function = std::move(function);
      places.push_back(std::move(place));
    }
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
  for (const auto& path : files) add_file(places, path, pci::FoundBy::kDefaultPath);
  return places;
}

std::expected<Place, std::string> choose_place(const std::string& device) {
  pci::LocateOptions options;
  const char* named = std::getenv("VGPU_DEVICE");
  options.device = !device.empty() ? device : named != nullptr ? named : "";
  auto found = pci::locate(options);
  if (!found) {
    std::string text = std::move(found.error().text);
    // It speaks of the environment; this one was named on the command line.
    const std::string environment = "VGPU_DEVICE=" + device + ": ";
    if (!device.empty() && text.starts_with(environment)) text.erase(0, environment.size());
    if (found.error().code == ring::ErrorCode::kNotFound) text = fmt::format("{}; {}", text, kHint);
    return std::unexpected(std::move(text));
  }
  Place place;
  place.location = found->front();
  if (place.location.carrier == pci::Carrier::kPciBar) {
    if (auto functions = pci::discover(options.sysfs_root)) {
      for (auto& function : *functions) {
        if (function.address == place.location.address) place.function = std::move(function);
      }
    }
  }
  return place;
}

}  // namespace vgpu::tools
