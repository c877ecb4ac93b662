// Links to the shim libraries.
#include "tools/vgpu-device/libraries.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace vgpu::tools {
namespace {

namespace fs = std::filesystem;

// What programs ask the loader for, with the CUDA generation it belongs to (0: any), in preload order.
struct Soname {
  std::string_view name;
  int generation;
};
constexpr auto kSonames = std::to_array<Soname>({{"libcuda.so.1", 0},
                                                 {"libnvidia-ml.so.1", 0},
                                                 {"libcudart.so.12", 12},
                                                 {"libcublasLt.so.12", 12},
                                                 {"libcublas.so.12", 12},
                                                 {"libcudart.so.13", 13},
                                                 {"libcublasLt.so.13", 13},
                                                 {"libcublas.so.13", 13}});

}  // namespace

std::expected<LibraryFolder, std::string> LibraryFolder::create(const std::string& source,
                                                                const std::string& cuda) {
  LibraryFolder folder;
  std::error_code error;
  const char* temporary = std::getenv("TMPDIR");
  folder.path_ =
      fmt::format("{}/vgpu-lib-XXXXXX", temporary != nullptr && *temporary != '\0' ? temporary : "/tmp");
  if (::mkdtemp(folder.path_.data()) == nullptr) {
    const int error_number = errno;
    return std::unexpected(fmt::format("cannot make a folder for the libraries, {}: {}",
                                       std::exchange(folder.path_, {}), std::strerror(error_number)));
  }
  for (const auto& [name, generation] : kSonames) {
    if (generation != 0 && cuda != "all" && cuda != std::to_string(generation)) continue;
    const auto target = fs::canonical(fs::path(source) / name, error);
    if (error) continue;
    fs::create_symlink(target, fs::path(folder.path_) / name, error);
    if (error) return std::unexpected(fmt::format("cannot link {}: {}", name, error.message()));
    folder.names_.emplace_back(name);
  }
  if (std::ranges::find(folder.names_, "libcuda.so.1") == folder.names_.end()) {
    return std::unexpected(fmt::format(
        "{} holds no libcuda.so.1: build the shim libraries, or say where they are with --libs", source));
  }
  return folder;
}

LibraryFolder::LibraryFolder(LibraryFolder&& other) noexcept
    : path_(std::exchange(other.path_, {})), names_(std::move(other.names_)) {}

LibraryFolder::~LibraryFolder() {
  if (path_.empty()) return;
  std::error_code ignored;
  fs::remove_all(path_, ignored);  // links only
}

std::vector<std::string> LibraryFolder::preload() const {
  std::vector<std::string> paths;
  for (const auto& name : names_) paths.push_back(path_ + "/" + name);
  return paths;
}

std::string default_library_source() {
  std::error_code error;
  const auto program = fs::read_symlink("/proc/self/exe", error);
  if (error) return {};
  for (const auto& candidate : {program.parent_path() / "../../shim/lib",
                                program.parent_path() / ".." / VGPU_INSTALL_LIBDIR / "vgpu"}) {
    if (fs::exists(candidate / "libcuda.so.1", error)) return fs::canonical(candidate, error).string();
  }
  return {};
}

}  // namespace vgpu::tools
