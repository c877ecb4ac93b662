// What single calls cost the thread that makes them, and how long it waits where it must.
#include <cstring>
#include <memory>
#include <vector>

#include "bench/transport/cases.h"
#include "bench/transport/cudart.h"
#include "bench/transport/empty_kernel.h"
#include "bench/transport/measure.h"

namespace vgpu::bench {
namespace {

constexpr std::size_t kSmallCopy = 64;
constexpr std::size_t kSmallSet = 256;
constexpr std::size_t kAllocation = 64 << 10;

CaseId timed_case(std::string name, std::string variant,
                  std::vector<std::pair<std::string, Parameter>> parameters, Timed timed) {
  parameters.emplace_back("timed", timed_name(timed));
  return {.name = std::move(name), .variant = std::move(variant), .parameters = std::move(parameters)};
}

// A call that only submits: alone and in bursts, the device keeping up. `make` returns the call.
template <typename Make>
void add_submit(Suite& suite, Setup& setup, const std::string& name, const std::string& variant,
                const std::vector<std::pair<std::string, Parameter>>& parameters, Make make) {
  for (const Timed timed : {Timed::kBurst, Timed::kEach}) {
    suite.add(timed_case(name, variant, parameters, timed), [&setup, make, timed](Round& round) {
      Cuda& cuda = setup.cuda();
      const Pinned core(Setup::cores().first);
      auto call = make(cuda);
      measure_bursts(round, timed, call, [] {
        check(cuCtxSynchronize(), "cuCtxSynchronize");  // on whichever stream the call was
        spin_for(kBurstCalls * kPauseNsEach);
      });
    });
  }
}

void add_launches(Suite& suite, Setup& setup) {
  for (const int parameters : {8, 1, 32}) {  // the first right behind the ring's own record
    add_submit(suite, setup, "launch_submit", "cuLaunchKernel", {{"parameters", int64_t{parameters}}},
               [parameters](Cuda& cuda) {
                 return [kernel = std::make_unique<EmptyKernel>(parameters), &cuda] {
                   kernel->launch(cuda.stream());
                 };
               });
  }
  add_submit(suite, setup, "launch_submit", "cudaLaunchKernel", {{"parameters", int64_t{8}}}, [](Cuda& cuda) {
    return [kernel = std::make_unique<RuntimeKernel>(8), &cuda] { kernel->launch(cuda.stream()); };
  });
  suite.add({.name = "launch_sustained",
             .variant = "cuLaunchKernel",
             .parameters = {{"parameters", int64_t{8}}},
             .kind = Kind::kRate,
             .unit = "1/s"},
            [&setup](Round& round) {
              Cuda& cuda = setup.cuda();
              const Pinned core(Setup::cores().first);
              EmptyKernel kernel(8);
              kernel.launch(cuda.stream());
              cuda.synchronize();
              round.record(calls_per_second(
                  round.budget_ns(), [&] { kernel.launch(cuda.stream()); }, [&] { cuda.synchronize(); }));
            });
}

// Calls that wait for the device while both sides spin.
void add_synchronous(Suite& suite, Setup& setup) {
  const auto add = [&](const std::string& variant, auto prepare, auto call) {
    suite.add({.name = "synchronous_call", .variant = variant}, [&setup, prepare, call](Round& round) {
      Cuda& cuda = setup.cuda();
      const Pinned core(Setup::cores().first);
      EmptyKernel kernel(8);
      measure_calls(round, [&] { prepare(cuda, kernel); }, [&] { call(cuda, kernel); });
    });
  };
  const auto launch = [](Cuda& cuda, EmptyKernel& kernel) { kernel.launch(cuda.stream()); };
  const auto nothing = [](Cuda&, EmptyKernel&) {};
  const auto stream = [](Cuda& cuda, EmptyKernel&) { cuda.synchronize(); };
  const auto context = [](Cuda&, EmptyKernel&) { check(cuCtxSynchronize(), "cuCtxSynchronize"); };
  // A command and its reply.
  add("cuMemGetInfo", nothing, [](Cuda&, EmptyKernel&) {
    std::size_t free = 0;
    std::size_t total = 0;
    check(cuMemGetInfo_v2(&free, &total), "cuMemGetInfo");
  });
  // From before the launch until it has executed.
  add("cuLaunchKernel+cuStreamSynchronize", nothing, [=](Cuda& cuda, EmptyKernel& kernel) {
    launch(cuda, kernel);
    stream(cuda, kernel);
  });
  add("cuLaunchKernel+cuCtxSynchronize", nothing, [=](Cuda& cuda, EmptyKernel& kernel) {
    launch(cuda, kernel);
    context(cuda, kernel);
  });
  // The wait alone, the launch just submitted.
  add("cuStreamSynchronize", launch, stream);
  add("cuCtxSynchronize", launch, context);
}

void add_events(Suite& suite, Setup& setup) {
  add_submit(suite, setup, "event", "cuEventRecord", {}, [](Cuda& cuda) {
    return [event = std::make_unique<Event>(), &cuda] {
      check(cuEventRecord(event->get(), cuda.stream()), "cuEventRecord");
    };
  });
  add_submit(suite, setup, "event", "cuEventQuery", {}, [](Cuda& cuda) {
    auto event = std::make_unique<Event>();
    check(cuEventRecord(event->get(), cuda.stream()), "cuEventRecord");
    cuda.synchronize();
    return [event = std::move(event)] { check(cuEventQuery(event->get()), "cuEventQuery"); };
  });
  suite.add({.name = "event", .variant = "cuEventRecord+cuEventSynchronize"}, [&setup](Round& round) {
    Cuda& cuda = setup.cuda();
    const Pinned core(Setup::cores().first);
    Event event;
    measure_calls(
        round, [] {},
        [&] {
          check(cuEventRecord(event.get(), cuda.stream()), "cuEventRecord");
          check(cuEventSynchronize(event.get()), "cuEventSynchronize");
        });
  });
}

void add_memory(Suite& suite, Setup& setup) {
  const auto bytes = static_cast<int64_t>(kAllocation);
  suite.add({.name = "memory", .variant = "cuMemAlloc", .parameters = {{"bytes", bytes}}},
            [&setup](Round& round) {
              setup.cuda();
              const Pinned core(Setup::cores().first);
              CUdeviceptr memory = 0;
              measure_calls(
                  round,
                  [&] {
                    check(cuMemFree_v2(memory), "cuMemFree");
                    check(cuCtxSynchronize(), "cuCtxSynchronize");
                  },
                  [&] { check(cuMemAlloc_v2(&memory, kAllocation), "cuMemAlloc"); });
              check(cuMemFree_v2(memory), "cuMemFree");
            });
  suite.add({.name = "memory", .variant = "cuMemFree", .parameters = {{"bytes", bytes}}},
            [&setup](Round& round) {
              setup.cuda();
              const Pinned core(Setup::cores().first);
              CUdeviceptr memory = 0;
              measure_calls(
                  round, [&] { check(cuMemAlloc_v2(&memory, kAllocation), "cuMemAlloc"); },
                  [&] { check(cuMemFree_v2(memory), "cuMemFree"); });
            });
  add_submit(suite, setup, "memset", "cuMemsetD8Async", {{"bytes", static_cast<int64_t>(kSmallSet)}},
             [](Cuda& cuda) {
               return [memory = std::make_unique<DeviceBuffer>(kSmallSet), &cuda] {
                 check(cuMemsetD8Async(memory->address(), 1, kSmallSet, cuda.stream()), "cuMemsetD8Async");
               };
             });
}

void add_small_copies(Suite& suite, Setup& setup) {
  const std::vector<std::pair<std::string, Parameter>> bytes{{"bytes", static_cast<int64_t>(kSmallCopy)}};
  struct alignas(64) Source {
    std::byte bytes[kSmallCopy] = {};
  };
  struct Copy {
    DeviceBuffer memory{kSmallCopy};
    Source source;
  };
  add_submit(suite, setup, "copy_submit", "cuMemcpyHtoD", bytes, [](Cuda&) {
    return [copy = std::make_unique<Copy>()] {
      check(cuMemcpyHtoD_v2(copy->memory.address(), copy->source.bytes, kSmallCopy), "cuMemcpyHtoD");
    };
  });
  add_submit(suite, setup, "copy_submit", "cuMemcpyHtoDAsync", bytes, [](Cuda& cuda) {
    return [copy = std::make_unique<Copy>(), &cuda] {
      check(cuMemcpyHtoDAsync_v2(copy->memory.address(), copy->source.bytes, kSmallCopy, cuda.stream()),
            "cuMemcpyHtoDAsync");
    };
  });
}

}  // namespace

void add_calls(Suite& suite, Setup& setup) {
  add_ring_submit(suite);
  add_launches(suite, setup);
  add_bare_cache_line(suite);
  add_synchronous(suite, setup);
  add_events(suite, setup);
  add_memory(suite, setup);
  add_small_copies(suite, setup);
}

}  // namespace vgpu::bench
