// See elf_fatbins.h.
#include "tests/tools/fatbin_extract/elf_fatbins.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "device/software/fatbin/fatbin.h"

namespace vgpu::testing {

std::expected<MappedFile, std::string> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::unexpected("cannot open " + path + ": " + std::strerror(errno));
  struct stat info{};
  void* address = MAP_FAILED;
  if (::fstat(fd, &info) == 0 && info.st_size > 0) {
    address = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  }
  ::close(fd);
  if (address == MAP_FAILED) return std::unexpected("cannot map " + path + ": " + std::strerror(errno));
  return MappedFile({static_cast<const std::byte*>(address), static_cast<std::size_t>(info.st_size)});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

std::expected<std::vector<std::span<const std::byte>>, std::string> find_fatbins(
    std::span<const std::byte> file) {
  std::vector<std::span<const std::byte>> found;
  const auto walk = [&](std::span<const std::byte> section) {
    // Containers are aligned to 8 bytes, with padding between them.
    for (std::size_t at = 0; at + 16 <= section.size();) {
      const auto size = software::fatbin::fatbin_size(section.subspan(at));
      if (!size) {
        at += 8;
        continue;
      }
      found.push_back(section.subspan(at, *size));
      at += (*size + 7) / 8 * 8;
    }
  };
  if (software::fatbin::image_kind(file) == software::fatbin::ImageKind::kFatbin) {
    walk(file);
    return found;
  }
  const auto read = [&]<typename T>(std::size_t offset, T& out) {
    if (offset > file.size() || file.size() - offset < sizeof(T)) return false;
    std::memcpy(&out, file.data() + offset, sizeof(T));
    return true;
  };
  Elf64_Ehdr header;
  if (!read(0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64) {
    return std::unexpected("neither a fatbin nor a 64-bit ELF file");
  }
  Elf64_Shdr names;
  if (!read(header.e_shoff + header.e_shstrndx * sizeof(Elf64_Shdr), names)) {
    return std::unexpected("the section names lie outside the file");
  }
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    char name[sizeof ".nv_fatbin"] = {};
    if (!read(header.e_shoff + i * sizeof(Elf64_Shdr), section) ||
        !read(names.sh_offset + section.sh_name, name))
      continue;
    if (std::memcmp(name, ".nv_fatbin", sizeof name) != 0) continue;
    if (section.sh_offset > file.size() || section.sh_size > file.size() - section.sh_offset) continue;
    walk(file.subspan(section.sh_offset, section.sh_size));
  }
  if (found.empty()) return std::unexpected("no fatbin in the file");
  return found;
}

}  // namespace vgpu::testing
