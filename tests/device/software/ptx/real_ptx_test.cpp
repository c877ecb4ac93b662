// All PTX of llama.cpp's prebuilt CUDA library, where scripts/fetch put it. Skipped where it is not there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "device/software/fatbin/fatbin.h"
#include "device/software/ptx/ast.h"
#include "tests/tools/fatbin_extract/elf_fatbins.h"

namespace vgpu::software::ptx {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// As scripts/lib.sh has it; VGPU_TEST_CUDA_LIBRARY names another file.
std::filesystem::path library() {
  if (const std::string file = environment("VGPU_TEST_CUDA_LIBRARY"); !file.empty()) return file;
  std::filesystem::path cache = environment("VGPU_CACHE");
  if (cache.empty()) {
    const std::string xdg = environment("XDG_CACHE_HOME");
    const std::string home = environment("HOME");
    cache = (xdg.empty() ? std::filesystem::path(home.empty() ? "/root" : home) / ".cache"
                         : std::filesystem::path(xdg)) /
            "vgpu";
  }
  return cache /
         "npm/node_modules/@node-llama-cpp/linux-x64-cuda-ext/bins/linux-x64-cuda/fallback/libggml-cuda.so";
}

// Kernels compiled for another architecture only print a message and trap.
bool is_stub(const Module& module, const Function& function) {
  for (const std::uint32_t callee : function.called_functions) {
    if (module.functions()[callee].name == "vprintf") return true;
  }
  return false;
}

TEST(RealPtx, EveryKernelOfLlamaCppParses) {
  const auto path = library();
  if (!std::filesystem::exists(path)) {
    GTEST_SKIP() << "needs llama.cpp's CUDA library at " << path << " (scripts/fetch gets it)";
  }
  const auto file = testing::MappedFile::open(path);
  ASSERT_TRUE(file) << file.error();
  const auto fatbins = testing::find_fatbins(file->bytes());
  ASSERT_TRUE(fatbins) << fatbins.error();
  std::size_t modules = 0;
  std::size_t kernels = 0;
  std::size_t real = 0;
  std::size_t instructions = 0;
  for (const auto fatbin : *fatbins) {
    const auto image = fatbin::choose_ptx(fatbin, 61);
    if (!image) {
      EXPECT_EQ(image.error().kind, fatbin::ErrorKind::kNoBinaryForGpu) << image.error().message;
      continue;
    }
    EXPECT_EQ(image->arch, 61U);
    const auto module = Module::parse(image->text, std::to_string(modules++) + ".ptx");
    ASSERT_TRUE(module) << module.error().describe();
    for (const FunctionDecl& decl : module->functions()) {
      if (!decl.is_defined) continue;
      const auto function = module->parse_function(decl.name);
      ASSERT_TRUE(function) << function.error().describe();
      ++kernels;
      instructions += function->instructions.size();
      if (!is_stub(*module, *function)) ++real;
      if (kernels % 97 != 0) continue;
      // What is printed parses to the same instructions.
      std::string text(module->text().substr(0, decl.body_begin));
      text += print(*module, *function) + std::string(module->text().substr(decl.body_end));
      const auto again = Module::parse(text, "printed");
      ASSERT_TRUE(again) << again.error().describe();
      const auto reparsed = again->parse_function(decl.name);
      ASSERT_TRUE(reparsed) << reparsed.error().describe();
      ASSERT_EQ(reparsed->instructions.size(), function->instructions.size());
    }
  }
  RecordProperty("modules", static_cast<int>(modules));
  RecordProperty("instructions", static_cast<int>(instructions));
  if (environment("VGPU_TEST_CUDA_LIBRARY").empty()) {
    // The version is pinned, so the numbers are.
    EXPECT_EQ(modules, 143U);
    EXPECT_EQ(kernels, 6741U);
    EXPECT_EQ(real, 3570U);
  }
  EXPECT_GT(real, 0U);
}

}  // namespace
}  // namespace vgpu::software::ptx
