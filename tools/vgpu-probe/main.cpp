// vgpu-probe: which vGPUs are there, what are they doing, do they work, how fast are they.
#include <cstdio>
#include <exception>

#include "tools/vgpu-probe/cli.h"

int main(int argc, char** argv) try {
  return vgpu::tools::CommandLine().run(argc, argv);
} catch (const std::exception& exception) {
  std::fprintf(stderr, "vgpu-probe: %s\n", exception.what());
  return 1;
} catch (...) {
  std::fputs("vgpu-probe: an unknown failure\n", stderr);
  return 1;
}
