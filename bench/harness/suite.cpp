// Rounds over Google Benchmark, and the result file.
#include "bench/harness/suite.h"

#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "bench/harness/clock.h"
#include "bench/harness/machine.h"

namespace vgpu::bench {
namespace {

using nlohmann::json;

// What all rounds of a case gave.
struct Case {
  CaseId id;
  std::function<void(Round&)> measure;
  std::vector<Percentiles> rounds;
  Histogram latencies;
  std::vector<double> values;
  std::vector<std::pair<std::string, double>> notes;
  std::optional<std::string> skipped;
  std::optional<std::string> failed;
};

// One line for a case and round: its percentiles, or why there are none.
class RoundReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& /*context*/) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const std::string& name = run.run_name.function_name;
      if (run.error_occurred) {
        std::printf("%-72s %s\n", name.c_str(), run.error_message.c_str());
        continue;
      }
      std::printf("%-72s", name.c_str());
      for (const char* figure : {"p50", "p90", "p99", "max"}) {
        std::printf(" %s %-10.5g", figure, run.counters.at(figure).value);
      }
      std::printf("%s\n", run.report_label.c_str());
    }
    std::fflush(stdout);
  }
};

std::string kind_name(Kind kind) {
  switch (kind) {
    case Kind::kLatency:
      return "latency";
    case Kind::kRate:
      return "rate";
    case Kind::kAmount:
      break;
  }
  return "amount";
}

std::string now_iso8601() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

void put(json& where, const Percentiles& figures) {
  where["p50"] = figures.p50;
  where["p90"] = figures.p90;
  where["p99"] = figures.p99;
  where["p99_9"] = figures.p99_9;
  where["max"] = figures.max;
  where["count"] = figures.count;
}

json name_of(const CaseId& id) {
  json parameters = json::object();
  for (const auto& [key, value] : id.parameters) {
    std::visit([&, &name = key](const auto& plain) { parameters[name] = plain; }, value);
  }
  return {{"name", id.name}, {"variant", id.variant}, {"parameters", parameters}};
}

json result_of(const Case& one) {
  json result = name_of(one.id);
  result["kind"] = kind_name(one.id.kind);
  result["unit"] = one.id.unit;
  result["rounds"] = json::array();
  for (const Percentiles& round : one.rounds) {
    json entry;
    put(entry, round);
    result["rounds"].push_back(entry);
  }
  if (one.id.kind == Kind::kLatency) {
    put(result, percentiles_of(one.latencies));
    json histogram = json::array();
    for (const auto& [upper, count] : one.latencies.buckets()) {
      histogram.push_back(json::array({upper, count}));
    }
    result["histogram"] = histogram;
  } else {
    put(result, percentiles_of(one.values));
  }
  if (!one.notes.empty()) {
    for (const auto& [name, value] : one.notes) {
      result["notes"][name] = value;
    }
  }
  return result;
}

// Takes over one round's figures; returns them as shown on the console.
Percentiles keep(Case& one, const Round& round) {
  if (round.failed()) {
    one.failed = round.failed();
    return {};
  }
  if (round.skipped()) {
    one.skipped = round.skipped();
    return {};
  }
  if (round.sits_out() && !one.rounds.empty()) {
    return one.rounds.back();
  }
  const bool latency = one.id.kind == Kind::kLatency;
  const Percentiles figures = latency ? percentiles_of(round.latencies()) : percentiles_of(round.values());
  if (figures.count == 0) {
    one.failed = "nothing was measured";
    return {};
  }
  one.rounds.push_back(figures);
  if (latency) {
    one.latencies.merge(round.latencies());
  } else {
    one.values.insert(one.values.end(), round.values().begin(), round.values().end());
  }
  one.notes = round.notes();
  return figures;
}

}  // namespace

Percentiles percentiles_of(std::vector<double> values) {
  if (values.empty()) {
    return {};
  }
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size()) - 1e-9));
    return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
  };
  return {at(0.5), at(0.9), at(0.99), at(0.999), values.back(), values.size()};
}

Percentiles percentiles_of(const Histogram& histogram) {
  return {histogram.percentile(50),   histogram.percentile(90), histogram.percentile(99),
          histogram.percentile(99.9), histogram.max(),          histogram.count()};
}

