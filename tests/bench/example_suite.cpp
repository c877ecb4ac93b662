// A benchmark program with made-up figures, for suite_test.
#include <stdexcept>

#include "bench/harness/suite.h"

int main(int argc, char** argv) {
  using namespace vgpu::bench;
  Suite suite("example_suite");
  bool with_failure = false;
  bool cut = false;
  suite.option("--cut-rounds", cut, "cut rounds into shorter ones");
  suite.option("--with-failure", with_failure, "add a case that fails");
  if (const auto status = suite.parse(argc, argv)) {
    return *status;
  }
  suite.note("mapping", "none");
  if (cut) {
    suite.cut_rounds(5'000'000);
  }
  suite.add({"round_trip", "fixed", {{"bytes", 64}, {"placement", "same_cache"}}}, [](Round& round) {
    for (uint64_t ns = 1; ns <= 100; ++ns) {
      round.latencies().record(ns);
    }
    round.note("round", round.number());
  });
  suite.add({"copy", "fixed", {{"bytes", 4096}}, Kind::kRate, "B/s"}, [](Round& round) {
    for (const double value : {1e9, 2e9, 3e9}) {
      round.record(value);
    }
  });
  suite.add({"idle", "fixed", {}, Kind::kAmount, "ms"}, [](Round& round) {
    if (round.number() > 0) {
      round.sit_out();
      return;
    }
    round.record(7);
  });
  suite.add({"round_trip", "other", {{"bytes", 64}, {"placement", "same_cache"}}},
            [](Round& round) { round.latencies().record(7); });
  suite.add({"round_trip", "nowhere", {}},
            [](Round& round) { round.skip("this machine has no such cores"); });
  if (with_failure) {
    suite.add({"round_trip", "broken", {}}, [](Round&) { throw std::runtime_error("the peer is gone"); });
  }
  return suite.run();
}
