// Several clients at once: processes on a device with the options users get, and threads of one process. They
// and the device's threads run on whichever core is free. From one measurement come two figures: the sum of
// what the clients reached, and the slowest one's part of the mean.
#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>

#include "bench/transport/cases.h"
#include "bench/transport/client_process.h"

namespace vgpu::bench {
namespace {

ClientRates run_threads(Setup& setup, Work work, unsigned count, uint64_t budget_ns) {
  const Cuda& cuda = setup.cuda();
  setup.free_worker();
  std::atomic<uint32_t> ready = 0;
  std::atomic<uint32_t> go = 0;
  std::atomic<uint32_t> stop = 0;
  ClientRates rates(count);
  std::vector<std::string> failures(count);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      try {
        rates[i] = work_until_stopped(cuda, work, {ready, go, stop});
      } catch (const std::exception& error) {
        failures[i] = error.what();
        ready.fetch_add(1);
      }
    });
  }
  while (ready.load() != count) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  go.store(1);
  std::this_thread::sleep_for(std::chrono::nanoseconds(budget_ns));
  stop.store(1);
  for (std::thread& thread : threads) {
    thread.join();
  }
  setup.hold_worker();
  for (const std::string& failure : failures) {
    if (!failure.empty()) {
      throw std::runtime_error(failure);
    }
  }
  return rates;
}

constexpr uint64_t kBudgetPerClientNs = 100'000'000;

using Measure = std::function<ClientRates(uint64_t budget_ns)>;

// Both figures of one measurement a round.
void add_group(Suite& suite, const std::string& name, Work work, unsigned count, Measure measure) {
  struct State {
    int round = -1;
    ClientRates rates;
  };
  const auto state = std::make_shared<State>();
  const auto rates = [state, count, measure = std::move(measure)](const Round& round) -> const ClientRates& {
    if (state->round != round.number()) {
      // Long enough that each client, and its thread on the device, is scheduled many times.
      state->rates = measure(std::max(2 * round.budget_ns(), count * kBudgetPerClientNs));
      state->round = round.number();
    }
    return state->rates;
  };
  const auto sum = [](const ClientRates& all) { return std::accumulate(all.begin(), all.end(), 0.0); };
  suite.add({.name = name,
             .variant = work_name(work),
             .parameters = {{"clients", int64_t{count}}, {"of", std::string("sum")}},
             .kind = Kind::kRate,
             .unit = work == Work::kCopy ? "B/s" : "1/s"},
            [=](Round& round) { round.record(sum(rates(round))); });
  suite.add(
      {.name = name,
       .variant = work_name(work),
       .parameters = {{"clients", int64_t{count}}, {"of", std::string("slowest")}},
       .kind = Kind::kRate,
       .unit = "of the mean"},
      [=](Round& round) {
        const ClientRates& all = rates(round);
        round.record(*std::min_element(all.begin(), all.end()) * static_cast<double>(all.size()) / sum(all));
      });
}

}  // namespace

void add_clients(Suite& suite, Setup& setup) {
  for (const Work work : {Work::kLaunch, Work::kCopy}) {
    for (const unsigned count : {1U, 2U, 4U, 8U}) {
      add_group(suite, "processes", work, count, [&setup, work, count](uint64_t budget_ns) {
        return Clients(setup.shared_device().path(), work, count).run(budget_ns);
      });
    }
    for (const unsigned count : {1U, 2U, 4U, 8U}) {
      add_group(suite, "threads", work, count, [&setup, work, count](uint64_t budget_ns) {
        return run_threads(setup, work, count, budget_ns);
      });
    }
  }
}

}  // namespace vgpu::bench
