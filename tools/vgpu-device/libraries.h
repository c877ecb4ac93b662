// A folder of links to the shim libraries under NVIDIA's names, for LD_LIBRARY_PATH: only the CUDA
// generations asked for, since programs choose by what they find.
#pragma once

#include <expected>
#include <string>
#include <vector>

namespace vgpu::tools {

class LibraryFolder {
 public:
  // `source`: the folder that holds the libraries. `cuda`: "12", "13" or "all". The error is a line for the
  // user.
  static std::expected<LibraryFolder, std::string> create(const std::string& source, const std::string& cuda);
  LibraryFolder(LibraryFolder&& other) noexcept;
  LibraryFolder& operator=(LibraryFolder&&) = delete;
  ~LibraryFolder();  // removes the folder

  const std::string& path() const noexcept { return path_; }
  // The libraries' paths, in the order they should be preloaded.
  std::vector<std::string> preload() const;

 private:
  LibraryFolder() = default;
  std::string path_;
  std::vector<std::string> names_;
};

// Where the libraries are when nobody says: <build>/shim/lib beside <build>/tools/vgpu-device/vgpu-device,
// else else
// ../lib/vgpu (or the like) as installed. Empty: neither is there.
std::string default_library_source();

}  // namespace vgpu::tools
