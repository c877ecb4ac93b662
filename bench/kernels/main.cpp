// kernel_bench: kernels on the software device, from the call until they have executed, beside the same loads
// as plain C++ loops on one core and on as many as the device uses.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <optional>
#include <stdexcept>

#include "bench/harness/clock.h"
#include "bench/harness/placement.h"
#include "bench/kernels/team.h"
#include "bench/kernels/workload.h"
#include "bench/transport/device.h"
#include "bench/transport/measure.h"

namespace vgpu::bench {
namespace {

// A folder that is gone with the object: the device's compiled kernels.
class Folder {
 public:
  Folder() {
    std::string path = (std::filesystem::temp_directory_path() / "vgpu-bench.XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) {
      throw std::runtime_error("no temporary folder at " + path);
    }
    path_ = path;
  }
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

// The device, a context on it and the kernels, made when a case first asks.
class Setup {
 public:
  std::string device_program;

  Cuda& cuda() {
    if (!cuda_) {
      device_.emplace(DeviceOptions{.program = device_program,
                                    .backend = "software",
                                    .arguments = {"--cache-dir", folder_.path(), "--memory", "1G"}});
      ::setenv("VGPU_DEVICE", device_->path().c_str(), 1);
      cuda_.emplace();
      kernels_.emplace();
    }
    return *cuda_;
  }
  // The device's threads on one processor or, with -1, on all: kernels of many blocks run on all of them.
  void hold_worker(int processor) {
    cuda();
    if (!device_->pin_worker(processor)) {
      throw std::runtime_error("the device's threads cannot be held on a processor");
    }
  }
  const Kernels& kernels() {
    cuda();
    return *kernels_;
  }

 private:
  Folder folder_;
  std::optional<Device> device_;
  std::optional<Cuda> cuda_;
  std::optional<Kernels> kernels_;
};

void launch_empty(CUfunction function, unsigned blocks, CUstream stream) {
  check(cuLaunchKernel(function, blocks, 1, 1, 32, 1, 1, 0, stream, nullptr, nullptr), "cuLaunchKernel");
}

// Caller and device on the two nearest cores, as in transport_bench.
void add_empty(Suite& suite, Setup& setup) {
  const auto add = [&](const char* variant, unsigned blocks, auto measure) {
    suite.add(
        {.name = "empty_kernel", .variant = variant, .parameters = {{"blocks", int64_t{blocks}}}},
        [&setup, blocks, measure](Round& round) {
          const auto cores = placements().usual();
          if (!cores) {
            round.skip("this process may use one core only");
            return;
          }
          const Cuda& cuda = setup.cuda();
          const CUfunction function = setup.kernels().get("empty");
          const Pinned core(cores->first);
          setup.hold_worker(cores->second);
          measure(round, [&] { launch_empty(function, blocks, cuda.stream()); }, [&] { cuda.synchronize(); });
          setup.hold_worker(-1);
        });
  };
  add("submit", 1,
      [](Round& round, auto launch, auto wait) { measure_bursts(round, Timed::kBurst, launch, wait); });
  const auto until_done = [](Round& round, auto launch, auto wait) {
    measure_calls(
        round, [] {},
        [&] {
          launch();
          wait();
        });
  };
  add("vgpu", 1, until_done);
  add("vgpu", 256, until_done);
}

// One load's data, for all of its variants; checked once.
class Loaded {
 public:
  Loaded(Setup& setup, WorkloadKind kind) : setup_(setup), kind_(std::move(kind)) {}
  Workload& get() {
    if (!workload_) {
      const Cuda& cuda = setup_.cuda();
      workload_ = kind_.make(setup_.kernels());
      workload_->launch(cuda.stream());
      cuda.synchronize();
      workload_->run_on_host({});
      if (const std::string difference = workload_->compare(); !difference.empty()) {
        throw std::runtime_error(kind_.name + " is wrong: " + difference);
      }
    }
    return *workload_;
  }

 private:
  Setup& setup_;
  WorkloadKind kind_;
  std::unique_ptr<Workload> workload_;
};

void add_workload(Suite& suite, Setup& setup, const WorkloadKind& kind) {
  const auto loaded = std::make_shared<Loaded>(setup, kind);
  const auto nothing = [] {};
  suite.add({.name = kind.name, .variant = "vgpu", .parameters = kind.parameters}, [=, &setup](Round& round) {
    Workload& workload = loaded->get();
    const Cuda& cuda = setup.cuda();
    measure_calls(round, nothing, [&] {
      workload.launch(cuda.stream());
      cuda.synchronize();
    });
  });
  suite.add({.name = kind.name, .variant = "cpp", .parameters = kind.parameters}, [=](Round& round) {
    Workload& workload = loaded->get();
    measure_calls(round, nothing, [&] { workload.run_on_host({}); });
  });
  suite.add({.name = kind.name, .variant = "cpp_all_cores", .parameters = kind.parameters},
            [=](Round& round) {
              Workload& workload = loaded->get();
              Team team(usable_processors());
              measure_calls(round, nothing,
                            [&] { team.run([&](reference::Share share) { workload.run_on_host(share); }); });
            });
}

int run(int argc, char** argv) {
  Setup setup;
  setup.device_program = VGPU_BENCH_DEVICE;
  Suite suite("kernel_bench");
  suite.option("--device", setup.device_program, "the vgpu-device to measure");
  if (const auto status = suite.parse(argc, argv)) {
    return *status;
  }
  add_empty(suite, setup);
  for (const WorkloadKind& kind : all_workloads()) {
    add_workload(suite, setup, kind);
  }
  return suite.run();
}

}  // namespace
}  // namespace vgpu::bench

int main(int argc, char** argv) try {
  return vgpu::bench::run(argc, argv);
} catch (const std::exception& error) {
  std::fprintf(stderr, "kernel_bench: %s\n", error.what());
  return 1;
}
