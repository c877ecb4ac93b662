// A VM with a doorbell as a process of its own, to be killed: connects to the socket named, and its guest
// claims a channel, takes memory and starts a kernel if asked to. Says so on standard output, and waits for
// the end of standard input. Arguments: socket, vectors, then "idle", "kernel" or "look" (claims nothing).
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/device/server/fake_backend.h"
#include "tests/device/server/fake_qemu.h"
#include "tests/device/server/guest.h"

int main(int argc, char** argv) {
  using namespace vgpu;
  using device::testing::Guest;
  if (argc < 4) return 2;
  const auto qemu =
      device::testing::FakeQemu::connect(argv[1], static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10)));
  if (!qemu) {
    std::puts("the server hung up");
    return 1;
  }
  const device::testing::DoorbellWaits waits(*qemu, 0);
  std::unique_ptr<Guest> guest;
  if (std::strcmp(argv[3], "look") != 0) {
    Guest::Claim claim;
    claim.ops = &waits.ops();
    auto attached = Guest::attach(qemu->region_path(), claim);
    if (!attached) {
      std::puts(attached.error().text.c_str());
      return 1;
    }
    guest = std::move(*attached);
    if (guest->call(protocol::MemAllocRequest{.bytes = 1u << 20}).status != protocol::Status::kSuccess)
      return 1;
  }
  if (std::strcmp(argv[3], "kernel") == 0) guest->send(device::testing::blocking_launch());
  std::puts("ready");
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
