// A whole device process for the driver's tests: supervisor and worker around the plain backend, until
// SIGTERM. Argument: the region's path. Says "ready", then the worker's process id.
#include <cstdio>

#include "device/server/supervisor.h"
#include "tests/shim/cuda/plain_backend.h"

int main(int argc, char** argv) {
  using namespace vgpu;
  if (argc != 2) return 2;
  device::SupervisorOptions options;
  options.region_bytes = 64u << 20;
  options.worker.region_path = argv[1];
  options.worker.server.geometry = device::default_geometry(options.region_bytes, 4);
  options.worker.sandbox = false;
  options.worker.make_backend = []() -> device::Result<std::unique_ptr<device::Backend>> {
    return std::make_unique<shim::testing::PlainBackend>();
  };
  auto supervisor = device::Supervisor::create(options);
  if (!supervisor) {
    std::printf("failed: %s\n", supervisor.error().reason.c_str());
    return 1;
  }
  if (const auto ready = (*supervisor)->wait_ready(); !ready) {
    std::printf("failed: %s\n", ready.error().reason.c_str());
    return 1;
  }
  std::printf("ready %d\n", static_cast<int>((*supervisor)->worker_pid()));
  std::fflush(stdout);
  while ((*supervisor)->wait_event().kind != device::Supervisor::Event::Kind::kSignal) {
  }
  (*supervisor)->stop();
  return 0;
}
