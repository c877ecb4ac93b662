// What the calls are compared with, on the same two cores, measured as ring_bench does it: a word that two
// processes pass to and fro, and a record of 256 bytes put into the ring by itself.
#include "bench/ring/bare_link.h"
#include "bench/ring/vgpu_link.h"
#include "bench/transport/cases.h"
#include "bench/transport/measure.h"

namespace vgpu::bench {
namespace {

constexpr std::size_t kRecordBytes = 256;

}  // namespace

void add_bare_cache_line(Suite& suite) {
  suite.add({.name = "synchronous_call", .variant = "bare_cache_line"},
            [](Round& round) { measure_round_trip<BareCacheLine>(round, Setup::cores(), 1); });
}

void add_ring_submit(Suite& suite) {
  for (const Timed timed : {Timed::kEach, Timed::kBurst}) {
    suite.add({.name = "ring_submit",
               .variant = "vgpu",
               .parameters = {{"bytes", int64_t{kRecordBytes}}, {"timed", timed_name(timed)}}},
              [timed](Round& round) {
                const unsigned calls = timed == Timed::kEach ? 1 : kBurstCalls;
                measure_submit<VgpuLink<kRecordBytes, Waking::kSleeperFences>>(round, Setup::cores(), calls,
                                                                               calls * kPauseNsEach);
              });
  }
}

}  // namespace vgpu::bench
