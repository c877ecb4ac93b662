// transport_bench: what CUDA calls cost on their way to a device that executes nothing, through the libraries
// that programs load. Every case's baseline is measured in the same round.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "bench/harness/clock.h"
#include "bench/transport/cases.h"

namespace vgpu::bench {

CorePair Setup::cores() {
  const auto pair = placements().usual();
  if (!pair) {
    throw std::runtime_error("this process may use one core only, and the transport takes two");
  }
  return *pair;
}

Cuda& Setup::cuda() {
  if (!cuda_) {
    device_.emplace(DeviceOptions{.program = device_program,
                                  .arguments = {"--size", "4G", "--channels", "2", "--memory", "8G"}});
    ::setenv("VGPU_DEVICE", device_->path().c_str(), 1);
    cuda_.emplace();
    hold_worker();
  }
  return *cuda_;
}

void Setup::hold_worker() {
  if (!device_->pin_worker(cores().second)) {
    throw std::runtime_error("the device's threads cannot be held on a processor");
  }
}

void Setup::free_worker() {
  if (!device_->pin_worker(-1)) {
    throw std::runtime_error("the device's threads cannot be let go from a processor");
  }
}

Device& Setup::shared_device() {
  if (!shared_device_) {
    shared_device_.emplace(DeviceOptions{.program = device_program, .arguments = {}});
  }
  return *shared_device_;
}

namespace {

int run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "client") {
    return client_main(argc - 2, argv + 2);
  }
  Setup setup;
  setup.device_program = VGPU_BENCH_DEVICE;
  Suite suite("transport_bench");
  suite.option("--device", setup.device_program, "the vgpu-device to measure");
  suite.option("--idle-seconds", setup.idle_seconds, "watch an idle system for this long (10)");
  if (const auto status = suite.parse(argc, argv)) {
    return *status;
  }
  add_calls(suite, setup);
  add_copies(suite, setup);
  add_waiting(suite, setup);
  add_clients(suite, setup);
  return suite.run();
}

}  // namespace
}  // namespace vgpu::bench

int main(int argc, char** argv) try {
  return vgpu::bench::run(argc, argv);
} catch (const std::exception& error) {
  std::fprintf(stderr, "transport_bench: %s\n", error.what());
  return 1;
}
