// A benchmark program: cases are registered, run in interleaved rounds by Google Benchmark, and written as
// JSON. A case measures once per round; one round runs every case, so that ratios between cases are taken
// within a round and a machine that drifts does not favour any of them. What can go wrong: a case must
// measure for about budget_ns() and no longer, and must leave nothing behind (no child, no pinning).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bench/harness/histogram.h"

namespace vgpu::bench {

// What the figures of a case are. A latency is a histogram in nanoseconds; a rate (more is better, say "B/s")
// and an amount (less is better, say "ns" of CPU time) are single numbers, kept as they are.
enum class Kind { kLatency, kRate, kAmount };

using Parameter = std::variant<int64_t, std::string>;

// The name under which results are compared: name, variant and parameters together are unique in a suite.
// On the command line: name/variant/parameter:value/..., which --benchmark_filter matches.
struct CaseId {
  std::string name;     // what is measured: "round_trip"
  std::string variant;  // which implementation: "vgpu", or the baseline "bare_cache_line"
  std::vector<std::pair<std::string, Parameter>> parameters = {};
  Kind kind = Kind::kLatency;
  std::string unit = "ns";
  std::string text() const;
};

// One measurement of one case: where its measuring function puts its figures. One thread.
class Round {
 public:
  Round(uint64_t budget_ns, bool quick, int number) noexcept
      : budget_ns_(budget_ns), quick_(quick), number_(number) {}

  // For about how long to measure, warming up not counted.
  uint64_t budget_ns() const noexcept { return budget_ns_; }
  // A run that must be short rather than exact: leave out what takes long.
  bool quick() const noexcept { return quick_; }
  int number() const noexcept { return number_; }

  // kLatency.
  Histogram& latencies() noexcept { return latencies_; }
  const Histogram& latencies() const noexcept { return latencies_; }
  // kRate and kAmount: one number, in the case's unit, for each time it was measured.
  void record(double value) { values_.push_back(value); }
  const std::vector<double>& values() const noexcept { return values_; }
  // A figure beside the measured ones, kept with the result under "notes" (the last round's stands).
  void note(std::string name, double value) { notes_.emplace_back(std::move(name), value); }
  const std::vector<std::pair<std::string, double>>& notes() const noexcept { return notes_; }

  // Instead of figures: this machine cannot run the case, for a reason a reader understands.
  void skip(std::string why) { skipped_ = std::move(why); }
  // Instead of figures: what takes too long to be measured in every round was measured in an earlier one.
  void sit_out() noexcept { sits_out_ = true; }
  bool sits_out() const noexcept { return sits_out_; }
  // Instead of figures: something is wrong. The program's exit status will be 1.
  void fail(std::string why) { failed_ = std::move(why); }
  const std::optional<std::string>& skipped() const noexcept { return skipped_; }
  const std::optional<std::string>& failed() const noexcept { return failed_; }

 private:
  uint64_t budget_ns_;
  bool quick_;
  int number_;
  Histogram latencies_;
  std::vector<double> values_;
  std::vector<std::pair<std::string, double>> notes_;
  std::optional<std::string> skipped_;
  std::optional<std::string> failed_;
  bool sits_out_ = false;
};

// The program. main() makes one, adds options of its own, calls parse(), adds cases, and returns run().
// Flags: Google Benchmark's, --out FILE, --rounds N, --budget-ms N, --quick, --facts. One thread.
class Suite {
 public:
  explicit Suite(std::string name);
  ~Suite();
  Suite(const Suite&) = delete;
  Suite& operator=(const Suite&) = delete;

  // A flag of this program alone, e.g. option("--device", path, "..."): `value` keeps what it holds unless
  // the flag is given, and must live until parse(). What was in force is written to the result.
  void option(const std::string& flag, std::string& value, const std::string& help);
  void option(const std::string& flag, int64_t& value, const std::string& help);
  void option(const std::string& flag, bool& value, const std::string& help);

  // An exit status when the program is to end now (--help, or a flag it does not know).
  std::optional<int> parse(int argc, char** argv);
  // After parse().
  bool quick() const noexcept;

  // Cases that need a fresh look at the machine's state, which a host may change within seconds: every round
  // is cut into as many as eight shorter ones of at least `least_ns`. Before run().
  void cut_rounds(uint64_t least_ns);

  // A word for the reader of the result, say which mapping or library version was used.
  void note(const std::string& name, const std::string& value);

  // `measure` is called once in each round, in this process; what it throws fails the case.
  void add(CaseId id, std::function<void(Round&)> measure);

  // Runs all rounds and writes --out. 0; 1 when a case failed or the file could not be written.
  int run();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// p50, p90, p99, p99.9 and the largest of single numbers (nearest rank). All 0 when there are none.
struct Percentiles {
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double p99_9 = 0;
  double max = 0;
  uint64_t count = 0;
};
Percentiles percentiles_of(std::vector<double> values);
Percentiles percentiles_of(const Histogram& histogram);

}  // namespace vgpu::bench
