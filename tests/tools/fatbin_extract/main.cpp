// fatbin_extract: lists or extracts the PTX modules of a CUDA library (any ELF with .nv_fatbin) or fatbin.
//   fatbin_extract list FILE             one line per entry: module, kind, architecture, version, size
//   fatbin_extract kernels FILE [ARCH]   one line per entry point: module, name, instructions, or why not
//   fatbin_extract extract FILE DIR [ARCH]   DIR/NNN.ptx per module: the best PTX not above ARCH (default 61)
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "device/software/fatbin/fatbin.h"
#include "device/software/ptx/ast.h"
#include "tests/tools/fatbin_extract/elf_fatbins.h"

namespace {

using namespace vgpu;

int usage() {
  std::fputs(
      "usage: fatbin_extract list FILE\n"
      "       fatbin_extract kernels FILE [ARCH]\n"
      "       fatbin_extract extract FILE DIR [ARCH]\n",
      stderr);
  return 2;
}

int fail(const std::string& message) {
  std::fprintf(stderr, "fatbin_extract: %s\n", message.c_str());
  return 1;
}

int list(const std::vector<std::span<const std::byte>>& fatbins) {
  for (std::size_t i = 0; i < fatbins.size(); ++i) {
    const auto entries = software::fatbin::list_entries(fatbins[i]);
    if (!entries) return fail(entries.error().message);
    for (const auto& entry : *entries) {
      std::printf("%03zu %s sm_%u %u.%u %zu -> %llu\n", i,
                  entry.kind == software::fatbin::EntryKind::kPtx ? "ptx" : "elf", entry.arch,
                  entry.ptx_major, entry.ptx_minor, entry.payload.size(),
                  static_cast<unsigned long long>(entry.uncompressed_size));
    }
  }
  return 0;
}

int kernels(const std::vector<std::span<const std::byte>>& fatbins, std::uint32_t arch) {
  std::size_t refused = 0;
  for (std::size_t i = 0; i < fatbins.size(); ++i) {
    const auto image = software::fatbin::choose_ptx(fatbins[i], arch);
    if (!image) {
      std::printf("%03zu %s\n", i, image.error().message.c_str());
      continue;
    }
    char file[32];
    std::snprintf(file, sizeof file, "%03zu.ptx", i);
    const auto module = software::ptx::Module::parse(image->text, file);
    if (!module) {
      ++refused;
      std::printf("%03zu %s\n", i, module.error().describe().c_str());
      continue;
    }
    for (const auto& decl : module->functions()) {
      if (!decl.is_entry || !decl.is_defined) continue;
      const auto function = module->parse_function(decl.name);
      if (function) {
        std::printf("%03zu %s %zu\n", i, decl.name.c_str(), function->instructions.size());
      } else {
        ++refused;
        std::printf("%03zu %s %s\n", i, decl.name.c_str(), function.error().describe().c_str());
      }
    }
  }
  return refused == 0 ? 0 : 1;
}

int extract(const std::vector<std::span<const std::byte>>& fatbins, const std::string& folder,
            std::uint32_t arch) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return fail("cannot create " + folder + ": " + error.message());
  for (std::size_t i = 0; i < fatbins.size(); ++i) {
    const auto image = software::fatbin::choose_ptx(fatbins[i], arch);
    if (!image) {
      std::fprintf(stderr, "%03zu: %s\n", i, image.error().message.c_str());
      continue;
    }
    char name[32];
    std::snprintf(name, sizeof name, "%03zu.ptx", i);
    const std::string path = folder + "/" + name;
    std::ofstream out(path, std::ios::binary);
    out.write(image->text.data(), static_cast<std::streamsize>(image->text.size()));
    if (!out.flush()) return fail("cannot write " + path);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return usage();
  const std::string_view command = argv[1];
  const bool extracts = command == "extract";
  if ((command != "list" && command != "kernels" && !extracts) || (extracts && argc < 4)) return usage();
  const int arch_argument = extracts ? 4 : 3;
  const auto arch = static_cast<std::uint32_t>(argc > arch_argument ? std::atoi(argv[arch_argument]) : 61);
  const auto file = testing::MappedFile::open(argv[2]);
  if (!file) return fail(file.error());
  const auto fatbins = testing::find_fatbins(file->bytes());
  if (!fatbins) return fail(fatbins.error());
  if (command == "list") return list(*fatbins);
  return extracts ? extract(*fatbins, argv[3], arch) : kernels(*fatbins, arch);
}
