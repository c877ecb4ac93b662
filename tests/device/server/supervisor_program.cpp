// vgpu-device's supervisor around the fake backend, without the tools: a process for tests to kill.
// Arguments: region path, then "sandbox", "no-sandbox" or "broken" (a backend that cannot be made).
#include <cstdio>
#include <cstring>
#include <memory>

#include "device/server/supervisor.h"
#include "tests/device/server/fake_backend.h"

int main(int argc, char** argv) {
  using namespace vgpu::device;
  if (argc < 3) return 2;
  SupervisorOptions options;
  options.region_bytes = 16u << 20;
  options.worker.region_path = argv[1];
  options.worker.server.geometry = default_geometry(options.region_bytes, 4);
  options.worker.sandbox = std::strcmp(argv[2], "sandbox") == 0;
  options.worker.make_backend = [broken = std::strcmp(argv[2], "broken") ==
                                          0]() -> Result<std::unique_ptr<Backend>> {
    if (broken)
      return std::unexpected(Error{vgpu::protocol::Status::kUnknown, "there is nothing to compute with"});
    return std::make_unique<testing::FakeBackend>();
  };
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
  for (;;) {
    const auto event = (*supervisor)->wait_event();
    if (event.kind == Supervisor::Event::Kind::kSignal) break;
  }
  (*supervisor)->stop();
  std::printf("stopped after %llu launches\n",
              static_cast<unsigned long long>((*supervisor)->summary().totals.block.launches));
  return 0;
}
