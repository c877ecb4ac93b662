// compile_all_kernels LIBRARY [--every N] [--match TEXT] [--level N] [--block X,Y,Z] [--dump FOLDER]:
// compiles the real kernels among the sm_61 PTX of a CUDA library and reports how many, how long, and the
// slowest. N: the optimisation level, by default what the device uses.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/device/software/jit/real_kernels.h"

int main(int argc, char** argv) {
  using namespace vgpu;
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: %s LIBRARY [--every N] [--match TEXT] [--level N] [--block X,Y,Z] [--dump FOLDER]\n",
                 argv[0]);
    return 2;
  }
  std::size_t every = 1;
  std::string match;
  std::string folder;
  std::optional<software::jit::LaunchShape> block;
  software::jit::Options options;
  for (int i = 2; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--every") == 0) every = std::strtoul(argv[i + 1], nullptr, 10);
    if (std::strcmp(argv[i], "--match") == 0) match = argv[i + 1];
    if (std::strcmp(argv[i], "--level") == 0) options.opt_level = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--block") == 0) {
      block.emplace();
      block->indices_fit_31_bits = true;
      if (std::sscanf(argv[i + 1], "%u,%u,%u", &block->ntid[0], &block->ntid[1], &block->ntid[2]) != 3)
        return 2;
    }
    if (std::strcmp(argv[i], "--dump") == 0) folder = argv[i + 1];
  }
  auto kernels = testing::list_real_kernels(argv[1]);
  if (!kernels) {
    std::fprintf(stderr, "%s\n", kernels.error().c_str());
    return 1;
  }
  std::printf("%zu real kernels\n", kernels->kernels.size());
  std::string current;
  if (!folder.empty()) {
    options.dump = [&](std::string_view stage, const std::string& text) {
      std::ofstream(folder + "/" + current.substr(0, 100) + "." + std::string(stage)) << text;
    };
  }
  software::jit::Jit jit(std::move(options));
  std::vector<std::pair<double, std::string>> times;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < kernels->kernels.size(); i += every) {
    const auto& kernel = kernels->kernels[i];
    if (!match.empty() && kernel.name.find(match) == std::string::npos) continue;
    current = kernel.name;
    const auto start = std::chrono::steady_clock::now();
    auto compiled = jit.compile(*kernel.module, kernel.name, block ? *block : testing::likely_shape(kernel));
    const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    times.emplace_back(taken, kernel.name);
    if (!compiled) {
      ++failed;
      std::printf("FAILED %s: %s\n", kernel.name.c_str(), compiled.error().message.c_str());
    }
    if (times.size() % 100 == 0) {
      std::printf("%zu compiled, %zu failed\n", times.size(), failed);
      std::fflush(stdout);
    }
  }
  std::ranges::sort(times);
  double total = 0;
  for (const auto& [taken, name] : times) total += taken;
  if (times.empty()) return 1;
  std::printf("kernels %zu failed %zu total %.1f s median %.3f s p90 %.3f s max %.3f s\n", times.size(),
              failed, total, times[times.size() / 2].first, times[times.size() * 9 / 10].first,
              times.back().first);
  for (std::size_t i = 0; i < 10 && i < times.size(); ++i) {
    const auto& [taken, name] = times[times.size() - 1 - i];
    std::printf("  %.2f s %s\n", taken, name.c_str());
  }
  return failed == 0 ? 0 : 1;
}
