// A guest as a process of its own, to be killed: claims a channel of the region named, takes memory, starts a
// kernel if asked to, says so on standard output, and waits for the end of standard input.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "tests/device/server/fake_backend.h"
#include "tests/device/server/guest.h"

int main(int argc, char** argv) {
  using namespace vgpu;
  if (argc < 3) return 2;
  auto guest = device::testing::Guest::attach(argv[1]);
  if (!guest) {
    std::fprintf(stderr, "%s\n", guest.error().text.c_str());
    return 1;
  }
  if ((*guest)->call(protocol::MemAllocRequest{.bytes = 1u << 20}).status != protocol::Status::kSuccess)
    return 1;
  if (std::strcmp(argv[2], "kernel") == 0) {
    (*guest)->send(device::testing::blocking_launch());
  }
  std::puts("ready");
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
