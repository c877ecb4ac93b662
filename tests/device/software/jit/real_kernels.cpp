#include "tests/device/software/jit/real_kernels.h"

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "device/software/fatbin/fatbin.h"

namespace vgpu::testing {

namespace {

// Fatbins lie one behind the other, 8-byte aligned, in the library's .nv_fatbin section. Their magic number
// is looked for in the whole file: whatever is not one is refused by the reader.
std::vector<std::span<const std::byte>> find_fatbins(std::span<const std::byte> file) {
  std::vector<std::span<const std::byte>> found;
  for (std::size_t at = 0; at + 16 <= file.size(); at += 8) {
    std::uint32_t magic = 0;
    std::memcpy(&magic, file.data() + at, sizeof magic);
    if (magic != software::fatbin::kMagic) continue;
    const auto size = software::fatbin::fatbin_size(file.subspan(at));
    if (!size || *size > file.size() - at) continue;
    found.push_back(file.subspan(at, *size));
  }
  return found;
}

}  // namespace

std::expected<RealKernels, std::string> list_real_kernels(const std::filesystem::path& library) {
  std::ifstream input(library, std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(input), {}};
  if (content.empty()) return std::unexpected("cannot read " + library.string());
  const auto bytes = std::as_bytes(std::span(content));
  RealKernels result;
  std::size_t number = 0;
  for (const auto image : find_fatbins(bytes)) {
    const auto ptx = software::fatbin::choose_ptx(image, 61);
    if (!ptx || ptx->arch != 61) continue;
    auto parsed = software::ptx::Module::parse(ptx->text, "module" + std::to_string(number++) + ".ptx");
    if (!parsed) return std::unexpected(parsed.error().describe());
    auto module = std::make_shared<const software::ptx::Module>(std::move(*parsed));
    for (const auto& function : module->functions()) {
      if (!function.is_entry || !function.is_defined) continue;
      const auto body = module->text().substr(function.body_begin, function.body_end - function.body_begin);
      if (body.find("vprintf") != std::string_view::npos) continue;
      result.kernels.push_back({module, function.name, function.bounds});
    }
  }
  if (result.kernels.empty()) return std::unexpected("no sm_61 PTX in " + library.string());
  return result;
}

software::jit::LaunchShape likely_shape(const RealKernel& kernel) {
  const std::uint32_t grid[3] = {64, 1, 1};
  std::uint32_t block[3] = {256, 1, 1};
  const auto& bounds = kernel.bounds;
  std::uint32_t threads = 1;
  for (int i = 0; i < 3; ++i) threads *= std::max(1u, bounds.max_threads[i]);
  if (threads > 1) {
    // nvcc writes launch bounds as a row; kernels that are bounded are mostly launched as rows of warps.
    block[0] = threads % 32 == 0 ? 32 : threads;
    block[1] = threads % 32 == 0 ? threads / 32 : 1;
  }
  if (bounds.required_threads[0] != 0) std::copy_n(bounds.required_threads, 3, block);
  return software::jit::LaunchShape::of(block, grid);
}

std::optional<std::filesystem::path> find_llama_library() {
  std::filesystem::path modules;
  if (const char* given = std::getenv("VGPU_LLAMA_DIR")) {
    modules = given;
  } else if (const char* home = std::getenv("HOME")) {
    modules = std::filesystem::path(home) / ".cache/vgpu/npm/node_modules";
  }
  const auto library =
      modules / "@node-llama-cpp/linux-x64-cuda-ext/bins/linux-x64-cuda/fallback/libggml-cuda.so";
  std::error_code error;
  if (!std::filesystem::exists(library, error)) return std::nullopt;
  return library;
}

}  // namespace vgpu::testing