std::string CaseId::text() const {
  std::string result = name + "/" + variant;
  for (const auto& [key, value] : parameters) {
    result += "/" + key + ":";
    if (const auto* number = std::get_if<int64_t>(&value)) {
      result += std::to_string(*number);
    } else {
      result += std::get<std::string>(value);
    }
  }
  return result;
}

struct Suite::State {
  std::string name;
  std::string started = now_iso8601();
  CLI::App app;
  std::string out;
  int64_t rounds = 0;     // 0: 5, or 2 with --quick
  int64_t budget_ms = 0;  // 0: 200, or 20 with --quick
  bool quick = false;
  bool facts = false;
  bool list_only = false;
  std::vector<std::unique_ptr<Case>> cases;
  std::vector<std::function<void(json&)>> options;  // each writes one into the result
  json notes = json::object();

  void group();
  void run_case(Case& one, benchmark::State& state);
  json result() const;
  bool write() const;
};

Suite::Suite(std::string name) : state_(std::make_unique<State>()) {
  state_->name = std::move(name);
  CLI::App& app = state_->app;
  app.name(state_->name);
  app.footer(
      "Google Benchmark's flags hold too: --benchmark_filter=REGEX, --benchmark_list_tests. Times on the\n"
      "console are medians of one round; percentiles, histograms and all rounds stand in --out.");
  app.add_option("--out", state_->out, "write the results to this file, as JSON");
  app.add_option("--rounds", state_->rounds,
                 "measure every case this many times, in turn (5; 2 with --quick)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--budget-ms", state_->budget_ms,
                 "measure a case for this long in a round (200; 20 with --quick)")
      ->check(CLI::Range(1, 60'000));
  app.add_flag("--facts", state_->facts,
               "print what is known of machine and build, as JSON, and measure nothing");
  app.add_flag("--quick", state_->quick, "a short run; its figures are rough");
}

Suite::~Suite() = default;

void Suite::option(const std::string& flag, std::string& value, const std::string& help) {
  state_->app.add_option(flag, value, help);
  state_->options.emplace_back([flag, &value](json& options) { options[flag.substr(2)] = value; });
}
void Suite::option(const std::string& flag, int64_t& value, const std::string& help) {
  state_->app.add_option(flag, value, help);
  state_->options.emplace_back([flag, &value](json& options) { options[flag.substr(2)] = value; });
}
void Suite::option(const std::string& flag, bool& value, const std::string& help) {
  state_->app.add_flag(flag, value, help);
  state_->options.emplace_back([flag, &value](json& options) { options[flag.substr(2)] = value; });
}

std::optional<int> Suite::parse(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);
  for (const std::string_view argument : arguments) {
    if (argument == "--help") {
      std::fputs(state_->app.help().c_str(), stdout);
      return 0;
    }
    state_->list_only |= argument.starts_with("--benchmark_list_tests") && !argument.ends_with("=false");
  }
  int count = argc;
  arguments.push_back(nullptr);
  benchmark::Initialize(&count, arguments.data());
  try {
    state_->app.parse(count, arguments.data());
  } catch (const CLI::ParseError& error) {
    return state_->app.exit(error) == 0 ? 0 : 2;
  }
  if (state_->facts) {
    json facts = build_facts();
    facts["machine"] = machine_facts();
    std::printf("%s\n", facts.dump().c_str());
    return 0;
  }
  const bool quick = state_->quick;
  state_->rounds = state_->rounds != 0 ? state_->rounds : quick ? 2 : 5;
  state_->budget_ms = state_->budget_ms != 0 ? state_->budget_ms : quick ? 20 : 200;
  return std::nullopt;
}

bool Suite::quick() const noexcept {
  return state_->quick;
}

void Suite::cut_rounds(uint64_t least_ns) {
  const auto least_ms = static_cast<int64_t>(std::max<uint64_t>(1, least_ns / 1'000'000));
  const int64_t parts = std::clamp<int64_t>(state_->budget_ms / least_ms, 1, 8);
  state_->rounds *= parts;
  state_->budget_ms /= parts;
}

void Suite::note(const std::string& name, const std::string& value) {
  state_->notes[name] = value;
}

void Suite::add(CaseId id, std::function<void(Round&)> measure) {
  auto one = std::make_unique<Case>();
  one->id = std::move(id);
  one->measure = std::move(measure);
  state_->cases.push_back(std::move(one));
}

// Cases that differ in their variant alone come to stand next to each other, groups in the order they began.
void Suite::State::group() {
  std::map<std::string, std::size_t> groups;
  const auto group_of = [&](const Case& one) {
    CaseId id = one.id;
    id.variant.clear();
    return groups.emplace(id.text(), groups.size()).first->second;
  };
  for (const auto& one : cases) {
    group_of(*one);
  }
  std::stable_sort(cases.begin(), cases.end(),
                   [&](const auto& a, const auto& b) { return group_of(*a) < group_of(*b); });
}

void Suite::State::run_case(Case& one, benchmark::State& state) {
  Round round(static_cast<uint64_t>(budget_ms) * 1'000'000, quick, static_cast<int>(one.rounds.size()));
  for (auto _ : state) {
    if (one.skipped) {
      round.skip(*one.skipped);
    } else {
      try {
        one.measure(round);
      } catch (const std::exception& error) {
        round.fail(error.what());
      }
    }
    const Percentiles figures = keep(one, round);
    state.SetIterationTime(one.id.unit == "ns" ? figures.p50 * 1e-9 : 0);
    state.SetLabel(one.id.unit);
    state.counters["p50"] = figures.p50;
    state.counters["p90"] = figures.p90;
    state.counters["p99"] = figures.p99;
    state.counters["max"] = figures.max;
  }
  if (round.failed() || one.failed) {
    state.SkipWithError(one.failed->c_str());
  } else if (round.skipped()) {
    state.SkipWithError(("skipped: " + *one.skipped).c_str());
  }
}

json Suite::State::result() const {
  json result = build_facts();
  result["format"] = 1;
  result["suite"] = name;
  result["started"] = started;
  result["machine"] = machine_facts();
  json& parameters = result["options"];
  parameters = {{"rounds", rounds},
                {"budget_ms", budget_ms},
                {"quick", quick},
                {"filter", benchmark::GetBenchmarkFilter()}};
  for (const auto& option : options) {
    option(parameters);
  }
  result["notes"] = notes;
  result["results"] = json::array();
  result["skipped"] = json::array();
  result["failed"] = json::array();
  for (const auto& one : cases) {
    if (one->failed || one->skipped) {
      json entry = name_of(one->id);
      entry["why"] = one->failed ? *one->failed : *one->skipped;
      result[one->failed ? "failed" : "skipped"].push_back(entry);
    } else if (!one->rounds.empty()) {
      result["results"].push_back(result_of(*one));
    }
  }
  return result;
}

bool Suite::State::write() const {
  // A line for each case: a file of thousands of buckets that a person can still look through.
  json all = result();
  const json results = all["results"];
  all.erase("results");
  std::string text = all.dump(1);
  text.resize(text.rfind('\n'));
  text += ",\n \"results\": [";
  for (std::size_t i = 0; i < results.size(); ++i) {
    text += (i == 0 ? "\n  " : ",\n  ") + results[i].dump();
  }
  text += "\n ]\n}\n";
  std::ofstream file(out);
  file << text;
  file.close();
  if (!file) {
    std::fprintf(stderr, "%s: cannot write %s\n", name.c_str(), out.c_str());
    return false;
  }
  return true;
}

int Suite::run() {
  Clock::get();  // calibrated before anything forks
  state_->group();
  for (const auto& one : state_->cases) {
    benchmark::RegisterBenchmark(
        one->id.text().c_str(),
        [this, &one = *one](benchmark::State& state) { state_->run_case(one, state); })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kNanosecond);
  }
  RoundReporter reporter;
  for (int64_t round = 0; round < state_->rounds; ++round) {
    if (benchmark::RunSpecifiedBenchmarks(&reporter) == 0) {
      std::fprintf(stderr, "%s: no case matches\n", state_->name.c_str());
      return 1;
    }
    if (state_->list_only) {
      return 0;
    }
  }
  const bool failed = std::any_of(state_->cases.begin(), state_->cases.end(),
                                  [](const auto& one) { return one->failed.has_value(); });
  const bool written = state_->out.empty() || state_->write();
  return failed || !written ? 1 : 0;
}

}  // namespace vgpu::bench
