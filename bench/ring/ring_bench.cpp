// ring_bench: the command ring between two processes over a shared mapping, beside the machine's bare limits,
// the queues of other libraries, and the kernel's own ways, on the same cores and in the same rounds.
//   round_trip       one message and its answer, each timed by itself (the clock's cost included): for the
//   tails round_trip_mean  means of 64 successive ones, free of the clock: for ratios stream           time
//   per message of a stream nobody waits for, as the receiver sees it, over blocks submit           what
//   sending one message costs the sender while the receiver keeps up; submit_mean: of 32 wake_up from waking
//   a sleeper to its first look
#include <string>

#include "bench/ring/measure.h"

int main(int argc, char** argv) {
  using namespace vgpu::bench;
  Suite suite("ring_bench");
  if (const auto status = suite.parse(argc, argv)) {
    return *status;
  }
  suite.cut_rounds(5'000'000);
  suite.note("mapping", "memfd, write-back, inherited over fork");
  suite.note("queue_bytes", std::to_string(kQueueBytes));
  suite.note("moodycamel_readerwriterqueue",
             "its blocks lie in the heap: both sides are threads of one process");
#if !VGPU_BENCH_DPDK
  suite.note("dpdk_rte_ring",
             "left out: libdpdk was not there at build time (scripts/setup bench installs it)");
#endif
  for (const Placement placement : kPlacements) {
    const auto& cores = placements()[placement];
    if (!cores) {
      suite.add({"any", "any", {{"placement", std::string(placement_name(placement))}}},
                [](Round& round) { round.skip("this machine has no two processors placed so"); });
      continue;
    }
    const Where where{placement, *cores};
    add_bare(suite, where);
    add_vgpu(suite, where);
    add_queues(suite, where);
#if VGPU_BENCH_DPDK
    add_rte_ring(suite, where);
#endif
    add_kernel(suite, where);
    add_wake_up(suite, where);
  }
  return suite.run();
}
