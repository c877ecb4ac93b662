// vgpu-device's supervisor for VMs around the fake backend: a process for tests to kill. Arguments:
// directory, then the guests' names. With VGPU_TEST_SANDBOX set the workers are confined.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "device/server/supervisor.h"
#include "tests/device/server/fake_backend.h"

int main(int argc, char** argv) {
  using namespace vgpu::device;
  if (argc < 3) return 2;
  SupervisorOptions options;
  options.region_bytes = 16u << 20;
  for (int i = 2; i < argc; ++i) {
    const std::string start = std::string(argv[1]) + "/" + argv[i];
    VmGuestOptions guest;
    guest.worker.name = argv[i];
    guest.worker.region_path = start + ".bar";
    guest.worker.server.geometry = default_geometry(options.region_bytes, 4);
    guest.worker.sandbox = std::getenv("VGPU_TEST_SANDBOX") != nullptr;
    guest.worker.make_backend = []() -> Result<std::unique_ptr<Backend>> {
      return std::make_unique<testing::FakeBackend>();
    };
    guest.socket_path = start + ".sock";
    options.guests.push_back(std::move(guest));
  }
  auto supervisor = Supervisor::create(options);
  if (!supervisor) {
    std::puts(supervisor.error().reason.c_str());
    return 1;
  }
  if (const auto ready = (*supervisor)->wait_ready(); !ready) {
    std::puts(ready.error().reason.c_str());
    return 1;
  }
  std::puts("ready");
  std::fflush(stdout);
  while ((*supervisor)->wait_event().kind != Supervisor::Event::Kind::kSignal) {
  }
  (*supervisor)->stop();
  for (const auto& [name, summary] : (*supervisor)->summaries()) {
    std::printf("%s: %llu launches, %u deaths\n", name.c_str(),
                static_cast<unsigned long long>(summary.totals.block.launches), summary.worker_deaths);
  }
  return 0;
}
